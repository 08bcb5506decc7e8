"""Retry policies, and the lifecycle of a run as a pure generator."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from itertools import pairwise
from typing import Never

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.futures import (
    Cancelled,
    Completed,
    Crashed,
    Failed,
    RetryPolicy,
    RunTimedOutError,
    State,
    TaskRun,
    TimedOut,
    UpstreamFailed,
    exponential_backoff,
)
from anabranch.futures.runner import (
    NO_RETRIES,
    Attempt,
    Delay,
    Lifecycle,
    check_time_limit,
    lifecycle,
    timed_out,
)

BOOM = LookupError("boom")
FAILED: State[object] = Failed(BOOM)
TIMED_OUT: State[object] = TimedOut(exception=RunTimedOutError("too long"))

seconds = st.floats(min_value=0, max_value=1e9)


def only_timeouts(state: State[object]) -> bool:
    """Try again after a time-out only."""
    return isinstance(state, TimedOut)


def same_delay(retry: int) -> float:
    """Return the number of the retry, as seconds."""
    return float(retry)


# ------------------------------------------------------------------------- validation


@pytest.mark.parametrize("retries", [True, 1.0, "3", None])
def test_retries_are_a_whole_number(retries: int) -> None:
    """A count that is no whole number is refused, and the message shows one."""
    with pytest.raises(TypeError, match=r"^retries=.*: it is a whole number, such as 3$"):
        RetryPolicy(retries)


def test_retries_are_not_negative() -> None:
    """A negative count is refused, with what to write for none."""
    with pytest.raises(ValueError, match=r"^retries=-1: it cannot be negative; leave it out"):
        RetryPolicy(-1)


@pytest.mark.parametrize("delay", ["3", [1.0, "2"], None, True, object()])
def test_delays_are_numbers(delay: float) -> None:
    """A delay that is no number is refused, also as part of a list."""
    with pytest.raises(TypeError, match=r"^retry_delay=.* is no number; give seconds such as 2.5$"):
        RetryPolicy(1, delay)


@pytest.mark.parametrize("delay", [-1, [1.0, -0.5], float("nan"), float("inf")])
def test_delays_are_possible(delay: float) -> None:
    """A delay that is negative, or no finite time, is refused."""
    with pytest.raises(ValueError, match=r"^retry_delay=.* is not possible; give seconds of 0"):
        RetryPolicy(1, delay)


def test_a_list_of_delays_holds_one() -> None:
    """An empty list of delays is refused."""
    with pytest.raises(ValueError, match=r"^retry_delay=\[\]: give at least one delay"):
        RetryPolicy(1, [])


def test_jitter_is_a_factor() -> None:
    """Jitter that is no number, or negative, is refused as a factor."""
    with pytest.raises(TypeError, match=r"^retry_jitter='x': 'x' is no number; give a factor"):
        RetryPolicy(1, jitter="x")  # type: ignore[arg-type]  # That is what is refused.
    with pytest.raises(ValueError, match=r"^retry_jitter=-1: -1 is not possible; give a factor"):
        RetryPolicy(1, jitter=-1)


def test_a_condition_can_be_called() -> None:
    """A condition that is no function is refused, and the message shows one."""
    with pytest.raises(TypeError, match=r"^retry_condition='always': .*such as `lambda state: "):
        RetryPolicy(1, condition="always")  # type: ignore[arg-type]  # That is what is refused.


@pytest.mark.parametrize("name", ["base", "factor", "maximum"])
def test_backoff_is_made_of_numbers(name: str) -> None:
    """Each part of a backoff has to be a number of 0 or more, and the message names it."""
    with pytest.raises(ValueError, match=rf"^exponential_backoff\({name}=-1\): -1 is not possible"):
        exponential_backoff(**{name: -1})
    with pytest.raises(TypeError, match=rf"^exponential_backoff\({name}='1'\): '1' is no number"):
        exponential_backoff(**{name: "1"})  # type: ignore[arg-type]  # That is what is refused.


def test_time_limits_are_more_than_nothing() -> None:
    """A time limit is a positive number of seconds, or None."""
    assert check_time_limit(None) is None
    assert check_time_limit(2) == 2
    with pytest.raises(TypeError, match=r"^timeout='2': '2' is no number; give seconds"):
        check_time_limit("2")
    with pytest.raises(ValueError, match=r"^timeout=-1: -1 is not possible"):
        check_time_limit(-1)
    with pytest.raises(ValueError, match=r"^timeout=0: no run could ever end in time"):
        check_time_limit(0)


# ------------------------------------------------------------------------- delays


@settings(max_examples=30)
@given(seconds, st.integers(1, 1000))
def test_one_delay_is_for_all(delay: float, retry: int) -> None:
    """A number is the delay before every retry."""
    assert RetryPolicy(1, delay).delay_before(retry) == delay


@settings(max_examples=30)
@given(st.lists(seconds, min_size=1, max_size=5), st.integers(1, 20))
def test_the_last_delay_is_for_all_that_follow(delays: list[float], retry: int) -> None:
    """A list gives each retry its own delay, and its last one those beyond its end."""
    expected = [*delays, *itertools.repeat(delays[-1], 20)][retry - 1]
    assert RetryPolicy(20, delays).delay_before(retry) == expected
    assert RetryPolicy(20, tuple(delays)).delay_before(retry) == expected


def test_a_callable_says_the_delay() -> None:
    """A callable is given the number of the retry, from 1."""
    policy = RetryPolicy(3, same_delay)
    assert [policy.delay_before(retry) for retry in (1, 2, 3)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("given_back", "error", "what"),
    [("1", TypeError, "is no number"), (-1, ValueError, "is not possible")],
)
def test_a_callable_may_say_nonsense(given_back: float, error: type[Exception], what: str) -> None:
    """What a callable gives that is no delay is refused, naming the retry."""
    with pytest.raises(error, match=rf"^retry_delay gave {given_back!r} for retry 7: .*{what}"):
        RetryPolicy(9, lambda _: given_back).delay_before(7)


@settings(max_examples=30)
@given(seconds, st.floats(min_value=0, max_value=10))
def test_jitter_stretches_a_delay(delay: float, jitter: float) -> None:
    """A delay with jitter is at least the delay, and at most 1 + jitter times that."""
    given_back = RetryPolicy(1, delay, jitter).delay_before(1)
    assert delay <= given_back <= delay * (1 + jitter) * (1 + 1e-9)


def test_jitter_differs() -> None:
    """Runs that failed together get different delays."""
    policy = RetryPolicy(1, 10.0, jitter=1.0)
    assert len({policy.delay_before(1) for _ in range(20)}) > 1


def test_backoff_doubles() -> None:
    """By default a backoff begins with a second and doubles, up to an hour."""
    delay = exponential_backoff()
    assert [delay(retry) for retry in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert delay(13) == 3600
    assert delay(10**9) == 3600
    assert exponential_backoff(0)(10**9) == 0


@settings(max_examples=30)
@given(st.floats(0, 1e6), st.floats(1, 1e6), st.floats(0, 1e9), st.lists(st.integers(1, 10_000)))
def test_backoff_grows_up_to_its_maximum(
    base: float, factor: float, maximum: float, retries: list[int]
) -> None:
    """A backoff never falls from one retry to the next, and never exceeds its maximum."""
    delay = exponential_backoff(base, factor=factor, maximum=maximum)
    assert delay(1) == min(base, maximum)
    delays = [delay(retry) for retry in sorted(retries)]
    assert all(first <= second for first, second in pairwise(delays))
    assert all(0 <= each <= maximum for each in delays)


@pytest.mark.parametrize("delay", [1.5, [1.0, 2.0], same_delay, exponential_backoff(2.0)])
def test_policies_are_picklable(delay: float | list[float] | Callable[[int], float]) -> None:
    """A policy travels with its run, whatever its delay is."""
    policy = RetryPolicy(3, delay, 0.5, only_timeouts)
    copy = pickle.loads(pickle.dumps(policy))
    assert copy == policy
    assert copy.retries == 3


# ------------------------------------------------------------------------- what is retried


@pytest.mark.parametrize(
    ("state", "is_retried"),
    [
        (FAILED, True),
        (TIMED_OUT, True),
        (Crashed(exception=OSError("the worker is gone")), True),
        (Crashed(exception=SystemExit(1)), False),
        (Crashed(exception=KeyboardInterrupt()), False),
        (Cancelled(), False),
        (UpstreamFailed(cause=BOOM), False),
        (Completed(1), False),
    ],
    ids=str,
)
def test_which_states_are_retried(state: State[object], is_retried: bool) -> None:
    """A run's own failures, time-outs and lost workers are; what was meant to end it is not."""
    assert RetryPolicy(1).wants_retry(1, state) is is_retried
    assert not RetryPolicy(1).wants_retry(2, state)
    assert not NO_RETRIES.wants_retry(1, state)


