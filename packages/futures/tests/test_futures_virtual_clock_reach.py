"""How far a virtual clock reaches: contexts, direct calls, blocked loops; and its warnings."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from anabranch.futures import (
    Completed,
    ConcurrencyType,
    Failed,
    Future,
    RetryPolicy,
    TaskRun,
    TaskRunner,
    TimedOut,
    WorkItem,
)
from anabranch.futures.runner import (
    SYSTEM_CLOCK,
    current_clock,
    current_hold,
    make_item,
    run_item,
    sleep,
)
from anabranch.futures.testing import VirtualClock, _virtual_clock

HOUR = 3600.0

#: How long to wait for what should happen at once, in seconds; reached by failing tests only.
PATIENCE = 10.0


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    """Enter a virtual clock."""
    with VirtualClock() as clock:
        yield clock


def item_of(function: Callable[[], object], **options: Any) -> WorkItem[Any]:  # noqa: ANN401 - those of make_item
    """Return the item of one call."""
    return make_item(function, (), {}, task_run=TaskRun("a", "a-0", "a"), **options)


# ------------------------------------------------------------------------- everywhere


def test_a_clock_reaches_what_its_block_starts_and_no_other_context() -> None:
    """By default the clock is that of the block's context, and of copies of it."""
    elsewhere = contextvars.copy_context()
    with VirtualClock() as clock:
        assert contextvars.copy_context().run(current_clock.get) is clock
        assert current_clock.of(contextvars.copy_context()) is clock
        assert elsewhere.run(current_clock.get) is SYSTEM_CLOCK
        assert current_clock.of(elsewhere) is SYSTEM_CLOCK


def test_a_clock_everywhere_reaches_every_context_and_thread() -> None:
    """One that is set everywhere is the clock of contexts that are older, and of bare threads."""
    elsewhere = contextvars.copy_context()
    seen: list[object] = []
    with VirtualClock(everywhere=True) as clock:
        thread = threading.Thread(target=lambda: seen.append(current_clock.get()))
        thread.start()
        thread.join()
        assert seen == [clock]
        assert elsewhere.run(current_clock.get) is clock
        assert current_clock.of(elsewhere) is clock
    assert current_clock.get() is SYSTEM_CLOCK


def test_a_clock_everywhere_may_be_left_in_another_context() -> None:
    """Unlike a context variable, it does not mind where it was entered."""
    clock = VirtualClock(everywhere=True)
    contextvars.copy_context().run(clock.__enter__)
    assert current_clock.get() is clock
    contextvars.copy_context().run(clock.__exit__, None, None, None)
    assert current_clock.get() is SYSTEM_CLOCK


def test_clocks_everywhere_nest() -> None:
    """The innermost one counts, and leaving it brings back the one before."""
    with VirtualClock(everywhere=True) as outer:
        with VirtualClock(everywhere=True) as inner:
            assert current_clock.get() is inner
        assert current_clock.get() is outer


def test_a_context_s_own_clock_comes_before_the_one_everywhere() -> None:
    """A clock of the block's own overrides that of the process, inside and outside."""
    with VirtualClock() as own, VirtualClock(everywhere=True):
        assert current_clock.get() is own
    with VirtualClock(everywhere=True), VirtualClock() as own:
        assert current_clock.get() is own


# ------------------------------------------------------------------------- direct calls


def test_a_driven_item_holds_the_clock() -> None:
    """A sync run that is driven in place is at work, be it in a test's own thread."""
    with VirtualClock():
        state = run_item(item_of(current_hold.get))
    assert isinstance(state, Completed)
    assert state.value is not None
    assert current_hold.get() is None


def test_a_driven_item_on_the_machines_clock_holds_nothing() -> None:
    """Outside tests there is nothing to hold."""
    state = run_item(item_of(current_hold.get))
    assert isinstance(state, Completed)
    assert state.value is None


def test_a_driven_item_is_not_timed_out_while_it_is_at_work(clock: VirtualClock) -> None:
    """Time does not jump to the limit of a run that is being executed."""
    went_on = threading.Event()

    def work() -> str:
        # A timer that would be due first: were time to move, it would be called.
        clock.call_later(1, went_on.set)
        return "done"

    state = run_item(item_of(work, time_limit=60))
    assert isinstance(state, Completed)
    assert state.value == "done"
    assert clock.now() < 60


def test_a_driven_item_is_timed_out_while_it_waits_for_time(clock: VirtualClock) -> None:
    """A run that sleeps on the clock for longer than its limit exceeds it."""
    state = run_item(item_of(lambda: sleep(HOUR), time_limit=60))
    assert isinstance(state, TimedOut)
    assert clock.now() == 60


# ------------------------------------------------------------------------- blocked loops


def flaky(failures: int) -> Callable[[], int]:
    """Return a function that fails so many times, and then returns how often it was called."""
    calls = 0

    def call() -> int:
        nonlocal calls
        calls += 1
        if calls <= failures:
            raise LookupError(calls)
        return calls

    return call


@pytest.mark.anyio
async def test_a_loop_that_sync_code_blocks_stops_no_time() -> None:
    """Sync code that sleeps on the clock in an event loop's thread is not waited for in vain."""
    with VirtualClock() as clock:
        item = item_of(flaky(2), retry=RetryPolicy(2, HOUR))
        state = run_item(item)
        assert isinstance(state, Completed)
        assert state.value == 3
        assert clock.now() == 2 * HOUR


