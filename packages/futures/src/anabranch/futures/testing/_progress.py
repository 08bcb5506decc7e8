"""Behaviours: what is told of runs, on their way and at their end."""

from __future__ import annotations

import json
import logging
import pickle
import weakref
from itertools import pairwise
from typing import Final

from anabranch.futures import (
    Cancellation,
    Cancelled,
    Completed,
    ConcurrencyType,
    Failed,
    NotFinishedError,
    Pending,
    Retrying,
    RetryPolicy,
    Running,
    RunTimedOutError,
    StateType,
    TimedOut,
    UpstreamFailed,
)
from anabranch.futures.testing._behaviour import (
    NOT_IN_PLACE,
    Behaviour,
    Listening,
    Subject,
    assert_vanishes,
    dispatch,
    new_tally,
    raises,
    registrar,
    run_on_each_loop,
)
from anabranch.futures.testing._functions import (
    VARIABLE,
    Thing,
    add,
    end_in,
    fail,
    make_thing,
    same,
    sleep_at,
    sleep_noted,
    take_thing,
    tally_word,
    try_until,
    variable,
    wait_at,
)
from anabranch.futures.testing._gate import Gate

ROWS: Final[list[Behaviour]] = []
behaviour: Final = registrar(ROWS)


# ---------------------------------------------------------------------------- states


@behaviour("keeps the history of a run: every state that it was in, with the times, in order")
def _(subject: Subject) -> None:
    with new_tally() as tally:
        future = dispatch(subject, try_until, tally, 2, retry=RetryPolicy(1, 0.01))
        future.wait()
        states = future.history
        names = [state.name for state in states]
        assert names == ["Pending", "Running", "Retrying", "Running", "Completed"]
        assert all(before.timestamp <= after.timestamp for before, after in pairwise(states))
        assert states[-1] is future.state
    failed = subject.runner.submit(fail, "gone")
    behind = subject.runner.submit(same, failed)
    assert isinstance(behind.wait(), UpstreamFailed)
    assert [state.name for state in failed.history] == ["Pending", "Running", "Failed"]
    assert [state.name for state in behind.history] == ["Pending", "UpstreamFailed"]


@behaviour(
    "says that a run is Pending, then Running, and has no result yet",
    not_for=NOT_IN_PLACE,
)
def _(subject: Subject) -> None:
    listening = Listening()
    with Gate() as gate:
        first = dispatch(subject, wait_at, gate.ticket, listener=listening)
        behind = subject.runner.submit(same, first)
        gate.await_arrival()
        listening.until_running()
        assert isinstance(first.state, Running)
        assert isinstance(behind.state, Pending)
        assert first.state.type is StateType.RUNNING
        assert not first.state.is_final()
        with raises(NotFinishedError):
            behind.state.result()
        gate.open()
        assert behind.result() == 0


@behaviour(
    "counts the runs that are pending and those that are running",
    not_for=NOT_IN_PLACE,
)
def _(subject: Subject) -> None:
    listening = Listening()
    with Gate() as gate:
        before = subject.runner.statistics()
        first = dispatch(subject, wait_at, gate.ticket, listener=listening)
        behind = [subject.runner.submit(same, first) for _ in range(3)]
        gate.await_arrival()
        listening.until_running()
        now = subject.runner.statistics()
        assert now.submitted - before.submitted == 4
        assert (now.running, now.pending) == (1, 3)
        gate.open()
        assert [future.result() for future in behind] == [0, 0, 0]
    after = subject.runner.statistics()
    assert (after.running, after.pending) == (0, 0)


@behaviour("tells a run's listener whenever it becomes Running or Retrying")
def _(subject: Subject) -> None:
    listening = Listening()
    with new_tally() as tally:
        policy = RetryPolicy(2, 0.01)
        dispatch(subject, try_until, tally, 3, retry=policy, listener=listening).wait()
    names = listening.names()
    assert names == ["Running", "Retrying", "Running", "Retrying", "Running"], names


@behaviour("lets no failing listener get in the way of a run")
def _(subject: Subject) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a broken listener")

    logger = logging.getLogger("anabranch.futures")
    logger.addFilter(_refuse)
    try:
        assert dispatch(subject, add, 1, listener=broken).result() == 1
    finally:
        logger.removeFilter(_refuse)


def _refuse(_: logging.LogRecord) -> bool:
    return False


@behaviour(
    "says that a run is Retrying between two attempts, and cancels it there",
    not_for=NOT_IN_PLACE,
)
def _(subject: Subject) -> None:
    listening = Listening()
    with new_tally() as tally:
        policy = RetryPolicy(5, 3600.0)
        future = dispatch(subject, try_until, tally, 5, retry=policy, listener=listening)
        listening.until_running()
        assert isinstance(listening.next(), Retrying)
        state = future.state
        assert isinstance(state, Retrying), state
        assert "3600" in str(state)
        assert future.cancel() is not Cancellation.CANNOT_STOP
        assert isinstance(future.wait(timeout=30), Cancelled)
        assert len(tally) == 1


@behaviour("gives states that can be pickled, and written as JSON without the value")
def _(subject: Subject) -> None:
    failed = subject.runner.submit(fail, "gone")
    futures = [subject.runner.submit(add, 1), failed, subject.runner.submit(same, failed)]
    for future in futures:
        state = future.wait()
        assert state is not None
        copy = pickle.loads(pickle.dumps(state))
        assert (type(copy), str(copy), copy.timestamp) == (type(state), str(state), state.timestamp)
        told = json.loads(json.dumps(state.as_dict()))
        assert told["type"] == state.type.value
    assert failed.exception() is not None


