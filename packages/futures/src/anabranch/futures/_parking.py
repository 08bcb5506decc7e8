"""Parking a thread or an async task until a run has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Final, cast

import anyio

from anabranch.futures._blocking import Pause, this_thread
from anabranch.futures._callbacks import Callback
from anabranch.futures._clock import SYSTEM_CLOCK, Clock, current_clock, current_hold
from anabranch.futures._loops import EventLoop, running_loop
from anabranch.futures._signals import acquire

#: The threads that are parked on a test's clock: an event loop in one of them is not at work.
parked_threads: Final[set[int]] = set()


def park_thread(
    add: Callable[[Callback], None], remove: Callable[[Callback], None], timeout: float | None
) -> None:
    """Block this thread until a run has ended or the timeout is over.

    Args:
        add: Has something called when the run has ended.
        remove: Undoes that.
        timeout: In seconds.
    """
    done = threading.Lock()
    done.acquire()
    pause = this_thread.pause
    clock = current_clock.get()
    if clock is not SYSTEM_CLOCK:
        _park_on(clock, done, add, remove, timeout)
        return

    def wake(_: object = None) -> None:
        if pause is not None:
            pause.end()
        done.release()

    add(wake)
    if not acquire(done, timeout):
        remove(wake)


async def park_task(
    add: Callable[[Callback], None], remove: Callable[[Callback], None], timeout: float | None
) -> None:
    """`park_thread`, for an async task."""
    loop = cast(EventLoop, running_loop())
    done = anyio.Event()

    def wake(_: object = None) -> None:
        loop.call_soon(done.set)

    add(wake)
    cancel_timer = None
    if timeout is not None:
        cancel_timer = current_clock.get().call_later(timeout, wake)
    try:
        await done.wait()
    finally:
        remove(wake)
        if cancel_timer is not None:
            cancel_timer()


@contextmanager
def standing_by() -> Generator[Callable[[], None]]:
    """Surround a wait for another thread: meanwhile this one does not keep a test's clock.

    Yields:
        What the other calls before it lets go itself; in between, the clock would run on.
    """
    clock = current_clock.get()
    if clock is SYSTEM_CLOCK:
        yield _nothing
        return
    thread, hold = threading.get_ident(), current_hold.get()
    clock.hold()  # Its release has the clock look at this thread's loop anew.
    pause = None if hold is None else Pause(hold)
    parked_threads.add(thread)
    clock.release()

    def back() -> None:
        parked_threads.discard(thread)
        if pause is not None:
            pause.end()

    try:
        yield back
    finally:
        back()


def _nothing() -> None:
    return None


def _park_on(
    clock: Clock,
    done: threading.Lock,
    add: Callable[[Callback], None],
    remove: Callable[[Callback], None],
    timeout: float | None,
) -> None:
    pause = this_thread.pause
    thread = threading.get_ident()

    def wake(_: object = None) -> None:
        # All that before whatever wakes this thread lets go of the clock.
        if pause is not None:
            pause.end()
        parked_threads.discard(thread)
        with suppress(RuntimeError):  # By the end of the run and of the time, both.
            done.release()

    cancel_timer = None
    try:
        clock.hold()  # Its release has the clock look at this thread's loop anew.
        try:
            parked_threads.add(thread)
            add(wake)
            if timeout is not None:
                cancel_timer = clock.call_later(timeout, wake)
        finally:
            clock.release()
        acquire(done)
    finally:
        parked_threads.discard(thread)
        remove(wake)
        if cancel_timer is not None:
            cancel_timer()
