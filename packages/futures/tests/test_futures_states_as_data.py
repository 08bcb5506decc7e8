"""States as data: as JSON, as text and as pickles, whatever is in them."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.futures import (
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Pending,
    ResultUnavailableError,
    Retrying,
    Running,
    State,
    StateType,
    TimedOut,
    Unfinished,
    UpstreamFailed,
)
from anabranch.futures.runner import StoredValue, describe

BOOM = ValueError("boom")
WHEN = datetime(2024, 5, 17, 12, 30, tzinfo=UTC)


class Mute(Exception):
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no")


class Undone(Exception):
    """An exception that was never initialised."""

    def __init__(self) -> None:
        """Set nothing."""

    def __str__(self) -> str:
        return str(self.missing)  # type: ignore[attr-defined]  # That is the point.


class FarValue(StoredValue[object]):
    """A value that lies elsewhere."""

    def __init__(self, value: object = None, error: Exception | None = None) -> None:
        super().__init__()
        self.far = value
        self.error = error

    def _fetch(self) -> object:
        if self.error is not None:
            raise self.error
        return self.far


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (Pending(timestamp=WHEN), {"type": "PENDING", "name": "Pending", "message": None}),
        (
            Running(timestamp=WHEN, message="on a"),
            {"type": "RUNNING", "name": "Running", "message": "on a"},
        ),
        (Retrying(timestamp=WHEN), {"type": "PENDING", "name": "Retrying", "message": None}),
        (
            Completed(object(), timestamp=WHEN),
            {"type": "COMPLETED", "name": "Completed", "message": None},
        ),
        (
            Failed(BOOM, message="ValueError: boom", timestamp=WHEN),
            {
                "type": "FAILED",
                "name": "Failed",
                "message": "ValueError: boom",
                "exception": {"type": "builtins.ValueError", "message": "boom"},
            },
        ),
        (
            TimedOut(message="after 3 s", timestamp=WHEN),
            {
                "type": "FAILED",
                "name": "TimedOut",
                "message": "after 3 s",
                "exception": {"type": "anabranch.futures.RunTimedOutError", "message": "after 3 s"},
            },
        ),
        (
            Crashed(timestamp=WHEN, exception=SystemExit(3)),
            {
                "type": "CRASHED",
                "name": "Crashed",
                "message": None,
                "exception": {"type": "builtins.SystemExit", "message": "3"},
            },
        ),
        (
            Cancelled(timestamp=WHEN),
            {
                "type": "CANCELLED",
                "name": "Cancelled",
                "message": None,
                "exception": {
                    "type": "anabranch.futures.RunCancelledError",
                    "message": "The run was cancelled.",
                },
            },
        ),
        (
            UpstreamFailed(cause=BOOM, message="a failed", timestamp=WHEN),
            {
                "type": "UPSTREAM_FAILED",
                "name": "UpstreamFailed",
                "message": "a failed",
                "exception": {
                    "type": "anabranch.futures.UpstreamFailedError",
                    "message": "a failed",
                },
                "cause": {"type": "builtins.ValueError", "message": "boom"},
            },
        ),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_a_state_as_a_dict_says_all_but_the_value(
    state: State[object] | Unfinished, expected: dict[str, object]
) -> None:
    """A state gives its type, name, message, time and exception, as JSON takes them."""
    found = state.as_dict()
    assert found == {**expected, "timestamp": "2024-05-17T12:30:00+00:00"}
    assert json.loads(json.dumps(found)) == found


def test_a_value_that_lies_elsewhere_stays_there() -> None:
    """Making a dict of a state fetches nothing."""
    state: Completed[object] = Completed(FarValue(1))
    assert "value" not in state.as_dict()
    assert not state.is_local


@pytest.mark.parametrize("error", [Mute(), Undone()], ids=["raises", "never initialised"])
def test_an_exception_without_a_text_is_described_all_the_same(error: Exception) -> None:
    """An exception whose ``str()`` fails is described as Python's tracebacks do it."""
    name = type(error).__name__
    assert describe(error) == f"{name}: <exception str() failed>"
    found = Failed(error).as_dict()
    assert found["exception"]["message"] == "<exception str() failed>"
    assert found["exception"]["type"].endswith(f".{name}")


