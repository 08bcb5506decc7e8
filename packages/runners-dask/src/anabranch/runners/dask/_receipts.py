"""What the scheduler has taken of what was sent to it."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final, final


@final
class Receipts:
    """Keeps account of graphs that were sent, and that the scheduler has told of.

    It takes them in their order, and tells of each. What is sent is numbered, upwards.
    """

    def __init__(self) -> None:
        self._changed: Final = threading.Condition()
        # For each graph that is out the number of the last thing in it, or behind it.
        self._out: Final[deque[int]] = deque()
        self._taken = 0

    def note_graph(self, number: int) -> None:
        """Take note that a graph is out.

        Args:
            number: Of the last thing in it; 0 if there is nothing in it that has a number.
        """
        with self._changed:
            self._out.append(max(number, self._out[-1] if self._out else self._taken))

    def note_dropped(self, number: int) -> None:
        """Take note that something is not sent."""
        with self._changed:
            if self._out:
                self._out[-1] = max(self._out[-1], number)
            else:
                self._taken = max(self._taken, number)
                self._changed.notify_all()

    def note_taken(self) -> None:
        """Take note that the scheduler has taken the next graph."""
        with self._changed:
            if self._out:  # Else it is one that was not sent from here.
                self._taken = self._out.popleft()
                self._changed.notify_all()

    def has(self, number: int) -> bool:
        """Whether the scheduler has taken everything up to a number."""
        return self._taken >= number

    def wait_for(self, number: int, timeout: float) -> bool:
        """Block until the scheduler has taken everything up to a number, or the time is over."""
        with self._changed:
            return self._changed.wait_for(lambda: self._taken >= number, timeout)
