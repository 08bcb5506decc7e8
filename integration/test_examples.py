"""The examples run as they stand, and print what they should."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = ["arthur", "trillian", "ford", "marvin"]
GREETINGS = [f"{word} {name}" for name in NAMES for word in ("hello", "goodbye")]

RunPython = Callable[..., str]


def greetings_in(output: str) -> list[str]:
    """Return the greetings in some output; one thread may print before the newline of another."""
    rest = re.sub("|".join(GREETINGS), "", output)
    assert not re.sub(r"\S*\(\w+ pid=\d+\)\S*", "", rest).strip(), output
    return re.findall("|".join(GREETINGS), output)


def test_greetings_in_order(run_python: RunPython) -> None:
    """On the sequential runner the travellers are greeted in order."""
    output = run_python(EXAMPLES / "greetings.py", "--runner", "sequential")
    assert output.splitlines() == GREETINGS


@pytest.mark.parametrize("runner", ["concurrent", "dask", "ray"])
def test_greetings_in_any_order(run_python: RunPython, runner: str) -> None:
    """On the other runners all are greeted, in whatever order."""
    output = run_python(EXAMPLES / "greetings.py", "--runner", runner)
    assert sorted(greetings_in(output)) == sorted(GREETINGS)


def test_greetings_on_two_runners(run_python: RunPython) -> None:
    """The mixed flow greets on the concurrent runner, then again on Ray."""
    output = run_python(EXAMPLES / "greetings.py", "--runner", "mixed")
    assert sorted(greetings_in(output)) == sorted(GREETINGS * 2)


def test_glass_tower(run_python: RunPython) -> None:
    """The elevator stops on each floor, in order."""
    lines = run_python(EXAMPLES / "glass_tower.py").splitlines()
    assert [int(line.split()[3]) for line in lines] == list(range(1, 39))


def test_two_runners(run_python: RunPython) -> None:
    """The subflow on Dask says its hello between the two local ones."""
    lines = run_python(EXAMPLES / "two_runners.py").splitlines()
    assert lines == ["Hello!", "Hello from Dask!", "Hello!"]


def test_custom_runner(run_python: RunPython) -> None:
    """The runner of one's own finds the factors of three numbers, in its own processes."""
    lines = run_python(EXAMPLES / "custom_runner.py").splitlines()
    assert lines == [
        "100000000000031 = 100000000000031",
        "140737488355327 = 2351 * 4513 * 13264529",
        "600851475143 = 71 * 839 * 1471 * 6857",
    ]
