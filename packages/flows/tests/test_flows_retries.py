"""Retries of tasks: options, every way of calling, delays, conditions, attempts, hooks, the log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import anyio
import pytest

from anabranch.flows import (
    Cancelled,
    ConcurrentTaskRunner,
    Failed,
    Future,
    RetryCondition,
    RetryDelay,
    Retrying,
    RunTimedOutError,
    SequentialTaskRunner,
    State,
    TaskRunner,
    TimedOut,
    exponential_backoff,
    flow,
    task,
    task_run,
)
from anabranch.futures.runner import sleep_async
from anabranch.futures.testing import VirtualClock

HOUR = 3600.0
BOOM = LookupError("boom")

RUNNERS = [SequentialTaskRunner, ConcurrentTaskRunner]


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    """Enter a virtual clock."""
    with VirtualClock() as clock:
        yield clock


class Flaky:
    """Fails so many times, and then returns the number of the attempt; notes every call."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.attempts: list[int] = []

    def __call__(self) -> int:
        """Be called once more."""
        self.attempts.append(task_run.attempt)
        if len(self.attempts) <= self.failures:
            raise BOOM
        return task_run.attempt

    async def call_async(self) -> int:
        """Be called once more, in an event loop."""
        await anyio.lowlevel.checkpoint()
        return self()


# ------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("option", "value", "error", "message"),
    [
        ("retries", -1, ValueError, "retries=-1: it cannot be negative"),
        ("retries", "3", TypeError, "retries='3': it is a whole number"),
        ("retry_delay", -2, ValueError, "retry_delay=-2: -2 is not possible"),
        ("retry_delay", [1, "x"], TypeError, r"retry_delay=\[1, 'x'\]: 'x' is no number"),
        ("retry_jitter", -1, ValueError, "retry_jitter=-1: -1 is not possible"),
        ("retry_condition", 1, TypeError, "retry_condition=1: it is a function"),
        ("timeout", 0, ValueError, "timeout=0: no run could ever end in time"),
        ("timeout", "1", TypeError, "timeout='1': '1' is no number"),
    ],
)
def test_bad_options_are_refused(
    option: str, value: object, error: type[Exception], message: str
) -> None:
    """An option that is not possible is refused at decoration, naming the task or the flow."""
    with pytest.raises(error, match=rf"^Task 'fetch': {message}"):
        task(name="fetch", **{option: value})(lambda: None)  # type: ignore[call-overload]  # Any.
    with pytest.raises(error, match=rf"^Flow 'nightly': {message}"):
        flow(name="nightly", **{option: value})(lambda: None)  # type: ignore[call-overload]  # Any.


def test_options_can_be_changed(clock: VirtualClock) -> None:
    """`with_options` changes the retries of a task, and keeps the others."""
    flaky = Flaky(2)
    once = task(retries=1, retry_delay=HOUR)(flaky.__call__)
    more = once.with_options(retries=2)
    assert flow(lambda: more.submit().result())() == 3
    assert clock.now() == 2 * HOUR


# ------------------------------------------------------------------------- ways of calling

CALLS: dict[str, Callable[[Callable[[], int]], int]] = {
    "a direct call": lambda function: task(retries=2, retry_delay=HOUR)(function)(),
    "run": lambda function: task(retries=2, retry_delay=HOUR)(function).run().result(),
    "submit": lambda function: task(retries=2, retry_delay=HOUR)(function).submit().result(),
}


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("name", CALLS)
def test_a_task_is_tried_again(
    clock: VirtualClock, name: str, runner: Callable[[], TaskRunner]
) -> None:
    """However a sync task is called, it is attempted until it completes, with its delays."""
    flaky = Flaky(2)
    assert flow(task_runner=runner)(lambda: CALLS[name](flaky.__call__))() == 3
    assert flaky.attempts == [1, 2, 3]
    assert clock.now() == 2 * HOUR


def test_a_task_is_tried_again_outside_any_flow(clock: VirtualClock) -> None:
    """Called in no flow at all, a task has its retries as well."""
    flaky = Flaky(1)
    assert task(retries=1, retry_delay=HOUR)(flaky.__call__)() == 2
    assert clock.now() == HOUR


