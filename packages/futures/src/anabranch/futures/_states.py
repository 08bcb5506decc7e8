"""The states of a run: a closed union of final classes, made for ``match``."""

from __future__ import annotations

import abc
import enum
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from types import TracebackType
from typing import (
    ClassVar,
    Final,
    Generic,
    Literal,
    Never,
    NotRequired,
    TypeAlias,
    TypedDict,
    TypeVar,
    cast,
    final,
    overload,
)

import attrs

from anabranch.futures._exceptions import (
    NotFinishedError,
    RunCancelledError,
    RunCrashedError,
    RunTimedOutError,
    UpstreamFailedError,
)
from anabranch.futures._stored_values import StoredValue

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

# Spelt here because inside the states, `type` is an attribute.
_ErrorClass: TypeAlias = type[Exception]


class StateType(enum.Enum):
    """The kind of a state; several states may share one (a `TimedOut` run is a failed one)."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CRASHED = "CRASHED"
    CANCELLED = "CANCELLED"
    UPSTREAM_FAILED = "UPSTREAM_FAILED"


class ExceptionDict(TypedDict):
    """An exception in `StateDict`.

    Attributes:
        type: The qualified name of its class, such as ``"builtins.ValueError"``.
        message: Its ``str()``.
    """

    type: str
    message: str


class StateDict(TypedDict):
    """What ``state.as_dict()`` returns: all of a state but the value, ready for JSON.

    Attributes:
        type: The name of the state's `StateType`.
        name: The state's own name, such as ``"TimedOut"``.
        message: Its message.
        timestamp: When it began, in ISO 8601, in UTC.
        exception: What `result` raises; absent where it raises nothing of the run's.
        cause: The exception of the run that failed first; of an `UpstreamFailed` only.
    """

    type: str
    name: str
    message: str | None
    timestamp: str
    exception: NotRequired[ExceptionDict]
    cause: NotRequired[ExceptionDict]


# Neither this nor `Completed` is frozen, which would triple the cost of what each run makes. What
# they hold is private and read through properties instead.
@attrs.define(repr=False, kw_only=True, eq=False, match_args=False, weakref_slot=False)
class _State:
    """What all states have in common."""

    type: ClassVar[StateType]

    _message: str | None = attrs.field(alias="message", default=None)
    # Seconds since the epoch, unless it was given: few are looked at.
    _timestamp: datetime | float = attrs.field(alias="timestamp", factory=time.time)

    @property
    def message(self) -> str | None:
        """What there is to say of the state, if anything."""
        return self._message

    @property
    def timestamp(self) -> datetime:
        """When the run entered the state, in UTC."""
        moment = self._timestamp
        return moment if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC)

    @property
    def name(self) -> str:
        """The state's name, such as ``"Completed"``."""
        return type(self).__name__

    def is_final(self) -> bool:
        """Whether the run has ended: no other state follows."""
        return self.type not in (StateType.PENDING, StateType.RUNNING)

    def is_pending(self) -> bool:
        """Whether the run waits: for its turn, for other runs, or for its next attempt."""
        return self.type is StateType.PENDING

    def is_running(self) -> bool:
        """Whether an attempt is being made right now."""
        return self.type is StateType.RUNNING

    def is_completed(self) -> bool:
        """Whether the run ended well."""
        return self.type is StateType.COMPLETED

    def is_failed(self) -> bool:
        """Whether the run raised an exception or ran out of time."""
        return self.type is StateType.FAILED

    def is_crashed(self) -> bool:
        """Whether the infrastructure failed the run."""
        return self.type is StateType.CRASHED

    def is_cancelled(self) -> bool:
        """Whether the run was cancelled."""
        return self.type is StateType.CANCELLED

    def is_upstream_failed(self) -> bool:
        """Whether the run never started because one that it depends on failed."""
        return self.type is StateType.UPSTREAM_FAILED

    def as_dict(self) -> StateDict:
        """Return what the state says of the run, without its value, as JSON takes it.

        It never fails, whatever the exception in it is, and fetches nothing.
        """
        return {
            "type": self.type.value,
            "name": self.name,
            "message": self.message,
            "timestamp": self.timestamp.isoformat(),
        }

    def __str__(self) -> str:
        return f"{self.name}({self.message!r})" if self.message else f"{self.name}()"

    def __repr__(self) -> str:
        shown = {"message": self.message, "timestamp": self.timestamp}
        for field in attrs.fields(type(self)):
            if field.repr and field.alias is not None:
                shown.setdefault(field.alias, getattr(self, field.name))
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class _Unfinished(_State):
    """A state that has no result yet."""

    __slots__ = ()

    def result(self, raise_on_failure: bool = True) -> Never:
        """Always raise, for there is no result yet.

        Raises:
            NotFinishedError: Always.
        """
        raise NotFinishedError(
            f"This run is {self.name.lower()} and has no result yet; "
            "wait for it: future.result(), or in async code: await future"
        )


