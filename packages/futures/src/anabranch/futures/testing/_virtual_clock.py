"""Time that a test owns."""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import Token
from functools import partial
from types import TracebackType
from typing import Final, Self, final

from anabranch.futures._clock import CancelTimer, Clock, Hold, Timer, current_clock, current_hold
from anabranch.futures._loops import EventLoop, entries, running_loop
from anabranch.futures._parking import parked_threads
from anabranch.futures.testing._idleness import ask

_logger = logging.getLogger("anabranch.futures")


@final
class VirtualClock:
    """A clock on which an hour takes no time: it jumps to the next timer when nothing is at work.

        with VirtualClock() as clock:
            report()  # a flow with a task that fails twice, and retry_delay=3600
        assert clock.now() == 7200

    In the ``with`` block it is the current clock, and what is submitted there runs on it: retry
    delays, time limits, timeouts of waits. Time stands still while code is at work:

    - A thread is, while a sync run executes in it, or the body of a sync flow, except where that
      waits for runs or sleeps on the clock. A run that could start also counts, so no jump comes
      between its submission and its start.
    - An event loop is, while any of its tasks could go on, or a worker thread of anyio, trio or
      asyncio works for one. (trio's own ``MockClock`` jumps while threads are at work.) The loop
      that the block is in is watched, and each that an async task or an async flow runs in.
    - The code of the block itself is not, unless it says so by `held`.

    So runs take no time at all, unless `advance` moves time while they are at work. That is how a
    run is made to exceed its time limit:

        with VirtualClock() as clock:
            future = runner.submit(...)  # which waits for something
            clock.advance(60)

    What sleeps on other clocks (`time.sleep`, `anyio.sleep`, deadlines of cancel scopes) is not
    sped up: in an event loop it counts as waiting, in a thread as being at work. Should time stand
    still for long because of it, a warning is logged.

    Enter the clock before what uses it, such as a runner: after the block, time stands still. A
    clock is entered once. All methods are thread-safe.

    Args:
        everywhere: Whether it is the clock of the whole process, in every thread and context,
            rather than of the code in the block and what that starts. It is meant for fixtures of
            test tools, which may run in another context than the test.
    """

    def __init__(self, *, everywhere: bool = False) -> None:
        self._everywhere: Final = everywhere
        self._clock_before: Clock | None = None
        self._changed: Final = threading.Condition()
        self._timers: list[Timer] = []
        self._order: Final = itertools.count()
        self._now = 0.0
        # Timers are due up to here, whatever is at work; reached when all of those have been fired.
        self._target = 0.0
        self._reached = 0.0
        self._holds = 0
        # Advances with each hold, so that a look at the loops which was overtaken by one is void.
        self._generation = 0
        self._loops: dict[EventLoop, _Watched] = {}
        self._is_over = False
        self._thread: threading.Thread | None = None
        self._token: Token[Clock | None] | None = None

    # ------------------------------------------------------------------ for tests

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise RuntimeError(
                "This VirtualClock has been entered before; make another: `with VirtualClock() as "
                "clock:`"
            )
        if (loop := running_loop()) is not None:
            self.watch(loop)
        self._thread = threading.Thread(
            target=self._serve, name="anabranch-virtual-clock", daemon=True
        )
        self._thread.start()
        if self._everywhere:
            self._clock_before = current_clock.set_everywhere(self)
        else:
            self._token = current_clock.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._token is not None:
            current_clock.reset(self._token)
        elif self._clock_before is not None:
            current_clock.set_everywhere(self._clock_before)
        self._token = self._clock_before = None
        with self._changed:
            self._is_over = True
            left = sum(timer.callback is not None for timer in self._timers)
            self._timers.clear()
            self._changed.notify_all()
        assert self._thread is not None, "it has been entered"
        self._thread.join()
        if left:
            _logger.warning(
                "A VirtualClock was left while %d delays or time limits were running, which are "
                "never over now. Enter the clock before what uses it: before the runner, and in a "
                "test before other fixtures",
                left,
            )

    def advance(self, seconds: float) -> None:
        """Move time by hand, whatever is at work, and fire the timers due on the way, in order.

        Returns when they have been fired; what they set going may still be going on.

        Raises:
            ValueError: Time would go backwards, or to its end.
            RuntimeError: The clock is not entered, or a timer's callback calls this.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"advance({seconds!r}): give seconds of 0 or more")
        if threading.current_thread() is self._thread:
            raise RuntimeError("advance() in a timer's callback: it would wait for itself")
        with self._changed:
            if self._thread is None or self._is_over:
                raise RuntimeError(
                    "advance() moves a clock in use: `with VirtualClock() as clock:`"
                )
            self._target = target = max(self._target, self._now) + seconds
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._reached >= target or self._is_over)

    @contextmanager
    def held(self) -> Generator[None]:
        """Count as at work: time stands still, except while this thread waits for runs.

        Inside a run, and in async code, that is so in any case.
        """
        if current_hold.get() is not None or running_loop() is not None:
            yield
            return
        hold = Hold(self)
        token = current_hold.set(hold)
        try:
            yield
        finally:
            current_hold.reset(token)
            hold.end()

    # ------------------------------------------------------------------ for the engine

    def now(self) -> float:
        """Return how many seconds have passed on this clock; it starts at 0."""
        return self._now

    def call_later(self, seconds: float, callback: Callable[[], object]) -> CancelTimer:
        """Have ``callback`` called once, in the clock's thread; see `Clock.call_later`."""
        with self._changed:
            timer = Timer(self._now + seconds, next(self._order), callback)
            if not self._is_over:
                heapq.heappush(self._timers, timer)
                self._changed.notify_all()
        return timer.cancel

    def hold(self) -> None:
        """Keep time from moving by itself, until `release` has been called as often as this."""
        with self._changed:
            self._holds += 1
            self._generation += 1

    def release(self) -> None:
        """Undo one `hold`.

        Raises:
            RuntimeError: There is none.
        """
        with self._changed:
            if self._holds == 0:
                raise RuntimeError("release() of a VirtualClock that nothing holds")
            self._holds -= 1
            if self._holds == 0:
                self._changed.notify_all()

    def watch(self, loop: EventLoop) -> None:
        """Keep time from moving by itself while an event loop is at work, until it ends."""
        with self._changed:
            if loop not in self._loops:
                self._loops[loop] = _Watched()
                self._generation += 1

    # ------------------------------------------------------------------ the clock's thread

    def _serve(self) -> None:
        while (timer := self._next_timer()) is not None:
            try:
                timer.take()()
            except BaseException:  # Time goes on.
                _logger.exception("A timer's callback failed")
            timer = None  # Nothing that has ended is kept alive by the wait for the next.
            self.release()

    def _next_timer(self) -> Timer | None:
        """Wait until time has come to a timer, and take hold of the clock; None at the end."""
        look: _Look | None = None
        standstill = _Standstill()
        with self._changed:
            while not self._is_over:
                while self._timers and self._timers[0].callback is None:
                    heapq.heappop(self._timers)  # It has been called off.
                if self._timers and self._timers[0].when <= self._target:
                    return self._take_timer()
                if self._reached < self._target:
                    self._now = self._reached = self._target
                    self._changed.notify_all()
                if self._holds or not self._timers:
                    look = None
                    self._changed.wait(standstill.patience(self._timers))
                    self._warn_of(standstill)
                elif look is None or look.generation != self._generation:
                    look = _Look(self._generation)
                elif self._unanswered(look):
                    standstill.patience(self._timers)
                    if not self._changed.wait(_PATIENCE):
                        self._drop_ended_loops()
                        self._warn_of(standstill)
                elif any(each.threads for each in self._at_work()):
                    look = None
                    # Nobody tells when a worker thread of a loop is through.
                    standstill.patience(self._timers)
                    self._changed.wait(_THREAD_PATIENCE)
                    self._warn_of(standstill)
                elif look.was_disturbed():
                    look = None
                else:
                    return self._take_timer()
        return None

    def _take_timer(self) -> Timer:
        timer = heapq.heappop(self._timers)
        self._now = max(self._now, timer.when)
        self._target = max(self._target, self._now)
        self.hold()
        return timer

    def _unanswered(self, look: _Look) -> bool:
        """Ask the loops that have not been asked; whether one has yet to answer."""
        for loop, watched in list(self._loops.items()):
            if watched.answered is not look and not watched.is_asked:
                watched.is_asked = True
                if not ask(loop, partial(self._answer, watched, look)):
                    del self._loops[loop]
        return any(watched.answered is not look for watched in self._at_work())

    def _at_work(self) -> list[_Watched]:
        """Return what is known of those loops that may be at work.

        Not of one whose thread is blocked, as by a sync flow that was called in an async function.
        """
        loops = self._loops.items()
        return [watched for loop, watched in loops if loop.thread_id not in parked_threads]

    def _warn_of(self, standstill: _Standstill) -> None:
        """Say so, once, if time has stood still for long: what waits for it may wait for ever."""
        if standstill.is_noteworthy() and self._timers:
            _logger.warning(
                "A VirtualClock has stood still at %g s for %g s of real time, with a timer due at "
                "%g s, because code is at work: %d sync runs or flow bodies, or else async code. "
                "What sleeps there, or waits for anything but runs, takes its real time: see where "
                "its thread is",
                self._now,
                _LONG,
                self._timers[0].when,
                self._holds,
            )

    def _answer(self, watched: _Watched, look: _Look, threads: int) -> None:
        with self._changed:
            watched.is_asked = False
            watched.answered = look
            watched.threads = threads
            self._changed.notify_all()

    def _drop_ended_loops(self) -> None:
        # A loop that ended just when it was asked does not answer.
        for loop in list(self._loops):
            if not loop.enter(_nothing):
                del self._loops[loop]


