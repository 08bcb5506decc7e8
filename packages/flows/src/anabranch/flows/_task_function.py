"""The function of a task, as it is called, and as it is shipped to other processes."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Mapping
from types import AsyncGeneratorType, CoroutineType, GeneratorType, MappingProxyType, MethodType
from typing import Final, Never, Self, cast

from anabranch.flows._names import function_name
from anabranch.flows._printing import logged_prints
from anabranch.futures.runner import AnyCoroutine, AnyFunction, current_scope, is_async_function

#: What a function may return that has not run yet.
_UNSTARTED: Final = frozenset({GeneratorType, CoroutineType, AsyncGeneratorType})

_call_partial: Final = functools.partial.__call__
_call_async_partial: Final[AnyFunction[AnyCoroutine[object] | AsyncGeneratorType[object, None]]] = (
    functools.partial.__call__
)


class TaskFunction(functools.partial[object]):
    """A task's function, which travels as a reference where its module can be imported.

    The name of a decorated function leads to the task, so picklers find that it is not the function
    that they hold, and would ship it by value together with every global that it uses: locks,
    connections, counters. This one tells them the way round.

    A generator that the function returns is consumed into a list, so that its body runs in the run.

    Attributes:
        log_prints: Whether what the function prints is logged; None for as around it.
        is_method: Whether the first argument is what the function is bound to.
    """

    log_prints: bool | None = None
    is_method: bool = False

    @classmethod
    def of(cls, function: AnyFunction[object], log_prints: bool | None = None) -> TaskFunction:
        """Return a task's function, which may be a bound method, ready to be shipped."""
        kind = AsyncTaskFunction if gives_coroutine(function) else TaskFunction
        if not isinstance(function, MethodType):
            return kind(function)._with(log_prints=log_prints)
        bound = kind(function.__func__, function.__self__)
        return bound._with(log_prints=log_prints, is_method=True)

    def logging_prints(self) -> TaskFunction:
        """Return the same function, with what it prints going to the log."""
        copy = type(self)(self.func, *self.args, **self.keywords)
        return copy._with(**{**vars(self), "log_prints": True})

    def _with(self, **attributes: bool | None) -> Self:
        # What is left at its default is left out, and does not travel.
        for name, value in attributes.items():
            if value is not getattr(type(self), name):
                setattr(self, name, value)
        return self

    def original(self) -> AnyFunction[object]:
        """Return the function that this was made of."""
        if self.is_method:
            return MethodType(self.func, self.args[0])
        if self.args or self.keywords:  # It was a partial.
            return functools.partial(self.func, *self.args, **self.keywords)
        return self.func

    def __call__(self, /, *args: object, **kwargs: object) -> object:
        if self.log_prints is not None:
            with logged_prints(self.log_prints):
                return _finished(self, _call_partial(self, *args, **kwargs))
        returned = _call_partial(self, *args, **kwargs)
        return _finished(self, returned) if type(returned) in _UNSTARTED else returned

    def __reduce__(self) -> str | tuple[object, ...]:
        function = self.func
        module, name = function.__module__, getattr(function, "__qualname__", "")
        if module != "__main__" and _function_of(lookup(module, name)) is function:
            more = (self.keywords, vars(self)) if self.keywords or vars(self) else ()
            return load, (module, name, self.args, *more)
        return super().__reduce__()


class AsyncTaskFunction(TaskFunction):
    """The function of an async task: a coroutine function, or an async generator."""

    def __call__(self, /, *args: object, **kwargs: object) -> AnyCoroutine[object]:
        if self.log_prints is not None:
            return self._call_logging(args, kwargs)
        returned = _call_async_partial(self, *args, **kwargs)
        if type(returned) is AsyncGeneratorType:
            return _consumed(returned)
        return returned

    async def _call_logging(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
        with logged_prints(self.log_prints):
            returned = _call_async_partial(self, *args, **kwargs)
            if type(returned) is AsyncGeneratorType:
                return await _consumed(returned)
            return await returned


async def _consumed(generator: AsyncGenerator[object, None]) -> list[object]:
    return [item async for item in generator]


def _finished(function: TaskFunction, returned: object) -> object:
    """Return the result behind what an ordinary function returned.

    Raises:
        TypeError: It is something that only an event loop can run.
    """
    if type(returned) is GeneratorType:
        return list(returned)
    if type(returned) is CoroutineType:
        returned.close()  # Else Python would warn that it was never awaited.
        _refuse(function, "a coroutine", "or write `async def` and `return await ...`")
    if type(returned) is AsyncGeneratorType:
        _refuse(function, "an async generator", "or write `async def` and `yield`")
    return returned


def _refuse(function: TaskFunction, returned: str, advice: str) -> Never:
    scope = current_scope.get()
    run = None if scope is None else scope.task_run
    name = function_name(function.func) if run is None else run.task_name
    raise TypeError(
        f"Task {name!r} returned {returned}, which nothing would run: its function is an ordinary "
        f"one. Decorate the async function itself, {advice}"
    )


def gives_coroutine(function: AnyFunction[object]) -> bool:
    """Whether a task of this function is async: of a coroutine function or an async generator."""
    called = getattr(function, "__call__", None)  # noqa: B004 - the method itself is wanted
    return (
        is_async_function(function)
        or inspect.isasyncgenfunction(function)
        or inspect.isasyncgenfunction(called)
    )


def unwrapped(function: object) -> AnyFunction[object]:
    """Return the function in a classmethod or a staticmethod; anything else as it is."""
    if isinstance(function, classmethod | staticmethod):
        function = function.__func__
    return cast("AnyFunction[object]", function)


def _function_of(task: object) -> object:
    return unwrapped(getattr(task, "function", None))


def lookup(module: str, qualified_name: str) -> object:
    """Return what a name in a loaded module leads to; None if it leads nowhere."""
    found: object = sys.modules.get(module)
    for name in qualified_name.split("."):
        # Not by getattr in a class: that would bind the task to the class.
        found = vars(found).get(name) if hasattr(found, "__dict__") else None
    return found


def load(
    module: str,
    qualified_name: str,
    args: tuple[object, ...],
    kwargs: Mapping[str, object] = MappingProxyType({}),
    attributes: Mapping[str, bool | None] = MappingProxyType({}),
) -> TaskFunction:
    """Return the function of the task of this name, in the process that it was shipped to."""
    __import__(module)
    function = _function_of(lookup(module, qualified_name))
    if not callable(function):
        raise ImportError(
            f"Task {qualified_name!r} is not in module {module!r} here; "
            "is the same version of the code installed on every worker?"
        )
    kind = AsyncTaskFunction if gives_coroutine(function) else TaskFunction
    return kind(function, *args, **kwargs)._with(**attributes)
