"""Tasks: functions whose calls are tracked runs."""

from __future__ import annotations

import functools
import inspect
import itertools
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import (
    Concatenate,
    Final,
    ParamSpec,
    Self,
    TypeVar,
    Unpack,
    cast,
    final,
    overload,
)

from anabranch.flows._accounts import accounts_of
from anabranch.flows._flow_run import ActiveFlowRun
from anabranch.flows._hooks import HOOKS_OUTSIDE_FLOWS, Hooks, HookThread
from anabranch.flows._logging import flow_runs_logger, log_flow_run, log_task_run
from anabranch.flows._mappable import Mappable
from anabranch.flows._names import docstring, function_name, task_key
from anabranch.flows._options import TaskOptions, check_options, retry_policy, time_limit
from anabranch.flows._printing import prints_are_logged
from anabranch.flows._run_names import RunNamer
from anabranch.flows._runnable import Async, Sync, checked_wait_for
from anabranch.flows._tag_limits import (
    call_within_limits,
    call_within_limits_async,
    submit_within_limits,
)
from anabranch.flows._tags import current_tags
from anabranch.flows._task_function import TaskFunction, lookup, unwrapped
from anabranch.futures import (
    Cancelled,
    Crashed,
    FlowRun,
    Future,
    NotSubmittableError,
    Retrying,
    Running,
    State,
    TaskRun,
    WorkItem,
)
from anabranch.futures.runner import (
    NO_RETRIES,
    AnyCoroutine,
    CallSignature,
    Listener,
    RunScope,
    call_here,
    current_scope,
    make_item,
    new_run_id,
    new_run_serial,
    run_item,
    run_item_async,
    scan_call,
    upstream_failure,
)

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")

EXECUTING: Final = "Executing %r immediately..."

_NO_KWARGS: Final[Mapping[str, object]] = {}

# Numbers the runs of tasks that are called outside any flow, or in another process than its own.
_numbers_outside_flows: Final = itertools.count()

# How many digits of its run ids tell a process from others in the names of runs.
_MARK: Final = 6


