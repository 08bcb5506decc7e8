"""Time limits and retries in the lifecycle's drivers, in threads and in event loops."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import pytest

from anabranch.futures import (
    Cancellation,
    Cancelled,
    Completed,
    ConcurrencyType,
    Crashed,
    Failed,
    Future,
    Retrying,
    RetryPolicy,
    Running,
    State,
    TaskRun,
    TaskRunner,
    TimedOut,
    WorkItem,
)
from anabranch.futures.runner import (
    BlockingSection,
    CancelTimer,
    EventLoop,
    RunScope,
    blocking_section,
    current_clock,
    current_hold,
    current_scope,
    limit_by_thread,
    limited_async,
    make_item,
    run_item,
    run_item_async,
    run_item_in_new_loop,
    set_blocking_section,
    sleep,
    sleep_async,
)
from anabranch.futures.testing import VirtualClock

R = TypeVar("R")

HOUR = 3600.0
RUN = TaskRun("1", "run", "task")
BOOM = LookupError("boom")

#: How long to wait for what should happen at once, in seconds; reached by failing tests only.
PATIENCE = 10.0


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    """Enter a virtual clock."""
    with VirtualClock() as clock:
        yield clock


class Stuck:
    """A call that does not return before the test ends, and then leaves no thread behind."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()
        self.threads: list[threading.Thread] = []

    def __call__(self) -> str:
        """Block this thread."""
        self.threads.append(threading.current_thread())
        self.begun.release()
        self.may_end.wait()
        return "late"

    def end(self) -> None:
        """Let all calls return, and wait for their threads."""
        self.may_end.set()
        for thread in self.threads:
            if thread is not threading.current_thread():
                thread.join()


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    """Make a call that does not return before the test ends."""
    stuck = Stuck()
    yield stuck
    stuck.end()


class FakeRunner(TaskRunner):
    """A runner that runs nothing."""

    @property
    def concurrency_type(self) -> ConcurrencyType:
        """Whatever."""
        return ConcurrencyType.SEQUENTIAL

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        return Future(item.task_run)


class FakeChild(Future[int]):
    """A run that ends when it is cancelled."""

    def cancel(self) -> Cancellation:
        """End."""
        self.set_final(Cancelled())
        return Cancellation.CANCELLED


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


class Interrupting(NoTimers):
    """A clock on which Ctrl-C meets whoever waits."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> CancelTimer:
        """Interrupt."""
        raise KeyboardInterrupt


def interrupt_main() -> None:
    """Press Ctrl-C, as far as the main thread can tell."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def item_of(
    function: Callable[..., object],
    *args: object,
    retry: RetryPolicy | None = None,
    time_limit: float | None = None,
) -> WorkItem[Any]:
    """Make the item of a call."""
    retry = retry or RetryPolicy()
    return make_item(function, args, {}, task_run=RUN, retry=retry, time_limit=time_limit)


def scope_here() -> RunScope:
    """Return the scope of the code that calls this."""
    scope = current_scope.get()
    assert scope is not None
    return scope


def advancing(clock: VirtualClock, seconds: float, stuck: Stuck) -> threading.Thread:
    """Start a thread that moves time once a call is stuck."""

    def advance() -> None:
        assert stuck.begun.acquire(timeout=PATIENCE)
        clock.advance(seconds)

    thread = threading.Thread(target=advance)
    thread.start()
    return thread


# ------------------------------------------------------------------------- limit_by_thread


@pytest.mark.anyio
async def test_what_a_limited_thread_runs_may_have_a_loop_of_its_own() -> None:
    """The thread that code in an event loop is limited by is not taken for that of the loop."""
    limited = limit_by_thread(lambda: Completed(anyio.run(anyio.sleep, 0)), HOUR)
    assert isinstance(limited, Completed)


def test_what_returns_in_time_is_returned(clock: VirtualClock) -> None:
    """A call that returns in time gives its value; another thread makes it, in no time."""
    with clock.held():
        thread = limit_by_thread(threading.current_thread, HOUR)
        assert thread is not None
        assert thread is not threading.current_thread()
        assert thread.name.endswith("-limited")
        assert thread.daemon
        thread.join()
        sleep(2 * HOUR)
        assert clock.now() == 2 * HOUR


def test_a_value_of_none_is_not_the_end_of_the_time(clock: VirtualClock) -> None:
    """A limiter cannot tell None from a time-out, so attempts give states; these are told apart."""
    with clock.held():
        assert limit_by_thread(lambda: Completed(None), HOUR) is not None