@pytest.mark.anyio
@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("name", ["call", "run", "submit"])
async def test_an_async_task_is_tried_again(name: str, runner: Callable[[], TaskRunner]) -> None:
    """However an async task is called, it is attempted until it completes, with its delays."""
    flaky = Flaky(2)
    fetch = task(retries=2, retry_delay=HOUR)(flaky.call_async)

    async def body() -> int:
        if name == "call":
            return await fetch()
        return (await fetch.run()).result() if name == "run" else await fetch.submit()

    with VirtualClock() as clock:
        assert await flow(task_runner=runner)(body)() == 3
        assert clock.now() == 2 * HOUR
    assert flaky.attempts == [1, 2, 3]


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("runner", RUNNERS)
def test_an_async_task_is_tried_again_beside_a_sync_flow(
    clock: VirtualClock, runner: Callable[[], TaskRunner], backend: str
) -> None:
    """In the event loop beside a sync flow an async task has its retries, on either library."""
    fetch = task(retries=2, retry_delay=HOUR)(Flaky(2).call_async)
    submitting = flow(task_runner=runner)(lambda: fetch.submit().result())
    assert submitting.with_options(backend=backend)() == 3  # type: ignore[arg-type]  # A str.
    assert clock.now() == 2 * HOUR


@pytest.mark.parametrize("runner", RUNNERS)
def test_each_run_of_a_map_is_tried_again_by_itself(
    clock: VirtualClock, runner: Callable[[], TaskRunner]
) -> None:
    """The runs of a map and of a stream each have a budget of their own."""
    lock = threading.Lock()
    calls: list[int] = []

    @task(retries=2, retry_delay=HOUR)
    def fetch(failures: int) -> tuple[int, int]:
        with lock:
            calls.append(failures)
        if task_run.attempt <= failures:
            raise BOOM
        return failures, task_run.attempt

    expected = [(0, 1), (2, 3), (1, 2)]
    assert flow(task_runner=runner)(lambda: fetch.map([0, 2, 1]).result())() == expected
    assert flow(task_runner=runner)(lambda: list(fetch.imap([0, 2, 1])))() == expected
    assert sorted(calls) == sorted([0, 1, 1, 2, 2, 2] * 2)


@pytest.mark.anyio
async def test_each_run_of_an_async_stream_is_tried_again() -> None:
    """A run in flight that waits for its next attempt keeps its place in the stream."""

    @task(retries=1, retry_delay=HOUR)
    async def fetch(number: int) -> int:
        if number == 1 and task_run.attempt == 1:
            raise BOOM
        return number

    @flow
    async def streaming() -> list[int]:
        return [each async for each in fetch.imap(range(4), max_pending=2)]

    with VirtualClock() as clock:
        assert await streaming() == [0, 1, 2, 3]
        assert clock.now() == HOUR


# ------------------------------------------------------------------------- delays, conditions


@pytest.mark.parametrize(
    ("delay", "total"),
    [
        (0, 0.0),
        (10, 30.0),
        ([1.0, 20.0], 41.0),
        (exponential_backoff(10), 70.0),
        (exponential_backoff(10, factor=3, maximum=50), 90.0),
        (lambda retry: 100.0 * retry, 600.0),
    ],
    ids=["none", "number", "list", "backoff", "bounded backoff", "callable"],
)
def test_delays_of_every_kind(clock: VirtualClock, delay: RetryDelay, total: float) -> None:
    """A delay is a number, one for each retry, a backoff or a callable."""
    assert (
        flow(lambda: task(retries=3, retry_delay=delay)(Flaky(3).__call__).submit().result())() == 4
    )
    assert clock.now() == total


def test_jitter_stretches_the_delays(clock: VirtualClock) -> None:
    """With jitter a delay is at least itself, and at most so much longer."""
    fetch = task(retries=1, retry_delay=HOUR, retry_jitter=0.5)(Flaky(1).__call__)
    assert flow(lambda: fetch.submit().result())() == 2
    assert HOUR <= clock.now() <= 1.5 * HOUR


def only_timeouts(state: State[object]) -> bool:
    """Try again after a time-out only."""
    return isinstance(state, TimedOut)


def never(_: State[object]) -> bool:
    """Try again never."""
    return False


