"""Flows: functions whose tasks run on a task runner."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from functools import partial
from typing import Final, ParamSpec, Self, TypeVar, Unpack, cast, final

import anyio

from anabranch.flows._accounts import accounts_of
from anabranch.flows._flow_attempts import drive_flow, drive_flow_async
from anabranch.flows._flow_hooks import (
    follow_unstarted,
    followed,
    followed_async,
    tell_start,
    tell_start_async,
)
from anabranch.flows._flow_run import ActiveFlowRun
from anabranch.flows._hooks import Hooks
from anabranch.flows._names import docstring, flow_name, function_name
from anabranch.flows._options import FlowOptions, check_options, retry_policy, time_limit
from anabranch.flows._run_names import RunNamer
from anabranch.flows._runnable import Async, Runnable, Sync, checked_wait_for
from anabranch.flows._subflow import submit_flow
from anabranch.flows._subflow_run import SubflowRun
from anabranch.flows._task_function import TaskFunction, lookup
from anabranch.flows._termination import terminable, terminable_async
from anabranch.flows._validation import ParameterValidator
from anabranch.futures import (
    Cancelled,
    Future,
    Retrying,
    Running,
    State,
    TaskRun,
    TaskRunner,
    UpstreamFailed,
    WorkItem,
)
from anabranch.futures.runner import (
    AnyCoroutine,
    CallSignature,
    EventLoop,
    current_scope,
    default_backend,
    held_clock,
    is_async_function,
    make_item,
    resolve_arguments,
    resolve_arguments_async,
    running_loop,
    upstream_failure,
    watched_loop,
)
from anabranch.runners.local import ConcurrentTaskRunner

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class BaseFlow(Runnable[P, R_co]):
    """What sync and async flows have in common.

    Attributes:
        function: The function that was decorated.
        name: What the flow is called.
        description: What the flow does.
        version: Which version of the flow this is; None if it was not said.
    """

    __name__: str
    __qualname__: str

    def __init__(self, function: Callable[P, object], /, **options: Unpack[FlowOptions]) -> None:
        options = check_options("flow", options, FlowOptions)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"@flow cannot decorate the generator {function_name(function)}(): its body would "
                "run when the flow has ended. Return a list, or yield from a function that is no "
                "flow"
            )
        functools.update_wrapper(self, function, updated=())
        self.function: Final = function
        self.name: Final = options.get("name") or flow_name(function)
        self.description: Final = options.get("description") or docstring(function)
        self.version: Final = options.get("version")
        self._options: Final = options
        self._signature: Final = CallSignature(function, function_name(function))
        if "wait_for" in self._signature.parameters:
            raise TypeError(
                f"Flow {self.name!r} has a parameter named 'wait_for', which .submit() keeps for "
                "itself; give the parameter another name"
            )
        self._task_runner = as_runner(options.get("task_runner", ConcurrentTaskRunner))
        self._retry: Final = retry_policy(f"Flow {self.name!r}", options)
        self._time_limit: Final = time_limit(f"Flow {self.name!r}", options)
        self._hooks: Final = Hooks.of(options)
        self._namer: Final = (
            None
            if (run_name := options.get("flow_run_name")) is None
            else RunNamer(f"Flow {self.name!r}", "flow_run_name", run_name, function)
        )
        self._validator: Final = (
            ParameterValidator(self.name, function) if options.get("validate_parameters") else None
        )

    @property
    def task_runner(self) -> TaskRunner:
        """The runner of the flow's tasks; each run of the flow has a duplicate of it.

        It can be set anew, to an instance, a class or any callable that makes one.
        """
        return self._task_runner

    @task_runner.setter
    def task_runner(self, value: TaskRunner | Callable[[], TaskRunner], /) -> None:
        self._task_runner = as_runner(value)

    def with_options(self, **options: Unpack[FlowOptions]) -> Self:
        """Return the same flow with some options changed."""
        current = {**self._options, "task_runner": self._task_runner}
        return type(self)(self.function, **cast("FlowOptions", {**current, **options}))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def __reduce__(self) -> str | tuple[object, ...]:
        if self.__module__ != "__main__" and lookup(self.__module__, self.__qualname__) is self:
            return self.__qualname__  # The flow is what its module says it is.
        options = {**self._options, "task_runner": self._task_runner}
        return _rebuild, (type(self), TaskFunction.of(self.function), options)

    def _item(
        self,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        wait_for: tuple[Future[object], ...] = (),
        task_run: TaskRun | None = None,
    ) -> WorkItem[R_co]:
        """Check the arguments, and find the futures in them."""
        self._signature.check(args, kwargs)
        run = task_run or TaskRun("", self.name, self.name)
        item: WorkItem[R_co] = make_item(
            self.function, args, kwargs, task_run=run, is_async=False, wait_for=wait_for
        )
        return item

    def _new_run(
        self,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        *,
        is_submitted: bool = False,
    ) -> ActiveFlowRun:
        runner = self._task_runner.duplicate()
        runner.backend = self._options.get("backend")
        return ActiveFlowRun(
            self.name,
            runner,
            name=None if self._namer is None else self._namer(args, kwargs),
            is_submitted=is_submitted,
            is_async=is_async_function(self.function),
            log_prints=self._options.get("log_prints"),
            tag_limits=self._options.get("tag_limits"),
        )

    def _call(
        self, run: ActiveFlowRun, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> object:
        """Call the function, in the run's scope."""
        run.scope.call = (self.function, args, kwargs)
        return self.function(*args, **kwargs)  # type: ignore[arg-type]  # They were checked.

    def _validated(
        self, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        return (args, kwargs) if self._validator is None else self._validator(args, kwargs)


def _rebuild(
    kind: type[BaseFlow[P, R]], shipped: TaskFunction, options: FlowOptions
) -> BaseFlow[P, R]:
    return kind(shipped.original(), **options)


@final
class Flow(Sync[P, R_co], BaseFlow[P, R_co]):
    """A function whose tasks run on a task runner; made by decorating it with `flow`.

    ``flow(x)`` runs it in the calling thread, starts its runner for as long, and returns exactly
    what the function returns, once every run that it submitted has ended. ``flow.run(x)`` returns
    the state that it ended in. Called inside another flow it is a subflow, with a runner of its
    own.
    """

    def __init__(self, function: Callable[P, R_co], /, **options: Unpack[FlowOptions]) -> None:
        """Make a flow of a function; `flow` is the decorator for it."""
        super().__init__(function, **options)

    def _run_here(self, args: tuple[object, ...], kwargs: dict[str, object]) -> State[R_co]:
        item = self._item(args, kwargs)
        for upstream in (*item.upstreams, *item.tolerated):
            upstream.join()
        if (failure := upstream_failure(item)) is not None:
            return _unstarted(failure)
        args, resolved = resolve_arguments(item)
        resolved = dict(resolved)
        return self._run(self._new_run(args, resolved), args, resolved)

    def _run(
        self,
        run: ActiveFlowRun,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        future: SubflowRun[R_co] | None = None,
    ) -> State[R_co]:
        def progress(state: Running | Retrying) -> None:
            if future is not None:
                future.note_progress(state)
            if isinstance(state, Retrying):
                run.log_retry(state)
            else:
                tell_start(self, self._hooks, run)

        try:
            with terminable(), held_clock(), followed(self, self._hooks, run), run.accounted():
                tell_start(self, self._hooks, run)
                args, kwargs = self._validated(args, kwargs)
                body = partial(self._call, run, args, kwargs)
                run.state = drive_flow(run, body, self._retry, self._time_limit, progress)
            return cast("State[R_co]", run.state)
        finally:
            run.let_go()

    def _submit(
        self, args: tuple[object, ...], kwargs: dict[str, object], wait_for: object
    ) -> Future[R_co]:
        self._signature.check(args, kwargs)
        awaited = checked_wait_for(self.name, wait_for)
        run = self._new_run(args, kwargs, is_submitted=True)
        future: SubflowRun[R_co] = SubflowRun(run)
        item = self._item(args, kwargs, awaited, future.task_run)
        submit_flow(future, item, partial(self._run, run, future=future))
        follow_unstarted(self, self._hooks, run, future)
        return future


@final
class AsyncFlow(Async[P, R_co], BaseFlow[P, R_co]):
    """A coroutine function whose tasks run on a task runner; made by decorating it with `flow`.

    ``await flow(x)`` runs it in the calling async task, on trio or on asyncio. See `Flow`.
    """

    def __init__(
        self, function: Callable[P, AnyCoroutine[R_co]], /, **options: Unpack[FlowOptions]
    ) -> None:
        """Make a flow of a coroutine function; `flow` is the decorator for it."""
        super().__init__(function, **options)

    async def _run_here(self, args: tuple[object, ...], kwargs: dict[str, object]) -> State[R_co]:
        item = self._item(args, kwargs)
        for upstream in (*item.upstreams, *item.tolerated):
            await upstream.join_async()
        if (failure := upstream_failure(item)) is not None:
            return _unstarted(failure)
        args, resolved = await resolve_arguments_async(item)
        resolved = dict(resolved)
        return await self._run(self._new_run(args, resolved), args, resolved)

    async def _run(
        self,
        run: ActiveFlowRun,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        future: SubflowRun[R_co] | None = None,
    ) -> State[R_co]:
        async def progress(state: Running | Retrying) -> None:
            if future is not None:
                future.note_progress(state)
            if isinstance(state, Retrying):
                run.log_retry(state)
            else:
                await tell_start_async(self, self._hooks, run)

        try:
            with terminable_async(), watched_loop():
                async with followed_async(self, self._hooks, run):
                    with run.accounted():
                        await tell_start_async(self, self._hooks, run)
                        args, kwargs = self._validated(args, kwargs)
                        body = cast(
                            "Callable[[], AnyCoroutine[object]]",
                            partial(self._call, run, args, kwargs),
                        )
                        run.state = await drive_flow_async(
                            run, body, self._retry, self._time_limit, progress
                        )
            return cast("State[R_co]", run.state)
        finally:
            run.let_go()

    def _submit(
        self, args: tuple[object, ...], kwargs: dict[str, object], wait_for: object
    ) -> Future[R_co]:
        self._signature.check(args, kwargs)
        awaited = checked_wait_for(self.name, wait_for)
        run = self._new_run(args, kwargs, is_submitted=True)
        future: SubflowRun[R_co] = SubflowRun(run)
        item = self._item(args, kwargs, awaited, future.task_run)

        async def run_stoppably(args: tuple[object, ...], kwargs: dict[str, object]) -> State[R_co]:
            loop = cast("EventLoop", running_loop())
            with anyio.CancelScope() as scope:
                future.stop_with(partial(loop.call_soon, scope.cancel))
                return await self._run(run, args, kwargs, future)
            return Cancelled(message="The run was cancelled while it was running.")

        backend = run.runner.backend or default_backend()
        submit_flow(
            future,
            item,
            lambda args, kwargs: anyio.run(run_stoppably, args, kwargs, backend=backend),
        )
        follow_unstarted(self, self._hooks, run, future)
        return future


def _unstarted(failure: UpstreamFailed) -> UpstreamFailed:
    """Have a subflow count that never starts."""
    accounts = accounts_of(current_scope.get())
    if accounts is not None:
        accounts.note_subflow_end(failure)
    return failure


def as_runner(value: object) -> TaskRunner:
    """Return the runner that an option stands for.

    Raises:
        TypeError: It is no runner and makes none.
    """
    if isinstance(value, TaskRunner):
        return value
    made = value() if callable(value) else value
    if isinstance(made, TaskRunner):
        return made
    raise TypeError(
        f"{value!r} is no task runner: give an instance or a class, as in "
        "`task_runner=SequentialTaskRunner()`, or a callable that returns one"
    )
