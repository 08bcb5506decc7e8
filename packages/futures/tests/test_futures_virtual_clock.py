"""The virtual clock: it jumps only while nothing is at work, and a test can move it at any time."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from queue import SimpleQueue

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from anabranch.futures import Clock, Completed, Future, SystemClock, TaskRun
from anabranch.futures.runner import (
    SYSTEM_CLOCK,
    EventLoop,
    Hold,
    LoopThread,
    current_clock,
    current_hold,
    running_loop,
    sleep,
    sleep_async,
)
from anabranch.futures.testing import VirtualClock

HOUR = 3600.0

#: How long to wait for what should happen at once, in seconds; reached by failing tests only.
PATIENCE = 10.0


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    """Enter a virtual clock, and see that it leaves no thread behind."""
    with VirtualClock() as clock:
        yield clock
    assert not any(each.name == "anabranch-virtual-clock" for each in threading.enumerate())


def new_future() -> Future[int]:
    """Make the future of a run that ends when the test says so."""
    return Future(TaskRun("a", "a", "a"))


def called_at(clock: VirtualClock, seconds: float) -> threading.Event:
    """Return an event that is set when a timer of so many seconds is called."""
    event = threading.Event()
    clock.call_later(seconds, event.set)
    return event


# ------------------------------------------------------------------------- by itself


def test_time_starts_at_zero_and_stands_still_without_timers(clock: VirtualClock) -> None:
    """With nothing to wait for, no time passes."""
    assert clock.now() == 0


def test_time_jumps_to_the_next_timer(clock: VirtualClock) -> None:
    """With nothing at work, timers fire at once, in order of their time and then of their age."""
    fired: list[tuple[str, float]] = []
    done = threading.Event()

    def note(name: str) -> None:
        fired.append((name, clock.now()))

    with clock.held():
        for name, seconds in [("c", 3.0), ("a", 1.0), ("d", 3.0), ("b", 2.0)]:
            clock.call_later(seconds, partial(note, name))
        clock.call_later(HOUR, done.set)
    assert done.wait(PATIENCE)
    assert fired == [("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 3.0)]
    assert clock.now() == HOUR


def test_timers_may_set_timers(clock: VirtualClock) -> None:
    """What a timer's callback sets counts from the callback's time."""
    times: list[float] = []
    done = threading.Event()

    def again() -> None:
        times.append(clock.now())
        if len(times) == 3:
            done.set()
        else:
            clock.call_later(10, again)

    clock.call_later(10, again)
    assert done.wait(PATIENCE)
    assert times == [10, 20, 30]


def test_a_timer_that_is_called_off_moves_no_time(clock: VirtualClock) -> None:
    """A timer that was called off is not fired, and time does not jump to it."""
    with clock.held():
        calls: list[int] = []
        cancel = clock.call_later(1, lambda: calls.append(1))
        late = called_at(clock, 2)
        cancel()
    assert late.wait(PATIENCE)
    cancel()
    later = called_at(clock, 1)
    assert later.wait(PATIENCE)
    assert clock.now() == 3
    assert calls == []


def test_a_callback_that_raises_stops_no_clock(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """What a callback raises is logged, and time goes on."""

    def fail() -> None:
        raise SystemExit("no")

    with caplog.at_level(logging.ERROR, "anabranch.futures"):
        clock.call_later(1, fail)
        assert called_at(clock, 2).wait(PATIENCE)
    assert "A timer's callback failed" in caplog.text


def test_the_clock_is_current_in_its_block() -> None:
    """Inside the block it is the clock of what is submitted, and outside it is not."""
    with VirtualClock() as clock:
        assert current_clock.get() is clock
    assert current_clock.get() is SYSTEM_CLOCK


def test_both_clocks_are_clocks() -> None:
    """Both clocks fit the protocol."""
    clocks: list[Clock] = [VirtualClock(), SystemClock()]
    assert len(clocks) == 2


def test_a_clock_is_entered_once() -> None:
    """A second entry is refused, with the fix."""
    clock = VirtualClock()
    with clock, pytest.raises(RuntimeError, match="entered before; make another"):
        clock.__enter__()
    with pytest.raises(RuntimeError, match="entered before"):
        clock.__enter__()


def test_after_its_block_time_stands_still() -> None:
    """What has not fired when the block ends never does, and nothing is kept of it."""
    clock = VirtualClock()
    calls: list[int] = []
    with clock:
        clock.hold()
        clock.call_later(1, lambda: calls.append(1))
    clock.call_later(1, lambda: calls.append(2))
    clock.release()
    assert clock.now() == 0
    assert calls == []
    with pytest.raises(RuntimeError, match=r"^advance\(\) moves a clock in use"):
        clock.advance(1)


# ------------------------------------------------------------------------- by hand


def test_advance_fires_what_is_due_in_order(clock: VirtualClock) -> None:
    """Time moved by hand fires the timers on its way, each at its own time, and no others."""
    fired: list[tuple[str, float]] = []

    def note(name: str) -> None:
        fired.append((name, clock.now()))

    clock.hold()
    for name, seconds in [("b", 2.0), ("a", 1.0), ("c", 3.0)]:
        clock.call_later(seconds, partial(note, name))
    clock.advance(2)
    assert fired == [("a", 1.0), ("b", 2.0)]
    assert clock.now() == 2
    clock.advance(0.5)
    assert clock.now() == 2.5
    assert len(fired) == 2
    clock.release()


def test_advance_fires_timers_that_timers_set(clock: VirtualClock) -> None:
    """A timer that is set on the way is fired as well, if it is due."""
    fired: list[float] = []
    clock.hold()
    clock.call_later(1, lambda: clock.call_later(1, lambda: fired.append(clock.now())))
    clock.advance(5)
    assert fired == [2]
    assert clock.now() == 5
    clock.release()


def test_advance_works_while_code_is_at_work(clock: VirtualClock) -> None:
    """Time moves by hand whatever holds the clock."""
    with clock.held():
        event = called_at(clock, HOUR)
        clock.advance(HOUR)
        assert event.is_set()


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_advance_refuses_what_is_no_time(clock: VirtualClock, seconds: float) -> None:
    """Time neither goes backwards nor ends."""
    with pytest.raises(ValueError, match=r"^advance\(.*\): give seconds of 0 or more$"):
        clock.advance(seconds)


def test_advance_in_a_callback_is_refused(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A timer's callback that moves time would wait for itself, so it is refused."""
    clock.call_later(1, lambda: clock.advance(1))
    assert called_at(clock, 2).wait(PATIENCE)
    assert "advance() in a timer's callback" in caplog.text


