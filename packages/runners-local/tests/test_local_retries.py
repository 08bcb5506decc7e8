"""Retries in the local runners: they wait without a thread, without a place, and in no time."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from anabranch.futures import (
    Backend,
    Cancellation,
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Future,
    Retrying,
    RetryPolicy,
    Running,
    TaskRun,
    TaskRunner,
    TimedOut,
    UpstreamFailed,
    lift,
)
from anabranch.futures.runner import (
    NO_RETRIES,
    CancelTimer,
    EventLoop,
    Listener,
    current_clock,
    current_scope,
    make_item,
    new_run_id,
    running_loop,
    sleep_async,
)
from anabranch.futures.testing import VirtualClock
from anabranch.runners.local import ConcurrentTaskRunner, SequentialTaskRunner

HOUR = 3600.0
BACKENDS: list[Backend] = ["trio", "asyncio"]
RUNNERS: list[type[TaskRunner]] = [SequentialTaskRunner, ConcurrentTaskRunner]
BOOM = LookupError("boom")

#: How long to wait for what should happen at once, in seconds; reached by failing tests only.
PATIENCE = 10.0


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    """Enter a virtual clock."""
    with VirtualClock() as clock:
        yield clock


def dispatch(
    runner: TaskRunner,
    function: Callable[..., object],
    *args: object,
    retry: RetryPolicy = NO_RETRIES,
    listener: Listener | None = None,
) -> Future[Any]:
    """Have a call run, and tried again."""
    run = TaskRun(new_run_id(), "run", "task")
    return runner.dispatch(
        make_item(function, args, {}, task_run=run, retry=retry, listener=listener)
    )


def runner_here() -> TaskRunner:
    """Return the runner of the task that calls this."""
    scope = current_scope.get()
    assert scope is not None
    assert scope.runner is not None
    return scope.runner


def attempt_here() -> int:
    """Return the number of the attempt that calls this."""
    scope = current_scope.get()
    assert scope is not None
    return scope.context.attempt


class Flaky:
    """A function that fails so often, and then tells the time."""

    def __init__(self, clock: VirtualClock, failures: int) -> None:
        self._clock = clock
        self._failures = failures
        self.attempts: list[tuple[int, float]] = []

    def __call__(self) -> float:
        """Fail, or tell the time."""
        self.attempts.append((attempt_here(), self._clock.now()))
        if len(self.attempts) <= self._failures:
            raise BOOM
        return self._clock.now()

    async def awaited(self) -> float:
        """Fail, or tell the time, as an async function."""
        await sleep_async(1)
        return self()


class Waiting:
    """A listener that shows when a run waits for its next attempt."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self._retrying = threading.Semaphore(0)

    def __call__(self, run: TaskRun, state: Running | Retrying) -> None:
        """Take note."""
        self.told.append(type(state).__name__)
        if isinstance(state, Retrying):
            self._retrying.release()

    def wait(self) -> None:
        """Wait until the run waits."""
        assert self._retrying.acquire(timeout=PATIENCE)


def one_worker() -> ConcurrentTaskRunner:
    """Make a concurrent runner that does one thing at a time."""
    return ConcurrentTaskRunner(max_workers=1)


def names(future: Future[Any]) -> list[str]:
    """Return the names of the states that a run has been in."""
    return [type(each).__name__ for each in future.history]


# ------------------------------------------------------------------------- in sync code


