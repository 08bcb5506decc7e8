"""Threads that wait: what a runner does about them, and what a test's clock is told."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Protocol, final

from anabranch.futures._clock import Hold, current_hold

if TYPE_CHECKING:
    from anabranch.futures._future import Future


class BlockingSection:
    """What a runner puts around the waits of its own worker threads.

    A worker thread that waits holds a place in its pool. The pool may lend the place to another
    while it waits, or have the thread run what it waits for.
    """

    def wait(self, future: Future[object], timeout: float | None = None) -> None:
        """Return when ``future`` is done, or the time is over: park, or run what it waits for."""
        future.park(timeout)


@final
class Pause:
    """Lets go of a hold for as long as a thread waits; may be ended by several, and ends once."""

    __slots__ = ("_hold", "_once")

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._once = threading.Lock()
        hold.pause()

    def end(self, _: object = None) -> None:
        """Take hold again."""
        if self._once.acquire(blocking=False):
            self._hold.resume()


class _Thread(threading.local):
    """What the engine keeps for each thread."""

    section: BlockingSection | None = None
    pause: Pause | None = None


#: What the engine keeps for each thread.
this_thread: Final = _Thread()


@contextmanager
def paused(hold: Hold, until: Future[object]) -> Generator[None]:
    """Let go of a hold while this thread waits for a run; its end takes hold again."""
    pause = Pause(hold)
    until.add_done_callback(pause.end)
    this_thread.pause, outer = pause, this_thread.pause
    try:
        yield
    finally:
        this_thread.pause = outer
        pause.end()
        until.remove_done_callback(pause.end)


class Lease(Protocol):
    """What a run holds and others may have while it waits, such as a place under a limit.

    An engine sets `current_lease` in the context variables of a run, and every wait of the run for
    another goes by it. Several parts of an async run may wait at the same time.
    """

    def belongs_to(self, run: Future[object]) -> None:
        """For runners in the same process: take note of the run, before that can start."""

    def lend(self) -> None:
        """Take note that a part of the run has begun to wait; the others may have it."""

    def take_back(self) -> Future[object] | None:
        """Take note that a part of the run has ceased to wait.

        Returns:
            What that part has to wait for before it goes on; None if it may go on at once.
        """


#: What the run that is running holds and lends; None where there is nothing, as in most runs.
current_lease: ContextVar[Lease | None] = ContextVar("current_lease", default=None)


@contextmanager
def lent(lease: Lease) -> Generator[None]:
    """Lend what a run holds while its thread is in a block, then wait until it has that back."""
    lease.lend()
    try:
        yield
    except BaseException:
        lease.take_back()  # As soon as may be; what has been raised does not wait for it.
        raise
    back = lease.take_back()
    if back is not None:
        # Not by `join`, which would lend what is not there.
        back.refuse_deadlock()
        wait_for_end(back)


@asynccontextmanager
async def lent_async(lease: Lease) -> AsyncGenerator[None]:
    """`lent`, in an event loop."""
    lease.lend()
    try:
        yield
    except BaseException:
        lease.take_back()  # As soon as may be; a cancelled task does not wait for it.
        raise
    back = lease.take_back()
    if back is not None:
        await back.park_async()


def wait_for_end(future: Future[object], timeout: float | None = None) -> None:
    """Block this thread until a run has ended or the timeout is over, as its runner has it."""
    hold = current_hold.get()
    if hold is None:
        _wait(future, timeout)
    else:
        with paused(hold, future):
            _wait(future, timeout)


def _wait(future: Future[object], timeout: float | None) -> None:
    section = this_thread.section
    if section is None:
        future.awaited()
        future.park(timeout)
    else:
        section.wait(future, timeout)


def blocking_section() -> BlockingSection | None:
    """For runners: return what this thread's waits go through."""
    return this_thread.section


def set_blocking_section(section: BlockingSection | None) -> BlockingSection | None:
    """For runners: have this thread's waits go through ``section``; returns the one before."""
    before = this_thread.section
    this_thread.section = section
    return before
