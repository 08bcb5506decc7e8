"""Hooks: what users have called when runs change their state.

They are subscribers, never in the way: what they raise is logged. Those of runs that happen here,
direct calls and flows, are called in place. Those of submitted runs are called in a thread of their
flow run, because a run may end in the thread of an event loop, which must not be blocked.
"""

from __future__ import annotations

import inspect
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias, cast, final

import anyio

from anabranch.flows._logging import log_run
from anabranch.flows._names import function_name
from anabranch.futures import (
    Backend,
    Completed,
    FlowRun,
    Future,
    Running,
    State,
    StateType,
    TaskRun,
    Unfinished,
)
from anabranch.futures.runner import (
    AnyCoroutine,
    LoopThread,
    RunScope,
    current_scope,
    grace,
    start_thread,
)

#: Called with the task, the run and the state that it ended in; it may be async.
TaskHook: TypeAlias = Callable[[Any, TaskRun, State[Any]], object]
#: One or several of them.
TaskHooks: TypeAlias = TaskHook | Iterable[TaskHook]
#: Called with the task, the run and the state of an attempt that starts.
TaskRunningHook: TypeAlias = Callable[[Any, TaskRun, Running], object]
#: Called with the flow, the run and the state that it ended in; it may be async.
FlowHook: TypeAlias = Callable[[Any, FlowRun, State[Any]], object]
#: One or several of them.
FlowHooks: TypeAlias = FlowHook | Iterable[FlowHook]
#: Called with the flow, the run and the state of an attempt that starts.
FlowRunningHook: TypeAlias = Callable[[Any, FlowRun, Running], object]

Hook: TypeAlias = Callable[[object, TaskRun | FlowRun, "State[object] | Unfinished"], object]

_OPTION_OF: Final = {
    StateType.RUNNING: "on_running",
    StateType.COMPLETED: "on_completion",
    StateType.FAILED: "on_failure",
    StateType.CRASHED: "on_crashed",
    StateType.CANCELLED: "on_cancellation",
}

#: The options that take hooks.
HOOK_OPTIONS: Final = frozenset(_OPTION_OF.values())


def checked_hooks(kind: str, option: str, hooks: object) -> tuple[object, ...]:
    """Return the hooks that an option was given.

    Raises:
        TypeError: It is neither a callable nor several.
    """
    found = tuple(hooks) if isinstance(hooks, Iterable) and not callable(hooks) else (hooks,)
    for hook in found:
        if not callable(hook):
            raise TypeError(
                f"@{kind} got {option}={hook!r}, which cannot be called; give a function "
                f"`def hook({kind}, {kind}_run, state)`, or a list of them"
            )
    return found


@final
class Hooks:
    """The hooks of one task or flow."""

    def __init__(self, hooks: Mapping[StateType, tuple[Hook, ...]]) -> None:
        self._hooks: Final = hooks

    @classmethod
    def of(cls, options: Mapping[str, object]) -> Hooks | None:
        """Return the hooks among checked options; None if there are none."""
        found = {kind: options[name] for kind, name in _OPTION_OF.items() if options.get(name)}
        return cls(cast("Mapping[StateType, tuple[Hook, ...]]", found)) if found else None

    def wants(self, kind: StateType) -> bool:
        """Whether there is a hook for states of this kind."""
        return kind in self._hooks

    def call(
        self,
        subject: object,
        run: TaskRun | FlowRun,
        state: State[object] | Unfinished,
        backend: Backend | None = None,
    ) -> None:
        """Call the hooks for a state, one after the other, in the calling thread.

        Args:
            subject: The task or the flow.
            run: The run that is now in this state.
            state: The state.
            backend: The event loop in which async hooks are run to their ends, beside this thread.
        """
        for hook in self._hooks.get(state.type, ()):
            try:
                returned = hook(subject, run, state)
                if inspect.iscoroutine(returned):
                    _run_beside(returned, backend)
            except Exception as error:  # A subscriber is never in the way.
                _log_failure(hook, run, error)

    def call_apart(
        self,
        subject: object,
        run: TaskRun | FlowRun,
        state: State[object] | Unfinished,
        backend: Backend | None,
    ) -> None:
        """`call`, for threads that whatever hooks raise must not end."""
        try:
            self.call(subject, run, state, backend)
        except BaseException as error:  # Not even SystemExit ends the thread of the others' hooks.
            log_run(run, "The hooks of run %r were ended by %r", run.name, error)

    async def call_async(
        self, subject: object, run: TaskRun | FlowRun, state: State[object] | Unfinished
    ) -> None:
        """Call the hooks for a state, one after the other, in the calling async task."""
        # What runs because something was cancelled must not be cancelled for the same reason.
        with anyio.CancelScope(shield=state.is_cancelled()):
            for hook in self._hooks.get(state.type, ()):
                try:
                    returned = hook(subject, run, state)
                    if inspect.isawaitable(returned):
                        await returned
                except Exception as error:  # A subscriber is never in the way.
                    _log_failure(hook, run, error)

    async def call_apart_async(
        self, subject: object, run: TaskRun | FlowRun, state: State[object] | Unfinished
    ) -> None:
        """`call_async`, for event loops that what hooks raise must not end."""
        try:
            await self.call_async(subject, run, state)
        except (SystemExit, KeyboardInterrupt) as error:
            log_run(run, "The hooks of run %r were ended by %r", run.name, error)

    def listener(
        self, subject: object, thread: HookThread
    ) -> Callable[[TaskRun, Unfinished], None] | None:
        """Return what is to be told when a submitted run becomes Running or Retrying.

        It never blocks. None if nobody wants to know.

        Args:
            subject: The task.
            thread: Where the hooks are to be called.
        """
        if not self.wants(StateType.RUNNING):
            return None

        def tell(run: TaskRun, state: Unfinished) -> None:
            if state.is_running() and thread.expect():
                thread.put(partial(self.call_apart, subject, run, state, thread.backend))

        return tell

    def follow(self, subject: object, future: Future[object], thread: HookThread) -> None:
        """Have the hooks called when a submitted run ends.

        Args:
            subject: The task.
            future: The run's future.
            thread: Where the hooks are to be called.
        """

        def ended(future: Future[object]) -> None:
            state = future.final_state()
            wanted = self.wants(state.type)
            call = partial(self.call_apart, subject, future.task_run, state, thread.backend)
            thread.put(call if wanted else None)

        if thread.expect():
            future.add_done_callback(ended)


