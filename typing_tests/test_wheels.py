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

#: What each module of the consumer prints.
CONSUMER = {
    "with_futures": ["the sum gave 1.75", "the sum was spared by ZeroDivisionError"],
    "with_one_runner": ["[4, 4, 5, 6]", "['BRANCH', 'LEFT', 'RIGHT']", "['JOINED', 'AGAIN']"],
    "with_everything": [
        "sequential 5 kg",
        "concurrent 5 kg",
        "dask 5 kg",
        "ray 5 kg",
    ],
}

MakeEnvironment = Callable[[str], Path]


def wheels() -> dict[str, Path]:
    """Return where the wheel of each of our distributions is."""
    # Pants puts them beside the tests that ask for them; `./pants package ::`, into dist/.
    found = [*ROOT.glob("anabranch_*.whl")] or [*(ROOT / "dist").glob("anabranch_*.whl")]
    by_name = {path.name.partition("-")[0].replace("_", "-"): path for path in found}
    if not len(found) == len(by_name) == 5:
        raise FileNotFoundError(
            f"there is not one wheel of each of the five distributions, but {found}: "
            "use `./pants test`, or `./pants package ::` into an empty dist/ before"
        )
    return by_name


def constraints() -> list[str]:
    """Return that ours are taken from the wheels, and others in the versions of the lock file."""
    lock = (ROOT / "3rdparty/python/default.lock").read_text()
    others: list[str] = re.findall(r"^[\w.-]+==[^\\\n]+", lock, re.MULTILINE)
    assert others
    return [*others, *(f"{name} @ {path.as_uri()}" for name, path in wheels().items())]


@pytest.fixture(scope="module")
def make_environment(tmp_path_factory: pytest.TempPathFactory) -> MakeEnvironment:
    """Make an environment in which one thing is installed with what it needs; one for each."""
    constrained = tmp_path_factory.mktemp("constraints") / "constraints.txt"
    constrained.write_text("\n".join(constraints()))
    # The pip that comes with older Pythons finds no wheel by a constraint if extras are asked for.
    installer = tmp_path_factory.mktemp("installer")
    venv.create(installer, with_pip=True, upgrade_deps=True)

    @cache
    def make(requirement: str) -> Path:
        folder = tmp_path_factory.mktemp("environment")
        venv.create(folder)
        pip = ("-m", "pip", "--python", folder / "bin" / "python")
        run(installer, *pip, "install", "-q", "-c", constrained, requirement)
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
    symbols: Sequence[Mapping[str, object]]


@pytest.mark.parametrize(
    "module",
    ["futures", "runners.local", "runners.dask", "runners.ray", "flows"],
)
def test_types_and_docstrings_are_complete(module: str, make_environment: MakeEnvironment) -> None:
    """Every name of a package, and all that it leads to, has a known type and a docstring."""
    environment = make_environment(f"anabranch-{module.replace('.', '-')}")
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


@pytest.fixture(scope="module")
def consumer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the consumer, apart from this repository."""
    source, copy = ROOT / "examples" / "typed-consumer", tmp_path_factory.mktemp("consumer")
    return shutil.copytree(source, copy, dirs_exist_ok=True)


def with_extra(project: Path, module: str) -> str:
    """Return what installs the consumer with what one of its modules needs."""
    return f"{project}[{module.replace('_', '-')}]"


def remarks(checker: Checker, project: Path, module: str, environment: Path) -> str:
    """Return what a type checker finds wrong with a module, in the eyes of its project."""
    option = {"mypy": "--python-executable", "pyright": "--pythonpath"}[checker]
    python = environment / "bin" / "python"
    command = (sys.executable, "-m", checker, option, python, f"{module}.py")
    done = finished(*command, cwd=project)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout if done.returncode else ""


@pytest.mark.parametrize("module", CONSUMER)
@pytest.mark.parametrize("checker", CHECKERS)
def test_a_consumer_is_typed(
    checker: Checker, module: str, consumer: Path, make_environment: MakeEnvironment
) -> None:
    """A strict type checker finds nothing wrong with a project that has only our wheels."""
    environment = make_environment(with_extra(consumer, module))
    assert remarks(checker, consumer, module, environment) == ""


@pytest.mark.parametrize("module", CONSUMER)
def test_a_consumer_runs(module: str, consumer: Path, make_environment: MakeEnvironment) -> None:
    """A project that has only our wheels runs."""
    environment = make_environment(with_extra(consumer, module))
    assert run(environment, "-m", module).splitlines() == CONSUMER[module]


@pytest.mark.parametrize("checker", CHECKERS)
def test_a_consumer_learns_of_a_mistake(
    checker: Checker, consumer: Path, tmp_path: Path, make_environment: MakeEnvironment
) -> None:
    """What is wrong in a project is found by a strict type checker: it does see the types."""
    environment = make_environment(with_extra(consumer, "with_futures"))
    wrong = shutil.copytree(consumer, tmp_path, dirs_exist_ok=True) / "with_futures.py"
    wrong.write_text(wrong.read_text().replace("Future[float]", "Future[str]"))
    assert "Future[float]" in remarks(checker, tmp_path, "with_futures", environment)
