"""Runs that wait for others leave their places to those, and take new ones afterwards."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Final, Protocol, cast, final

from anabranch.futures.runner import BlockingSection
from anabranch.runners.dask._run import DaskRun

if TYPE_CHECKING:
    from anabranch.futures import Future


class _Thread(Protocol):
    proceed: bool


class _Threads(Protocol):
    thread_state: _Thread


class _Distributed(Protocol):
    secede: Callable[[], None]
    rejoin: Callable[[], None]


@final
class Seceding(BlockingSection):
    """Has a thread of a worker leave the worker's pool for as long as it waits.

    Another one comes in its place, for the run that is waited for, or one that goes before. The
    thread comes back when the run has ended, which makes room for it. If it has not, because the
    time for waiting is over or it was given up, the thread goes on outside: that run may be what
    has its place, for as long as it likes.

    Args:
        settle: Blocks until the scheduler knows what has been submitted here, for so many seconds
            at most; None for as long as that may take. If threads left
            before that, runs that are new would take their places, and leave them in turn.
    """

    def __init__(self, settle: Callable[[float | None], object], outside: Context) -> None:
        self._settle: Final = settle
        self._outside: Final = outside

    def wait(self, future: Future[object], timeout: float | None = None) -> None:
        """Return when ``future`` is done, or the time is over."""
        future.awaited()
        if timeout is not None and timeout <= 0:
            return
        self._settle(timeout)
        if future.done():
            return
        if not is_in_pool():  # It may have left by itself.
            future.park(timeout)
            return
        _secede(self._outside)
        future.park(timeout)
        if future.done() and not (isinstance(future, DaskRun) and future.was_abandoned):
            _distributed().rejoin()


@final
class SecedingLease:
    """Has the thread of an async run leave the worker's pool when the run first waits.

    It does not come back: whatever goes on in its event loop would stand still until it has a
    place.

    Args:
        settle: As of `Seceding`.
        outside: Likewise.
    """

    def __init__(self, settle: Callable[[float | None], object], outside: Context) -> None:
        self._settle: Final = settle
        self._outside: Final = outside

    def belongs_to(self, run: Future[object]) -> None:
        """Nothing: the run is known by its thread."""

    def lend(self) -> None:
        """Leave the pool, if that has not been done."""
        if is_in_pool():
            self._settle(None)
            _secede(self._outside)

    def take_back(self) -> None:
        """Nothing: the run goes on at once."""


def is_in_pool() -> bool:
    """Whether the calling thread has a place in the pool of a worker."""
    pool = cast("_Threads", importlib.import_module("distributed.threadpoolexecutor"))
    return getattr(pool.thread_state, "proceed", False)


def _secede(outside: Context) -> None:
    # The worker starts another run in the context of this call, which is not to take that for a
    # part of the run here, or of its event loop.
    outside.copy().run(_distributed().secede)


def _distributed() -> _Distributed:
    return cast("_Distributed", importlib.import_module("distributed"))
