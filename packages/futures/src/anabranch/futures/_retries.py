"""How often a run is tried, and how long it waits in between."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, final

import attrs

from anabranch.futures._states import Crashed, Failed, State, TimedOut

#: How long to wait before a retry, in seconds: always the same; one for each retry, the last for
#: all that follow; or what a callable says when it is given the number of the retry, from 1.
RetryDelay: TypeAlias = float | Sequence[float] | Callable[[int], float]

#: Whether to try again after this state.
RetryCondition: TypeAlias = Callable[[State[object]], bool]


def _checked_count(_: object, __: object, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"retries={value!r}: it is a whole number, such as 3")
    if value < 0:
        raise ValueError(f"retries={value!r}: it cannot be negative; leave it out for none")


def _checked_delay(_: object, __: object, value: object) -> None:
    if callable(value):
        return
    delays = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if not delays:
        raise ValueError("retry_delay=[]: give at least one delay, or leave it out for none")
    for each in delays:
        _refuse_bad_seconds(f"retry_delay={value!r}", each)


def _checked_jitter(_: object, __: object, value: object) -> None:
    _refuse_bad_seconds(f"retry_jitter={value!r}", value, "a factor")


def _checked_condition(_: object, __: object, value: RetryCondition | None) -> None:
    if value is not None and not callable(value):
        raise TypeError(
            f"retry_condition={value!r}: it is a function of the failed attempt's state that says "
            "whether to try again, such as `lambda state: isinstance(state, TimedOut)`"
        )


def _refuse_bad_seconds(given: str, value: object, what: str = "seconds") -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{given}: {value!r} is no number; give {what} such as 2.5")
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{given}: {value!r} is not possible; give {what} of 0 or more")


@final
@attrs.frozen
class RetryPolicy:
    """When a run that failed is tried again.

    The policy covers the run's own failures, its time limit, and the loss of what it runs on, all
    within one budget: a run is attempted ``retries + 1`` times at the most, wherever it executes. A
    run that was cancelled, or ended by SystemExit or Ctrl-C, is not tried again.

    Attributes:
        retries: How many attempts may follow the first.
        delay: How long to wait before each of them, in seconds; see `RetryDelay`.
        jitter: Each delay is stretched by a random factor between 1 and 1 + ``jitter``, so that
            runs that failed together do not come back together.
        condition: Says by the state that an attempt ended in whether to try again; None always
            does. It is called where the run executes; after the loss of a worker, by the client.
    """

    retries: int = attrs.field(default=0, validator=_checked_count)
    delay: RetryDelay = attrs.field(default=0.0, validator=_checked_delay)
    jitter: float = attrs.field(default=0.0, validator=_checked_jitter)
    condition: RetryCondition | None = attrs.field(default=None, validator=_checked_condition)

    def wants_retry(self, attempt: int, state: State[object]) -> bool:
        """Whether another attempt follows the one of this number, which ended in ``state``."""
        if attempt > self.retries or not _may_be_retried(state):
            return False
        return self.condition is None or bool(self.condition(state))

    def delay_before(self, retry: int) -> float:
        """Return how long to wait before a retry, in seconds.

        Args:
            retry: The number of the retry, from 1.

        Raises:
            TypeError: A callable delay gave no number.
            ValueError: A callable delay gave a negative number.
        """
        delay = self.delay
        if callable(delay):
            seconds = delay(retry)
            _refuse_bad_seconds(f"retry_delay gave {seconds!r} for retry {retry}", seconds)
        elif isinstance(delay, Sequence):
            seconds = delay[min(retry, len(delay)) - 1]
        else:
            seconds = delay
        if self.jitter:
            seconds *= 1 + random.uniform(0, self.jitter)
        return seconds


def _may_be_retried(state: State[object]) -> bool:
    match state:
        case Failed() | TimedOut():
            return True
        case Crashed():
            # SystemExit and Ctrl-C in the run's own code were not meant for the engine.
            return isinstance(state.exception, Exception)
        case _:
            return False


#: One attempt, and no more.
NO_RETRIES: Final = RetryPolicy()


@final
@attrs.frozen
class _ExponentialBackoff:
    factor: float
    base: float
    maximum: float

    def __call__(self, retry: int) -> float:
        try:
            return min(self.base * self.factor ** (retry - 1), self.maximum)
        except OverflowError:
            return self.maximum if self.base else 0.0


def exponential_backoff(
    base: float = 1.0, *, factor: float = 2.0, maximum: float = 3600.0
) -> Callable[[int], float]:
    """Return a retry delay that grows with each retry: ``base``, ``base * factor``, and so on.

    Args:
        base: The delay before the first retry, in seconds.
        factor: What each delay is multiplied by to give the next.
        maximum: No delay is longer than this, in seconds.

    Raises:
        TypeError: One of them is no number.
        ValueError: One of them is negative.
    """
    for name, value in (("base", base), ("factor", factor), ("maximum", maximum)):
        _refuse_bad_seconds(f"exponential_backoff({name}={value!r})", value, "a number")
    return _ExponentialBackoff(factor, base, maximum)


def check_time_limit(value: object) -> float | None:
    """Return a time limit in seconds, or None for none.

    Raises:
        TypeError: It is no number.
        ValueError: It is not more than 0.
    """
    if value is None:
        return None
    _refuse_bad_seconds(f"timeout={value!r}", value)
    assert isinstance(value, int | float), "checked just now"
    if value == 0:
        raise ValueError("timeout=0: no run could ever end in time; give seconds such as 2.5")
    return value