#: How long a loop may be at work before the clock looks whether it has ended, in seconds.
_PATIENCE: Final = 0.05

#: How long the clock may stand still in the face of timers before a warning, in real seconds.
_LONG: Final = 5.0

#: How often the clock looks whether the worker threads of a loop are through, in seconds.
_THREAD_PATIENCE: Final = 0.002


def _nothing() -> None:
    return None


@final
class _Standstill:
    """How long, in real time, there have been timers to which time does not come."""

    __slots__ = ("_is_noted", "_since")

    def __init__(self) -> None:
        self._since: float | None = None
        self._is_noted = False

    def patience(self, timers: list[Timer]) -> float | None:
        """Return how long to wait, in seconds; None if there is nothing to tell after that."""
        if not timers:
            self._since = None
            return None
        if self._since is None:
            self._since = time.monotonic()
        return None if self._is_noted else max(0.0, self._since + _LONG - time.monotonic())

    def is_noteworthy(self) -> bool:
        """Whether it has become long just now."""
        if self._since is None or self._is_noted or time.monotonic() < self._since + _LONG:
            return False
        self._is_noted = True
        return True


@final
class _Look:
    """One round of asking whether all loops are idle."""

    __slots__ = ("_entry", "generation")

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self._entry = next(entries)

    def was_disturbed(self) -> bool:
        """Whether one loop may have put another to work that had been found idle."""
        return next(entries) != self._entry + 1


@final
class _Watched:
    """What is known of a watched loop."""

    __slots__ = ("answered", "is_asked", "threads")

    def __init__(self) -> None:
        self.is_asked = False
        self.answered: _Look | None = None
        self.threads = 0
