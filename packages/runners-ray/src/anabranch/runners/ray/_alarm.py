"""Time limits in the main thread of a worker process, which can really be stopped."""

from __future__ import annotations

import contextvars
import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final, final

from anabranch.futures import State
from anabranch.futures.runner import SYSTEM_CLOCK, limit_by_thread

#: How long an attempt has to clean up when its time is over before its process ends, in seconds.
_GRACE: Final = 0.5

#: What is longer than any limit that could matter, in seconds; the timers have their own limits.
_YEARS: Final = 3e8

_STDERR: Final = 2


@final
class OutOfTime(BaseException):
    """Is raised in the midst of an attempt whose time is over."""


def limit_by_alarm(
    function: Callable[[], State[object]], seconds: float, give_up: Callable[[], object]
) -> State[object] | None:
    """Call a function in this thread, and interrupt it when the time is over.

    The interrupt is a signal: it reaches Python code, and C code that waits, such as a sleep. What
    goes on all the same is ended together with the process. In any thread but the main one, to
    which signals do not come, the function is called in another and given up.

    Args:
        function: What to call. It raises nothing.
        seconds: How long it may take.
        give_up: Called, in another thread, just before the process ends.

    Returns:
        What the function returned; None if the time was over first.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(
        signal, "setitimer"
    ):
        return limit_by_thread(function, seconds)
    seconds = min(seconds, _YEARS)
    alarm, watchdog = _Alarm(), _Watchdog(give_up)
    began = time.monotonic()
    handler = signal.signal(signal.SIGALRM, alarm.ring)
    earlier = signal.setitimer(signal.ITIMER_REAL, 0)
    cancel_timer = SYSTEM_CLOCK.call_later(seconds + _GRACE, watchdog.bite)
    # Code that keeps the interpreter to itself keeps it from the clock's thread, too.
    faulthandler.dump_traceback_later(seconds + 2 * _GRACE, exit=True, file=_STDERR)
    state: State[object] | None = None
    try:
        try:
            alarm.is_armed = True
            signal.setitimer(signal.ITIMER_REAL, seconds)
            # In a context of its own: the alarm may ring just when a variable is to be reset.
            state = contextvars.copy_context().run(function)
        finally:
            alarm.is_armed = False
    except OutOfTime:
        pass
    finally:  # It rings but once: from here on, nothing is interrupted.
        faulthandler.cancel_dump_traceback_later()
        cancel_timer()
        watchdog.end()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if handler is None else handler)
        if earlier[0]:
            left = max(earlier[0] - (time.monotonic() - began), 1e-6)
            signal.setitimer(signal.ITIMER_REAL, left, earlier[1])
    return None if alarm.has_rung else state


@final
class _Alarm:
    def __init__(self) -> None:
        self.is_armed = False
        self.has_rung = False

    def ring(self, _: int, __: FrameType | None) -> None:
        if self.is_armed and not self.has_rung:
            self.has_rung = True
            raise OutOfTime("The time limit of the run is over.")


@final
class _Watchdog:
    """Ends this process, unless what it watches has ended by then."""

    def __init__(self, give_up: Callable[[], object]) -> None:
        self._give_up: Final = give_up
        self._lock = threading.Lock()
        self._is_over = False

    def bite(self) -> None:
        with self._lock:  # Until the process is gone: it must not begin with anything else.
            if self._is_over:
                return
            try:
                self._give_up()
            finally:
                os._exit(1)

    def end(self) -> None:
        with self._lock:
            self._is_over = True
