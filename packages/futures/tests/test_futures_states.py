"""States: what each says of itself, what it gives, and that it travels."""

from __future__ import annotations

import contextlib
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import assert_never

import pytest

from anabranch.futures import (
    Cancelled,
    Completed,
    Crashed,
    Failed,
    NotFinishedError,
    Pending,
    Retrying,
    RunCancelledError,
    RunCrashedError,
    Running,
    RunTimedOutError,
    State,
    StateType,
    TimedOut,
    Unfinished,
    UpstreamFailed,
    UpstreamFailedError,
)
from anabranch.futures.runner import FINAL_STATES, StoredValue, describe, root_cause

BOOM = ValueError("boom")

FINAL: list[State[int]] = [
    Completed(1),
    Failed(BOOM, message="ValueError: boom"),
    TimedOut(message="after 3 s"),
    Crashed(message="worker lost"),
    Cancelled(message="by the user"),
    UpstreamFailed(cause=BOOM, message="Run 'a' failed"),
]
UNFINISHED: list[Unfinished] = [Pending(), Running(), Retrying()]
PREDICATES = {
    "is_pending": {"Pending", "Retrying"},
    "is_running": {"Running"},
    "is_completed": {"Completed"},
    "is_failed": {"Failed", "TimedOut"},
    "is_crashed": {"Crashed"},
    "is_cancelled": {"Cancelled"},
    "is_upstream_failed": {"UpstreamFailed"},
    "is_final": {"Completed", "Failed", "TimedOut", "Crashed", "Cancelled", "UpstreamFailed"},
}


def kind_of(state: State[int] | Unfinished) -> str:
    """Tell states apart with ``match``; the type checker proves that none is missing."""
    match state:
        case Completed(value):
            return f"Completed {value}"
        case Failed(exception):
            return f"Failed {exception}"
        case TimedOut():
            return "TimedOut"
        case Crashed():
            return "Crashed"
        case Cancelled():
            return "Cancelled"
        case UpstreamFailed(cause=cause):
            return f"UpstreamFailed {cause}"
        case Pending() | Running() | Retrying():
            return "Unfinished"
        case _:
            assert_never(state)


def test_states_match_by_class_and_content() -> None:
    """A ``match`` tells all states apart, and takes value and exception out of them."""
    assert [kind_of(state) for state in (*FINAL, *UNFINISHED)] == [
        "Completed 1",
        "Failed boom",
        "TimedOut",
        "Crashed",
        "Cancelled",
        "UpstreamFailed boom",
        "Unfinished",
        "Unfinished",
        "Unfinished",
    ]


def test_final_states_are_the_classes_of_the_union() -> None:
    """`FINAL_STATES` has exactly the classes that a run can end in."""
    assert {type(state) for state in FINAL} == set(FINAL_STATES)
    assert not any(type(state) in FINAL_STATES for state in UNFINISHED)


@pytest.mark.parametrize("predicate", PREDICATES)
def test_predicates_hold_for_their_states_only(predicate: str) -> None:
    """Each predicate is true of the states of its kind, and of no other."""
    true_of = {state.name for state in (*FINAL, *UNFINISHED) if getattr(state, predicate)()}
    assert true_of == PREDICATES[predicate]


def test_retrying_counts_as_pending_and_timed_out_as_failed() -> None:
    """A state between attempts has the type of a waiting one; a time-out that of a failure."""
    assert Retrying().type is StateType.PENDING
    assert TimedOut().type is StateType.FAILED


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (Completed(1), "Completed()"),
        (Completed(None, message="All states completed."), "Completed('All states completed.')"),
        (Failed(BOOM), "Failed()"),
        (Failed(BOOM, message="2/5 states failed."), "Failed('2/5 states failed.')"),
        (Pending(), "Pending()"),
        (UpstreamFailed(cause=BOOM, message="it's gone"), 'UpstreamFailed("it\'s gone")'),
        (TimedOut(message=""), "TimedOut()"),
    ],
)
def test_str_shows_the_name_and_the_message(state: State[int] | Unfinished, text: str) -> None:
    """A state reads like its constructor, with its message if it has one."""
    assert str(state) == text


