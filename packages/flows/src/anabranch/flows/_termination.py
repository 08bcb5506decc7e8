"""SIGTERM ends a flow as Ctrl-C does: what it has submitted is cancelled and joined first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, cast, final

import anyio

from anabranch.futures.runner import EventLoop, running_loop

#: What a shell reports for a process that SIGTERM has ended.
EXIT_CODE: Final = 128 + signal.SIGTERM


@final
class _Receiver:
    """A signal handler that passes SIGTERM on to one flow run, once."""

    def __init__(self, terminate: Callable[[], object]) -> None:
        self._terminate = terminate
        self._was_called = False

    def __call__(self, signal_number: int, frame: FrameType | None) -> None:
        if not self._was_called:  # The way out survives a second one.
            self._was_called = True
            self._terminate()


@contextmanager
def _received(terminate: Callable[[], object]) -> Iterator[None]:
    """Have SIGTERM passed on, where nobody but another flow has taken charge of it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread may.
        return
    before = signal.getsignal(signal.SIGTERM)
    if before is not signal.SIG_DFL and not isinstance(before, _Receiver):
        yield
        return
    signal.signal(signal.SIGTERM, _Receiver(terminate))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def terminable() -> Iterator[None]:
    """Surround a sync flow: SIGTERM leaves it by SystemExit.

    As long as it lasts, all that runs in the main thread is the flow, and no event loop's own code
    that an exception out of nowhere would wreck.
    """
    with _received(_exit):
        yield


def _exit() -> None:
    raise SystemExit(EXIT_CODE)


@contextmanager
def terminable_async() -> Iterator[None]:
    """Surround an async flow: SIGTERM cancels it, and then leaves it by SystemExit."""
    loop = cast("EventLoop", running_loop())
    scope = anyio.CancelScope()
    was_received = False

    def terminate() -> None:
        nonlocal was_received
        was_received = True
        loop.call_soon(scope.cancel)

    with _received(terminate), scope:
        yield
    if was_received and scope.cancelled_caught:
        _exit()
