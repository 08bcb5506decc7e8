"""What is installed from the wheels is typed to its last name, for projects typed strictly."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TypedDict, cast

import pytest

from typing_tests.checkers import CHECKERS, ROOT, Checker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

#: For each distribution those that its wheel needs beside it.
DISTRIBUTIONS = {
    "futures": ["futures"],
    "runners_local": ["futures", "runners_local"],
    "runners_dask": ["futures", "runners_dask"],
    "runners_ray": ["futures", "runners_ray"],
    "flows": ["futures", "runners_local", "flows"],
    "flows[dask,ray]": [
        "futures",
        "runners_local",
        "runners_dask",
        "runners_ray",
        "flows[dask,ray]",
    ],
}

#: For each of the consumer's modules what it needs to have installed, and what it prints.
CONSUMERS = {
    "with_futures": ("futures", ["the sum gave 1.75", "the sum was spared by ZeroDivisionError"]),
    "with_one_runner": (
        "runners_local",
        ["[4, 4, 5, 6]", "['BRANCH', 'LEFT', 'RIGHT']", "['JOINED', 'AGAIN']"],
    ),
    "with_everything": (
        "flows[dask,ray]",
        [f"{runner} 5 kg" for runner in ("sequential", "concurrent", "dask", "ray")],
    ),
}

CONSUMER = ROOT / "examples" / "typed-consumer"

MakeEnvironment = Callable[[str], Path]


def wheel(name: str) -> str:
    """Return where the wheel of a distribution is, with the extras that the name has."""
    plain, bracket, extras = name.partition("[")
    # Pants puts them beside the tests that ask for them; `./pants package ::`, into dist/.
    for folder in (ROOT, ROOT / "dist"):
        for path in folder.glob(f"anabranch_{plain}-*.whl"):
            return f"{path}{bracket}{extras}"
    raise FileNotFoundError(
        f"no wheel of {plain}: use `./pants test`, or `./pants package ::` first"
    )


def constraints() -> str:
    """Return which version of each other distribution the repository is tested with."""
    lock = (ROOT / "3rdparty/python/default.lock").read_text()
    return "\n".join(re.findall(r"^[\w.-]+==\S+", lock, re.MULTILINE))


@pytest.fixture(scope="module")
def make_environment(tmp_path_factory: pytest.TempPathFactory) -> MakeEnvironment:
    """Make an environment with a distribution in it, and what that needs; one for each."""
    constrained = tmp_path_factory.mktemp("constraints") / "constraints.txt"
    constrained.write_text(constraints())

    @cache
    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp("environment")
        venv.create(folder, with_pip=True)
        wheels = [wheel(each) for each in DISTRIBUTIONS[name]]
        run(folder, "-m", "pip", "install", "-q", "-c", str(constrained), *wheels)
        return folder

    return make


def run(environment: Path, *arguments: str | Path, cwd: Path | None = None) -> str:
    """Run Python in an environment, with nothing of this repository in reach."""
    done = finished(environment / "bin" / "python", *arguments, cwd=cwd or environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def finished(
    *command: str | Path, cwd: Path, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    ours = ("PYTHONPATH", "MYPYPATH")
    environ = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.run(
        command,
        cwd=cwd,
        env={**environ, **(variables or {})},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


class Completeness(TypedDict):
    """What pyright says of a package; see its documentation of `--verifytypes`."""

    completenessScore: float
    missingFunctionDocStringCount: int
    missingClassDocStringCount: int
    missingDefaultParamCount: int
    exportedSymbolCounts: Mapping[str, int]
    symbols: Sequence[Mapping[str, object]]


@pytest.mark.parametrize(
    "module",
    ["futures", "runners.local", "runners.dask", "runners.ray", "flows"],
)
def test_types_and_docstrings_are_complete(module: str, make_environment: MakeEnvironment) -> None:
    """Every name of a package, and all that it leads to, has a known type and a docstring."""
    environment = make_environment(module.replace(".", "_"))
    # It looks for packages where the active environment is, whatever else it is told.
    active = {
        "VIRTUAL_ENV": str(environment),
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    options = ("--verifytypes", f"anabranch.{module}", "--ignoreexternal", "--outputjson")
    done = finished(sys.executable, "-m", "pyright", *options, cwd=environment, variables=active)
    found = cast("Completeness", json.loads(done.stdout)["typeCompleteness"])
    assert [each for each in found["symbols"] if each["diagnostics"]] == []
    assert found["completenessScore"] == 1
    assert found["missingFunctionDocStringCount"] == 0
    assert found["missingClassDocStringCount"] == 0
    assert found["missingDefaultParamCount"] == 0
    # What was looked at is what was installed.
    names = {str(each["name"]) for each in found["symbols"]}
    package = run(environment, "-c", f"import anabranch.{module} as m; print(*m.__all__)")
    assert {f"anabranch.{module}.{name}" for name in package.split()} <= names


@pytest.fixture
def consumer(tmp_path: Path) -> Path:
    """A copy of the consumer, apart from this repository."""
    return shutil.copytree(CONSUMER, tmp_path / "typed-consumer")


@pytest.mark.parametrize("module", CONSUMERS)
@pytest.mark.parametrize("checker", CHECKERS)
def test_a_consumer_is_typed(
    checker: Checker, module: str, consumer: Path, make_environment: MakeEnvironment
) -> None:
    """A strict type checker finds nothing wrong with a project that has only our wheels."""
    python = make_environment(CONSUMERS[module][0]) / "bin" / "python"
    option = {"mypy": "--python-executable", "pyright": "--pythonpath"}[checker]
    command = (sys.executable, "-m", checker, option, python, f"{module}.py")
    done = finished(*command, cwd=consumer)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", CONSUMERS)
def test_a_consumer_runs(module: str, consumer: Path, make_environment: MakeEnvironment) -> None:
    """A project that has only our wheels runs."""
    distribution, lines = CONSUMERS[module]
    assert run(make_environment(distribution), f"{module}.py", cwd=consumer).splitlines() == lines


@pytest.mark.parametrize("checker", CHECKERS)
def test_a_consumer_learns_of_a_mistake(
    checker: Checker, consumer: Path, make_environment: MakeEnvironment
) -> None:
    """What is wrong in a project is found by a strict type checker: it does see the types."""
    python = make_environment("futures") / "bin" / "python"
    path = consumer / "with_futures.py"
    path.write_text(path.read_text().replace("Future[float]", "Future[str]"))
    option = {"mypy": "--python-executable", "pyright": "--pythonpath"}[checker]
    done = finished(sys.executable, "-m", checker, option, python, path.name, cwd=consumer)
    assert done.returncode == 1
    assert "Future[float]" in done.stdout