@pytest.mark.anyio
async def test_a_blocked_loop_is_at_work_again_once_it_is_woken() -> None:
    """After a sleep in the loop's thread, time stands still until the loop is idle."""
    with VirtualClock() as clock:
        for n in range(1, 50):
            sleep(1)
            clock.call_later(0.5, lambda: None)
            assert clock.now() == n


@pytest.mark.anyio
async def test_a_loop_blocked_by_a_wait_lets_other_threads_go_on() -> None:
    """A wait in a loop thread ends when a thread that slept on the clock ends the run."""
    future: Future[int] = Future(TaskRun("a", "a", "a"))
    with VirtualClock() as clock:

        def end() -> None:
            with clock.held():
                sleep(HOUR)
                future.set_final(Completed(1))

        thread = threading.Thread(target=contextvars.copy_context().run, args=(end,))
        thread.start()
        assert future.result(2 * HOUR) == 1
        thread.join()
        assert clock.now() == HOUR


@pytest.mark.anyio
async def test_a_wait_that_is_over_at_once_in_a_loop_leaves_no_trace() -> None:
    """A loop that was not blocked after all counts as at work."""
    future: Future[int] = Future(TaskRun("a", "a", "a"))
    future.set_final(Completed(1))
    with VirtualClock() as clock:
        future.park(60)
        clock.call_later(1, lambda: None)
        assert clock.now() == 0


# ------------------------------------------------------------------------- warnings


def test_a_clock_that_stands_still_for_long_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A hold that keeps time from a timer for seconds of real time is worth a warning, once."""
    monkeypatch.setattr(_virtual_clock, "_LONG", 0.0)
    warned = threading.Event()

    class Notice(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warned.set()

    notice = Notice()
    logger = logging.getLogger("anabranch.futures")
    logger.addHandler(notice)
    try:
        with VirtualClock() as clock:
            clock.hold()
            cancel = clock.call_later(HOUR, lambda: None)
            assert warned.wait(PATIENCE)
            clock.hold()
            clock.release()
            cancel()
    finally:
        logger.removeHandler(notice)
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "A VirtualClock has stood still at 0 s for 0 s of real time, with a timer due at 3600 s, "
        "because code is at work: 1 sync runs or flow bodies, or else async code"
    )


def test_a_clock_that_is_left_with_timers_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """What still waits when the block ends would wait for ever, which is worth a warning."""
    with VirtualClock() as clock:
        clock.hold()
        clock.call_later(1, lambda: None)()
        clock.call_later(2, lambda: None)
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "A VirtualClock was left while 1 delays or time limits were running, which are never over"
    )


def test_a_clock_that_is_left_in_order_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Timers that were called or called off leave nothing to tell."""
    with VirtualClock():
        sleep(HOUR)
    assert caplog.records == []


# ------------------------------------------------------------------------- runners


class Elsewhere(TaskRunner):
    """Says that it runs things in other processes."""

    @property
    def concurrency_type(self) -> ConcurrencyType:
        return ConcurrencyType.PARALLEL

    def _submit(self, item: WorkItem[Any]) -> Future[Any]:
        future: Future[Any] = Future(item.task_run)
        future.set_final(run_item(item))
        return future


class Here(Elsewhere):
    """Says that it runs things in this process."""

    @property
    def concurrency_type(self) -> ConcurrencyType:
        return ConcurrencyType.SEQUENTIAL


REFUSED = (
    r"^Cannot start this Elsewhere on a VirtualClock: .*"
    r"`my_flow\.with_options\(task_runner=ConcurrentTaskRunner\(\)\)`"
)


def test_a_runner_of_other_processes_is_refused_on_a_test_s_clock(clock: VirtualClock) -> None:
    """Runs that do not see the clock would have no time limits, so their runner says no."""
    with pytest.raises(RuntimeError, match=REFUSED), Elsewhere():
        pytest.fail("it was started")


@pytest.mark.anyio
async def test_it_is_refused_in_async_code_as_well() -> None:
    """So it is when it is started in an event loop."""
    with VirtualClock(everywhere=True), pytest.raises(RuntimeError, match=REFUSED):
        async with Elsewhere().start():
            pytest.fail("it was started")


def test_runners_that_keep_to_the_clock_start_on_it(clock: VirtualClock) -> None:
    """A runner of this process is started as ever, and so is any one on the machine's clock."""
    assert Here().keeps_to_clock
    with Here() as here:
        assert here.submit(int, 3).result() == 3
    current_clock.set(SYSTEM_CLOCK)
    with Elsewhere() as elsewhere:
        assert elsewhere.submit(int, 3).result() == 3
    current_clock.set(clock)


def test_what_surrounds_submitting_sees_each_item_and_its_future() -> None:
    """A tool around a runner's submit gets every item, may change it, and sees the future."""
    seen: list[str] = []

    def around(item: WorkItem[Any], submit: Callable[[WorkItem[Any]], Future[Any]]) -> Future[Any]:
        seen.append(f"submit {item.task_run.task_name}")
        future = submit(attrs.evolve(item, args=("4",)))
        seen.append(f"done {future.done()}")
        return future

    runner = Here()
    runner.around_submit = around
    with runner:
        assert runner.submit(int, "3").result() == 4
        assert isinstance(runner.submit(int).wait(), Completed | Failed)
    assert seen == ["submit int", "done True"] * 2
