"""The function of a task, as it is shipped to other processes."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import MethodType
from typing import Any, cast


class TaskFunction(functools.partial[Any]):
    """A task's function, which travels as a reference where its module can be imported.

    The name of a decorated function leads to the task, so picklers find that it is not the function
    that they hold, and would ship it by value together with every global that it uses: locks,
    connections, counters. This one tells them the way round.
    """

    @classmethod
    def of(cls, function: Callable[..., object]) -> TaskFunction:
        """Return a task's function, which may be a bound method, ready to be shipped."""
        if isinstance(function, MethodType):
            return cls(function.__func__, function.__self__)
        return cls(function)

    def original(self) -> Callable[..., object]:
        """Return the function that this was made of."""
        return MethodType(self.func, self.args[0]) if self.args else self.func

    def __reduce__(self) -> str | tuple[Any, ...]:
        function = self.func
        module, name = function.__module__, getattr(function, "__qualname__", "")
        if module != "__main__" and _function_of(lookup(module, name)) is function:
            return load, (module, name, self.args)
        return super().__reduce__()


def unwrapped(function: object) -> Callable[..., object]:
    """Return the function in a classmethod or a staticmethod; anything else as it is."""
    if isinstance(function, classmethod | staticmethod):
        function = function.__func__
    return cast("Callable[..., object]", function)


def _function_of(task: object) -> object:
    return unwrapped(getattr(task, "function", None))


def lookup(module: str, qualified_name: str) -> object:
    """Return what a name in a loaded module leads to; None if it leads nowhere."""
    found: object = sys.modules.get(module)
    for name in qualified_name.split("."):
        # Not by getattr in a class: that would bind the task to the class.
        found = vars(found).get(name) if hasattr(found, "__dict__") else None
    return found


def load(module: str, qualified_name: str, args: tuple[object, ...]) -> Callable[..., object]:
    """Return the function of the task of this name, in the process that it was shipped to."""
    __import__(module)
    function = _function_of(lookup(module, qualified_name))
    if not callable(function):
        raise ImportError(
            f"Task {qualified_name!r} is not in module {module!r} here; "
            "is the same version of the code installed on every worker?"
        )
    return TaskFunction(function, *args)
