"""Threads that wait: what a runner does about them, and what a test's clock is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, final

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
def paused(hold: Hold, until: Future[object]) -> Iterator[None]:
    """Let go of a hold while this thread waits for a run; its end takes hold again."""
    pause = Pause(hold)
    until.add_done_callback(pause.end)
    this_thread.pause, outer = pause, this_thread.pause
    try:
        yield
    finally:
        this_thread.pause = outer
        pause.end()


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
