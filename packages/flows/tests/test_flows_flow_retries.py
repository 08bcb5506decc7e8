"""Retries of flows: a fresh attempt each time, for subflows too, and what ends them early."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import anyio
import pytest

from anabranch.flows import (
    Cancellation,
    Cancelled,
    Completed,
    ConcurrentTaskRunner,
    Failed,
    Future,
    Retrying,
    SequentialTaskRunner,
    State,
    TaskRunner,
    flow,
    flow_run,
    task,
    task_run,
)
from anabranch.futures import NotSubmittableError
from anabranch.futures.runner import current_scope, sleep, sleep_async
from anabranch.futures.testing import Gate, Ticket, VirtualClock

HOUR = 3600.0
BOOM = LookupError("boom")

RUNNERS = [SequentialTaskRunner, ConcurrentTaskRunner]

#: How long to wait for what should happen at once, in seconds; reached by failing tests only.
PATIENCE = 10.0


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    """Enter a virtual clock."""
    with VirtualClock() as clock:
        yield clock


@task
def add(x: int) -> int:
    """Add one."""
    return x + 1


@task
def fail() -> None:
    """Raise."""
    raise BOOM


def fail_until(attempt: int) -> int:
    """Raise in the attempts of the flow before this one."""
    number = flow_run.attempt
    if number < attempt:
        raise LookupError(f"attempt {number}")
    return number


# ------------------------------------------------------------------------- attempts


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_flow_is_tried_again(clock: VirtualClock, runner: Callable[[], TaskRunner]) -> None:
    """A flow that raises is attempted until it completes, with its delays."""

    @flow(task_runner=runner, retries=2, retry_delay=[HOUR, 2 * HOUR])
    def flaky() -> int:
        add.submit(1)
        return fail_until(3)

    assert flaky() == 3
    assert clock.now() == 3 * HOUR
    assert flaky.run().result() == 3


@pytest.mark.anyio
@pytest.mark.parametrize("runner", RUNNERS)
async def test_an_async_flow_is_tried_again(runner: Callable[[], TaskRunner]) -> None:
    """An async flow is attempted until it completes, on trio and on asyncio."""

    @flow(task_runner=runner, retries=2, retry_delay=HOUR)
    async def flaky() -> int:
        await add.submit(1)
        return fail_until(3)

    with VirtualClock() as clock:
        assert await flaky() == 3
        assert clock.now() == 2 * HOUR


def test_a_budget_is_used_up(clock: VirtualClock) -> None:
    """A flow that never succeeds ends as its last attempt did."""

    @flow(retries=2, retry_delay=HOUR)
    def failing() -> None:
        raise LookupError(f"attempt {flow_run.attempt}")

    state = failing.run()
    assert isinstance(state, Failed)
    assert str(state.exception) == "attempt 3"
    with pytest.raises(LookupError, match="attempt 3"):
        failing()


def test_failed_runs_are_a_reason_to_try_again() -> None:
    """A flow that fails as the sum of its runs is tried again, and only the last attempt counts."""

    @flow(retries=1)
    def partly() -> None:
        if flow_run.attempt == 1:
            fail.submit()
            fail.submit()
        add.submit(1)

    assert str(partly.run()) == "Completed('All states completed.')"

    @flow(retries=1)
    def failing() -> None:
        for _ in range(flow_run.attempt):
            fail.submit()

    assert str(failing.run()) == "Failed('2/2 states failed.')"


def test_each_attempt_has_a_runner_of_its_own() -> None:
    """Every attempt starts another duplicate of the flow's runner, with nothing in it."""
    runners: list[TaskRunner] = []

    @flow(task_runner=ConcurrentTaskRunner(max_workers=3), retries=2)
    def flaky() -> int:
        scope = current_scope.get()
        assert scope is not None
        assert scope.runner is not None
        assert scope.runner.statistics().submitted == 0
        runners.append(scope.runner)
        add.submit(1)
        return fail_until(3)

    assert flaky() == 3
    assert len({id(each) for each in runners}) == 3
    assert runners == [ConcurrentTaskRunner(max_workers=3)] * 3