@final
@attrs.frozen(repr=False, kw_only=True, eq=False)
class Pending(_Unfinished):
    """The run has been submitted and has not started."""

    type: ClassVar[StateType] = StateType.PENDING


@final
@attrs.frozen(repr=False, kw_only=True, eq=False)
class Running(_Unfinished):
    """The run is being executed."""

    type: ClassVar[StateType] = StateType.RUNNING


@final
@attrs.frozen(repr=False, kw_only=True, eq=False)
class Retrying(_Unfinished):
    """An attempt of the run failed, and the next one has not started."""

    type: ClassVar[StateType] = StateType.PENDING


@final
@attrs.define(repr=False, eq=False, match_args=False, weakref_slot=False)
class Completed(_State, Generic[R_co]):
    """The run ended well, with a value."""

    type: ClassVar[StateType] = StateType.COMPLETED
    __match_args__: ClassVar[tuple[Literal["value"]]] = ("value",)

    _value: R_co | StoredValue[R_co] = attrs.field(alias="value")

    @property
    def value(self) -> R_co:
        """What the run returned; fetched when it is first read, if it lies elsewhere."""
        value = self._value
        return value.get() if isinstance(value, StoredValue) else value  # pyright: ignore[reportReturnType]  # No value is a stored one.

    @property
    def is_local(self) -> bool:
        """Whether the value is at hand, so that reading it does not block."""
        return not isinstance(self._value, StoredValue) or self._value.is_local

    def result(self, raise_on_failure: bool = True) -> R_co:
        """Return the run's value."""
        return self.value


def bring_over(states: Iterable[State[object]]) -> None:
    """For engines: bring the values of runs over that lie elsewhere, many at a time; blocks.

    It raises nothing: what cannot be had raises when it is read.
    """
    by_kind: dict[type[StoredValue[object]], list[StoredValue[object]]] = {}
    for state in states:
        if isinstance(state, Completed) and not state.is_local:
            stored = cast("StoredValue[object]", state._value)
            by_kind.setdefault(type(stored), []).append(stored)
    for kind, values in by_kind.items():
        if len(values) > 1:
            kind._fetch_many(values)


class _Unsuccessful(_State):
    """A final state without a value of its own."""

    __slots__ = ()

    @property
    @abc.abstractmethod
    def exception(self) -> BaseException:
        """The exception that `result` raises."""

    @overload
    def result(self, raise_on_failure: Literal[True] = True) -> Never: ...
    @overload
    def result(self, raise_on_failure: bool) -> BaseException: ...
    def result(self, raise_on_failure: bool = True) -> BaseException:
        """Raise what the run failed with.

        Args:
            raise_on_failure: Whether to raise the exception; if false, it is returned.
        """
        error = self.exception
        if not raise_on_failure:
            return error
        try:
            raise error.with_traceback(self._traceback())
        finally:
            del self, error  # They refer to the traceback, and so to this frame: a cycle.

    def as_dict(self) -> StateDict:
        """Return what the state says of the run, as JSON takes it; it never fails."""
        found = super().as_dict()
        found["exception"] = _exception_dict(self.exception)
        return found

    def _traceback(self) -> TracebackType | None:
        """The traceback to raise the exception with."""
        return self.exception.__traceback__


@final
class _KeptTraceback:
    """A traceback as it was when the run failed; it does not travel.

    Each time that an exception is raised, its own gets longer.
    """

    __slots__ = ("value",)

    def __init__(self, value: TracebackType | None = None) -> None:
        self.value: TracebackType | None = value

    def __reduce__(self) -> tuple[object, ...]:
        return _KeptTraceback, ()


def describe(exception: BaseException) -> str:
    """Return an exception as the last line of its traceback shows it; it never fails."""
    text = _text_of(exception)
    return f"{type(exception).__name__}: {text}" if text else type(exception).__name__


def _text_of(exception: BaseException) -> str:
    try:
        return str(exception)
    except Exception:  # It is foreign code. The words are those of Python's tracebacks.
        return "<exception str() failed>"