def test_a_condition_decides() -> None:
    """A condition is asked about each failure, and about nothing else."""
    asked: list[State[object]] = []

    def condition(state: State[object]) -> bool:
        asked.append(state)
        return only_timeouts(state)

    policy = RetryPolicy(1, condition=condition)
    assert not policy.wants_retry(1, FAILED)
    assert policy.wants_retry(1, TIMED_OUT)
    assert not policy.wants_retry(2, TIMED_OUT)
    assert not policy.wants_retry(1, Completed(1))
    assert asked == [FAILED, TIMED_OUT]


# ------------------------------------------------------------------------- the lifecycle


def ending(steps: Lifecycle, state: State[object]) -> State[object]:
    """Send a state to a lifecycle that ends with it, and return what it ends in."""
    with pytest.raises(StopIteration) as caught:
        steps.send(state)
    end: State[object] = caught.value.value
    return end


def test_a_run_is_attempted_once() -> None:
    """Without retries the first attempt's state is the run's."""
    for state in (FAILED, Completed(1)):
        steps = lifecycle()
        assert next(steps) == Attempt(1, None)
        assert ending(steps, state) is state


@settings(max_examples=30)
@given(st.integers(0, 6), st.integers(0, 8))
def test_the_budget_is_one_more_than_the_retries(retries: int, failures: int) -> None:
    """A run that fails so often is attempted until it completes, or ``retries + 1`` times."""
    outcomes: list[State[object]] = [*[FAILED] * failures, Completed(1)]
    steps = lifecycle(RetryPolicy(retries, 2.0), time_limit=5.0)
    command = next(steps)
    for number in itertools.count(1):
        assert command == Attempt(number, 5.0)
        state = outcomes[number - 1]
        if number == min(retries, failures) + 1:
            assert ending(steps, state) is state
            return
        command = steps.send(state)
        assert isinstance(command, Delay)
        assert command.seconds == 2.0
        message = command.state.message or ""
        assert message.startswith(f"Attempt {number} of {retries + 1} ended in state Failed")
        command = steps.send(None)


