"""Where the engine gets its time from."""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from contextvars import Context, ContextVar, Token
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, final

from anabranch.futures._signals import start_thread

if TYPE_CHECKING:
    from anabranch.futures._loops import EventLoop

_logger = logging.getLogger("anabranch.futures")

#: Calls a timer off. Once its callback has been called, this does nothing.
CancelTimer: TypeAlias = Callable[[], None]


class Clock(Protocol):
    """Time as the engine sees it: what its timers run on, so that a test can own time.

    The engine never sleeps. Retry delays, time limits and deadlines are all timers.

    A clock that a test owns must stand still while code is at work, so it is told. A sync run holds
    the clock from the moment that it could start until it ends, except while it waits for other
    runs or for its next attempt, and so does the body of a sync flow; see `Hold`. Async code is at
    work while its event loop is: the clock is told which loops to watch. To the machine's own clock
    all that means nothing.
    """

    def now(self) -> float:
        """Return the seconds since this clock's origin, which is arbitrary."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], object]) -> CancelTimer:
        """Have ``callback`` called once, in some thread, when so many seconds have passed.

        It must be quick and must not raise.

        Returns:
            What calls it off. Whether that came in time is for the callback to find out.
        """
        ...

    def hold(self) -> None:
        """Take note that a thread has begun to be at work."""
        ...

    def release(self) -> None:
        """Take note that a thread has ceased to be at work."""
        ...

    def watch(self, loop: EventLoop) -> None:
        """Take note of an event loop, which may be at work at any time until it ends."""
        ...


@final
class SystemClock:
    """The machine's monotonic clock, with one thread for all timers while there are any."""

    def __init__(self) -> None:
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._timers: list[Timer] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None
        self._purge_beyond = _FEW

    def now(self) -> float:
        """Return the seconds since this clock's origin."""
        return time.monotonic()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> CancelTimer:
        """Have ``callback`` called once, in the clock's thread; see `Clock.call_later`."""
        timer = Timer(time.monotonic() + seconds, next(self._order), callback)
        with self._changed:
            self._purge()
            heapq.heappush(self._timers, timer)
            if self._thread is None:
                thread = threading.Thread(target=self._serve, name="anabranch-clock", daemon=True)
                start_thread(thread)  # It may raise, and the next timer is to try again.
                self._thread = thread
            elif self._timers[0] is timer:
                self._changed.notify()
        return timer.cancel

    def hold(self) -> None:
        """Do nothing: this clock cannot be held."""

    def release(self) -> None:
        """Do nothing: this clock cannot be held."""

    def watch(self, loop: EventLoop) -> None:
        """Do nothing: this clock goes on whatever a loop does."""

    def _purge(self) -> None:
        """Drop what has been called off, now and then: most time limits are never reached."""
        if len(self._timers) > self._purge_beyond:
            self._timers = [timer for timer in self._timers if timer.callback is not None]
            heapq.heapify(self._timers)
            self._purge_beyond = max(_FEW, 2 * len(self._timers))

    def _serve(self) -> None:
        while (callback := self._next_due()) is not None:
            try:
                callback()
            except BaseException:  # The timers behind it are others' business.
                _logger.exception("A timer's callback failed")
            callback = None  # Nothing that has ended is kept alive by the wait for the next.

    def _next_due(self) -> Callable[[], object] | None:
        """Wait for the next timer; None once there has been none for a while."""
        with self._changed:
            while True:
                while self._timers and self._timers[0].callback is None:
                    heapq.heappop(self._timers)  # It has been called off.
                if not self._timers:
                    # Others are likely to follow, and a thread costs more than a timer.
                    if not self._changed.wait(_LINGER) and not self._timers:
                        self._thread = None
                        return None
                    continue
                seconds_left = self._timers[0].when - time.monotonic()
                if seconds_left <= 0:
                    return heapq.heappop(self._timers).take()
                self._changed.wait(min(seconds_left, threading.TIMEOUT_MAX))


#: How long the clock's thread waits for another timer before it ends, in seconds.
_LINGER: Final = 1.0

#: So many timers are kept without looking for those that have been called off.
_FEW: Final = 1_000


def _nothing() -> None:
    return None


@final
class Timer:
    """A callback and its time; ordered by time, then by age."""

    __slots__ = ("callback", "order", "when")

    def __init__(self, when: float, order: int, callback: Callable[[], object]) -> None:
        self.when = when
        self.order = order
        self.callback: Callable[[], object] | None = callback

    def __lt__(self, other: Timer) -> bool:
        return (self.when, self.order) < (other.when, other.order)

    def cancel(self) -> None:
        self.callback = None  # Let go at once of what it refers to.

    def take(self) -> Callable[[], object]:
        callback, self.callback = self.callback, None
        return callback or _nothing


#: The machine's own time.
SYSTEM_CLOCK: Final = SystemClock()


@final
class CurrentClock:
    """Which clock the running code goes by; what it submits gets the same.

    It is a context variable, and behind that one setting for the whole process: the fixtures of
    some test tools run in another context than the tests.
    """

    __slots__ = ("_everywhere", "_variable")

    def __init__(self) -> None:
        self._variable: Final[ContextVar[Clock | None]] = ContextVar("current_clock", default=None)
        self._everywhere: Clock = SYSTEM_CLOCK

    def get(self) -> Clock:
        """Return the clock of the code that is running."""
        clock = self._variable.get()
        return self._everywhere if clock is None else clock

    def of(self, variables: Context) -> Clock:
        """Return the clock of the code that these context variables are of."""
        clock = variables.get(self._variable)
        return self._everywhere if clock is None else clock

    def set(self, clock: Clock) -> Token[Clock | None]:
        """Set the clock of this context; see `contextvars.ContextVar.set`."""
        return self._variable.set(clock)

    def reset(self, token: Token[Clock | None]) -> None:
        """Undo one `set`, in the same context."""
        self._variable.reset(token)

    def set_everywhere(self, clock: Clock) -> Clock:
        """Set the clock of every context without one of its own, and return the one before."""
        before, self._everywhere = self._everywhere, clock
        return before


#: The clock of the code that is running.
current_clock: Final = CurrentClock()


@final
class Hold:
    """One sync run's share in holding a clock, which it lets go while it waits.

    Whatever wakes the run takes hold of the clock for it, before it lets go itself: in between, the
    clock would run on. Once ended, a hold holds nothing more: what an abandoned thread does with it
    does not count.
    """

    __slots__ = ("_clock", "_is_over", "_lock", "_pauses")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._pauses = 0
        self._is_over = False
        clock.hold()

    def pause(self) -> None:
        """Let go of the clock, until `resume` has been called as often as this."""
        with self._lock:
            self._pauses += 1
            if self._pauses == 1 and not self._is_over:
                self._clock.release()

    def resume(self) -> None:
        """Undo one `pause`."""
        with self._lock:
            self._pauses -= 1
            if self._pauses == 0 and not self._is_over:
                self._clock.hold()

    def end(self) -> None:
        """Let go of the clock for good."""
        with self._lock:
            if not self._is_over and self._pauses == 0:
                self._clock.release()
            self._is_over = True


def new_hold(clock: Clock) -> Hold | None:
    """Take hold of a clock; None if it is the machine's, which cannot be held."""
    return None if clock is SYSTEM_CLOCK else Hold(clock)


#: The hold of the sync run that is running; None in async code and outside any run.
current_hold: ContextVar[Hold | None] = ContextVar("current_hold", default=None)
