"""The decorators: `task` and `flow`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, Final, Never, ParamSpec, TypeVar, Unpack, cast, final, overload

from anabranch.flows._flow import AsyncFlow, Flow, as_runner
from anabranch.flows._options import FlowOptions, TaskOptions, check_options
from anabranch.flows._task import AsyncTask, Task
from anabranch.flows._task_function import gives_coroutine, unwrapped
from anabranch.futures.runner import AnyCoroutine, AnyFunction, is_async_function

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class _Anything:
    """No function returns this, so only ``-> Any`` and ``-> Never`` match it."""


@final
class TaskDecorator:
    """Turns functions into tasks; `task` is the one that everybody uses.

    ``@task`` and ``@task(name=..., tags=...)`` both work, on functions, coroutine functions and
    methods. Without a function it returns a decorator with these options, which can be kept and
    used again.

    The task of a generator returns the list of what it yields; it is an async task if the generator
    is async. For type checkers, annotate an ordinary one with ``Generator``.
    """

    def __init__(self, **options: Unpack[TaskOptions]) -> None:
        self._options = check_options("task", options, TaskOptions)

    @overload
    def __call__(  # type: ignore[explicit-any]  # As the function's own annotation.
        self, function: Callable[P, _Anything], /
    ) -> Task[P, Any]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # A coroutine is also some `R`; this comes first.
        self, function: Callable[P, AnyCoroutine[R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(
        self, function: Callable[P, Generator[T, Never, object]], /
    ) -> Task[P, list[T]]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # An async generator is also some `R`.
        self, function: Callable[P, AsyncIterator[T]], /
    ) -> AsyncTask[P, list[T]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def __call__(self, /, **options: Unpack[TaskOptions]) -> TaskDecorator: ...
    def __call__(self, function: object = None, /, **options: object) -> object:
        """Make a task of a function, or a decorator of options.

        Raises:
            TypeError: What is decorated is no function, or an option is unknown.
        """
        all_options = cast("TaskOptions", {**self._options, **options})
        if function is None:
            return TaskDecorator(**all_options)
        inner = unwrapped(function)
        if not callable(inner):
            raise TypeError(
                f"@task cannot decorate {function!r}: use it on a function, as in "
                "`@task` or `@task(name='extract')`"
            )
        make = cast("AnyFunction[object]", AsyncTask if gives_coroutine(inner) else Task)
        return make(function, **all_options)


#: Turns a function into a task; see `TaskDecorator`.
task: Final = TaskDecorator()


@final
class FlowDecorator:
    """Turns functions into flows; `flow` is the one that everybody uses.

    ``@flow`` and ``@flow(name=..., task_runner=...)`` both work, on functions and on coroutine
    functions. Without a function it returns a decorator with these options, which can be kept and
    used again.
    """

    def __init__(self, **options: Unpack[FlowOptions]) -> None:
        self._options = check_options("flow", options, FlowOptions)

    @overload
    def __call__(  # type: ignore[explicit-any]  # As the function's own annotation.
        self, function: Callable[P, _Anything], /
    ) -> Flow[P, Any]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # A coroutine is also some `R`; this comes first.
        self, function: Callable[P, AnyCoroutine[R]], /
    ) -> AsyncFlow[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Flow[P, R]: ...
    @overload
    def __call__(self, /, **options: Unpack[FlowOptions]) -> FlowDecorator: ...
    def __call__(self, function: object = None, /, **options: object) -> object:
        """Make a flow of a function, or a decorator of options.

        Raises:
            TypeError: What is decorated is no function, an option is unknown, or the task runner
                is none.
        """
        all_options = cast("FlowOptions", {**self._options, **options})
        if function is None:
            if "task_runner" in all_options:
                all_options["task_runner"] = as_runner(all_options["task_runner"])
            return FlowDecorator(**all_options)
        if not callable(function):
            raise TypeError(
                f"@flow cannot decorate {function!r}: use it on a function, as in "
                "`@flow` or `@flow(name='extract')`"
            )
        make = cast("AnyFunction[object]", AsyncFlow if is_async_function(function) else Flow)
        return make(function, **all_options)


#: Turns a function into a flow; see `FlowDecorator`.
flow: Final = FlowDecorator()
