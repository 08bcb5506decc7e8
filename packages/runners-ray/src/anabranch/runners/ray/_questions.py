"""Asking Ray for what it may never answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Final, TypeVar, final

from anabranch.futures.runner import SerialThread

T = TypeVar("T")


@final
class InstanceLostError(Exception):
    """The instance that should have answered is lost; the message says how."""


@final
class Questions:
    """Has Ray asked in a thread that can be given up, on behalf of those that must not wait on.

    What waits in Ray for a control service that is gone waits for ever.
    """

    def __init__(self) -> None:
        self._thread: Final = SerialThread("anabranch-ray-asker")
        self._lock = threading.Lock()
        self._loss: str | None = None
        # What tells those who wait that something has gone wrong.
        self._open: Final[set[Callable[[BaseException], None]]] = set()

    def ask(self, function: Callable[[], T]) -> T:
        """Call a function that asks, and return or raise what it does.

        Raises:
            InstanceLostError: There will be no answer.
        """
        answer: Future[T] = Future()
        with self._lock:
            if self._loss is not None:
                raise InstanceLostError(self._loss)
            self._open.add(answer.set_exception)
        try:
            self._thread.call_soon(lambda: _answer(answer, function))
            return answer.result()
        finally:
            self._open.discard(answer.set_exception)

    def give_up(self, loss: str) -> None:
        """Have nobody wait any longer, because of what has become of the instance."""
        with self._lock:
            self._loss = loss
            waiting = list(self._open)
        for fail in waiting:
            with suppress(InvalidStateError):  # It has just been answered.
                fail(InstanceLostError(loss))

    def close(self, timeout: float) -> bool:
        """End the thread; return whether it has ended within the timeout, in seconds."""
        return self._thread.close(timeout)


def _answer(answer: Future[T], function: Callable[[], T]) -> None:
    with suppress(InvalidStateError):  # It has been given up meanwhile.
        try:
            result = function()
        except BaseException as error:  # It belongs to the thread that waits.
            answer.set_exception(error)
        else:
            answer.set_result(result)
