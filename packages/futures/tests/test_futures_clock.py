"""The machine's clock and its thread, and delays on any clock."""

from __future__ import annotations

import gc
import logging
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest

from anabranch.futures import Completed, Future, SystemClock, TaskRun
from anabranch.futures import _clock as module
from anabranch.futures.runner import (
    SYSTEM_CLOCK,
    CancelTimer,
    EventLoop,
    current_clock,
    new_hold,
    sleep,
    sleep_async,
)
from anabranch.futures.testing import VirtualClock

HOUR = 3600.0

#: How long to wait for what should happen at once, in seconds; reached by failing tests only.
PATIENCE = 10.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[SystemClock]:
    """Make a clock whose thread does not stay long, and see it off."""
    monkeypatch.setattr(module, "_LINGER", 0.01)
    clock = SystemClock()
    yield clock
    clock.call_later(0, lambda: None)  # Wakes the thread, to see that there is nothing left.
    if (thread := thread_of(clock)) is not None:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def thread_of(clock: SystemClock) -> threading.Thread | None:
    """Return the thread that fires the clock's timers, if there is one."""
    return clock._thread


def wait_for(clock: SystemClock, seconds: float) -> None:
    """Wait on a timer."""
    event = threading.Event()
    clock.call_later(seconds, event.set)
    assert event.wait(PATIENCE)


@contextmanager
def busy(clock: SystemClock) -> Iterator[None]:
    """Keep the clock's thread busy: what is due meanwhile fires at the end of the block."""
    begun, may_end = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        may_end.wait()

    clock.call_later(-HOUR, wait)
    assert begun.wait(PATIENCE)
    try:
        yield
    finally:
        may_end.set()


# ------------------------------------------------------------------------- timers


def test_time_goes_forward(clock: SystemClock) -> None:
    """The clock tells the seconds that have passed."""
    before = clock.now()
    wait_for(clock, 0.001)
    assert clock.now() >= before + 0.001


def test_timers_fire_in_the_order_of_their_time(clock: SystemClock) -> None:
    """Timers fire by time and then by age, whatever the order they were set in."""
    fired: list[str] = []
    done = threading.Event()
    with busy(clock):
        clock.call_later(0, done.set)
        clock.call_later(-20, lambda: fired.append("late"))
        clock.call_later(-60, lambda: fired.append("first"))
        clock.call_later(-40, lambda: fired.append("early"))
        for name in "abc":
            clock.call_later(-10, partial(fired.append, name))
    assert done.wait(PATIENCE)
    assert fired == ["first", "early", "late", "a", "b", "c"]


def test_an_earlier_timer_overtakes_a_later_one(clock: SystemClock) -> None:
    """The clock's thread does not sleep through a timer that came after one of an hour."""
    cancel = clock.call_later(HOUR, lambda: None)
    wait_for(clock, 0.001)
    cancel()


def test_a_timer_called_off_does_not_fire(clock: SystemClock) -> None:
    """What is called off in time is never called, and its callback is let go of at once."""

    calls: list[int] = []

    class Callback:
        def __call__(self) -> None:
            calls.append(1)

    callback = Callback()
    gone = weakref.ref(callback)
    with busy(clock):
        cancel = clock.call_later(-1, callback)
        del callback
        cancel()
        gc.collect()
        assert gone() is None
    wait_for(clock, 0)
    cancel()
    assert calls == []