@pytest.mark.parametrize("state", [*FINAL, *UNFINISHED], ids=lambda state: state.name)
def test_timestamps_are_aware_and_in_utc(state: State[int] | Unfinished) -> None:
    """Every state knows when it began, in UTC."""
    assert state.timestamp.tzinfo is UTC
    assert state.timestamp.utcoffset() == timedelta(0)


def test_states_are_frozen() -> None:
    """A state cannot be changed."""
    with pytest.raises(AttributeError):
        Completed(1).message = "other"  # type: ignore[misc]  # That is the point.


@pytest.mark.parametrize("state", UNFINISHED, ids=lambda state: state.name)
@pytest.mark.parametrize("raise_on_failure", [True, False])
def test_unfinished_states_refuse_to_give_a_result(
    state: Unfinished, raise_on_failure: bool
) -> None:
    """Reading a result too early says so, and shows how to wait for it."""
    with pytest.raises(
        NotFinishedError,
        match=rf"^This run is {state.name.lower()} and has no result yet; .*future\.result\(\)",
    ):
        state.result(raise_on_failure=raise_on_failure)


def test_completed_gives_its_value() -> None:
    """The result of a completed state is its value, even if that is an exception."""
    assert Completed(1).result() == 1
    assert Completed(BOOM).result() is BOOM
    assert Completed(BOOM).result(raise_on_failure=False) is BOOM


def test_failed_raises_what_was_raised() -> None:
    """The result of a failed state raises the very exception of the run, or returns it."""
    state: Failed[int] = Failed(BOOM)
    with pytest.raises(ValueError, match=r"^boom$") as caught:
        state.result()
    assert caught.value is BOOM
    assert state.result(raise_on_failure=False) is BOOM
    assert state.exception is BOOM


@pytest.mark.parametrize(
    ("make", "error", "default"),
    [
        (TimedOut, RunTimedOutError, "The run exceeded its time limit."),
        (Crashed, RunCrashedError, "The infrastructure under the run failed."),
        (Cancelled, RunCancelledError, "The run was cancelled."),
    ],
)
def test_ends_of_the_engines_own_raise_its_own_errors(
    make: Callable[..., TimedOut | Crashed | Cancelled], error: type[Exception], default: str
) -> None:
    """Such a state raises an error with its message or a default one, or what it was given."""
    with pytest.raises(error, match=r"^after 3 s$"):
        make(message="after 3 s").result()
    with pytest.raises(error, match=rf"^{default}$"):
        make().result()
    given = OSError("the cause")
    with pytest.raises(OSError, match=r"^the cause$") as caught:
        make(exception=given, message="after 3 s").result()
    assert caught.value is given
    returned = make(message="after 3 s").result(raise_on_failure=False)
    assert type(returned) is error
    assert str(returned) == "after 3 s"


def test_upstream_failed_raises_with_the_root_cause() -> None:
    """The error of a run that never started has the root's exception as its cause."""
    state = UpstreamFailed(cause=BOOM, message="Run 'a' upstream ended in state Failed()")
    with pytest.raises(UpstreamFailedError, match=r"^Run 'a' upstream ended") as caught:
        state.result()
    assert caught.value.__cause__ is BOOM
    assert isinstance(state.exception, UpstreamFailedError)
    assert state.exception.__cause__ is BOOM
    assert str(UpstreamFailed(cause=BOOM).exception) == "A run upstream failed."


def test_root_cause_looks_through_upstream_failures() -> None:
    """The root cause of an upstream failure is its cause; of any other, its own exception."""
    assert root_cause(UpstreamFailed(cause=BOOM)) is BOOM
    assert root_cause(Failed(BOOM)) is BOOM
    assert isinstance(root_cause(Cancelled()), RunCancelledError)


def test_failed_keeps_what_a_flow_returned() -> None:
    """An aggregate failure carries what the flow returned, and a plain one nothing."""
    assert Failed(BOOM, returned=[1, 2]).returned == [1, 2]
    plain: Failed[int] = Failed(BOOM)
    assert plain.returned is None


def test_describe_reads_like_the_end_of_a_traceback() -> None:
    """An exception is described by type and message, or by type alone."""
    assert describe(BOOM) == "ValueError: boom"
    assert describe(KeyError("k")) == "KeyError: 'k'"
    assert describe(StopAsyncIteration()) == "StopAsyncIteration"


# ------------------------------------------------------------------------- values elsewhere


