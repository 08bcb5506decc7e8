"""What the package exports, and that its exceptions travel."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
import types

import pytest

import anabranch.futures
from anabranch.futures import AnabranchError

MODULES = ["anabranch.futures", "anabranch.futures.runner", "anabranch.futures.testing"]


def all_modules() -> list[types.ModuleType]:
    """Import every module of the package, private ones too."""
    package = anabranch.futures
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [package, *(importlib.import_module(each.name) for each in found)]


def exception_classes() -> list[type[AnabranchError]]:
    """Return every class under the root of the exceptions that the package defines."""
    classes = {
        thing
        for module in all_modules()
        for thing in vars(module).values()
        if inspect.isclass(thing) and issubclass(thing, AnabranchError)
    }
    return sorted(classes, key=lambda kind: kind.__name__)


def test_there_are_exceptions_to_test() -> None:
    """The search below finds the exceptions: a dozen and more."""
    assert len(exception_classes()) >= 13


@pytest.mark.parametrize("kind", exception_classes(), ids=lambda kind: kind.__name__)
def test_exceptions_survive_pickling(kind: type[AnabranchError]) -> None:
    """Every exception of the engine comes back from a pickle with its type, message and notes."""
    error = kind("what went wrong")
    error.add_note("and where")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert copy.args == ("what went wrong",)
    assert str(copy) == "what went wrong"
    assert copy.__notes__ == ["and where"]


@pytest.mark.parametrize("kind", exception_classes(), ids=lambda kind: kind.__name__)
def test_exceptions_are_public_and_documented(kind: type[AnabranchError]) -> None:
    """Every exception of the engine can be imported from the package and says what it means."""
    assert getattr(anabranch.futures, kind.__name__) is kind
    assert kind.__name__ in anabranch.futures.__all__
    assert kind.__doc__


def linter_order(name: str) -> tuple[int, str]:
    """Sort as the linter does: constants, then classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("name", MODULES)
def test_exports_are_sorted_and_there(name: str) -> None:
    """``__all__`` is sorted without duplicates, and all of it can be imported."""
    module = importlib.import_module(name)
    exported: list[str] = module.__all__
    assert len(exported) == len(set(exported))
    assert exported == sorted(exported, key=linter_order)
    for each in exported:
        assert hasattr(module, each), each


@pytest.mark.parametrize("name", MODULES)
def test_public_objects_say_where_they_are_imported_from(name: str) -> None:
    """The ``__module__`` of every exported class and function is the public path."""
    module = importlib.import_module(name)
    elsewhere = {
        each: thing.__module__
        for each in module.__all__
        if inspect.isclass(thing := getattr(module, each)) or inspect.isfunction(thing)
        if thing.__module__ != name
    }
    assert elsewhere == {}


@pytest.mark.parametrize("name", MODULES)
def test_public_objects_are_documented(name: str) -> None:
    """Every exported class and function has a docstring."""
    module = importlib.import_module(name)
    assert inspect.getdoc(module)
    undocumented = [
        each
        for each in module.__all__
        if inspect.isclass(thing := getattr(module, each)) or inspect.isfunction(thing)
        if not inspect.getdoc(thing)
    ]
    assert undocumented == []


def test_public_packages_define_nothing_themselves() -> None:
    """No module that others import from holds a class or a function of its own."""
    for name in MODULES:
        source = inspect.getsource(importlib.import_module(name))
        assert "\nclass " not in source
        assert "\ndef " not in source