def test_a_callback_that_raises_stops_no_other(
    clock: SystemClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a callback raises is logged, and the timers behind it fire."""

    def leave() -> None:
        raise SystemExit("no")

    with caplog.at_level(logging.ERROR, "anabranch.futures"):
        clock.call_later(0, leave)
        wait_for(clock, 0.001)
    assert "A timer's callback failed" in caplog.text
    assert "SystemExit: no" in caplog.text


def test_a_thread_that_cannot_start_stops_no_later_timer(
    clock: SystemClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the machine has no thread left, setting a timer raises; the next one tries again."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            clock.call_later(0, lambda: None)
    wait_for(clock, 0)


def test_what_was_called_is_not_kept(clock: SystemClock) -> None:
    """While the clock waits for its next timer, it keeps nothing of the last one alive."""
    done = threading.Event()

    class Callback:
        def __call__(self) -> None:
            done.set()

    callback = Callback()
    gone = threading.Event()
    weakref.finalize(callback, gone.set)
    cancel = clock.call_later(HOUR, lambda: None)
    clock.call_later(0, callback)
    del callback
    assert done.wait(PATIENCE)
    assert gone.wait(PATIENCE)
    cancel()


def test_the_thread_ends_when_there_are_no_timers(clock: SystemClock) -> None:
    """One thread serves all timers while there are any; it ends, and another takes over."""
    assert thread_of(clock) is None
    cancel = clock.call_later(HOUR, lambda: None)
    first = thread_of(clock)
    assert first is not None
    assert first.daemon
    wait_for(clock, 0)
    assert thread_of(clock) is first
    cancel()
    clock.call_later(0, lambda: None)  # Wakes it up to see that there is nothing left.
    first.join(PATIENCE)
    assert not first.is_alive()
    assert thread_of(clock) is None
    wait_for(clock, 0)
    assert thread_of(clock) is not first


def test_timers_called_off_are_dropped(clock: SystemClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most time limits are never reached: what was called off does not pile up."""
    monkeypatch.setattr(module, "_FEW", 10)
    clock._purge_beyond = 10
    kept = [clock.call_later(HOUR, lambda: None) for _ in range(5)]
    for _ in range(200):
        clock.call_later(HOUR, lambda: None)()
        assert len(clock._timers) <= 12
    assert sum(each.callback is not None for each in clock._timers) == 5
    for cancel in kept:
        cancel()
    wait_for(clock, 0)


def test_many_threads_set_timers(clock: SystemClock) -> None:
    """Timers set at the same time by many threads all fire."""
    events = [threading.Event() for _ in range(50)]
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda event: clock.call_later(0.001, event.set), events))
    assert all(event.wait(PATIENCE) for event in events)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_has_timers_of_its_own(clock: SystemClock) -> None:
    """In a child process the clock starts anew: with a thread, and without its parent's timers."""
    cancel = clock.call_later(HOUR, lambda: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Threads and fork; that is the test.
        child = os.fork()
    if child == 0:
        code = 1
        try:
            done = threading.Event()
            is_new = not clock._timers and clock._thread is None
            clock.call_later(0.001, done.set)
            code = 0 if done.wait(PATIENCE) and is_new else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    cancel()


@pytest.mark.anyio
async def test_the_machines_clock_cannot_be_held(clock: SystemClock) -> None:
    """Holds and loops mean nothing to it."""
    clock.hold()
    clock.watch(EventLoop("trio", lambda function: function()))
    wait_for(clock, 0)
    clock.release()
    assert new_hold(SYSTEM_CLOCK) is None
    assert new_hold(clock) is not None


# ------------------------------------------------------------------------- delays


class NoTimers:
    """A clock that refuses timers."""

    def now(self) -> float:
        """Return no time at all."""
        return 0.0

    def call_later(self, seconds: float, callback: Callable[[], object]) -> CancelTimer:
        """Refuse."""
        raise AssertionError("nothing here needs a timer")

    def hold(self) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing."""

    def watch(self, loop: EventLoop) -> None:
        """Do nothing."""


@pytest.mark.anyio
@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_sleeping_for_no_time_needs_no_timer(seconds: float) -> None:
    """A delay of nothing is over before it begins."""
    token = current_clock.set(NoTimers())
    sleep(seconds)
    await sleep_async(seconds)
    current_clock.reset(token)


@pytest.mark.anyio
async def test_sleeping_on_the_machines_clock() -> None:
    """Delays on the machine's clock take that long at least."""
    begin = SYSTEM_CLOCK.now()
    sleep(0.002)
    between = SYSTEM_CLOCK.now()
    await sleep_async(0.002)
    assert between - begin >= 0.002
    assert SYSTEM_CLOCK.now() - between >= 0.002


def test_sleeping_on_a_virtual_clock() -> None:
    """A delay of an hour moves time by an hour."""
    with VirtualClock() as clock:
        sleep(HOUR)
        assert clock.now() == HOUR
        with clock.held():
            sleep(HOUR)
        assert clock.now() == 2 * HOUR


@pytest.mark.anyio
async def test_waits_time_out_on_the_current_clock() -> None:
    """The timeout of a wait is one on the current clock; what is not needed does no harm."""
    future: Future[int] = Future(TaskRun("1", "run", "task"))
    with VirtualClock() as clock:
        assert await future.wait_async(timeout=HOUR) is None
        assert clock.now() == HOUR
        clock.call_later(1, lambda: future.set_final(Completed(1)))
        assert await future.wait_async(timeout=HOUR) is not None
        await sleep_async(1)
        assert clock.now() == HOUR + 2
    other: Future[int] = Future(TaskRun("2", "run", "task"))
    assert await other.wait_async(timeout=0.001) is None


def test_waits_in_threads_time_out_on_the_current_clock() -> None:
    """So is the timeout of a blocking wait."""
    future: Future[int] = Future(TaskRun("1", "run", "task"))
    with VirtualClock() as clock, clock.held():
        assert future.wait(timeout=HOUR) is None
        with pytest.raises(TimeoutError, match=r"^Run 'run' has not ended after 3600.0 s$"):
            future.result(timeout=HOUR)
        assert clock.now() == 2 * HOUR
        clock.call_later(1, lambda: future.set_final(Completed(1)))
        assert future.result(timeout=HOUR) == 1
        sleep(1)
        assert clock.now() == 2 * HOUR + 2
