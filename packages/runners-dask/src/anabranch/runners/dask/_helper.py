"""A thread for what must not hold up the thread that asks for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, final

from anabranch.futures.runner import start_thread

#: How long the thread is waited for in the end: nobody wants what it is at any more. In seconds.
_PATIENCE: Final = 1.0

_logger = logging.getLogger("anabranch.task_runner.dask")


@final
class HelperThread:
    """Calls functions one after the other, in a thread that starts with the first.

    Args:
        name: The thread's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def call(self, function: Callable[[], object]) -> None:
        """Have ``function`` called some time soon; what it raises is logged."""
        self._queue.put(function)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                start_thread(self._thread)

    def close(self) -> None:
        """Have the thread end when it is through with what it has been given."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            self._queue.put(None)
            thread.join(_PATIENCE)

    def _work(self) -> None:
        while (function := self._queue.get()) is not None:
            try:
                function()
            except BaseException:  # What comes after it would wait for ever.
                _logger.exception("Something failed in the thread %r", self._name)
            del function  # An idle thread keeps nothing alive.
