"""Counting what many threads do."""

from __future__ import annotations

import itertools
import threading
from typing import Final, final


@final
class AtomicCount:
    """A count that any thread adds to without a lock, which would cost as much as some runs.

    Attributes:
        add: Adds one.
    """

    __slots__ = ("_count", "_lock", "_looks", "add")

    def __init__(self) -> None:
        self._count: Final = itertools.count()
        self._looks = 0
        self._lock: Final = threading.Lock()
        self.add: Final = self._count.__next__

    def __int__(self) -> int:
        """Return how often one was added."""
        with self._lock:
            self._looks += 1
            return next(self._count) - self._looks + 1  # To look is to count one on.