def test_a_call_that_takes_too_long_is_given_up(clock: VirtualClock, stuck: Stuck) -> None:
    """At the end of its time the call is given up, on time, and its thread goes on alone."""
    with clock.held():
        helper = advancing(clock, 60, stuck)
        assert limit_by_thread(stuck, 60) is None
        assert clock.now() == 60
        (thread,) = stuck.threads
        assert thread.is_alive()
        assert thread.daemon
        sleep(HOUR)  # The thread that was given up holds no clock.
        assert clock.now() == HOUR + 60
        helper.join()


def test_time_stands_still_while_a_limited_call_is_at_work(clock: VirtualClock) -> None:
    """The clock does not jump to the limit while the call is at work, but while it sleeps."""

    def work() -> str:
        clock.advance(59)
        for _ in range(2):
            sleep(0.25)
        return "in time"

    with clock.held():
        assert limit_by_thread(work, 60) == "in time"
        assert limit_by_thread(lambda: sleep(61), 60) is None
        assert clock.now() == 59.5 + 60


def test_a_limited_call_takes_the_place_of_its_caller(clock: VirtualClock) -> None:
    """Its waits go through the caller's blocking section, and it has the caller's variables."""

    class Section(BlockingSection):
        pass

    section = Section()
    before = set_blocking_section(section)
    try:
        with clock.held():
            seen = limit_by_thread(
                lambda: (blocking_section(), current_clock.get(), current_hold.get()), 60
            )
            assert seen is not None
            assert seen[:2] == (section, clock)
            assert seen[2] is not None
            assert seen[2] is not current_hold.get()
    finally:
        set_blocking_section(before)


def test_a_limited_call_outside_of_runs_holds_nothing(clock: VirtualClock) -> None:
    """Where the caller holds no clock, neither does the call: time jumps to its limit."""
    assert limit_by_thread(current_hold.get, 60) is None


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals between threads here")
def test_ctrl_c_ends_the_wait_for_a_limited_call(clock: VirtualClock, stuck: Stuck) -> None:
    """An interrupt of the waiting thread gets through, and the call holds the clock no more."""

    def work() -> str:
        interrupt_main()
        return stuck()

    with clock.held():
        with pytest.raises(KeyboardInterrupt):
            limit_by_thread(work, HOUR)
        assert stuck.begun.acquire(timeout=PATIENCE)
        sleep(2 * HOUR)
        assert clock.now() == 2 * HOUR


# ------------------------------------------------------------------------- run_item


def test_a_run_that_exceeds_its_limit_times_out(
    clock: VirtualClock, stuck: Stuck, caplog: pytest.LogCaptureFixture
) -> None:
    """The run ends on time, is counted and named as abandoned, and its children are cancelled."""
    runner = FakeRunner()
    child = FakeChild(TaskRun("2", "child", "child"))

    def work() -> str:
        scope_here().adopt(child)
        return stuck()

    with clock.held(), caplog.at_level(logging.WARNING):
        helper = advancing(clock, 60, stuck)
        state = run_item(item_of(work, time_limit=60.0), runner)
        helper.join()
    assert isinstance(state, TimedOut)
    assert state.message == "Run 'run' did not end within its time limit of 60 s"
    assert isinstance(child.final_state(), Cancelled)
    assert runner.statistics().abandoned == 1
    assert "Abandoned run 'run', which could not be stopped" in caplog.text


def test_what_comes_late_is_ignored(clock: VirtualClock, stuck: Stuck) -> None:
    """What a given-up attempt submits is cancelled, and what it returns is nobody's result."""
    late: list[Future[int]] = []

    def work() -> str:
        value = stuck()
        late.append(FakeChild(TaskRun("2", "child", "child")))
        scope_here().adopt(late[0])
        return value

    with clock.held():
        helper = advancing(clock, 60, stuck)
        state = run_item(item_of(work, time_limit=60.0))
        helper.join()
    stuck.end()
    assert isinstance(state, TimedOut)
    assert isinstance(late[0].final_state(), Cancelled)


