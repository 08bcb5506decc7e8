"""What may block the main thread, in a way that no signal is lost on; and what signals raise."""

from __future__ import annotations

import threading
import time
from typing import Final

#: How often the main thread looks whether there is a signal, in seconds.
_GLANCE: Final = 0.2


def acquire(lock: threading.Lock, timeout: float | None = None) -> bool:
    """Take a lock, and return whether that came off within the timeout, in seconds.

    Python handles signals in the main thread, between two of its steps, and interrupts a blocking
    call for that. But a signal that comes just before the call blocks is handled only when that
    returns: for a run that never ends, Ctrl-C would be lost. So the main thread comes back now and
    then; the others do not.
    """
    if threading.get_ident() != threading.main_thread().ident:
        return lock.acquire(
            timeout=-1 if timeout is None else min(max(timeout, 0), threading.TIMEOUT_MAX)
        )
    if timeout is None:
        while not lock.acquire(timeout=_GLANCE):
            pass
        return True
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > _GLANCE:
        if lock.acquire(timeout=_GLANCE):
            return True
    return lock.acquire(timeout=max(left, 0))


def wait(event: threading.Event) -> None:
    """Wait for an event, as `acquire` does for a lock."""
    while not event.wait(_GLANCE):
        pass


def start_thread(thread: threading.Thread) -> None:
    """Start a thread; what a signal raises meanwhile comes out as it is.

    `Thread.start` waits for the thread to begin, and where the handler of a signal raises in that
    wait, it may raise RuntimeError instead: its word for a machine that has no thread left.

    Raises:
        RuntimeError: The machine has no thread left.
    """
    try:
        thread.start()
    except RuntimeError as error:
        cause = error.__context__
        while cause is not None and not isinstance(cause, KeyboardInterrupt | SystemExit):
            cause = cause.__context__
        if cause is None:
            raise
        raise cause from None


def is_interruption(error: BaseException | None) -> bool:
    """Whether what a block is left by is Ctrl-C or the like: whoever leaves it is in a hurry."""
    return error is not None and not isinstance(error, Exception)
