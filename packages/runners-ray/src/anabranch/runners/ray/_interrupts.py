"""Interrupting what a worker executes, so that time limits and cancellations really stop it."""

from __future__ import annotations

import contextvars
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache, wraps
from types import FrameType
from typing import Final, final

from anabranch.futures import State
from anabranch.futures.runner import SYSTEM_CLOCK, AnyFunction, CancelTimer, limit_by_thread

#: How long code has to clean up after it was interrupted before its process ends, in seconds.
_GRACE: Final = 0.5

#: What is longer than any limit that could matter, in seconds; the timers have their own limits.
_YEARS: Final = 3e8

#: How long an interrupt is put off that comes in the midst of an import, in seconds.
_PAUSE: Final = 0.01

_STDERR: Final = 2

_HAS_SIGNALS: Final = hasattr(signal, "SIGURG") and hasattr(signal, "pthread_kill")

_IMPORTING: Final = ("importlib._bootstrap", "importlib._bootstrap_external")


@final
class Interruption(KeyboardInterrupt):
    """Is raised in the midst of a function that is to end, which may take it for a Ctrl-C."""


@final
class Interrupts:
    """Interrupts the one run that this process executes, and ends the process if that is in vain.

    The interrupt is a signal, one that is ignored wherever nobody expects it. It reaches Python
    code in the main thread, and C code that waits, such as a sleep; never the engine's own code,
    and no import, which would leave half a module behind. In any other thread, to which signals do
    not come, functions cannot be interrupted.

    Args:
        run_name: The run.
        give_up: Called just before the process ends because a time limit is over.

    Attributes:
        wake: Ends the wait of the main thread for another run, if it waits.
    """

    def __init__(self, run_name: str, give_up: Callable[[], object]) -> None:
        self.wake: Callable[[], object] | None = None
        self._run_name: Final = run_name
        self._give_up: Final = give_up
        self._thread: Final = threading.current_thread()
        self._is_possible = _HAS_SIGNALS and self._thread is threading.main_thread()
        # Held while the process is ended: it must not begin with anything else.
        self._lock = threading.Lock()
        self._is_over = False
        self._is_stopped = False
        self._is_out_of_time = False
        self._is_armed = False
        self._has_raised = False
        self._watchdogs: list[CancelTimer] = []

    @contextmanager
    def possible(self) -> Generator[None]:
        """Let interrupts come, in a block."""
        global _current
        if self._is_possible:
            _handle_signals()
            _current = self
        try:
            yield
        finally:
            self.end()
            if self._is_possible:
                _current = None

    def end(self) -> None:
        """Have nothing of the run interrupted any more, nor the process ended."""
        with self._lock:
            self._is_over = True
            self._call_off()

    def _call_off(self) -> None:
        for cancel in self._watchdogs:
            cancel()
        if self._watchdogs:
            faulthandler.cancel_dump_traceback_later()
            self._watchdogs.clear()

    # ------------------------------------------------------------------ what is interrupted

    def guard(self, function: AnyFunction[object]) -> AnyFunction[object]:
        """Return a function that can be interrupted; it then raises `Interruption`."""

        @wraps(function)
        def interruptible(*args: object, **kwargs: object) -> object:
            try:
                self._is_armed = True
                if self._is_stopped or self._is_out_of_time:
                    raise Interruption
                # In a context of its own: it may come just when a variable is to be reset.
                return contextvars.copy_context().run(function, *args, **kwargs)
            finally:
                self._is_armed = False
                if self._has_raised:  # Whatever the function has made of it.
                    raise Interruption

        return interruptible

    def limit(self, function: Callable[[], State[object]], seconds: float) -> State[object] | None:
        """Call a function, and interrupt what it calls when the time is over.

        Args:
            function: What to call. It raises nothing.
            seconds: How long it may take.

        Returns:
            What the function returned; None if the time was over first.
        """
        if not self._is_possible:
            return limit_by_thread(function, seconds)
        seconds = min(seconds, _YEARS)
        cancel_timer = SYSTEM_CLOCK.call_later(seconds, self._expire)
        # Code that keeps the interpreter to itself keeps it from the clock's thread, too.
        faulthandler.dump_traceback_later(seconds + 2 * _GRACE, exit=True, file=_STDERR)
        state = function()
        with self._lock:
            cancel_timer()
            was_over, self._is_out_of_time = self._is_out_of_time, False
            if not self._is_stopped:
                self._has_raised = False
                self._call_off()
                faulthandler.cancel_dump_traceback_later()
        return None if was_over else state

    # ------------------------------------------------------------------ what interrupts

    def stop(self) -> None:
        """Interrupt the run, or what it comes to next; in any thread."""
        self._begin_to_end(out_of_time=False)

    def _expire(self) -> None:
        self._begin_to_end(out_of_time=True)

    def _begin_to_end(self, *, out_of_time: bool) -> None:
        with self._lock:
            if self._is_over or self._is_stopped or (out_of_time and self._is_out_of_time):
                return
            if out_of_time:
                self._is_out_of_time = True
            else:
                self._is_stopped = True
                faulthandler.dump_traceback_later(2 * _GRACE, exit=True, file=_STDERR)
            self._watchdogs.append(SYSTEM_CLOCK.call_later(_GRACE, self._bite))
        wake = self.wake
        if wake is not None:
            wake()
        self._kick()

    def _kick(self) -> None:
        if self._is_possible and not self._is_over:
            assert sys.platform != "win32", "there are such signals"
            signal.pthread_kill(self._thread.ident or 0, signal.SIGURG)

    def ring(self, frame: FrameType | None) -> None:
        """Interrupt what is executed in a frame, if it is to be; in the main thread.

        Raises:
            Interruption: It is.
        """
        is_due = self._is_stopped or self._is_out_of_time
        if not (self._is_armed and is_due) or self._has_raised:
            return
        if _is_importing(frame):
            SYSTEM_CLOCK.call_later(_PAUSE, self._kick)
            return
        self._has_raised = True
        raise Interruption("The run is to end.")

    def _bite(self) -> None:
        with self._lock:
            if self._is_over or not (self._is_stopped or self._is_out_of_time):
                return
            why = "its time limit" if self._is_out_of_time else "its cancellation"
            words = f"Run {self._run_name!r} goes on {_GRACE} s after {why}: its worker is ended\n"
            try:
                if self._is_out_of_time:
                    self._give_up()
                os.write(_STDERR, words.encode())
            finally:
                os._exit(1)


# The run that this process executes.
_current: Interrupts | None = None

# Whether Ray's interrupts are not for anything else that this process executes, either.
_is_deaf: Callable[[], bool] = bool


def ignore_interrupts(as_long_as: Callable[[], bool]) -> None:
    """Take no notice of Ray's interrupts, also between two runs.

    Args:
        as_long_as: Whether that is so still; asked when an interrupt comes.
    """
    global _is_deaf
    if threading.current_thread() is threading.main_thread():
        _handle_signals()
    _is_deaf = as_long_as


@cache
def _handle_signals() -> None:
    """Have the signals of this process go to the run that it executes, from now on."""
    before = signal.getsignal(signal.SIGINT)

    def handle_ours(_: int, frame: FrameType | None) -> None:
        current = _current
        if current is not None:
            current.ring(frame)

    def handle_interrupt(number: int, frame: FrameType | None) -> None:
        # Ray interrupts what it cancels like Ctrl-C does, at any place: that is not for our runs.
        if _current is None and not _is_deaf() and callable(before):
            before(number, frame)

    signal.signal(signal.SIGURG, handle_ours)
    signal.signal(signal.SIGINT, handle_interrupt)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__") in _IMPORTING:
            return True
        frame = frame.f_back
    return False