def test_a_run_in_time_is_as_without_a_limit(clock: VirtualClock) -> None:
    """A run that ends in time completes or fails as ever, and nothing is abandoned."""
    runner = FakeRunner()

    def fail() -> None:
        raise BOOM

    with clock.held():
        state = run_item(item_of(lambda: 7, time_limit=60.0), runner)
        assert state.result() == 7
        state = run_item(item_of(fail, time_limit=60.0), runner)
        assert isinstance(state, Failed)
        assert state.exception is BOOM
    assert runner.statistics().abandoned == 0


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals between threads here")
def test_a_run_is_interrupted_while_another_thread_is_at_it(
    clock: VirtualClock, stuck: Stuck
) -> None:
    """Ctrl-C in the thread that waits for an attempt crashes the run, and cancels its children."""
    runner = FakeRunner()
    child = FakeChild(TaskRun("2", "child", "child"))

    def work() -> str:
        scope_here().adopt(child)
        interrupt_main()
        return stuck()

    retry = RetryPolicy(3)
    with clock.held():
        state = run_item(item_of(work, time_limit=60.0, retry=retry), runner)
    assert isinstance(state, Crashed)
    assert isinstance(state.exception, KeyboardInterrupt)
    assert isinstance(child.final_state(), Cancelled)
    assert runner.statistics().abandoned == 1


def test_a_run_is_interrupted_between_its_attempts() -> None:
    """Ctrl-C during a delay crashes the run: it is not for the engine to go on."""
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise BOOM

    token = current_clock.set(Interrupting())
    state = run_item(item_of(fail, retry=RetryPolicy(3, HOUR)))
    current_clock.reset(token)
    assert isinstance(state, Crashed)
    assert isinstance(state.exception, KeyboardInterrupt)
    assert calls == [1]


def test_a_limiter_can_be_given(clock: VirtualClock) -> None:
    """A driver may keep attempts within their time by other means; they get the time."""
    times: list[float] = []

    def limiter(_: Callable[[], State[Any]], seconds: float) -> State[Any] | None:
        times.append(seconds)
        return None

    item = item_of(lambda: 7, time_limit=60.0, retry=RetryPolicy(1))
    assert isinstance(run_item(item, limiter=limiter), TimedOut)
    assert times == [60.0, 60.0]


def test_a_run_is_tried_again(clock: VirtualClock) -> None:
    """A run is attempted until it completes, with its delays in between, and told of each."""
    told: list[tuple[str, float]] = []
    attempts: list[int] = []

    def flaky() -> float:
        attempts.append(scope_here().context.attempt)
        if len(attempts) < 3:
            raise BOOM
        return clock.now()

    def progress(state: Running | Retrying) -> None:
        told.append((type(state).__name__, clock.now()))

    with clock.held():
        state = run_item(item_of(flaky, retry=RetryPolicy(5, [10.0, 20.0])), progress=progress)
    assert state.result() == 30
    assert attempts == [1, 2, 3]
    assert told == [("Retrying", 0), ("Running", 10), ("Retrying", 10), ("Running", 30)]


def test_a_budget_is_used_up(clock: VirtualClock) -> None:
    """A run that always fails is attempted once more than its retries, and fails as the last."""
    errors: list[Exception] = []

    def fail() -> None:
        errors.append(LookupError(len(errors)))
        raise errors[-1]

    with clock.held():
        state = run_item(item_of(fail, retry=RetryPolicy(3, HOUR)))
    assert isinstance(state, Failed)
    assert len(errors) == 4
    assert state.exception is errors[-1]
    assert clock.now() == 3 * HOUR


def test_attempts_that_were_lost_count(clock: VirtualClock) -> None:
    """A driver that takes over begins with the number it is given, of which none is told."""
    attempts: list[int] = []
    told: list[Running | Retrying] = []

    def fail() -> None:
        attempts.append(scope_here().context.attempt)
        raise BOOM

    item = item_of(fail, retry=RetryPolicy(3))
    run_item(item, first_attempt=3, progress=told.append)
    assert attempts == [3, 4]
    assert [type(each) for each in told] == [Retrying, Running]


def test_time_outs_are_tried_again(clock: VirtualClock, stuck: Stuck) -> None:
    """A run that was too slow is tried again, while its first thread is still at it."""
    attempts: list[int] = []

    def slow_at_first() -> str:
        attempts.append(scope_here().context.attempt)
        return stuck() if len(attempts) == 1 else "done"

    with clock.held():
        helper = advancing(clock, 60, stuck)
        item = item_of(slow_at_first, time_limit=60.0, retry=RetryPolicy(1, HOUR))
        assert run_item(item).result() == "done"
        helper.join()
    assert attempts == [1, 2]
    assert clock.now() == HOUR + 60


