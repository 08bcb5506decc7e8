"""Type checkers accept every correct use of the public names, and reject every wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from typing_tests.checkers import ACCEPTED, CHECKERS, REJECTED, Checker, check, expected

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("checker", CHECKERS)
def test_correct_uses_are_accepted(checker: Checker, python: str) -> None:
    """A strict type checker finds nothing wrong with correct uses, for each version of Python."""
    assert check(checker, ACCEPTED, python) == {}


def test_the_repository_is_accepted() -> None:
    """Pyright finds nothing wrong with the sources, the examples and these tests."""
    assert check("pyright", []) == {}


@pytest.mark.parametrize("checker", CHECKERS)
def test_wrong_uses_are_rejected(checker: Checker) -> None:
    """A strict type checker says of each wrong use what stands under it, and nothing else."""
    found = check(checker, REJECTED)
    assert {path.name: found.get(path, {}) for path in REJECTED} == {
        path.name: expected(path, checker) for path in REJECTED
    }


@pytest.mark.parametrize(
    "path", [path for path in REJECTED if path.stem != "known_limits"], ids=lambda path: path.stem
)
def test_both_checkers_reject(path: Path) -> None:
    """What one type checker rejects, the other one rejects as well."""
    lines = expected(path, "mypy").keys()
    assert lines == expected(path, "pyright").keys()
    assert lines