def test_a_clock_that_is_not_in_use_cannot_be_advanced() -> None:
    """Before its block there is nobody to fire timers; the message says what to write."""
    with pytest.raises(RuntimeError, match=r"`with VirtualClock\(\) as clock:`$"):
        VirtualClock().advance(1)


# ------------------------------------------------------------------------- held by threads


def test_time_stands_still_while_the_clock_is_held(clock: VirtualClock) -> None:
    """A held clock fires nothing until every hold has been released."""
    clock.hold()
    clock.hold()
    event = called_at(clock, 1)
    clock.release()
    clock.advance(0.5)  # The clock's thread has looked at it.
    assert clock.now() == 0.5
    assert not event.is_set()
    clock.release()
    assert event.wait(PATIENCE)


def test_a_release_too_many_is_refused(clock: VirtualClock) -> None:
    """Releasing what nobody holds is an error of the caller."""
    with pytest.raises(RuntimeError, match="nothing holds"):
        clock.release()


def test_a_held_block_lets_time_pass_only_while_it_waits(clock: VirtualClock) -> None:
    """Inside `held` time stands still, except for waits that the engine knows of."""
    with clock.held():
        event = called_at(clock, 1)
        clock.advance(0.5)
        assert clock.now() == 0.5
        sleep(HOUR - 0.5)
        assert event.is_set()
        assert clock.now() == HOUR
        with clock.held():  # Has nothing to add.
            assert new_future().wait(timeout=10) is None
        assert clock.now() == HOUR + 10


def test_the_waking_of_a_thread_comes_before_the_next_jump(clock: VirtualClock) -> None:
    """A thread whose wait is over is at work at once, however late it is scheduled."""
    future = new_future()
    with clock.held():
        clock.call_later(1, lambda: future.set_final(Completed(1)))
        late = called_at(clock, 2)
        future.wait()
        clock.advance(0.5)
        assert clock.now() == 1.5
        assert not late.is_set()