@pytest.mark.anyio
async def test_a_run_without_limits_and_delays_costs_no_timer() -> None:
    """A plain run, and one that is tried again at once, are executed here and set no timer."""
    threads: list[threading.Thread] = []
    here = threading.current_thread()

    def fail() -> None:
        threads.append(threading.current_thread())
        raise BOOM

    async def fail_async() -> None:
        fail()

    token = current_clock.set(NoTimers())
    assert isinstance(run_item(item_of(fail, retry=RetryPolicy(1))), Failed)
    assert isinstance(await run_item_async(item_of(fail_async, retry=RetryPolicy(1))), Failed)
    current_clock.reset(token)
    assert threads == [here] * 4


# ------------------------------------------------------------------------- in event loops


@pytest.mark.anyio
async def test_an_async_call_is_cancelled_at_the_end_of_its_time() -> None:
    """An async call that takes too long is cancelled where it waits, on time."""
    log: list[float] = []
    with VirtualClock() as clock:

        async def work() -> int:
            try:
                await sleep_async(2 * HOUR)
            finally:
                log.append(clock.now())
            return 1

        assert await limited_async(work, HOUR) is None
        assert log == [HOUR]


@pytest.mark.anyio
async def test_an_async_call_in_time_leaves_nothing_behind() -> None:
    """One that ends in time gives its value; its limit cancels nothing that comes later."""
    with VirtualClock() as clock:

        async def work() -> float:
            await sleep_async(1)
            return clock.now()

        assert await limited_async(work, 60) == 1
        await sleep_async(HOUR)
        assert clock.now() == HOUR + 1


@pytest.mark.anyio
async def test_cancelling_a_limited_call_is_not_its_time_out() -> None:
    """A cancellation from outside goes through."""
    with VirtualClock(), anyio.CancelScope() as scope:

        async def work() -> int:
            scope.cancel()
            await anyio.lowlevel.checkpoint()
            return 1

        await limited_async(work, HOUR)
        pytest.fail("it has been cancelled")
    assert scope.cancelled_caught


@pytest.mark.anyio
async def test_an_async_run_that_exceeds_its_limit_times_out() -> None:
    """An async run is cancelled on time, with its children, and nothing is abandoned."""
    runner = FakeRunner()
    child = FakeChild(TaskRun("2", "child", "child"))
    with VirtualClock() as clock:

        async def work() -> None:
            scope_here().adopt(child)
            await sleep_async(HOUR)

        state = await run_item_async(item_of(work, time_limit=60.0), runner)
        assert isinstance(state, TimedOut)
        assert state.message == "Run 'run' did not end within its time limit of 60 s"
        assert clock.now() == 60
    assert isinstance(child.final_state(), Cancelled)
    assert runner.statistics().abandoned == 0


@pytest.mark.anyio
async def test_an_async_run_is_tried_again() -> None:
    """Failures and time-outs of an async run use up one budget, with the delays in between."""
    told: list[tuple[str, float]] = []
    attempts: list[int] = []
    with VirtualClock() as clock:

        async def flaky() -> str:
            attempts.append(scope_here().context.attempt)
            if len(attempts) == 1:
                raise BOOM
            await sleep_async(HOUR if len(attempts) == 2 else 1)
            return "done"

        def progress(state: Running | Retrying) -> None:
            told.append((type(state).__name__, clock.now()))

        item = item_of(flaky, time_limit=60.0, retry=RetryPolicy(2, 10.0))
        state = await run_item_async(item, progress=progress)
        assert state.result() == "done"
        assert clock.now() == 10 + 60 + 10 + 1
    assert attempts == [1, 2, 3]
    assert told == [("Retrying", 0), ("Running", 10), ("Retrying", 70), ("Running", 80)]


@pytest.mark.anyio
async def test_cancelling_an_async_run_between_attempts() -> None:
    """A driver that is cancelled in a delay makes no further attempt."""
    attempts: list[int] = []
    with VirtualClock(), anyio.CancelScope() as scope:

        async def fail() -> None:
            attempts.append(1)
            raise BOOM

        item = item_of(fail, retry=RetryPolicy(3, HOUR))

        def progress(_: Running | Retrying) -> None:
            scope.cancel()

        await run_item_async(item, progress=progress)
        pytest.fail("it has been cancelled")
    assert attempts == [1]


def test_an_async_run_in_a_loop_of_its_own_keeps_to_the_clock(clock: VirtualClock) -> None:
    """The loop that is made for a run is watched: time jumps while it is idle."""

    async def fail() -> None:
        await sleep_async(1)
        raise BOOM

    item = item_of(fail, retry=RetryPolicy(2, HOUR), time_limit=60.0)
    assert isinstance(run_item_in_new_loop(item), Failed)
    assert clock.now() == 2 * HOUR + 3