def test_the_names_of_runs_go_on() -> None:
    """The runs of later attempts are numbered behind those of earlier ones."""
    names: list[str] = []

    @flow(retries=1)
    def flaky() -> int:
        names.extend(add.submit(number).task_run.name for number in range(2))
        names.append(flow_run.name or "")
        return fail_until(2)

    flaky()
    key = add.key
    numbered = [f"add-{key}-{number}" for number in range(4)]
    assert [names[0], names[1], names[3], names[4]] == numbered
    assert names[2] == names[5]


def test_the_children_of_an_attempt_end_before_the_next() -> None:
    """What an attempt has submitted has ended, and is counted, before the next begins."""
    with Gate() as gate:

        @task
        def slow(ticket: Ticket) -> None:
            ticket.wait()

        futures: list[Future[None]] = []

        @flow(retries=1)
        def flaky() -> list[str]:
            if flow_run.attempt == 2:
                return [type(each.state).__name__ for each in futures]
            futures.append(slow.submit(gate.ticket))
            gate.await_arrival()
            futures.append(slow.submit(futures[0]))  # type: ignore[arg-type]  # Never called.
            threading.Thread(target=open_when_done, args=(gate, futures[1])).start()
            raise BOOM

        assert flaky() == ["Completed", "Cancelled"]


def open_when_done(gate: Gate, future: Future[None]) -> None:
    """Open the gate once a run has ended."""
    future.wait()
    gate.open()


def test_a_condition_is_asked_about_the_flows_state() -> None:
    """`retry_condition` is called with the state of each failed attempt of the flow."""
    asked: list[str] = []

    def condition(state: State[object]) -> bool:
        asked.append(str(state))
        return len(asked) < 2

    @flow(retries=9, retry_condition=condition)
    def failing() -> None:
        raise LookupError(f"attempt {flow_run.attempt}")

    assert isinstance(failing.run(), Failed)
    assert asked == ["Failed('LookupError: attempt 1')", "Failed('LookupError: attempt 2')"]


def test_parameters_that_are_refused_are_refused_once() -> None:
    """What the validation of parameters finds is no reason to try again."""
    calls: list[int] = []

    @flow(retries=3, validate_parameters=True)
    def picky(x: int) -> None:
        calls.append(x)

    assert isinstance(picky.run("no number"), Failed)  # type: ignore[arg-type]  # As it says.
    assert calls == []


# ------------------------------------------------------------------------- log, hooks