def _exception_dict(exception: BaseException) -> ExceptionDict:
    kind = type(exception)
    return {
        "type": f"{kind.__module__}.{kind.__qualname__}",
        "message": _text_of(exception),
    }


def _kept_traceback(state: Failed[object]) -> _KeptTraceback:
    return _KeptTraceback(state._exception.__traceback__)


@final
@attrs.frozen(repr=False, eq=False, match_args=False)
class Failed(_Unsuccessful, Generic[R_co]):
    """The run raised an exception.

    For a flow that failed because of runs that it returned, ``returned`` is what it returned.
    """

    type: ClassVar[StateType] = StateType.FAILED
    __match_args__: ClassVar[tuple[Literal["exception"]]] = ("exception",)

    _exception: BaseException = attrs.field(alias="exception")
    returned: R_co | None = None
    _kept: _KeptTraceback = attrs.field(
        init=False, repr=False, default=attrs.Factory(_kept_traceback, takes_self=True)
    )

    def _traceback(self) -> TracebackType | None:
        return self._kept.value

    @property
    def exception(self) -> BaseException:
        """What the run raised, as it was raised."""
        return self._exception


class _Broken(_Unsuccessful):
    """An end that the engine reports with an exception of its own, unless it is given one."""

    __slots__ = ()
    __match_args__: ClassVar[tuple[Literal["message"]]] = ("message",)
    _error: ClassVar[_ErrorClass]
    _default_message: ClassVar[str]
    _exception: BaseException | None

    @property
    def exception(self) -> BaseException:
        """What `result` raises."""
        if self._exception is not None:
            return self._exception
        return self._error(self.message or self._default_message)


@final
@attrs.frozen(repr=False, eq=False, kw_only=True, match_args=False)
class TimedOut(_Broken):
    """The run did not end within its time limit; a kind of failure."""

    type: ClassVar[StateType] = StateType.FAILED
    _error: ClassVar[_ErrorClass] = RunTimedOutError
    _default_message: ClassVar[str] = "The run exceeded its time limit."
    _exception: BaseException | None = attrs.field(alias="exception", default=None)


@final
@attrs.frozen(repr=False, eq=False, kw_only=True, match_args=False)
class Crashed(_Broken):
    """The infrastructure under the run failed, not the run itself."""

    type: ClassVar[StateType] = StateType.CRASHED
    _error: ClassVar[_ErrorClass] = RunCrashedError
    _default_message: ClassVar[str] = "The infrastructure under the run failed."
    _exception: BaseException | None = attrs.field(alias="exception", default=None)


@final
@attrs.frozen(repr=False, eq=False, kw_only=True, match_args=False)
class Cancelled(_Broken):
    """The run was cancelled before it ended."""

    type: ClassVar[StateType] = StateType.CANCELLED
    _error: ClassVar[_ErrorClass] = RunCancelledError
    _default_message: ClassVar[str] = "The run was cancelled."
    _exception: BaseException | None = attrs.field(alias="exception", default=None)


@final
@attrs.frozen(repr=False, eq=False, kw_only=True)
class UpstreamFailed(_Unsuccessful):
    """The run never started, because a run that it depends on did not complete.

    ``cause`` is the exception of the run that failed first, however long the chain behind it.
    """

    type: ClassVar[StateType] = StateType.UPSTREAM_FAILED

    cause: BaseException

    @property
    def exception(self) -> BaseException:
        """An `UpstreamFailedError` whose ``__cause__`` is the root cause."""
        error = UpstreamFailedError(self.message or "A run upstream failed.")
        error.__cause__ = self.cause
        return error

    def as_dict(self) -> StateDict:
        """Return what the state says of the run, as JSON takes it; it never fails."""
        found = super().as_dict()
        found["cause"] = _exception_dict(self.cause)
        return found


#: How a run ended. Narrow it with ``match``; ask it `is_final` and the like. It is a union, so
#: ``isinstance(x, State)`` is impossible.
State: TypeAlias = Completed[R] | Failed[R] | TimedOut | Crashed | Cancelled | UpstreamFailed

#: What a run is in before it ends.
Unfinished: TypeAlias = Pending | Running | Retrying

#: The classes of `State`. None has subclasses, so ask ``type(value) in FINAL_STATES``.
FINAL_STATES: Final[frozenset[type[object]]] = frozenset(
    (Completed, Failed, TimedOut, Crashed, Cancelled, UpstreamFailed)
)


def root_cause(
    state: Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed,
) -> BaseException:
    """Return the exception of the run that failed first on the way to this state."""
    return state.cause if isinstance(state, UpstreamFailed) else state.exception