def test_a_lifecycle_goes_on_where_another_left_off() -> None:
    """Attempts that were lost with their worker count."""
    steps = lifecycle(RetryPolicy(2), first_attempt=3)
    assert next(steps) == Attempt(3, None)
    assert ending(steps, FAILED) is FAILED


@pytest.mark.parametrize("where", ["delay", "condition"])
def test_a_policy_that_fails_fails_the_run(where: str) -> None:
    """What a policy's own function raises is the run's failure, caused by the attempt's."""

    def fail(_: object) -> Never:
        raise ZeroDivisionError("oops")

    policy = RetryPolicy(1, fail) if where == "delay" else RetryPolicy(1, condition=fail)
    steps = lifecycle(policy)
    next(steps)
    state = ending(steps, FAILED)
    assert isinstance(state, Failed)
    assert isinstance(state.exception, ZeroDivisionError)
    assert state.exception.__cause__ is BOOM
    assert state.message is not None
    assert state.message.startswith("The retry policy failed: ZeroDivisionError")


def test_a_condition_may_ask_for_the_result() -> None:
    """A condition that raises the run's own failure does not make that its own cause."""

    def ask(state: State[object]) -> bool:
        return bool(state.result())

    steps = lifecycle(RetryPolicy(1, condition=ask))
    next(steps)
    boom = LookupError("boom")
    state = ending(steps, Failed(boom))
    assert isinstance(state, Failed)
    assert state.exception is boom
    assert boom.__cause__ is None


def test_a_policy_that_exits_crashes_the_run() -> None:
    """SystemExit in a policy ends the run, and not the thread that it is asked in."""

    def leave(_: object) -> bool:
        raise SystemExit(3)

    steps = lifecycle(RetryPolicy(1, condition=leave))
    next(steps)
    state = ending(steps, FAILED)
    assert isinstance(state, Crashed)
    assert isinstance(state.exception, SystemExit)
    assert state.exception.__cause__ is BOOM


def test_a_time_out_says_what_was_exceeded() -> None:
    """The state of a run that took too long names the run and its limit."""
    state = timed_out(TaskRun("1", "run-1", "run"), 2.5)
    expected = "Run 'run-1' did not end within its time limit of 2.5 s"
    assert state.message == expected
    with pytest.raises(RunTimedOutError, match=expected):
        state.result()