def test_the_log_of_a_flow_that_is_tried_again(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has one start, a warning for each retry, and one end."""

    @flow(retries=1, retry_delay=60)
    def flaky() -> int:
        return fail_until(2)

    with caplog.at_level(logging.INFO, "anabranch.flow_runs"):
        flaky()
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        (
            "INFO",
            "Starting 'ConcurrentTaskRunner'; submitted tasks will be run concurrently...",
        ),
        (
            "WARNING",
            "Attempt 1 of 2 ended in state Failed('LookupError: attempt 1'); the next one "
            "follows in 60 s",
        ),
        ("INFO", "Finished in state Completed()"),
    ]


@pytest.mark.anyio
async def test_hooks_hear_of_each_attempt() -> None:
    """`on_running` is called for each attempt of a flow, sync and async, the end's hooks once."""
    told: list[tuple[str, int]] = []

    def note(_: object, __: object, state: State[object]) -> None:
        told.append((type(state).__name__, flow_run.attempt))

    options = flow(retries=1, on_running=note, on_failure=note, on_completion=note)  # type: ignore[arg-type]  # It takes any state.
    expected = [("Running", 1), ("Running", 2), ("Completed", 2)]
    options(lambda: fail_until(2))()
    assert told == expected
    told.clear()

    async def body() -> int:
        return fail_until(2)

    await options(body)()
    assert told == expected


# ------------------------------------------------------------------------- subflows


def test_a_subflow_has_retries_of_its_own(clock: VirtualClock) -> None:
    """A subflow that is tried again until it completes is one completed run of its parent."""

    @flow(retries=2, retry_delay=HOUR)
    def inner() -> int:
        return fail_until(3)

    @flow
    def outer() -> None:
        inner()
        inner.submit()

    assert isinstance(outer.run(), Completed)


def test_retries_multiply() -> None:
    """Each attempt of a parent gives its subflow a new budget."""
    calls: list[tuple[int, int]] = []

    @flow(retries=1)
    def outer() -> int:
        parent = flow_run.attempt

        @flow(retries=1)
        def inner() -> None:
            calls.append((parent, flow_run.attempt))
            raise BOOM

        inner()
        return 1

    assert isinstance(outer.run(), Failed)
    assert calls == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_a_flow_that_calls_itself_is_tried_again() -> None:
    """Recursion and retries go together: every level has its own attempts."""
    calls: list[int] = []

    @flow(retries=1)
    def countdown(n: int) -> int:
        calls.append(n)
        if n:
            return countdown(n - 1) + 1
        return fail_until(2)

    assert countdown(3) == 5
    assert calls == [3, 2, 1, 0, 0]


def test_what_the_future_of_a_subflow_shows(clock: VirtualClock) -> None:
    """A submitted subflow that waits for another attempt is Retrying, with a whole history."""

    @flow(retries=1, retry_delay=HOUR)
    def inner() -> int:
        return fail_until(2)

    @flow
    def outer() -> tuple[object, list[str]]:
        future = inner.submit()
        assert future.wait(timeout=60) is None
        between = future.state
        future.result()
        return between, [type(each).__name__ for each in future.history]

    between, history = outer()
    assert isinstance(between, Retrying)
    assert history == ["Pending", "Running", "Retrying", "Running", "Completed"]


@pytest.mark.parametrize("is_async", [False, True])
def test_cancelling_a_subflow_between_attempts(clock: VirtualClock, is_async: bool) -> None:
    """A subflow that waits for another attempt ends at once, without one, when it is cancelled."""
    attempts: list[int] = []
    options = flow(retries=1, retry_delay=HOUR)

    def body() -> None:
        attempts.append(flow_run.attempt)
        raise BOOM

    async def async_body() -> None:
        body()

    inner = options(async_body) if is_async else options(body)

    @flow
    def outer() -> tuple[Cancellation, bool]:
        future: Future[None] = inner.submit()
        assert future.wait(timeout=60) is None
        answer = future.cancel()
        return answer, isinstance(future.wait(), Cancelled)

    assert outer() == (Cancellation.WILL_STOP, True)
    assert attempts == [1]
    assert clock.now() == 60


def test_cancelling_reaches_the_subflows_in_place(clock: VirtualClock) -> None:
    """Cancelling a flow ends the delay between two attempts of a subflow that it has called."""
    attempts: list[int] = []

    @flow(retries=1, retry_delay=HOUR)
    def innermost() -> None:
        attempts.append(flow_run.attempt)
        raise BOOM

    @flow(retries=1, retry_delay=HOUR)
    def inner() -> None:
        innermost()

    @flow
    def outer() -> bool:
        future = inner.submit()
        assert future.wait(timeout=60) is None
        future.cancel()
        return isinstance(future.wait(), Failed | Cancelled)

    assert outer()
    assert attempts == [1]
    assert clock.now() == 60


def test_cancelling_a_flow_in_its_attempt_prevents_the_next(clock: VirtualClock) -> None:
    """A sync body cannot be stopped, but a subflow that was cancelled makes no other attempt."""
    attempts: list[int] = []

    @flow(retries=3)
    def inner() -> None:
        attempts.append(flow_run.attempt)
        sleep(HOUR)
        raise BOOM

    @flow
    def outer() -> tuple[Cancellation, list[str]]:
        future = inner.submit()
        assert future.wait(timeout=60) is None
        answer = future.cancel()
        future.wait()
        return answer, [type(each).__name__ for each in future.history]

    assert outer() == (Cancellation.CANNOT_STOP, ["Pending", "Running", "Failed"])
    assert attempts == [1]
    assert clock.now() == HOUR


@pytest.mark.anyio
async def test_cancelling_an_async_flow_between_attempts() -> None:
    """A cancel scope around an async flow ends the delay before its next attempt."""
    attempts: list[int] = []

    @flow(retries=3, retry_delay=HOUR)
    async def failing() -> None:
        attempts.append(flow_run.attempt)
        raise BOOM

    with VirtualClock() as clock:
        async with anyio.create_task_group() as group:
            group.start_soon(failing)
            await sleep_async(60)
            group.cancel_scope.cancel()
        assert clock.now() == 60
    assert attempts == [1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_was_meant_to_end_the_program_is_not_tried_again(error: type[BaseException]) -> None:
    """Ctrl-C and SystemExit in a flow's body come out at once."""
    attempts: list[int] = []

    @flow(retries=3)
    def leaving() -> None:
        attempts.append(flow_run.attempt)
        raise error

    with pytest.raises(error):
        leaving()
    assert attempts == [1]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_submitted_subflow_that_exits_has_crashed(
    error: type[BaseException], is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """SystemExit in the thread of a subflow is not the program's: the run crashes, and says so."""
    crashes: list[str] = []
    options = flow(
        name="leaving",
        retries=3,
        on_crashed=lambda _, __, state: crashes.append(type(state).__name__),
    )

    def body() -> None:
        raise error

    async def async_body() -> None:
        raise error

    inner = options(async_body) if is_async else options(body)

    @flow
    def outer() -> str:
        future: Future[None] = inner.submit()
        future.wait()
        return type(future.state).__name__

    with caplog.at_level(logging.INFO, "anabranch"):
        assert outer() == "Crashed"
    assert crashes == ["Crashed"]
    ends = [
        each.getMessage() for each in caplog.records if vars(each).get("flow_name") == "leaving"
    ]
    assert f"Finished in state Crashed('The flow run was ended by {error.__name__}')" in ends


# ------------------------------------------------------------------------- after the end


def test_what_is_left_of_an_attempt_can_submit_nothing() -> None:
    """Code that outlives its attempt in a thread of its own is told that the attempt has ended."""

    @flow
    def beside() -> None:
        pytest.fail("it has been submitted by nobody's child")

    scopes: list[object] = []

    @flow(retries=1)
    def outer() -> str:
        scopes.append(current_scope.get())
        if flow_run.attempt == 1:
            raise BOOM
        token = current_scope.set(scopes[0])  # type: ignore[arg-type]  # It is the scope.
        try:
            with pytest.raises(
                NotSubmittableError, match=r"the attempt of flow run '.*' around it"
            ):
                beside.submit()
            with pytest.raises(RuntimeError, match="Cannot submit"):
                add.submit(1)
        finally:
            current_scope.reset(token)
        return "refused"

    assert outer() == "refused"


def test_what_is_left_of_an_attempt_counts_in_no_other() -> None:
    """What an attempt's code calls after its end is not among the runs of the next attempt."""
    scopes: list[object] = []

    @flow(retries=1)
    def outer() -> None:
        scopes.append(current_scope.get())
        if flow_run.attempt == 1:
            raise BOOM
        token = current_scope.set(scopes[0])  # type: ignore[arg-type]  # It is the scope.
        try:
            assert isinstance(fail.run(), Failed)
        finally:
            current_scope.reset(token)
        add.submit(task_run.attempt)

    assert isinstance(outer.run(), Completed)
