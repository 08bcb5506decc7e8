"""Executes runs in this process: async tasks in a nursery, the others on threads it owns."""

from __future__ import annotations

import contextvars
import math
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, Protocol, TypeVarTuple, cast, final

import anyio

from anabranch.futures import Cancelled, Crashed, State, TaskRunner, WorkItem
from anabranch.futures.runner import (
    Attempt,
    EventLoop,
    attempt_scope,
    in_task,
    make_attempt,
    make_attempt_async,
    mark_library,
    running_loop,
    upstream_failure,
)
from anabranch.runners.local._run import LocalRun
from anabranch.runners.local._workers import WorkerThreads

Ts = TypeVarTuple("Ts")


class Nursery(Protocol):
    """What trio's nursery and anyio's task group have in common."""

    def start_soon(self, function: Callable[[*Ts], Awaitable[None]], /, *args: *Ts) -> None:
        """Start a child task."""


def open_nursery(loop: EventLoop) -> AbstractAsyncContextManager[Nursery]:
    """Open a nursery: trio's own on trio, where anyio's wrapper costs three times as much."""
    if loop.backend == "trio":
        import trio  # noqa: PLC0415 - heavy, and there already where it runs

        return cast("AbstractAsyncContextManager[Nursery]", trio.open_nursery())
    return cast("AbstractAsyncContextManager[Nursery]", anyio.create_task_group())


@final
class Executor:
    """Starts runs at once, each where it belongs.

    Async tasks become children of the nursery. Sync tasks go to threads of the executor's own,
    which a child of the nursery joins.

    Attributes:
        runner: The runner that it executes for.
        loop: The event loop that the nursery is in.
        needed_loops: What async tasks need here: the loop's thread.
        threads: The threads of the sync tasks.
    """

    def __init__(self, runner: TaskRunner, loop: EventLoop, nursery: Nursery, workers: int) -> None:
        self.runner: Final = runner
        self._nursery: Final = nursery
        self.loop: Final = loop
        self.needed_loops: Final = frozenset({loop.thread_id})
        self._admitted: Final[deque[LocalRun[object]]] = deque()
        self._bell = anyio.Event()
        self._doorkeeper: Final = anyio.CancelScope()
        self._is_closed = False
        self._thread_ended = anyio.Event()
        self.threads: Final = WorkerThreads(
            self._execute_here,
            workers,
            f"anabranch-{runner.name}",
            on_exit=partial(loop.call_soon, self._note_thread_end),
        )

    @staticmethod
    @asynccontextmanager
    async def open(runner: TaskRunner, max_workers: int) -> AsyncIterator[Executor]:
        """Make an executor in the running event loop, for as long as the context lasts."""
        loop = cast(EventLoop, running_loop())
        async with open_nursery(loop) as nursery:
            executor = Executor(runner, loop, nursery, max_workers)
            nursery.start_soon(executor._admit)
            try:
                yield executor
            finally:
                executor._close()
                nursery.start_soon(executor._join_threads)

    def execute(self, run: LocalRun[object]) -> None:
        """Start a run that is ready. Thread-safe."""
        run.executor = self
        run.queued()
        if run.item is None or not run.item.is_async:
            self.threads.put(run)
        elif threading.get_ident() == self.loop.thread_id and in_task():
            self._start_child(run)
        else:
            self._admitted.append(run)
            if self._is_closed or not self.loop.call_soon(self._ring):
                self._turn_away()

    def _ring(self) -> None:
        self._bell.set()

    async def _admit(self) -> None:
        # Only an async task can start another with the context variables of a third: on asyncio,
        # anyio does not know its own loop in what is merely called by it.
        with self._doorkeeper:
            while True:
                self._bell = anyio.Event()
                while self._admitted:
                    self._start_child(self._admitted.popleft())
                await self._bell.wait()

    def _start_child(self, run: LocalRun[object]) -> None:
        if (item := run.item) is not None:
            variables = item.variables or contextvars.copy_context()
            variables.run(mark_library, self.loop.backend)
            # The child's context is a copy of the one that it is started in.
            variables.run(self._nursery.start_soon, self._execute_child, run)

    def _close(self) -> None:
        self._is_closed = True
        self.threads.close()
        self._doorkeeper.cancel()
        self._turn_away()

    def _turn_away(self) -> None:
        """End the runs that came too late."""
        while self._admitted:
            self._admitted.popleft().end(Cancelled(message="The runner of the run has ended."))

    async def _execute_child(self, run: LocalRun[object]) -> None:
        item = run.item
        scope = anyio.CancelScope()
        run.stop_with(self.loop, scope)
        if item is None or (attempt := run.claim()) is None:
            return
        is_over = False
        try:
            with scope:
                state = upstream_failure(item) or await make_attempt_async(
                    item, attempt, self.runner
                )
                is_over = True
                run.attempt_ended(attempt, state)
                _pass_on_interrupt(state)
        except anyio.get_cancelled_exc_class():
            # On asyncio a task may raise this though nobody cancelled it. Then it ends alone.
            if anyio.current_effective_deadline() == -math.inf:
                raise
        finally:
            if not is_over:
                run.end(Cancelled(message="The run was cancelled while it was running."))

    def _execute_here(self, run: LocalRun[object]) -> None:
        item = run.item
        if item is None or (attempt := run.claim()) is None:
            return
        variables = item.variables or contextvars.copy_context()
        if attempt.time_limit is not None or item.retry.retries:
            # Each attempt begins with what was there at first; and a thread that was given up at an
            # earlier one may still be in there.
            variables = variables.copy()
        # Not kept in this frame: a failure's traceback leads back here, and would be a cycle.
        run.attempt_ended(attempt, variables.run(self._make_attempt, run, item, attempt))

    def _make_attempt(
        self, run: LocalRun[object], item: WorkItem[object], attempt: Attempt
    ) -> State[object]:
        mark_library(None)
        if (failure := upstream_failure(item)) is not None:
            return failure
        scope = attempt_scope(item, attempt, self.runner)
        run.enter(attempt, scope)
        return make_attempt(item, attempt, self.runner, scope)

    def give_up(self, run: LocalRun[object]) -> None:
        """Do without the thread that is at a run: nothing waits for it, and another stands in."""
        self.threads.give_up(run)

    def _note_thread_end(self) -> None:
        self._thread_ended.set()
        self._thread_ended = anyio.Event()

    async def _join_threads(self) -> None:
        # Shielded: all that is waited for is threads that have nothing left to do.
        ending = self.threads.leaving()
        with anyio.CancelScope(shield=True):
            while self.threads.leaving():
                await self._thread_ended.wait()
        for thread in ending:
            thread.join()  # It has said goodbye: all that is left to it is to vanish.


def _pass_on_interrupt(state: State[object]) -> None:
    """Raise a Ctrl-C that met an async task of the main thread: the program was meant."""
    if isinstance(state, Crashed) and threading.current_thread() is threading.main_thread():
        error = state.exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise error
