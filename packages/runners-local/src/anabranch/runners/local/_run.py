"""A run in this process: its item, and its own future."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

import anyio

from anabranch.futures import Cancellation, Cancelled, Future, State, WorkItem
from anabranch.futures.runner import EventLoop

if TYPE_CHECKING:
    from anabranch.runners.local._executor import Executor

R_co = TypeVar("R_co", covariant=True)


class LocalRun(Future[R_co]):
    """The future of a run in this process, which holds the run's work until it has ended.

    Attributes:
        item: The work; None once the run has ended, so that a kept future keeps no arguments.
        executor: What executes the run, once that has been decided.
    """

    __slots__ = ("_stop", "_when_awaited", "executor", "item")

    def __init__(
        self,
        item: WorkItem[R_co],
        loops: frozenset[int],
        when_awaited: Callable[[LocalRun[object]], None] | None = None,
    ) -> None:
        super().__init__(item.task_run, loops=loops)
        self.item: WorkItem[R_co] | None = item
        self.executor: Executor | None = None
        self._stop: tuple[EventLoop, anyio.CancelScope] | None = None
        self._when_awaited = when_awaited

    def missing(self) -> Iterable[Future[object]]:
        """Return the runs that this one waits for before it can start."""
        item = self.item
        if item is None:
            return ()
        return [each for each in (*item.upstreams, *item.tolerated) if not each.done()]

    def is_ready(self, loops: frozenset[int]) -> None:
        """Take note that all upstreams have ended: from now on only these loops are needed."""
        if not self.done():
            self._loops = loops

    def stop_with(self, loop: EventLoop, scope: anyio.CancelScope) -> None:
        """Tell how the run is stopped while it is an async task."""
        self._stop = (loop, scope)

    def end(self, state: State[object]) -> None:
        """End the run, and let go of its work."""
        # In this order: a run that has ended and still has its work has been abandoned.
        self.item = None
        self._stop = None
        self.set_final(state)

    def is_abandoned(self) -> bool:
        """Whether the run was declared ended while a thread was still at it."""
        return self.done() and self.item is not None

    def cancel(self) -> Cancellation:
        """Ask for the run to be stopped; see `Future.cancel`."""
        if self.set_running():
            self.end(Cancelled(message="The run was cancelled before it started."))
            return Cancellation.CANCELLED
        if self.done():
            ended_so = isinstance(self.final_state(), Cancelled)
            return Cancellation.CANCELLED if ended_so else Cancellation.CANNOT_STOP
        if (stop := self._stop) is not None:
            loop, scope = stop
            loop.call_soon(scope.cancel)
            return Cancellation.WILL_STOP
        return Cancellation.CANNOT_STOP

    def awaited(self) -> None:
        if self._when_awaited is not None:
            self._when_awaited(self)