class FarValue(StoredValue[list[int]]):
    """A value that counts how often it is fetched."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.fetched = 0
        self.error = error

    def _fetch(self) -> list[int]:
        self.fetched += 1
        if self.error is not None:
            raise self.error
        return [self.fetched]


def test_a_stored_value_is_fetched_when_it_is_first_read() -> None:
    """A value that lies elsewhere stays there until it is read, and is then kept."""
    far = FarValue()
    state: Completed[list[int]] = Completed(far)
    assert not state.is_local
    assert str(state) == "Completed()"
    assert far.fetched == 0
    first = state.result()
    assert state.is_local
    assert state.value is first
    assert state.result() is first
    assert far.fetched == 1


def test_a_value_that_could_not_be_fetched_is_tried_again() -> None:
    """A failed fetch raises, and the value is not taken for fetched."""
    far = FarValue(OSError("connection lost"))
    state: Completed[list[int]] = Completed(far)
    for attempt in (1, 2):
        with pytest.raises(OSError, match="connection lost"):
            state.result()
        assert far.fetched == attempt
    assert not state.is_local


def test_plain_values_are_local() -> None:
    """A value that is at hand is local from the start."""
    assert Completed([1]).is_local


class SlowValue(StoredValue[list[int]]):
    """A value whose fetch waits, once, for a second fetch or for the test."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.go_on = threading.Event()

    def _fetch(self) -> list[int]:
        self.entered.set()
        self.go_on.wait()
        return [1]


def test_threads_that_fetch_a_value_at_once_get_the_same_object() -> None:
    """Two threads that read a stored value for the first time together get one object."""
    slow = SlowValue()
    state: Completed[list[int]] = Completed(slow)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(state.result)
        slow.entered.wait()
        slow.entered.clear()
        other = pool.submit(state.result)
        # A second fetch would begin now. One that waits for the first is not seen to, so the
        # first is let go when the second thread has either begun one or had time to.
        slow.entered.wait(timeout=0.05)
        slow.go_on.set()
        assert one.result() is other.result()


# ------------------------------------------------------------------------- travelling


@pytest.mark.parametrize("state", FINAL, ids=lambda state: state.name)
def test_final_states_survive_pickling(state: State[int]) -> None:
    """A pickled final state comes back as the same end at the same time."""
    copy: State[int] = pickle.loads(pickle.dumps(state))
    assert type(copy) is type(state)
    assert copy.message == state.message
    assert copy.timestamp == state.timestamp
    ours, theirs = (each.result(raise_on_failure=False) for each in (state, copy))
    assert type(theirs) is type(ours)
    assert str(theirs) == str(ours)


def test_a_pickled_upstream_failure_keeps_its_root_cause() -> None:
    """The cause of an upstream failure travels with it."""
    copy = pickle.loads(pickle.dumps(UpstreamFailed(cause=BOOM)))
    assert repr(copy.cause) == repr(BOOM)
    assert repr(copy.exception.__cause__) == repr(BOOM)


@pytest.mark.parametrize("state", UNFINISHED, ids=lambda state: state.name)
def test_unfinished_states_survive_pickling(state: Unfinished) -> None:
    """A pickled unfinished state comes back as it was."""
    copy = pickle.loads(pickle.dumps(state))
    assert type(copy) is type(state)
    assert copy.timestamp == state.timestamp


def test_raising_a_failure_makes_no_cycle() -> None:
    """An exception that `result` has raised is let go of with its state, without a collection."""

    class Gone(LookupError):
        """One that can be watched."""

    there: list[weakref.ref[Gone]] = []

    def failed() -> Failed[object]:
        error = Gone("gone")
        there.append(weakref.ref(error))
        return Failed(error)

    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(Gone):
            failed().result()
        assert there[0]() is None
    finally:
        gc.enable()


def test_a_state_shows_what_it_was_made_of() -> None:
    """The repr of a state reads like the call that makes it."""
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    state = Completed(1, message="well", timestamp=moment)
    assert repr(state) == f"Completed(message='well', timestamp={moment!r}, value=1)"
    error = ValueError("broken")
    failed: Failed[int] = Failed(error, timestamp=moment)
    assert repr(failed) == (
        f"Failed(message=None, timestamp={moment!r}, exception={error!r}, returned=None)"
    )
