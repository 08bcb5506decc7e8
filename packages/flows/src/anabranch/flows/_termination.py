"""SIGTERM ends a flow as Ctrl-C does: what it has submitted is cancelled and joined first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final, cast, final

import anyio

from anabranch.futures.runner import EventLoop, running_loop

#: What a shell reports for a process that SIGTERM has ended.
EXIT_CODE: Final = 128 + signal.SIGTERM


@final
class _Receiver:
    """What SIGTERM does to one flow run, once: the way out survives a second one.

    Args:
        cancel: Has the run cancelled by its event loop; None for a sync flow.
    """

    def __init__(self, cancel: Callable[[], object] | None) -> None:
        self._cancel = cancel
        self.was_called = False

    def is_sync(self) -> bool:
        """Whether the flow is left by an exception, and not cancelled by an event loop."""
        return self._cancel is None

    def receive(self) -> None:
        """Cancel the flow run, or leave it.

        Raises:
            SystemExit: It is sync.
        """
        if not self.was_called:
            self.was_called = True
            if self._cancel is None:
                _exit()
            else:
                self._cancel()


#: The flow runs under way in the main thread, by their start. Async ones may end in any order.
_receivers: Final[dict[_Receiver, None]] = {}


def _handle(signal_number: int, frame: FrameType | None) -> None:
    # No exception may come out of nowhere in an event loop's own code. So a sync flow is left by
    # one only if it is innermost; an async flow inside of it ends by SystemExit, and that ends it.
    newest_first = list(reversed(_receivers))
    for receiver in newest_first:
        if receiver.is_sync() and receiver is not newest_first[0]:
            return
        receiver.receive()


@contextmanager
def _received(receiver: _Receiver) -> Generator[None]:
    """Have SIGTERM passed on, where nobody has taken charge of it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread may.
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _handle)
    try:
        _receivers[receiver] = None
        yield
    finally:
        _receivers.pop(receiver, None)
        if not _receivers and signal.getsignal(signal.SIGTERM) is _handle:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def terminable() -> Generator[None]:
    """Surround a sync flow: SIGTERM leaves it by SystemExit."""
    with _received(_Receiver(None)):
        yield


def _exit() -> None:
    raise SystemExit(EXIT_CODE)


@contextmanager
def terminable_async() -> Generator[None]:
    """Surround an async flow: SIGTERM cancels it, and then leaves it by SystemExit."""
    loop = cast("EventLoop", running_loop())
    scope = anyio.CancelScope()
    receiver = _Receiver(lambda: loop.call_soon(scope.cancel))
    with _received(receiver):
        try:
            with scope:
                yield
        finally:
            if receiver.was_called:  # However it was left, and even if it went on regardless.
                _exit()