def test_two_threads_that_wait_for_each_other_in_time(clock: VirtualClock) -> None:
    """Sleeps in several threads interleave in the order of time."""
    log: list[tuple[str, float]] = []

    def work(name: str, seconds: float, hold: Hold) -> None:
        current_clock.set(clock)
        current_hold.set(hold)
        for _ in range(3):
            sleep(seconds)
            log.append((name, clock.now()))
        hold.end()

    threads = []
    with clock.held():
        for name, seconds in [("a", 2.0), ("b", 3.0)]:
            threads.append(threading.Thread(target=work, args=(name, seconds, Hold(clock))))
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    # Both wake at 6, and which thread comes first is nobody's business.
    assert sorted(log, key=lambda each: each[1])[:3] == [("a", 2.0), ("b", 3.0), ("a", 4.0)]
    assert sorted(log[3:]) == [("a", 6.0), ("b", 6.0), ("b", 9.0)]


def test_a_hold_counts_once_however_it_ends(clock: VirtualClock) -> None:
    """A hold that is over neither holds nor releases any more."""
    hold = Hold(clock)
    hold.pause()
    hold.end()
    hold.resume()
    hold.end()
    other = Hold(clock)
    other.end()
    other.pause()
    other.resume()
    assert called_at(clock, 1).wait(PATIENCE)
    with pytest.raises(RuntimeError, match="nothing holds"):
        clock.release()


# ------------------------------------------------------------------------- held by loops


@pytest.mark.anyio
async def test_async_sleeps_take_no_time() -> None:
    """In an event loop time jumps while all of its tasks wait."""
    log: list[tuple[str, float]] = []
    with VirtualClock() as clock:

        async def work(name: str, seconds: float) -> None:
            for _ in range(2):
                await sleep_async(seconds)
                log.append((name, clock.now()))

        async with anyio.create_task_group() as group:
            group.start_soon(work, "a", 2 * HOUR)
            group.start_soon(work, "b", 3 * HOUR)
    assert log == [("a", 2 * HOUR), ("b", 3 * HOUR), ("a", 4 * HOUR), ("b", 6 * HOUR)]


@pytest.mark.anyio
async def test_time_stands_still_while_a_task_could_go_on() -> None:
    """No timer fires while a task goes from one checkpoint to the next."""
    with VirtualClock() as clock:
        event = called_at(clock, 1)
        for _ in range(200):
            await anyio.lowlevel.checkpoint()
        assert not event.is_set()
        assert clock.now() == 0
        await sleep_async(1)
        assert event.is_set()


@pytest.mark.anyio
async def test_held_in_async_code_adds_nothing() -> None:
    """An event loop is at work when it is, so `held` there does not keep it from waiting."""
    with VirtualClock() as clock, clock.held():
        await sleep_async(HOUR)
        assert clock.now() == HOUR


@pytest.mark.anyio
async def test_time_stands_still_while_a_worker_thread_is_at_work() -> None:
    """A thread that works for a waiting task keeps time from moving."""
    with VirtualClock() as clock:
        started, may_end = anyio.Event(), threading.Event()
        loop = running_loop()
        assert loop is not None

        def work() -> float:
            loop.call_soon(started.set)
            may_end.wait()
            return clock.now()

        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, work)
            await started.wait()
            event = called_at(clock, 1)
            with anyio.move_on_after(0.01):  # On another clock; long enough for many looks.
                await anyio.sleep_forever()
            assert not event.is_set()
            may_end.set()
            await sleep_async(2)
            assert event.is_set()


def test_threads_of_asyncio_count_as_well() -> None:
    """The threads of `asyncio.to_thread` keep time from moving while they are at work."""

    async def main() -> None:
        with VirtualClock() as clock:
            may_end = threading.Event()
            seen: list[float] = []
            thread = asyncio.create_task(asyncio.to_thread(may_end.wait))
            await asyncio.sleep(0.01)  # On another clock; long enough for many looks.
            clock.call_later(1, lambda: seen.append(clock.now()))
            await asyncio.sleep(0.01)
            assert seen == []
            may_end.set()
            await thread
            await sleep_async(2)
            assert seen == [1]

    anyio.run(main, backend="asyncio")


class HiddenLoop(asyncio.SelectorEventLoop):
    """A loop that hides what it is about to do, as those do that are not written in Python."""

    @property
    def _ready(self) -> deque[object]:
        # Its own code, in the standard library, may look.
        if "idleness" in sys._getframe(1).f_code.co_filename:
            raise AttributeError("_ready")
        return self._hidden

    @_ready.setter
    def _ready(self, ready: deque[object]) -> None:
        self._hidden = ready


