"""Loading event loops on a worker, which Ray interrupts to cancel what runs there."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from types import FrameType

import anyio.lowlevel

from anabranch.futures import Backend


@cache
def load_backend(backend: Backend) -> None:
    """Import an event loop as a whole, once for each process.

    An import that is cut short leaves modules behind that refer to others that are gone; every
    later run on the worker would find them.

    Args:
        backend: Which one.

    Raises:
        KeyboardInterrupt: It came meanwhile.
    """
    with interrupts_deferred():
        anyio.run(anyio.lowlevel.checkpoint, backend=backend)


@contextmanager
def interrupts_deferred() -> Generator[None]:
    """Have an interrupt that comes inside raised at the end, if this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = False

    def note(_: int, __: FrameType | None) -> None:
        nonlocal came
        came = True

    handler = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if handler is None else handler)
        if came:
            raise KeyboardInterrupt