@pytest.mark.parametrize("kind", RUNNERS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_run_is_tried_again(
    clock: VirtualClock, kind: type[TaskRunner], backend: Backend, is_async: bool
) -> None:
    """A run that fails twice completes in its third attempt, its delays later."""
    flaky, listener = Flaky(clock, failures=2), Waiting()
    runner = kind()
    runner.backend = backend
    with runner:
        with clock.held():
            function = flaky.awaited if is_async else flaky
            retry = RetryPolicy(5, [HOUR, 2 * HOUR])
            future = dispatch(runner, function, retry=retry, listener=listener)
            assert future.result() == 3 * HOUR + 3 * is_async
        assert [attempt for attempt, _ in flaky.attempts] == [1, 2, 3]
        assert runner.statistics().submitted == 1
    waits = ["Running", "Retrying", "Running", "Retrying", "Running"]
    assert names(future) == ["Pending", *waits, "Completed"]
    assert listener.told == waits


@pytest.mark.parametrize("kind", RUNNERS)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_budget_is_used_up(clock: VirtualClock, kind: type[TaskRunner], is_async: bool) -> None:
    """A run that always fails is attempted once more than its retries."""
    flaky = Flaky(clock, failures=99)
    with kind() as runner:
        function = flaky.awaited if is_async else flaky
        state = dispatch(runner, function, retry=RetryPolicy(3)).wait()
        assert isinstance(state, Failed)
        assert state.exception is BOOM
    assert [attempt for attempt, _ in flaky.attempts] == [1, 2, 3, 4]


def test_a_delay_holds_no_thread_and_no_place(clock: VirtualClock) -> None:
    """While the only worker's run waits for its next attempt, another is executed."""
    flaky, listener = Flaky(clock, failures=1), Waiting()
    with one_worker() as runner:
        with clock.held():
            future = dispatch(runner, flaky, retry=RetryPolicy(1, HOUR), listener=listener)
            listener.wait()
            assert isinstance(future.state, Retrying)
            assert not future.is_running()
            statistics = runner.statistics()
            assert (statistics.running, statistics.pending) == (0, 1)
            assert runner.submit(clock.now).result() == 0
            assert future.result() == HOUR
        threads = [each.name for each in threading.enumerate() if "concurrent-" in each.name]
        assert len(threads) == 1


def test_a_run_is_cancelled_between_attempts(clock: VirtualClock) -> None:
    """A run that waits for its next attempt is over at once, and never attempted again."""
    flaky, listener = Flaky(clock, failures=99), Waiting()
    with one_worker() as runner, clock.held():
        future = dispatch(runner, flaky, retry=RetryPolicy(9, HOUR), listener=listener)
        listener.wait()
        assert future.cancel() is Cancellation.CANCELLED
        state = future.final_state()
        assert isinstance(state, Cancelled)
        assert state.message == "The run was cancelled between two attempts."
        assert future.cancel() is Cancellation.CANCELLED
        clock.advance(2 * HOUR)
        assert runner.submit(clock.now).result() == 2 * HOUR
    assert flaky.attempts == [(1, 0)]
    assert names(future) == ["Pending", "Running", "Retrying", "Cancelled"]


def test_leaving_by_an_exception_makes_no_more_attempts(clock: VirtualClock) -> None:
    """Leaving a runner by an exception cancels the runs that wait for their next attempt."""
    flaky, listener = Flaky(clock, failures=99), Waiting()
    futures: list[Future[Any]] = []

    def body() -> None:
        with clock.held(), one_worker() as runner:
            futures.append(dispatch(runner, flaky, retry=RetryPolicy(9, HOUR), listener=listener))
            listener.wait()
            raise BOOM

    with pytest.raises(LookupError, match="boom"):
        body()
    assert isinstance(futures[0].final_state(), Cancelled)
    assert flaky.attempts == [(1, 0)]


@pytest.mark.parametrize("kind", RUNNERS)
def test_leaving_waits_for_the_last_attempt(clock: VirtualClock, kind: type[TaskRunner]) -> None:
    """Leaving a runner waits until a run that is tried again has ended."""
    flaky = Flaky(clock, failures=1)
    with kind() as runner:
        future = dispatch(runner, flaky, retry=RetryPolicy(1, HOUR))
    assert future.done()
    assert future.result() == HOUR


def test_a_dependant_waits_for_the_verdict(clock: VirtualClock) -> None:
    """A dependant starts when the run that it depends on has completed, or has failed for good."""
    flaky, broken = Flaky(clock, failures=1), Flaky(clock, failures=99)
    with one_worker() as runner:
        good = dispatch(runner, flaky, retry=RetryPolicy(1, HOUR))
        assert runner.submit(max, lift(good), 1.0).result() == HOUR
        bad = dispatch(runner, broken, retry=RetryPolicy(1, HOUR))
        dependant = runner.submit(max, lift(bad), 1.0)
        assert isinstance(dependant.wait(), UpstreamFailed)
        assert len(broken.attempts) == 2


def test_a_dependant_that_never_ran_is_not_tried_again(clock: VirtualClock) -> None:
    """A run whose upstream failed has no attempts, whatever its policy."""
    broken = Flaky(clock, failures=99)
    with one_worker() as runner:
        bad = dispatch(runner, broken)
        dependant = dispatch(runner, max, bad, 1.0, retry=RetryPolicy(3, HOUR))
        assert isinstance(dependant.wait(), UpstreamFailed)
        assert names(dependant)[0] == "Pending"
        assert "Retrying" not in names(dependant)


def test_a_task_waits_for_a_child_that_is_tried_again(clock: VirtualClock) -> None:
    """On one worker, a task waits for a child through its attempts and delays."""

    def parent() -> tuple[float, object]:
        flaky, begin = Flaky(clock, failures=2), clock.now()
        return begin, dispatch(runner_here(), flaky, retry=RetryPolicy(2, HOUR)).result()

    with one_worker() as runner:
        # Whether the child is queued still when it waits for its next attempt is a matter of luck.
        for _ in range(20):
            begin, end = runner.submit(parent).result()
            assert end == begin + 2 * HOUR


def test_a_task_joins_a_child_that_is_tried_again(clock: VirtualClock) -> None:
    """A task ends when its child has ended, after the last of its attempts."""
    flaky = Flaky(clock, failures=1)

    def parent() -> None:
        dispatch(runner_here(), flaky, retry=RetryPolicy(1, HOUR))

    with one_worker() as runner:
        runner.submit(parent).result()
        assert clock.now() == HOUR
        assert len(flaky.attempts) == 2


def test_each_attempt_has_its_own_children(clock: VirtualClock) -> None:
    """What a failed attempt submitted is cancelled with it, before the next begins."""
    children: list[Future[Any]] = []

    def parent() -> str:
        child = dispatch(runner_here(), sleep_async, HOUR)
        children.append(child)
        if attempt_here() == 1:
            raise BOOM
        return "done"

    with one_worker() as runner:
        assert dispatch(runner, parent, retry=RetryPolicy(1)).result() == "done"
    assert [type(each.final_state()) for each in children] == [Cancelled, Completed]


@pytest.mark.parametrize("kind", RUNNERS)
def test_a_condition_says_what_is_tried_again(clock: VirtualClock, kind: type[TaskRunner]) -> None:
    """What the policy's condition refuses is final at once."""
    flaky = Flaky(clock, failures=99)
    retry = RetryPolicy(3, HOUR, condition=lambda state: isinstance(state, TimedOut))
    with kind() as runner:
        assert isinstance(dispatch(runner, flaky, retry=retry).wait(), Failed)
    assert flaky.attempts == [(1, 0)]


def test_a_policy_that_exits_ends_its_run_only(clock: VirtualClock) -> None:
    """SystemExit in a policy crashes the run; the worker and the clock go on."""

    def leave(_: object) -> bool:
        raise SystemExit(3)

    with one_worker() as runner:
        flaky = Flaky(clock, failures=99)
        future = dispatch(runner, flaky, retry=RetryPolicy(3, condition=leave))
        assert isinstance(future.wait(PATIENCE), Crashed)
        flaky = Flaky(clock, failures=1)
        assert dispatch(runner, flaky, retry=RetryPolicy(1, HOUR)).result() == clock.now()


def test_many_runs_wait_at_the_same_time(clock: VirtualClock) -> None:
    """A hundred runs wait for their next attempts side by side, on one worker."""
    with one_worker() as runner, clock.held():
        flaky = [Flaky(clock, failures=1) for _ in range(100)]
        futures = [dispatch(runner, each, retry=RetryPolicy(1, HOUR)) for each in flaky]
        assert {future.result() for future in futures} == {HOUR}


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


@pytest.mark.parametrize("kind", RUNNERS)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_run_without_delays_and_limits_sets_no_timer(
    clock: VirtualClock, kind: type[TaskRunner], is_async: bool
) -> None:
    """A plain run, and one that is tried again at once, need no clock."""
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise BOOM

    async def fail_async() -> None:
        fail()

    token = current_clock.set(NoTimers())
    with kind() as runner:
        future = dispatch(runner, fail_async if is_async else fail, retry=RetryPolicy(1))
        assert isinstance(future.wait(), Failed)
        assert runner.submit(max, 1, 2).result() == 2
    current_clock.reset(token)
    assert calls == [1, 1]


# ------------------------------------------------------------------------- in async code


@pytest.mark.anyio
@pytest.mark.parametrize("kind", RUNNERS)
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_run_is_tried_again_in_async_code(kind: type[TaskRunner], is_async: bool) -> None:
    """In the runner's own loop, delays take no time either."""
    with VirtualClock() as clock:
        flaky = Flaky(clock, failures=2)
        async with kind().start() as runner:
            function = flaky.awaited if is_async else flaky
            future = dispatch(runner, function, retry=RetryPolicy(2, HOUR))
            assert await future == 2 * HOUR + 3 * is_async
    assert [attempt for attempt, _ in flaky.attempts] == [1, 2, 3]


@pytest.mark.anyio
async def test_async_runs_wait_side_by_side() -> None:
    """Async runs that wait for their next attempts do so at the same time."""
    with VirtualClock() as clock:
        async with one_worker().start() as runner:
            flaky = [Flaky(clock, failures=1) for _ in range(20)]
            retry = RetryPolicy(1, HOUR)
            futures = [dispatch(runner, each.awaited, retry=retry) for each in flaky]
            assert {await future for future in futures} == {HOUR + 2}


@pytest.mark.parametrize("kind", RUNNERS)
def test_a_run_that_was_tried_again_is_not_kept_by_its_failure(kind: type[TaskRunner]) -> None:
    """The value of a run that failed at first goes with its future, without a collection."""

    class Value:
        pass

    def fail_first() -> Value:
        if attempt_here() == 1:
            raise LookupError("boom")
        return Value()

    gc.collect()
    gc.disable()
    try:
        with kind() as runner:
            future = dispatch(runner, fail_first, retry=RetryPolicy(1))
            value = weakref.ref(future.result())
            del future
            assert runner.submit(max, 1, 2).result() == 2  # The thread has gone on.
            assert value() is None
    finally:
        gc.enable()


def test_a_run_is_abandoned_while_its_policy_is_asked() -> None:
    """A run that ends before its policy has said to go on stays ended, and its thread goes on."""
    asked, go = threading.Event(), threading.Event()

    def condition(_: object) -> bool:
        asked.set()
        return go.wait(PATIENCE)

    def fail() -> None:
        raise BOOM

    with ConcurrentTaskRunner(max_workers=1) as runner:
        future = dispatch(runner, fail, retry=RetryPolicy(1, condition=condition))
        assert asked.wait(PATIENCE)
        assert future.abandon(Cancelled())
        go.set()
        assert runner.submit(max, 1, 2).result() == 2
    assert isinstance(future.state, Cancelled)


@pytest.mark.anyio
async def test_the_sequential_runner_keeps_the_turn_in_async_code() -> None:
    """One at a time, in order: what was submitted later waits for the last attempt."""
    with VirtualClock() as clock:
        flaky = Flaky(clock, failures=1)
        async with SequentialTaskRunner().start() as runner:
            first = dispatch(runner, flaky, retry=RetryPolicy(1, HOUR))
            second = runner.submit(clock.now)
            assert await second == HOUR
            assert await first == HOUR


@pytest.mark.anyio
@pytest.mark.parametrize("kind", RUNNERS)
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_run_is_cancelled_between_attempts_in_async_code(
    kind: type[TaskRunner], is_async: bool
) -> None:
    """A run that waits for its next attempt is over at once, and the next has its turn."""
    loop, waits = running_loop(), anyio.Event()
    assert loop is not None

    def listener(_: TaskRun, state: Running | Retrying) -> None:
        if isinstance(state, Retrying):
            loop.call_soon(waits.set)

    with VirtualClock() as clock:
        flaky = Flaky(clock, failures=99)
        async with kind().start() as runner:
            function = flaky.awaited if is_async else flaky
            future = dispatch(runner, function, retry=RetryPolicy(9, HOUR), listener=listener)
            await waits.wait()
            assert future.cancel() is Cancellation.CANCELLED
            assert isinstance(await future.wait_async(), Cancelled)
            assert await runner.submit(max, 1, 2) == 2
            await sleep_async(2 * HOUR)
    assert len(flaky.attempts) == 1