# ---------------------------------------------------------------------------- any state at all

messages = st.none() | st.text(st.characters())
times = st.datetimes(timezones=st.just(UTC)) | st.datetimes(
    timezones=st.timezones(), min_value=datetime(1900, 1, 1)
).map(lambda each: each.astimezone(UTC))
exceptions = st.one_of(
    st.builds(ValueError, st.text(st.characters())),
    st.builds(KeyError, st.integers(), st.binary()),
    st.builds(ExceptionGroup, st.text(), st.just([BOOM])),
    st.builds(SystemExit, st.integers()),
    st.just(KeyboardInterrupt()),
    st.builds(Mute),
    st.builds(Undone),
)
values = st.one_of(st.integers(), st.binary(), st.lists(st.text()), st.builds(complex))
common = {"message": messages, "timestamp": times}
states: Any = st.one_of(
    *(st.builds(kind, **common) for kind in (Pending, Running, Retrying)),
    st.builds(Completed, values, **common),
    st.builds(Completed, values.map(FarValue), **common),
    st.builds(Failed, exceptions, returned=values, **common),
    *(
        st.builds(kind, exception=st.none() | exceptions, **common)
        for kind in (TimedOut, Crashed, Cancelled)
    ),
    st.builds(UpstreamFailed, cause=exceptions, **common),
)


@settings(max_examples=30)
@given(states)
def test_every_state_can_be_written_as_json(state: State[object] | Unfinished) -> None:
    """Whatever is in a state, its dict can be written and read, and says the same."""
    found = json.loads(json.dumps(state.as_dict()))
    assert found == state.as_dict()
    assert StateType[found["type"]] is state.type
    assert found["name"] == state.name
    assert found["message"] == state.message
    assert datetime.fromisoformat(found["timestamp"]) == state.timestamp
    assert datetime.fromisoformat(found["timestamp"]).utcoffset() == timedelta(0)
    ended_badly = state.is_final() and not state.is_completed()
    assert ("exception" in found) is ended_badly
    assert ("cause" in found) is state.is_upstream_failed()


@settings(max_examples=30)
@given(states)
def test_every_state_can_be_printed(state: State[object] | Unfinished) -> None:
    """Whatever is in a state, its text is its name and its message."""
    assert str(state) == f"{state.name}({repr(state.message) if state.message else ''})"


@settings(max_examples=30)
@given(states)
def test_every_state_survives_pickling(state: State[object] | Unfinished) -> None:
    """A state whose content survives pickling does so too, and says the same afterwards."""
    copy: State[object] | Unfinished = pickle.loads(pickle.dumps(state))
    assert type(copy) is type(state)
    assert copy.as_dict() == state.as_dict()
    if isinstance(copy, Completed) and isinstance(state, Completed):
        assert copy.value == state.value
    if isinstance(copy, Failed) and isinstance(state, Failed):
        assert copy.returned == state.returned


def test_a_value_that_lies_elsewhere_travels_as_it_is() -> None:
    """What is pickled of a value elsewhere is the value, which is fetched for that."""
    state: Completed[object] = Completed(FarValue([1]), message="there")
    copy = pickle.loads(pickle.dumps(state))
    assert copy.is_local
    assert copy.value == [1]
    assert copy.message == "there"
    assert state.is_local


def test_a_value_that_cannot_be_fetched_cannot_be_pickled() -> None:
    """Pickling a state whose value is gone raises what reading the value would."""
    state: Completed[object] = Completed(FarValue(error=ResultUnavailableError("gone")))
    with pytest.raises(ResultUnavailableError, match="gone"):
        pickle.dumps(state)