def _run_beside(coroutine: AnyCoroutine[object], backend: Backend | None) -> None:
    """Run an async hook to its end, in an event loop of its own: this thread may have one."""
    scope = current_scope.get()

    async def main(ready: Callable[[], None]) -> None:
        current_scope.set(scope)
        ready()
        await coroutine

    thread = LoopThread(main, backend=backend, name="anabranch-async-hook")
    thread.start()
    thread.join()


def _log_failure(hook: Hook, run: TaskRun | FlowRun, error: Exception) -> None:
    log_run(
        run, "The hook %s of run %r failed", function_name(hook) + "()", run.name, failure=error
    )


@final
class HookThread:
    """Calls the hooks of the runs that were submitted in one flow run, in order.

    The thread is started with the first call.

    Args:
        run: The flow run; None outside any.
        scope: What the hooks find themselves in.
        backend: The event loop for async hooks.

    Attributes:
        backend: As given.
        scope: As given; another one for each attempt of the flow run.
    """

    def __init__(
        self,
        run: FlowRun | None = None,
        scope: RunScope | None = None,
        backend: Backend | None = None,
    ) -> None:
        self.backend: Final = backend
        self._run: Final = run
        self.scope = scope
        self._calls: Final[queue.SimpleQueue[Callable[[], None] | None]] = queue.SimpleQueue()
        self._lock: Final = threading.Lock()
        # Each follows a run: its last callbacks may come after the flow has joined it.
        self._expected = 0
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._end: Final[Future[None]] = Future(_HOOKS)

    def expect(self) -> bool:
        """Announce that `put` will be called; returns False if it is too late for that."""
        with self._lock:
            if not self._is_closing or self._expected:
                self._expected += 1
                return True
            return False

    def put(self, call: Callable[[], None] | None) -> None:
        """Have something called, or nothing, as was announced; never blocks."""
        if call is not None:
            try:
                self._ensure_thread()
            except RuntimeError as error:  # There are no more threads to be had.
                if self._run is not None:
                    log_run(self._run, "Hooks were not called: %s", error)
            else:
                self._calls.put(call)
                return
        self._one_less()

    def _ensure_thread(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._main, name="anabranch-hooks", daemon=True)
                start_thread(thread)
                self._thread = thread

    def _main(self) -> None:
        while (call := self._calls.get()) is not None:
            current_scope.set(self.scope)
            call()
            del call  # An idle thread keeps nothing alive.
            self._one_less()

    def _one_less(self) -> None:
        with self._lock:
            self._expected -= 1
            is_over = self._is_closing and not self._expected
        if is_over:
            self._finish()

    def _close(self) -> None:
        with self._lock:
            self._is_closing = True
            is_over = not self._expected
        if is_over:
            self._finish()

    def _finish(self) -> None:
        self._calls.put(None)
        self._end.set_final(Completed(None))

    # ------------------------------------------------------------------ leaving

    def join(self, *, in_a_hurry: bool = False) -> None:
        """Wait until every hook has been called.

        Args:
            in_a_hurry: Whether to wait for half a second at most.
        """
        self._close()
        try:
            ended = self._end.join(grace() if in_a_hurry else None)
        except BaseException:  # Ctrl-C while it waits.
            if self._end.join(grace()) is None:
                self._warn()
            raise
        if ended is None:
            self._warn()

    async def join_async(self, *, in_a_hurry: bool = False) -> None:
        """`join`, without blocking the loop."""
        self._close()
        if self._end.done():
            return
        try:
            if not in_a_hurry:
                await self._end.join_async()
        finally:
            if not self._end.done():
                with anyio.CancelScope(shield=True):
                    await self._end.wait_async(grace())
                if not self._end.done():
                    self._warn()

    def _warn(self) -> None:
        if self._run is not None:
            log_run(self._run, "Abandoned hooks that are still running", level=logging.WARNING)


_HOOKS: Final = TaskRun("", "hooks", "hooks")

#: Calls the hooks of runs that were submitted outside any flow, by a task on a bare runner.
HOOKS_OUTSIDE_FLOWS: Final = HookThread()
