"""Executes async runs: as children of a nursery, in one event loop."""

from __future__ import annotations

import contextvars
import math
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
)
from typing import Final, Protocol, TypeVarTuple, cast, final

import anyio

from anabranch.futures import Cancelled, Crashed, State, TaskRunner
from anabranch.futures.runner import (
    EventLoop,
    in_task,
    make_attempt_async,
    mark_library,
    running_loop,
    upstream_failure,
)
from anabranch.runners.local._run import RUNNER_HAS_ENDED, LocalRun

Ts = TypeVarTuple("Ts")


class Nursery(Protocol):
    """What trio's nursery and anyio's task group have in common."""

    def start_soon(self, function: Callable[[*Ts], Awaitable[None]], /, *args: *Ts) -> None:
        """Start a child task."""


class CancelScope(AbstractContextManager[object], Protocol):
    """What trio's and anyio's cancel scopes have in common."""

    def cancel(self) -> object:
        """Cancel what is in the scope."""


def open_nursery(
    loop: EventLoop,
) -> tuple[AbstractAsyncContextManager[Nursery], Callable[[], CancelScope]]:
    """Open a nursery: trio's own on trio, where anyio's wrapper costs three times as much.

    Returns:
        The nursery, and what makes cancel scopes for its children.
    """
    if loop.backend == "trio":
        import trio  # noqa: PLC0415 - heavy, and there already where it runs

        return cast("AbstractAsyncContextManager[Nursery]", trio.open_nursery()), trio.CancelScope
    nursery = cast("AbstractAsyncContextManager[Nursery]", anyio.create_task_group())
    return nursery, anyio.CancelScope


@final
class AsyncRuns:
    """Starts async runs at once, as children of one nursery.

    Attributes:
        loop: The event loop that the nursery is in.
        needed_loops: What the runs need: its thread.
    """

    def __init__(
        self,
        runner: TaskRunner,
        loop: EventLoop,
        nursery: Nursery,
        new_scope: Callable[[], CancelScope],
    ) -> None:
        self._runner: Final = runner
        self._new_scope: Final = new_scope
        self._nursery: Final = nursery
        self.loop: Final = loop
        self.needed_loops: Final = frozenset({loop.thread_id})
        self._admitted: Final[deque[LocalRun[object]]] = deque()
        self._bell = anyio.Event()
        self._doorkeeper: Final = anyio.CancelScope()
        self._is_closed = False

    @staticmethod
    @asynccontextmanager
    async def open(runner: TaskRunner) -> AsyncGenerator[AsyncRuns]:
        """Take runs in the running event loop, for as long as the context lasts."""
        loop = cast(EventLoop, running_loop())
        opening, new_scope = open_nursery(loop)
        async with opening as nursery:
            runs = AsyncRuns(runner, loop, nursery, new_scope)
            nursery.start_soon(runs._admit)
            try:
                yield runs
            finally:
                runs._close()

    def execute(self, run: LocalRun[object]) -> None:
        """Start a run that is ready. Thread-safe."""
        if threading.get_ident() == self.loop.thread_id and in_task():
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
        self._doorkeeper.cancel()
        self._turn_away()

    def _turn_away(self) -> None:
        """End the runs that came too late."""
        while self._admitted:
            self._admitted.popleft().end(Cancelled(message=RUNNER_HAS_ENDED))

    async def _execute_child(self, run: LocalRun[object]) -> None:
        item = run.item
        scope = self._new_scope()
        run.stop_with(self.loop, scope.cancel)
        if item is None or (attempt := run.claim()) is None:
            return
        is_over = False
        try:
            with scope:
                state = upstream_failure(item) or await make_attempt_async(
                    item, attempt, self._runner
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


def _pass_on_interrupt(state: State[object]) -> None:
    """Raise a Ctrl-C that met an async task of the main thread: the program was meant."""
    if isinstance(state, Crashed) and threading.current_thread() is threading.main_thread():
        error = state.exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise error