class BaseTask(Mappable[P, R_co]):
    """What sync and async tasks have in common.

    Attributes:
        function: The function that was decorated.
        name: What the task is called.
        key: Eight hexadecimal digits made from the function's qualified name, and so the same in
            every run and process.
        description: What the task does.
        version: Which version of the task this is; None if it was not said.
        tags: Labels for the task's runs.
    """

    __name__: str
    __qualname__: str
    _is_async: bool

    def __init__(self, function: Callable[P, object], /, **options: Unpack[TaskOptions]) -> None:
        options = check_options("task", options, TaskOptions)
        self.function: Final = function
        inner = unwrapped(function)
        functools.update_wrapper(self, inner, updated=())
        super().__init__(options.get("name") or function_name(inner))
        self.key: Final = task_key(inner)
        self.description: Final = options.get("description") or docstring(inner)
        self.version: Final = options.get("version")
        self.tags: Final = frozenset(options.get("tags", ()))
        self._run_name: Final = f"{self.name}-{self.key}"
        self._options: Final = options
        self._signature: Final = CallSignature(inner, self.name)
        self._shipped: Final = TaskFunction.of(inner, options.get("log_prints"))
        self._logging_prints: TaskFunction | None = None
        self._retry: Final = retry_policy(f"Task {self.name!r}", options)
        self._time_limit: Final = time_limit(f"Task {self.name!r}", options)
        self._backend: Final = options.get("backend")
        self._runner_options: Final = options.get("runner_options", {})
        self._hooks: Final = Hooks.of(options)
        self._namer: Final = (
            None
            if (run_name := options.get("task_run_name")) is None
            else RunNamer(f"Task {self.name!r}", "task_run_name", run_name, self._shipped.func)
        )
        self._after: tuple[object, ...] = ()
        if "wait_for" in self._signature.parameters:
            raise TypeError(
                f"Task {self.name!r} has a parameter named 'wait_for', which .submit() keeps for "
                "itself; give the parameter another name"
            )

    def with_options(self, **options: Unpack[TaskOptions]) -> Self:
        """Return the same task with some options changed."""
        task = type(self)(self.function, **cast("TaskOptions", {**self._options, **options}))
        task._after = self._after
        return task

    def after(self, *futures: Future[object]) -> Self:
        """Return the same task, to be submitted so that it waits for these runs first.

        ``task.after(f, g).submit(x)`` is ``task.submit(x, wait_for=[f, g])``, exact in its types.

        Args:
            *futures: What must complete before the function is called.
        """
        task = self.with_options()
        task._after = (*self._after, *futures)
        return task

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def __reduce__(self) -> str | tuple[object, ...]:
        name: str = vars(self).get("__qualname__", "")
        if self.__module__ != "__main__" and lookup(self.__module__, name) is self:
            return name  # The task is what its module says it is.
        return _rebuild, (type(self), self._shipped, self._options, self._after)

    # ------------------------------------------------------------------ submitting

    def _check(self, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        self._signature.check(args, kwargs)

    def _submit(
        self, args: tuple[object, ...], kwargs: dict[str, object], wait_for: object
    ) -> Future[R_co]:
        self._signature.check(args, kwargs)
        awaited = checked_wait_for(self.name, wait_for)
        scope = current_scope.get()
        if scope is None or scope.runner is None:
            raise self._not_submittable(scope)
        runner, accounts = scope.runner, accounts_of(scope)
        owner = None if accounts is None else accounts.flow
        flow_run = scope.flow_run
        run = self._new_run(owner, flow_run, args, kwargs)
        hooks = self._hooks
        hook_thread = HOOKS_OUTSIDE_FLOWS if owner is None else owner.hooks
        has_listener = hooks is not None or self._retry is not NO_RETRIES
        item: WorkItem[R_co] = make_item(  # By position, which takes half the time.
            self._function_to_ship(),
            args,
            kwargs or _NO_KWARGS,
            run,
            self._is_async,
            flow_run,
            (*self._after, *awaited),
            self._backend or runner.backend,
            self._retry,
            self._time_limit,
            self._listener(scope, hook_thread) if has_listener else None,
            self._runner_options,
        )
        if flow_run is not None and flow_runs_logger.isEnabledFor(logging.INFO):
            # Said before it is done: by then the run may have ended, and its last line be written.
            runs_here = runner.runs_in_place(item)
            message = EXECUTING if runs_here else "Submitted task run %r for execution."
            log_flow_run(flow_run, message, run.name)
        future = submit_within_limits(item, runner)
        if hooks is not None:
            hooks.follow(self, future, hook_thread)
        return future

    def _listener(self, scope: RunScope | None, hook_thread: HookThread) -> Listener | None:
        """Return what is told when a submitted run becomes Running or Retrying."""
        tell_hooks = None if self._hooks is None else self._hooks.listener(self, hook_thread)
        if self._retry is NO_RETRIES:
            return tell_hooks
        flow_run = None if scope is None else scope.flow_run

        def listen(run: TaskRun, state: Running | Retrying) -> None:
            _log_retry(run, flow_run, state)
            if tell_hooks is not None:
                tell_hooks(run, state)

        return listen

    def _function_to_ship(self) -> TaskFunction:
        """Return the function, told of what it would inherit from around it in this process."""
        if not prints_are_logged.get() or self._shipped.log_prints is not None:
            return self._shipped
        if self._logging_prints is None:
            self._logging_prints = self._shipped.logging_prints()
        return self._logging_prints

    def _not_submittable(self, scope: RunScope | None) -> NotSubmittableError:
        if scope is None:
            return NotSubmittableError(
                f"Task {self.name!r} was submitted outside any flow, where there is no task runner "
                f"to run it. Submit it in a function decorated with @flow, call {self.name}(...) "
                f"directly, or use a runner: `with ConcurrentTaskRunner() as runner: "
                f"runner.submit({self.name}, ...)`. (A thread of your own is outside, too, unless "
                "it runs in a copy of the flow's context: contextvars.copy_context().run)"
            )
        return NotSubmittableError(
            f"Task {self.name!r} was submitted inside a task that runs in another process, where "
            f"there is no task runner. Call {self.name}(...) directly there, or submit it in the "
            "flow"
        )

    def _new_run(
        self,
        owner: ActiveFlowRun | None,
        flow_run: FlowRun | None,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        *,
        is_here: bool = False,
    ) -> TaskRun:
        if self._namer is not None:
            # What a method is bound to is a parameter like others, for names.
            shipped = self._shipped
            name = self._namer((*shipped.args, *args), {**shipped.keywords, **kwargs})
            number = None
        elif owner is not None:
            name, number = self._run_name, owner.next_number(self.key)
        else:
            name, number = self._run_name, next(_numbers_outside_flows)
            if flow_run is not None:  # Other processes number runs of the same flow run, too.
                name = f"{name}-{new_run_id()[:_MARK]}"
        tags = self.tags | around if (around := current_tags.get()) else self.tags
        run = TaskRun(new_run_serial(), name, self.name, tags, number)
        if flow_run is not None and flow_runs_logger.isEnabledFor(logging.INFO):
            log_flow_run(flow_run, "Created task run %r for task %r", run.name, self.name)
            if is_here:
                log_flow_run(flow_run, EXECUTING, run.name)
        return run

    # ------------------------------------------------------------------ calling directly

    def _is_simple(self, run: TaskRun) -> bool:
        """Whether a call is no more than one attempt."""
        return (
            self._retry is NO_RETRIES
            and self._time_limit is None
            and self._hooks is None
            and not (run.tags or self._after)
        )

    def _item_here(
        self,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        run: TaskRun,
        scope: RunScope | None,
    ) -> WorkItem[R_co]:
        return make_item(
            self._shipped,
            args,
            kwargs,
            task_run=run,
            is_async=self._is_async,
            flow_run=None if scope is None else scope.flow_run,
            wait_for=self._after,
            retry=self._retry,
            time_limit=self._time_limit,
        )

    # ------------------------------------------------------------------ methods

    def _bound(self, obj: object, owner: object) -> Self:
        bind = getattr(type(self.function), "__get__", None)
        if bind is None or (obj is None and inspect.isfunction(self.function)):
            return self
        bound = bind(self.function, obj, owner)
        task = type(self)(bound, **cast("TaskOptions", {"name": self.name, **self._options}))
        task._after = self._after
        return task


def _rebuild(
    kind: type[BaseTask[P, R]],
    shipped: TaskFunction,
    options: TaskOptions,
    after: tuple[object, ...],
) -> BaseTask[P, R]:
    task = kind(shipped.original(), **options)
    task._after = after
    return task


@final
class Task(Sync[P, R_co], BaseTask[P, R_co]):
    """A function whose calls are tracked runs; made by decorating it with `task`.

    ``task(x)`` runs it here and now, under any runner, and returns its value. ``task.submit(x)``
    hands it to the flow's task runner and returns a future. ``task.run(x)`` runs it here and
    returns the state that it ended in. Outside a flow a task is an ordinary function.
    """

    _is_async = False

    def __init__(self, function: Callable[P, R_co], /, **options: Unpack[TaskOptions]) -> None:
        """Make a task of a function; `task` is the decorator for it."""
        super().__init__(function, **options)

    def _run_here(self, args: tuple[object, ...], kwargs: dict[str, object]) -> State[R_co]:
        self._signature.check(args, kwargs)
        scope = current_scope.get()
        accounts = accounts_of(scope)
        owner = None if accounts is None else accounts.flow
        flow_run = None if scope is None else scope.flow_run
        run = self._new_run(owner, flow_run, args, kwargs, is_here=True)
        item = None
        if not (self._is_simple(run) and scan_call(args, kwargs).is_plain):
            item = self._item_here(args, kwargs, run, scope)
            for upstream in (*item.upstreams, *item.tolerated):
                upstream.join()
        state: State[R_co] | None = None
        try:
            try:
                if item is None:
                    state = call_here(self._shipped, args, kwargs, run, scope)
                else:
                    state = self._execute(item, scope)
            finally:  # Ctrl-C may come while it waits for a place.
                if state is None:
                    state = Cancelled(message="The run was cancelled before it started.")
                if accounts is not None:
                    accounts.note_end(run, state)
                if self._hooks is not None:
                    self._tell(run, state, scope)
            if type(state) is Crashed and not isinstance(state.exception, Exception):
                raise state.exception  # Ctrl-C or SystemExit: the caller's own thread was meant.
            return state
        finally:
            del state  # Its exception refers to this frame, and would be a cycle.

    def _execute(self, item: WorkItem[R_co], scope: RunScope | None) -> State[R_co]:
        return upstream_failure(item) or call_within_limits(
            item.task_run, partial(self._execute_now, item, scope)
        )

    def _execute_now(self, item: WorkItem[R_co], scope: RunScope | None) -> State[R_co]:
        self._tell(item.task_run, Running(), scope)
        runner = None if scope is None else scope.runner
        return run_item(
            item, runner, progress=lambda state: self._note_progress(item, state, scope)
        )

    def _note_progress(
        self, item: WorkItem[R_co], state: Running | Retrying, scope: RunScope | None
    ) -> None:
        _log_retry(item.task_run, item.flow_run, state)
        if isinstance(state, Running):
            self._tell(item.task_run, state, scope)

    def _tell(self, run: TaskRun, state: State[object] | Running, scope: RunScope | None) -> None:
        if self._hooks is not None:
            runner = None if scope is None else scope.runner
            backend = None if runner is None else runner.backend
            self._hooks.call(self, run, state, self._options.get("backend") or backend)

    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], object], obj: object, owner: S, /
    ) -> Task[Q, R_co]: ...
    @overload
    def __get__(self, obj: None, owner: type, /) -> Self: ...
    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], object], obj: S, owner: type, /
    ) -> Task[Q, R_co]: ...
    @overload
    def __get__(self, obj: object, owner: type, /) -> Self: ...
    def __get__(self, obj: object, owner: object = None, /) -> object:
        """Return the task of a method, bound to its object."""
        return self._bound(obj, owner)


