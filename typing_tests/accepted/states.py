"""States: a union that `match` takes apart."""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar, assert_never, assert_type

from anabranch.futures import (
    Cancelled,
    Completed,
    Crashed,
    ExceptionDict,
    Failed,
    Future,
    Pending,
    Retrying,
    Running,
    State,
    StateDict,
    StateType,
    TimedOut,
    Unfinished,
    UpstreamFailed,
)
from typing_tests.functions import add, none

T = TypeVar("T")


def narrowed(state: State[int]) -> int:
    """Every final state has a case of its own, and then there is nothing left."""
    match state:
        case Completed(value):
            assert_type(value, int)
            return value
        case Failed(exception):
            assert_type(exception, BaseException)
            assert_type(state.returned, int | None)
        case TimedOut(message) | Crashed(message) | Cancelled(message):
            assert_type(message, str | None)
        case UpstreamFailed():
            assert_type(state.cause, BaseException)
        case _:
            assert_never(state)
    return 0


def generic(state: State[T]) -> T:
    """A function that is generic in the value gives it back."""
    match state:
        case Completed(value):
            return value
        case Failed() | TimedOut() | Crashed() | Cancelled() | UpstreamFailed():
            return state.result()


def asked(state: State[int]) -> None:
    """`isinstance` narrows, as `match` does."""
    assert_type(state.result(), int)
    assert_type(state.result(raise_on_failure=False), int | BaseException)
    assert_type(state.is_final(), bool)
    assert_type(state.type, StateType)
    assert_type(state.message, str | None)
    assert_type(state.timestamp, datetime)
    if isinstance(state, Completed):
        assert_type(state.value, int)
    else:
        assert_type(state, Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed)
        assert_type(state.exception, BaseException)


def unfinished(future: Future[int]) -> None:
    """A future's state may be one that is not final; then there is no result."""
    state = assert_type(future.state, State[int] | Unfinished)
    assert_type(future.history, tuple[State[int] | Unfinished, ...])
    match state:
        case Pending() | Running() | Retrying():
            assert_type(state, Pending | Running | Retrying)
        case _:
            assert_type(state, State[int])


def given() -> None:
    """States of runs and states made by hand are typed by their values."""
    asked(add.run(1))
    unfinished(none.submit())
    assert_type(narrowed(add.run(1)), int)
    assert_type(generic(add.run(1)), int)
    widened: list[State[object]] = [add.run(1)]
    assert_type(widened[0].result(), object)
    assert_type(Completed(1), Completed[int])
    assert_type(Completed("a").value, str)
    failed: State[int] = Failed(ValueError())
    assert_type(failed.is_failed(), bool)
    assert_type(Crashed(message="gone").message, str | None)
    assert_type(Pending().name, str)


def dictionaries() -> None:
    """A state tells of itself as JSON takes it."""
    found = assert_type(add.run(1).as_dict(), StateDict)
    assert_type(found["timestamp"], str)
    assert_type(found.get("exception"), ExceptionDict | None)
