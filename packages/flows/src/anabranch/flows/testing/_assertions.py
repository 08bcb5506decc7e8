"""Assertions on how runs end, which say what happened instead."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final, NoReturn, TypeAlias, TypeVar, cast, overload

from anabranch.futures import (
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Future,
    Pending,
    Retrying,
    Running,
    State,
    TimedOut,
    UpstreamFailed,
)
from anabranch.futures.runner import FINAL_STATES, describe, running_loop

R = TypeVar("R")
ErrorT = TypeVar("ErrorT", bound=BaseException)
StateT = TypeVar(
    "StateT", bound=TimedOut | Crashed | Cancelled | UpstreamFailed | Pending | Running | Retrying
)

#: What the assertions take: a future, a state, or what ``future.wait(timeout)`` returned.
Outcome: TypeAlias = Future[R] | State[R] | Pending | Running | Retrying | None


class _Any(Enum):
    """Stands for any value."""

    VALUE = auto()


_ANY: Final = _Any.VALUE


def assert_completed(outcome: Outcome[R], value: object = _ANY) -> R:
    """Assert that a run completed, and return its value.

    A future is waited for, except in async code, where it must have ended.

    Args:
        outcome: The run's future or state.
        value: What the value must equal; anything by default.

    Raises:
        AssertionError: The run ended otherwise, or not at all, or with another value.
    """
    __tracebackhide__ = True
    who, state = _name_of(outcome), _settled(outcome)
    if not isinstance(state, Completed):
        _fail(f"{who} was to complete", state)
    found = state.value
    if value is not _ANY and found != value:
        raise AssertionError(f"{who} completed with {found!r}, not with {value!r}")
    return found


@overload
def assert_failed(outcome: Outcome[object], *, match: str | None = None) -> BaseException: ...
@overload
def assert_failed(
    outcome: Outcome[object], kind: type[ErrorT], *, match: str | None = None
) -> ErrorT: ...
def assert_failed(
    outcome: Outcome[object],
    kind: type[BaseException] = BaseException,
    *,
    match: str | None = None,
) -> BaseException:
    """Assert that a run failed, and return its exception.

    A run that timed out has failed. One that crashed, was cancelled, or never ran because another
    failed has not: see `assert_state`.

    Args:
        outcome: The run's future or state; see `assert_completed`.
        kind: The class that the exception must be of.
        match: A regular expression that must be found in its message, as in `pytest.raises`.

    Raises:
        AssertionError: The run ended otherwise, or not at all, or with another exception.
    """
    __tracebackhide__ = True
    who, state = _name_of(outcome), _settled(outcome)
    if not isinstance(state, Failed | TimedOut):
        _fail(f"{who} was to fail with {kind.__name__}", state)
    error = state.exception
    if not isinstance(error, kind):
        _fail(f"{who} was to fail with {kind.__name__}", state)
    if match is not None and re.search(match, str(error)) is None:
        raise AssertionError(
            f"{who} failed, but its message does not match {match!r}: {describe(error)}"
        ) from error
    return error


@overload
def assert_state(
    outcome: Outcome[R], kind: type[Completed[object]], match: str | None = None
) -> Completed[R]: ...
@overload
def assert_state(
    outcome: Outcome[R], kind: type[Failed[object]], match: str | None = None
) -> Failed[R]: ...
@overload
def assert_state(
    outcome: Outcome[object], kind: type[StateT], match: str | None = None
) -> StateT: ...
def assert_state(
    outcome: Outcome[object],
    kind: type[Completed[object]] | type[Failed[object]] | type[StateT],
    match: str | None = None,
) -> Completed[object] | Failed[object] | StateT:
    """Assert that a run is in a state of one kind, and return the state.

    Only for a final state is a future waited for, as in `assert_completed`.

    Args:
        outcome: The run's future or state.
        kind: The class of the state, such as `TimedOut`.
        match: A regular expression that must be found in the state's message.

    Raises:
        AssertionError: The run is in another state.
    """
    __tracebackhide__ = True
    who = _name_of(outcome)
    state = _settled(outcome) if kind in FINAL_STATES else _present(outcome)
    found = cast("object", state)
    if not isinstance(found, kind):
        _fail(f"{who} was to be {kind.__name__}", state)
    if match is not None and re.search(match, found.message or "") is None:
        raise AssertionError(
            f"{who} is {kind.__name__}, but its message does not match {match!r}: {found}"
        )
    return found


def _name_of(outcome: Outcome[object]) -> str:
    return f"Run {outcome.task_run.name!r}" if isinstance(outcome, Future) else "The run"


def _present(outcome: Outcome[R]) -> State[R] | Pending | Running | Retrying | None:
    return outcome.state if isinstance(outcome, Future) else outcome


def _settled(outcome: Outcome[R]) -> State[R] | Pending | Running | Retrying | None:
    if isinstance(outcome, Future) and not outcome.done() and running_loop() is None:
        outcome.wait()
    return _present(outcome)


def _fail(wanted: str, state: State[object] | Pending | Running | Retrying | None) -> NoReturn:
    __tracebackhide__ = True
    if state is None:
        raise AssertionError(f"{wanted}, but had not ended when the wait for it was over")
    if isinstance(state, Pending | Running | Retrying):
        raise AssertionError(
            f"{wanted}, but has not ended: {state}. Wait for it first: `await future.wait_async()`"
        )
    if isinstance(state, Completed):
        # Not by fetching a value that lies elsewhere.
        value = f" with {state.value!r}" if state.is_local else ""
        raise AssertionError(f"{wanted}, but it completed{value}")
    raise AssertionError(
        f"{wanted}, but it ended in {state} ({describe(state.exception)})"
    ) from state.exception
