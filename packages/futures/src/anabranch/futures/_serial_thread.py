"""A thread that does one thing after the other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Final, TypeVar, final

from anabranch.futures._signals import start_thread

T = TypeVar("T")

_logger = logging.getLogger("anabranch.futures")


@final
class SerialThread:
    """Calls functions one after the other, in a daemon thread that starts with the first.

    Args:
        name: The thread's name.
    """

    def __init__(self, name: str) -> None:
        self._name: Final = name
        self._queue: Final[SimpleQueue[Callable[[], object] | None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def call_soon(self, function: Callable[[], object]) -> None:
        """Have ``function`` called some time soon; what it raises is logged."""
        self._queue.put(function)
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                    start_thread(self._thread)

    def call(self, function: Callable[[], T]) -> T:
        """Have ``function`` called, wait for it, and return or raise what it does.

        Not after `close`: it would wait for ever.
        """
        results: list[T] = []
        errors: list[BaseException] = []
        done = threading.Event()

        def work() -> None:
            try:
                results.append(function())
            except BaseException as error:  # It belongs to the thread that waits.
                errors.append(error)
            finally:
                done.set()

        self.call_soon(work)
        done.wait()
        if errors:
            try:
                raise errors[0]
            finally:
                errors.clear()  # An exception that refers to its frames would be a cycle.
        return results[0]

    def close(self, timeout: float | None = None) -> bool:
        """Have the thread end when it is through with what it has been given, and wait for that.

        Args:
            timeout: How long to wait, in seconds; None waits as long as it takes.

        Returns:
            Whether it has ended.
        """
        with self._lock:
            thread = self._thread
        if thread is None:
            return True
        self._queue.put(None)
        thread.join(timeout)
        return not thread.is_alive()

    def _work(self) -> None:
        while (function := self._queue.get()) is not None:
            try:
                function()
            except BaseException:  # What comes after it would wait for ever.
                with suppress(Exception):  # The handlers of logs may be what is broken.
                    _logger.exception("Something failed in the thread %r", self._name)
            del function  # An idle thread keeps nothing alive.
