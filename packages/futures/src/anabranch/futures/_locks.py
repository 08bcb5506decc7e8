"""Locks for things that there are very many of."""

from __future__ import annotations

import itertools
import os
import threading
from typing import Final, final


@final
class SharedLocks:
    """Lends the same few locks again and again.

    A lock of its own costs each thing some 90 bytes, and more time than all else in it.

    Args:
        count: How many. So few threads hold one at any moment that they hardly ever meet at one of
            the default.

    Attributes:
        take: Returns one, which others share.
    """

    def __init__(self, count: int = 64) -> None:
        self._count: Final = count
        self._renew()
        # In a child, a lock may be held for ever by a thread that is not there. What is made there
        # gets others.
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        # Re-entrant: while one is held, the garbage collector may run code that comes to another
        # thing with the same lock.
        self.take = itertools.cycle([threading.RLock() for _ in range(self._count)]).__next__