def fail_to_decide(_: State[object]) -> bool:
    """Raise."""
    raise ZeroDivisionError("undecided")


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("condition", [only_timeouts, never])
def test_a_condition_decides(condition: RetryCondition, runner: Callable[[], TaskRunner]) -> None:
    """A run is not tried again where the condition says no."""
    flaky = Flaky(99)
    fetch = task(retries=3, retry_condition=condition)(flaky.__call__)
    assert isinstance(fetch.run(), Failed)
    assert isinstance(flow(task_runner=runner)(fetch.submit).run(), Failed)
    assert flaky.attempts == [1, 1]


def test_a_condition_that_fails_is_the_runs_failure() -> None:
    """What a condition raises is what the run fails with, caused by what the attempt did."""
    state = task(retries=3, retry_condition=fail_to_decide)(Flaky(1).__call__).run()
    assert isinstance(state, Failed)
    assert isinstance(state.exception, ZeroDivisionError)
    assert state.exception.__cause__ is BOOM


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_budget_is_used_up(clock: VirtualClock, runner: Callable[[], TaskRunner]) -> None:
    """A task that never succeeds is attempted ``retries + 1`` times, and counts as one failure."""
    flaky = Flaky(99)
    fetch = task(retries=3, retry_delay=HOUR)(flaky.__call__)

    def body() -> None:
        fetch.submit()

    state = flow(task_runner=runner)(body).run()
    assert str(state) == "Failed('1/1 states failed.')"
    assert flaky.attempts == [1, 2, 3, 4]


def test_what_was_meant_to_end_the_program_is_not_tried_again() -> None:
    """SystemExit in a submitted task crashes the run at once."""
    calls: list[int] = []

    @task(retries=3)
    def leave() -> None:
        calls.append(1)
        raise SystemExit(3)

    state = flow(lambda: leave.submit()).run()
    assert isinstance(state, Failed)
    assert isinstance(state.exception, SystemExit)
    assert calls == [1]


def test_upstream_failures_are_not_tried_again() -> None:
    """A run behind one that failed never starts, whatever its retries."""
    calls: list[int] = []

    @task(retries=3)
    def after(_: int) -> None:
        calls.append(1)

    assert isinstance(flow(lambda: after.submit(task(Flaky(9).__call__).submit())).run(), Failed)
    assert calls == []


@pytest.mark.parametrize("runner", RUNNERS)
def test_time_outs_are_tried_again(clock: VirtualClock, runner: Callable[[], TaskRunner]) -> None:
    """An attempt that took too long is followed by another, in the same budget."""

    @task(retries=2, retry_delay=10, timeout=60)
    async def slow_at_first() -> int:
        if task_run.attempt < 3:
            await sleep_async(HOUR)
        return task_run.attempt

    assert flow(task_runner=runner)(lambda: slow_at_first.submit().result())() == 3
    assert clock.now() == 2 * (60 + 10)


# ------------------------------------------------------------------------- looking on


def test_what_a_future_shows_between_attempts(clock: VirtualClock) -> None:
    """A run that waits for another attempt is Retrying, and its history has every attempt."""

    @flow
    def looking() -> tuple[object, list[str]]:
        future = task(retries=1, retry_delay=HOUR)(Flaky(1).__call__).submit()
        assert future.wait(timeout=60) is None
        between = future.state
        future.result()
        return between, [type(state).__name__ for state in future.history]

    between, history = looking()
    assert isinstance(between, Retrying)
    assert between.message is not None
    assert "Attempt 1 of 2 ended in state Failed" in between.message
    assert "the next one follows in 3600 s" in between.message
    assert history == ["Pending", "Running", "Retrying", "Running", "Completed"]


