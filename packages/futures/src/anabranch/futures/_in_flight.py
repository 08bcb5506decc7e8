"""Runs in flight, of which one after the other is taken out when it has ended."""

from __future__ import annotations

import abc
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, Generic, TypeVar, cast, final

from anabranch.futures._future import Future
from anabranch.futures._scope import RunScope, current_scope
from anabranch.futures._states import Completed
from anabranch.futures._work import TaskRun

R = TypeVar("R")


class InFlight(abc.ABC, Generic[R]):
    """Runs in flight, and which of them comes next.

    One thread or async task puts runs in and takes them out; runs end in any thread. Nothing here
    takes longer when there are more of them. What was taken out is not kept.
    """

    @abc.abstractmethod
    def __len__(self) -> int:
        """How many runs there are."""

    @abc.abstractmethod
    def add(self, run: Future[R]) -> None:
        """Put a run in."""

    @abc.abstractmethod
    def is_next_done(self) -> bool:
        """Whether the next run has ended."""

    @abc.abstractmethod
    def join(self, timeout: float | None = None) -> Future[R] | None:
        """Block this thread until the next run has ended, and return it; it stays in.

        Returns:
            The run; None if the time is over, or there are no runs.

        Raises:
            WouldDeadlockError: This thread runs an event loop that the run needs.
        """

    @abc.abstractmethod
    async def join_async(self, timeout: float | None = None) -> Future[R] | None:
        """`join`, in an event loop."""

    @abc.abstractmethod
    def pop(self) -> None:
        """Take out the run that `join` has returned."""

    @abc.abstractmethod
    def clear(self) -> list[Future[R]]:
        """Take out all runs, and return them in their order; whoever waits goes on."""


@final
class InOrder(InFlight[R]):
    """Runs that are taken out in the order in which they were put in."""

    def __init__(self) -> None:
        self._runs: deque[Future[R]] = deque()

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, run: Future[R]) -> None:
        """Put a run in, behind the others."""
        self._runs.append(run)

    def is_next_done(self) -> bool:
        """Whether the run that was put in first has ended."""
        return bool(self._runs) and self._runs[0].done()

    def join(self, timeout: float | None = None) -> Future[R] | None:
        """Block this thread until the run that was put in first has ended."""
        if not self._runs:
            return None
        run = self._runs[0]
        return None if run.join(timeout) is None else run

    async def join_async(self, timeout: float | None = None) -> Future[R] | None:
        """`join`, in an event loop."""
        if not self._runs:
            return None
        run = self._runs[0]
        return None if await run.join_async(timeout) is None else run

    def pop(self) -> None:
        """Take out the run that was put in first."""
        self._runs.popleft()

    def clear(self) -> list[Future[R]]:
        """Take out all runs, and return them in the order in which they were put in."""
        runs, self._runs = self._runs, deque()
        return list(runs)


@final
class AsTheyEnd(InFlight[R]):
    """Runs that are taken out in the order in which they end."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._runs: dict[Future[R], None] = {}
        self._ended: deque[Future[R]] = deque()
        # There only while it is waited for: it refers to this.
        self._first_end: _FirstEnd | None = None
        # Each run is looked at, and told of, only once, lest each wait take as long as there are
        # runs: those not known to have started, and those not told that they are waited for.
        self._not_started: dict[Future[R], None] = {}
        self._not_told: dict[Future[R], None] = {}
        self._told_in: RunScope | None = None

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, run: Future[R]) -> None:
        """Put a run in, which comes next when it ends first."""
        for runs in (self._runs, self._not_started, self._not_told):
            runs[run] = None
        run.add_done_callback(self._note_end)

    def is_next_done(self) -> bool:
        """Whether any run has ended."""
        return bool(self._ended)

    def join(self, timeout: float | None = None) -> Future[R] | None:
        """Block this thread until any run has ended."""
        end = self._first_end_if_needed()
        if end is not None:
            try:
                end.join(timeout)
            finally:
                self._first_end = None
        return self._next()

    async def join_async(self, timeout: float | None = None) -> Future[R] | None:
        """`join`, in an event loop."""
        end = self._first_end_if_needed()
        if end is not None:
            try:
                await end.join_async(timeout)
            finally:
                self._first_end = None
        return self._next()

    def pop(self) -> None:
        """Take out the run that ended first."""
        run = self._ended.popleft()
        for runs in (self._runs, self._not_started, self._not_told):
            runs.pop(run, None)

    def clear(self) -> list[Future[R]]:
        """Take out all runs, and return them in the order in which they were put in."""
        with self._lock:
            runs, self._runs = self._runs, {}
            self._not_started, self._not_told = {}, {}
            self._ended = deque()
            end = self._first_end
        for run in runs:
            run.remove_done_callback(self._note_end)
        if end is not None:
            end.set_final(Completed(None))
        return list(runs)

    def _note_end(self, run: Future[R]) -> None:
        with self._lock:
            if run not in self._runs:
                return  # It was let go of before it ended.
            self._ended.append(run)
            end = self._first_end
        if end is not None:
            end.set_final(Completed(None))

    def _first_end_if_needed(self) -> _FirstEnd | None:
        with self._lock:
            if self._ended or not self._runs:
                return None
            self._first_end = _FirstEnd(cast("AsTheyEnd[object]", self))
            return self._first_end

    def _next(self) -> Future[R] | None:
        return self._ended[0] if self._ended else None

    # ------------------------------------------------------------------ what a wait asks

    def not_started(self) -> Iterator[Future[R]]:
        """Return the runs that the waiting thread might run itself."""
        not_started = self._not_started
        started = []
        try:
            for run in not_started:
                if run.done() or run.is_running():
                    started.append(run)
                else:
                    yield run
        finally:
            for run in started:
                not_started.pop(run, None)

    def all_need(self, thread_id: int) -> bool:
        """Whether no run can end without the event loop in a thread."""
        return all(thread_id in run.needed_loops() for run in self._runs)

    def tell(self) -> None:
        """Tell the runs that they are waited for."""
        scope = current_scope.get()
        if scope is not self._told_in:  # Told by another, they have to be told again.
            self._told_in = scope
            self._not_told = dict.fromkeys(self._runs)
        not_told, self._not_told = self._not_told, {}
        for run in not_told:
            run.awaited()


@final
class _FirstEnd(Future[None]):
    """The future of the end of any one of several runs."""

    __slots__ = ("_runs",)

    def __init__(self, runs: AsTheyEnd[object]) -> None:
        super().__init__(_ANY_RUN)
        self._runs = runs

    def missing(self) -> Iterable[Future[object]]:
        return self._runs.not_started()

    def needed_loops(self) -> frozenset[int]:
        # To wait is hopeless only in a thread that every one of them needs; and whether it is, is
        # asked in the thread that is about to wait. Most often the first run settles it.
        here = threading.get_ident()
        return frozenset({here}) if self._runs.all_need(here) else frozenset()

    def awaited(self) -> None:
        self._runs.tell()


_ANY_RUN: Final = TaskRun("", "any of several", "as_completed")
