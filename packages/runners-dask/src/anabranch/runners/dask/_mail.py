"""What runs on workers have to say to the process of their flow."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, final

from anabranch.runners.dask._home import Home
from anabranch.runners.dask._native import call_in_loop

if TYPE_CHECKING:
    from anabranch.runners.dask._native import Worker

#: How long letters are collected, in seconds, and how many. An event is work for the scheduler.
_PAUSE: Final = 0.02
_MANY: Final = 500


@final
class Mailbox:
    """Sends what a run has to say home, in its order, several letters at a time.

    Args:
        worker: Where the run is.
        home: Where it belongs.
    """

    def __init__(self, worker: Worker, home: Home) -> None:
        self._worker: Final = worker
        self._home: Final = home
        # Without a lock: the garbage collector may run code that logs, and comes here again.
        self._letters: Final[deque[object]] = deque()
        self._is_due = False
        self._sending: Final = threading.RLock()

    def post(self, letter: object) -> None:
        """Send a letter some time soon; it is pickled, and unpickled at home.

        Args:
            letter: Made of what can be imported everywhere.
        """
        self._letters.append(letter)
        if len(self._letters) >= _MANY:
            self.flush()
        elif not self._is_due:
            self._is_due = True
            with suppress(RuntimeError):  # The worker is closing.
                call_in_loop(self._worker.loop, self._flush_later)

    def flush(self) -> None:
        """Send what there is: before the run ends, since its end takes the same way."""
        with self._sending, suppress(RuntimeError):  # One at a time, so that they keep their order.
            self._is_due = False
            letters: list[object] = []
            with suppress(IndexError):
                while True:
                    letters.append(self._letters.popleft())
            if letters:
                event = [self._home.run_id, pickle.dumps(letters)]
                # In its loop the worker would send it at once, and so before what another thread
                # has handed over and the loop has not come to yet.
                worker = self._worker
                call_in_loop(worker.loop, worker.log_event, self._home.topic, event)

    async def _flush_later(self) -> None:
        await asyncio.sleep(_PAUSE)
        self.flush()