@behaviour("ends a run in the state that its function returns")
def _(subject: Subject) -> None:
    given: Failed[int] = Failed(LookupError("as it was told"), message="as it was told")
    state = subject.runner.submit(end_in, given).wait()
    assert isinstance(state, Failed)
    assert state.message == "as it was told"
    assert subject.runner.submit(end_in, Completed(3)).result() == 3


# ---------------------------------------------------------------------------- cancelling


@behaviour("stops an async run that is cancelled, and retries it not", not_for=NOT_IN_PLACE)
def _(subject: Subject) -> None:
    with new_tally() as tally, Gate() as gate:
        listening = Listening()
        future = dispatch(
            subject, sleep_at, gate.ticket, tally, retry=RetryPolicy(3), listener=listening
        )
        behind = subject.runner.submit(same, future)
        gate.await_arrival()
        listening.until_running()
        assert future.cancel() is Cancellation.WILL_STOP
        assert isinstance(future.wait(timeout=30), Cancelled)
        assert isinstance(behind.wait(timeout=30), UpstreamFailed)
        assert subject.runner.submit(add, 1).result() == 1
        # A process that does not stop in time may have been killed.
        assert tally.words() in ([], ["started"], ["started", "stopped"])


@behaviour(
    "stops a sync run that is cancelled, or says that it cannot and lets it go on",
    not_for=NOT_IN_PLACE,
)
def _(subject: Subject) -> None:
    with Gate() as gate:
        listening = Listening()
        future = dispatch(subject, wait_at, gate.ticket, 5, listener=listening)
        gate.await_arrival()
        listening.until_running()
        if future.cancel() is Cancellation.CANNOT_STOP:
            assert not future.done()
            gate.open()
            assert future.result() == 5
        else:
            assert isinstance(future.wait(timeout=30), Cancelled)
            gate.await_departure()


@behaviour("never starts a run that was cancelled, nor what depends on it", not_for=NOT_IN_PLACE)
def _(subject: Subject) -> None:
    with new_tally() as tally, Gate() as gate:
        first = subject.runner.submit(wait_at, gate.ticket)
        pending = dispatch(subject, try_until, tally, 1, wait_for=(first,))
        behind = dispatch(subject, try_until, tally, 1, wait_for=(pending,))
        assert pending.cancel() is Cancellation.CANCELLED
        gate.open()
        assert isinstance(behind.wait(), UpstreamFailed)
        assert first.result() == 0
        assert subject.runner.submit(add, 1).result() == 1
        assert len(tally) == 0


# ---------------------------------------------------------------------------- where and when


@behaviour(
    "executes one run at a time, in the order of their submission",
    not_for={
        ConcurrencyType.CONCURRENT: "it executes many at a time",
        ConcurrencyType.PARALLEL: "it executes many at a time",
    },
)
def _(subject: Subject) -> None:
    with new_tally() as tally:
        for number in range(20):
            subject.runner.submit(tally_word, tally, str(number))
        assert tally.words() == [str(number) for number in range(20)]

    async def main() -> None:
        with new_tally() as tally:
            async with subject.make().start() as runner:
                for number in range(20):
                    runner.submit(tally_word, tally, str(number))
            assert tally.words() == [str(number) for number in range(20)]

    run_on_each_loop(main)


@behaviour("executes several runs at a time", not_for=NOT_IN_PLACE)
def _(subject: Subject) -> None:
    with Gate() as gate:
        futures = [subject.runner.submit(wait_at, gate.ticket, number) for number in range(2)]
        gate.await_arrival()
        gate.await_arrival()
        gate.open()
        assert [future.result() for future in futures] == [0, 1]


@behaviour(
    "shows a run the context variables of whoever submitted it",
    not_for={ConcurrencyType.PARALLEL: "context variables do not travel to other processes"},
)
def _(subject: Subject) -> None:
    token = VARIABLE.set("around")
    try:
        future = subject.runner.submit(variable)
    finally:
        VARIABLE.reset(token)
    assert future.result() == "around"
    assert subject.runner.submit(variable).result() == "unset"


# ---------------------------------------------------------------------------- what is kept


@behaviour("keeps neither the future nor the value of a run that has ended")
def _(subject: Subject) -> None:
    future = subject.runner.submit(make_thing)
    value, run = weakref.ref(future.result()), weakref.ref(future)
    del future
    assert_vanishes(run, "the future")
    assert_vanishes(value, "the value")


@behaviour("keeps no arguments of a run that has ended, though its future is kept")
def _(subject: Subject) -> None:
    thing = Thing()
    future = subject.runner.submit(take_thing, thing)
    assert future.result() == 1
    argument = weakref.ref(thing)
    del thing
    assert_vanishes(argument, "the argument")


@behaviour("keeps no run that timed out or failed")
def _(subject: Subject) -> None:
    with new_tally() as tally:
        late = dispatch(subject, sleep_noted, tally, time_limit=0.03)
        assert isinstance(late.wait(), TimedOut)
        assert isinstance(late.exception(), RunTimedOutError)
        failed = subject.runner.submit(fail, "gone")
        failed.wait()
        references = [weakref.ref(late), weakref.ref(failed)]
        del late, failed
        for reference in references:
            assert_vanishes(reference, "the future")