@final
class AsyncTask(Async[P, R_co], BaseTask[P, R_co]):
    """A coroutine function whose calls are tracked runs; made by decorating it with `task`.

    ``await task(x)`` runs it in the calling async task and returns its value. ``task.submit(x)``
    hands it to the flow's task runner and returns a future, in sync code as well.
    ``await task.run(x)`` returns the state that it ended in.
    """

    _is_async = True

    def __init__(
        self, function: Callable[P, AnyCoroutine[R_co]], /, **options: Unpack[TaskOptions]
    ) -> None:
        """Make a task of a coroutine function; `task` is the decorator for it."""
        super().__init__(function, **options)

    async def _run_here(self, args: tuple[object, ...], kwargs: dict[str, object]) -> State[R_co]:
        self._signature.check(args, kwargs)
        scope = current_scope.get()
        accounts = accounts_of(scope)
        owner = None if accounts is None else accounts.flow
        flow_run = None if scope is None else scope.flow_run
        run = self._new_run(owner, flow_run, args, kwargs, is_here=True)
        item = self._item_here(args, kwargs, run, scope)
        for upstream in (*item.upstreams, *item.tolerated):
            await upstream.join_async()
        state: State[R_co] = Cancelled(message="The run was cancelled while it was running.")
        try:
            if (failure := upstream_failure(item)) is not None:
                state = failure
            else:
                execute = partial(self._execute, item, scope)
                state = await call_within_limits_async(item.task_run, execute)
        finally:
            if accounts is not None:
                accounts.note_end(run, state)
            if self._hooks is not None:
                await self._hooks.call_async(self, run, state)
        if isinstance(state, Crashed) and not isinstance(state.exception, Exception):
            raise state.exception  # Ctrl-C or SystemExit: the caller's own thread was meant.
        return state

    async def _execute(self, item: WorkItem[R_co], scope: RunScope | None) -> State[R_co]:
        if self._hooks is not None:
            await self._hooks.call_async(self, item.task_run, Running())
        runner = None if scope is None else scope.runner
        return await run_item_async(item, runner, progress=partial(self._note_progress_async, item))

    async def _note_progress_async(self, item: WorkItem[R_co], state: Running | Retrying) -> None:
        _log_retry(item.task_run, item.flow_run, state)
        if isinstance(state, Running) and self._hooks is not None:
            await self._hooks.call_async(self, item.task_run, state)

    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], object], obj: object, owner: S, /
    ) -> AsyncTask[Q, R_co]: ...
    @overload
    def __get__(self, obj: None, owner: type, /) -> Self: ...
    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], object], obj: S, owner: type, /
    ) -> AsyncTask[Q, R_co]: ...
    @overload
    def __get__(self, obj: object, owner: type, /) -> Self: ...
    def __get__(self, obj: object, owner: object = None, /) -> object:
        """Return the task of a method, bound to its object."""
        return self._bound(obj, owner)


def _log_retry(run: TaskRun, flow_run: FlowRun | None, state: Running | Retrying) -> None:
    if isinstance(state, Retrying):
        log_task_run(run, flow_run, "%s", state.message, level=logging.WARNING)