def test_loops_that_hide_their_work_get_some_turns() -> None:
    """Where a loop's queue cannot be seen, time jumps after some quiet turns."""

    async def main() -> float:
        with VirtualClock() as clock:
            await sleep_async(HOUR)
            return clock.now()

    with asyncio.Runner(loop_factory=HiddenLoop) as runner:
        assert runner.run(main()) == HOUR


def test_two_loops_take_turns() -> None:
    """Time stands still while loops wake each other, until both are idle."""
    with VirtualClock() as clock:
        event = called_at(clock, 1)
        # The second loop is not watched by being in a block, but because it says so.
        first, second = Ping(clock, "trio"), Ping(clock, "asyncio")
        clock.hold()
        clock.call_later(2, lambda: None)
        first.start()
        second.start()
        first.other, second.other = second, first
        first.hit(0)
        clock.release()
        assert first.done.wait(PATIENCE)
        assert event.wait(PATIENCE)
        first.stop()
        second.stop()
    assert first.times | second.times == {0.0}


class Ping:
    """A loop in which a task waits for a ball, and hits it back to another loop."""

    def __init__(self, clock: VirtualClock, backend: str) -> None:
        self._clock = clock
        self._thread = LoopThread(self._main, backend="trio" if backend == "trio" else "asyncio")
        self._balls: SimpleQueue[int] = SimpleQueue()
        self.loop: EventLoop
        self.other: Ping
        self.times: set[float] = set()
        self.done = threading.Event()

    def start(self) -> None:
        """Start the loop."""
        self._thread.start()

    def hit(self, count: int) -> None:
        """Send the ball into this loop."""
        self._balls.put(count)
        self.loop.call_soon(lambda: self._bell.set())

    def stop(self) -> None:
        """End the loop."""
        self.hit(-1)
        self._thread.join()

    async def _main(self, ready: Callable[[], None]) -> None:
        loop = running_loop()
        assert loop is not None
        self.loop = loop
        self._clock.watch(loop)
        self._bell = anyio.Event()
        ready()
        while True:
            await self._bell.wait()
            self._bell = anyio.Event()
            count = self._balls.get()
            if count < 0:
                return
            self.times.add(self._clock.now())
            if count == 300:
                self.done.set()
                self.other.done.set()
            else:
                self.other.hit(count + 1)


def test_a_loop_that_has_ended_holds_nothing() -> None:
    """A loop that was watched and has ended keeps time from moving no more."""
    with VirtualClock() as clock:
        for backend in ("trio", "asyncio"):

            async def main() -> None:
                loop = running_loop()
                assert loop is not None
                clock.watch(loop)

            anyio.run(main, backend=backend)
        assert called_at(clock, 1).wait(PATIENCE)


@pytest.mark.anyio
async def test_objects_of_the_same_loop_are_equal() -> None:
    """A loop is watched once, however often the engine comes across it."""
    here, again = running_loop(), running_loop()
    assert here is not None
    assert here is not again
    assert here == again
    assert hash(here) == hash(again)
    assert here != "loop"
    others: list[EventLoop | None] = []

    async def main() -> None:
        others.append(running_loop())

    await anyio.to_thread.run_sync(lambda: anyio.run(main, backend="asyncio"))
    assert here != others[0]


@pytest.mark.anyio
async def test_advance_in_async_code_fires_what_is_due() -> None:
    """Async code moves time by hand although its own loop is at work."""
    with VirtualClock() as clock:
        event = called_at(clock, HOUR)
        clock.advance(HOUR)
        assert event.is_set()


@pytest.mark.anyio
async def test_leaving_does_not_wait_for_a_loop_at_work() -> None:
    """The clock's thread ends although it waits for a loop that never gets idle."""
    clock = VirtualClock()
    with clock:
        event = called_at(clock, 1)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
    assert not event.is_set()
    assert not any(each.name == "anabranch-virtual-clock" for each in threading.enumerate())


@pytest.mark.anyio
async def test_a_shielded_task_in_a_cancelled_scope_lets_time_pass() -> None:
    """While a cancelled task is shielded, its loop goes round without anything to do."""
    with VirtualClock() as clock:
        with anyio.CancelScope() as scope:
            scope.cancel()
            with anyio.CancelScope(shield=True):
                await sleep_async(HOUR)
        assert clock.now() == HOUR