@pytest.mark.parametrize("how", ["call", "submit"])
@pytest.mark.parametrize("runner", RUNNERS)
def test_the_log_has_a_line_for_each_retry(
    clock: VirtualClock,
    caplog: pytest.LogCaptureFixture,
    runner: Callable[[], TaskRunner],
    how: str,
) -> None:
    """Each failed attempt but the last is a warning of its run, and the end is logged once."""
    fetch = task(name="fetch", retries=2, retry_delay=[1, 2])(Flaky(2).__call__)

    def body() -> int:
        return fetch() if how == "call" else fetch.submit().result()

    with caplog.at_level(logging.INFO, "anabranch"):
        assert flow(task_runner=runner)(body)() == 3
    records = [each for each in caplog.records if each.name == "anabranch.task_runs"]
    assert [(each.levelname, each.getMessage()) for each in records] == [
        (
            "WARNING",
            "Attempt 1 of 3 ended in state Failed('LookupError: boom'); the next one follows in "
            "1 s",
        ),
        (
            "WARNING",
            "Attempt 2 of 3 ended in state Failed('LookupError: boom'); the next one follows in "
            "2 s",
        ),
        ("INFO", "Finished in state Completed()"),
    ]
    assert {vars(each)["task_name"] for each in records} == {"fetch"}


@pytest.mark.parametrize("how", ["call", "submit"])
@pytest.mark.parametrize("runner", RUNNERS)
def test_hooks_hear_of_each_attempt(
    clock: VirtualClock, runner: Callable[[], TaskRunner], how: str
) -> None:
    """`on_running` is called for each attempt, and the hooks of the end once."""
    told: list[str] = []

    def note(_: object, __: object, state: State[object]) -> None:
        told.append(type(state).__name__)

    fetch = task(
        retries=2,
        retry_delay=HOUR,
        on_running=note,  # type: ignore[arg-type]  # It takes any state.
        on_failure=note,
        on_completion=note,
    )(Flaky(2).__call__)
    flow(task_runner=runner)(lambda: fetch() if how == "call" else fetch.submit().result())()
    assert told == ["Running"] * 3 + ["Completed"]


@pytest.mark.anyio
async def test_hooks_of_async_tasks_hear_of_each_attempt() -> None:
    """Async hooks are awaited for each attempt of an async task that is called."""
    told: list[str] = []

    async def note(_: object, __: object, state: State[object]) -> None:
        await anyio.lowlevel.checkpoint()
        told.append(type(state).__name__)

    fetch = task(
        retries=1,
        on_running=note,  # type: ignore[arg-type]  # It takes any state.
        on_completion=note,
    )(Flaky(1).call_async)
    assert await fetch() == 2
    assert told == ["Running", "Running", "Completed"]


def test_cancelling_between_attempts(clock: VirtualClock) -> None:
    """A run that is cancelled while it waits for another attempt is over at once."""
    flaky = Flaky(9)

    @flow
    def cancelling() -> State[int] | None:
        future = task(retries=3, retry_delay=HOUR)(flaky.__call__).submit()
        assert future.wait(timeout=60) is None
        future.cancel()
        return future.wait(timeout=0)

    state = cancelling.run()
    assert isinstance(state, Cancelled)
    assert flaky.attempts == [1]
    assert clock.now() == 60


def test_leaving_a_flow_cancels_what_waits_for_another_attempt(clock: VirtualClock) -> None:
    """A flow that fails does not wait an hour for a retry that nobody wants."""
    futures: list[Future[int]] = []

    @flow
    def failing() -> None:
        futures.append(task(retries=3, retry_delay=HOUR)(Flaky(9).__call__).submit())
        futures[0].wait(timeout=60)
        raise BOOM

    assert isinstance(failing.run(), Failed)
    assert isinstance(futures[0].state, Cancelled)
    assert clock.now() == 60


def test_a_delay_holds_no_place(clock: VirtualClock) -> None:
    """While a run waits for another attempt, the only worker is free for others."""

    @task(retries=1, retry_delay=HOUR)
    def fail_at_first(order: list[str]) -> None:
        order.append(f"attempt {task_run.attempt}")
        if task_run.attempt == 1:
            raise BOOM

    @task
    def other(order: list[str]) -> None:
        order.append("other")

    @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
    def ordering() -> list[str]:
        order: list[str] = []
        first = fail_at_first.submit(order)
        other.submit(order).wait()
        first.wait()
        return order

    assert ordering() == ["attempt 1", "other", "attempt 2"]


def test_the_tools_of_retries_are_exported() -> None:
    """What retries and time limits are written with is importable from the flows."""
    assert issubclass(RunTimedOutError, TimeoutError)
    assert exponential_backoff()(1) == 1.0
