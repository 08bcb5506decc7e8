"""Every public name has a correct use and a wrong one, and correct uses run."""

from __future__ import annotations

import ast
import inspect
import pkgutil
from collections.abc import Callable, Coroutine, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import cast

import anyio
import pytest

from anabranch.flows import Completed, flow
from typing_tests.checkers import ACCEPTED, REJECTED, expected

PACKAGES = [
    "anabranch.futures",
    "anabranch.runners.local",
    "anabranch.runners.dask",
    "anabranch.runners.ray",
    "anabranch.flows",
]


def public_modules() -> Iterator[ModuleType]:
    """Every module that has public names."""
    for name in PACKAGES:
        package = import_module(name)
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{name}."):
            if "._" not in found.name:
                yield import_module(found.name)


def public_names() -> dict[str, object]:
    """What each public name stands for; a name that is exported twice stands for the same."""
    return {
        f"{module.__name__}.{name}": getattr(module, name)
        for module in public_modules()
        for name in cast("list[str]", module.__all__)
    }


def imported(tree: ast.Module) -> dict[str, object]:
    """What a file imports from the packages, by the names that it gives to it."""
    return {
        alias.asname or alias.name: getattr(import_module(node.module), alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("anabranch")
        for alias in node.names
    }


def names_in(tree: ast.AST) -> dict[str, set[int]]:
    """The names in a piece of code, each with its lines."""
    found: dict[str, set[int]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.setdefault(node.id, set()).add(node.lineno)
    return found


def used_correctly(path: Path) -> set[int]:
    """The identities of what is used where types are asserted."""
    tree = ast.parse(path.read_text())
    names = [found for each in tree.body if "assert_type" in (found := names_in(each))]
    return {id(it) for name, it in imported(tree).items() if any(name in each for each in names)}


def used_wrongly(path: Path) -> set[int]:
    """The identities of what is used in lines that are rejected."""
    tree = ast.parse(path.read_text())
    names, rejected = names_in(tree), expected(path, "mypy").keys()
    return {id(it) for name, it in imported(tree).items() if names.get(name, set()) & rejected}


def test_all_packages_are_here() -> None:
    """A package that is not in the list would be left out without a word."""
    namespace = import_module("anabranch").__path__
    typed = {path.parent.resolve() for each in namespace for path in Path(each).rglob("py.typed")}
    assert typed == {Path(import_module(name).__path__[0]).resolve() for name in PACKAGES}


@pytest.mark.parametrize(
    ("files", "used"),
    [(ACCEPTED, used_correctly), (REJECTED, used_wrongly)],
    ids=["correctly", "wrongly"],
)
def test_every_public_name_is_used(files: list[Path], used: Callable[[Path], set[int]]) -> None:
    """There is a correct and a wrong use of each public name."""
    covered = set[int]().union(*map(used, files))
    assert not [name for name, it in public_names().items() if id(it) not in covered]


def cases_that_run() -> Iterator[tuple[str, object]]:
    """The correct uses that take nothing from outside."""
    for path in ACCEPTED:
        module = import_module(f"typing_tests.accepted.{path.stem}")
        for name, case in inspect.getmembers(module, inspect.isfunction):
            if case.__module__ == module.__name__ and not inspect.signature(case).parameters:
                yield f"{path.stem}.{name}", case


CASES = dict(cases_that_run())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_correct_uses_work(case: Callable[[], object]) -> None:
    """What type checkers accept also runs, in a flow."""

    @flow
    def body() -> str:
        case()
        return case.__name__

    @flow
    async def async_body() -> str:
        await cast("Callable[[], Coroutine[None, None, object]]", case)()
        return case.__name__

    is_async = inspect.iscoroutinefunction(case)
    state = anyio.run(async_body.run, backend="trio") if is_async else body.run()
    assert isinstance(state, Completed), state
