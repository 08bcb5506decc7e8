"""Behaviours: attempts that are made again, and time limits."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Final

from anabranch.futures import (
    Completed,
    ConcurrencyType,
    Crashed,
    Failed,
    RetryDelay,
    RetryPolicy,
    RunCrashedError,
    RunTimedOutError,
    TimedOut,
    UpstreamFailed,
    lift,
)
from anabranch.futures.testing._behaviour import (
    ONLY_IN_PARALLEL,
    Behaviour,
    Subject,
    dispatch,
    new_tally,
    raises,
    registrar,
    submit_after,
)
from anabranch.futures.testing._functions import (
    add,
    break_condition,
    exit_with,
    exit_with_async,
    growing_delay,
    hang_once,
    is_lookup_error,
    lose_process,
    lose_then_fail,
    note,
    note_and_fail,
    sleep_noted,
    tell_attempt,
    try_until,
    try_until_async,
    wait_at,
)
from anabranch.futures.testing._gate import Gate

ROWS: Final[list[Behaviour]] = []
behaviour: Final = registrar(ROWS)


# ---------------------------------------------------------------------------- retries


@behaviour("tries a run that failed again until it completes")
def _(subject: Subject) -> None:
    for function in (try_until, try_until_async):
        with new_tally() as tally:
            future = dispatch(subject, function, tally, 3, retry=RetryPolicy(5))
            assert future.result() == 3
            assert len(tally) == 3


@behaviour("makes no more attempts than its budget has, and fails with the failure of the last")
def _(subject: Subject) -> None:
    with new_tally() as tally:
        future = dispatch(subject, try_until, tally, 100, retry=RetryPolicy(2))
        with raises(LookupError, "attempt 3 failed"):
            future.result()
        assert len(tally) == 3


@behaviour("makes one attempt if it is not told to retry")
def _(subject: Subject) -> None:
    with new_tally() as tally:
        state = dispatch(subject, try_until, tally, 100).wait()
        assert isinstance(state, Failed)
        assert len(tally) == 1


@behaviour("waits before each retry for as long as the policy says")
def _(subject: Subject) -> None:
    delays: list[tuple[RetryDelay, list[float]]] = [
        (0.01, [0.01, 0.01]),
        ([0.0, 0.02], [0.0, 0.02]),
        (growing_delay, [0.01, 0.02]),
    ]
    for delay, least in delays:
        with new_tally() as tally:
            policy = RetryPolicy(2, delay)
            assert dispatch(subject, try_until, tally, 3, retry=policy).result() == 3
            waited = [after - before for before, after in pairwise(tally.times())]
            assert all(had >= wanted for had, wanted in zip(waited, least, strict=True)), waited


@behaviour("asks the policy's condition whether to retry, with the state")
def _(subject: Subject) -> None:
    policy = RetryPolicy(2, condition=is_lookup_error)
    with new_tally() as tally:
        assert dispatch(subject, try_until, tally, 2, retry=policy).result() == 2
    with new_tally() as tally:
        state = dispatch(subject, note_and_fail, tally, retry=policy).wait()
        assert isinstance(state, Failed)
        assert isinstance(state.exception, ValueError)
        assert len(tally) == 1


@behaviour("ends a run as Failed if its retry policy fails, with the run's own failure as cause")
def _(subject: Subject) -> None:
    policy = RetryPolicy(2, condition=break_condition)
    with new_tally() as tally:
        state = dispatch(subject, try_until, tally, 3, retry=policy).wait()
        assert isinstance(state, Failed)
        assert isinstance(state.exception, ZeroDivisionError)
        assert "retry policy" in str(state)
        assert len(tally) == 1


@behaviour("tells a run which attempt it is")
def _(subject: Subject) -> None:
    with new_tally() as tally:
        future = dispatch(subject, tell_attempt, tally, retry=RetryPolicy(1))
        assert future.result() == [1, 2]


@behaviour("starts a dependant when the last attempt has completed, and only then")
def _(subject: Subject) -> None:
    with new_tally() as tally:
        future = dispatch(subject, try_until, tally, 3, retry=RetryPolicy(2, 0.01))
        assert subject.runner.submit(add, lift(future), 10).result() == 13


@behaviour(
    "ends a run that raises SystemExit or KeyboardInterrupt as Crashed, at the first attempt",
    not_for={
        ConcurrencyType.SEQUENTIAL: "in sync code they are raised where the run was submitted: "
        "the caller's own thread is meant"
    },
)
def _(subject: Subject) -> None:
    for function, kind in product(
        (exit_with, exit_with_async), (SystemExit, KeyboardInterrupt, GeneratorExit)
    ):
        with new_tally() as tally:
            future = dispatch(subject, function, tally, kind, retry=RetryPolicy(2))
            state = future.wait()
            assert isinstance(state, Crashed), state
            assert state.message == f"The run was ended by {kind.__name__}: out"
            assert type(state.exception) is kind
            assert len(tally) == 1
            dependant = subject.runner.submit(add, lift(future)).wait()
            assert isinstance(dependant, UpstreamFailed)
            assert type(dependant.cause) is kind
    assert subject.runner.submit(add, 1).result() == 1


# ---------------------------------------------------------------------------- lost processes


@behaviour("ends a run whose process is lost as Crashed, executed once", not_for=ONLY_IN_PARALLEL)
def _(subject: Subject) -> None:
    with new_tally() as tally:
        future = dispatch(subject, lose_process, tally)
        state = future.wait()
        assert isinstance(state, Crashed), state
        with raises(RunCrashedError, future.task_run.name):
            future.result()
        assert len(tally) == 1
    assert subject.runner.submit(add, 1).result() == 1


@behaviour("retries failures and lost processes alike, within one budget", not_for=ONLY_IN_PARALLEL)
def _(subject: Subject) -> None:
    with new_tally() as tally:
        assert dispatch(subject, lose_then_fail, tally, retry=RetryPolicy(2)).result() == 3
        assert len(tally) == 3
    with new_tally() as tally:
        state = dispatch(subject, lose_process, tally, retry=RetryPolicy(1)).wait()
        assert isinstance(state, Crashed), state
        assert len(tally) == 2


# ---------------------------------------------------------------------------- time limits


@behaviour("stops an async run whose time is up, and ends it as TimedOut")
def _(subject: Subject) -> None:
    with new_tally() as tally:
        future = dispatch(subject, sleep_noted, tally, time_limit=0.03)
        state = future.wait()
        assert isinstance(state, TimedOut)
        with raises(RunTimedOutError, future.task_run.name, "0.03 s"):
            future.result()
        assert tally.words() == ["started", "stopped"]


@behaviour("ends a sync run whose time is up as TimedOut, though nothing has let it go on")
def _(subject: Subject) -> None:
    with Gate() as gate:
        future = dispatch(subject, wait_at, gate.ticket, time_limit=0.03)
        state = future.wait(timeout=30)
        assert isinstance(state, TimedOut), state
        assert isinstance(state.exception, TimeoutError)
    assert subject.runner.submit(add, 1).result() == 1


@behaviour("stops a sync run whose time is up, or else counts it as abandoned")
def _(subject: Subject) -> None:
    before = subject.runner.statistics().abandoned
    limit = 1.0 if subject.concurrency_type is ConcurrencyType.PARALLEL else 0.03
    with Gate() as gate:
        future = dispatch(subject, wait_at, gate.ticket, time_limit=limit)
        gate.await_arrival()
        assert isinstance(future.wait(timeout=30), TimedOut)
        abandoned = subject.runner.statistics().abandoned - before
        assert abandoned in (0, 1)
        if not abandoned:
            gate.await_departure()


@behaviour("retries a run whose time was up, within the same budget")
def _(subject: Subject) -> None:
    with new_tally() as tally, Gate() as gate:
        policy = RetryPolicy(1)
        limit = 5.0 if subject.concurrency_type is ConcurrencyType.PARALLEL else 0.05
        future = dispatch(subject, hang_once, gate.ticket, tally, retry=policy, time_limit=limit)
        assert future.result() == 2
    with new_tally() as tally:
        state = dispatch(subject, sleep_noted, tally, retry=RetryPolicy(1), time_limit=0.03).wait()
        assert isinstance(state, TimedOut)
        assert tally.words() == ["started", "stopped"] * 2


@behaviour("lets a run that ends in time be, whatever its limit")
def _(subject: Subject) -> None:
    future = dispatch(subject, add, 1, 2, time_limit=60)
    assert isinstance(future.wait(), Completed)
    assert future.result() == 3


@behaviour("never starts what depends on a run that has timed out")
def _(subject: Subject) -> None:
    with new_tally() as tally, Gate() as gate:
        late = dispatch(subject, wait_at, gate.ticket, time_limit=0.03)
        state = submit_after(subject, late, 5).wait()
        assert isinstance(state, UpstreamFailed), state
        assert isinstance(state.cause, RunTimedOutError)
        behind = dispatch(subject, note, tally, late)
        assert isinstance(behind.wait(), UpstreamFailed)
        gate.open()
        assert subject.runner.submit(add, 1).result() == 1
        assert len(tally) == 0
