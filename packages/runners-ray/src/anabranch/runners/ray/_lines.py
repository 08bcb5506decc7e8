"""Runs of one function that are short, and go to Ray several at a time."""

from __future__ import annotations

import pickle
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, cast, final

import attrs

from anabranch.futures import Crashed, Failed, RunCrashedError
from anabranch.futures.runner import SYSTEM_CLOCK, describe
from anabranch.runners.ray._batch import Batch
from anabranch.runners.ray._parcel import parcel_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anabranch.futures.runner import Shipment
    from anabranch.runners.ray._link import Link
    from anabranch.runners.ray._native import Exported
    from anabranch.runners.ray._run import RayRun

#: How many runs of a function are looked at, at the least, before it is known to be short, and how
#: long they may take on the average, in seconds.
_SAMPLE: Final = 20
_SHORT: Final = 0.002

#: How many runs go together at the most, and how long they may take, in seconds.
_MAX_RUNS: Final = 16
_MAX_SECONDS: Final = 0.01

#: How long a run waits for others to end at the most, in seconds.
_PATIENCE: Final = 0.015


@final
@attrs.frozen(eq=False)
class Waiting:
    """A run that is about to be sent.

    Attributes:
        run: The run.
        shipment: What is sent.
    """

    run: RayRun[object]
    shipment: Shipment


@final
class Line:
    """The runs of one function.

    A run goes to Ray at once as long as few of them are there. Others wait until one of those has
    ended, or a moment has passed, and then go together.

    Args:
        exported: What calls the function in Ray.
        connection: Where it goes.
    """

    def __init__(self, exported: Exported, connection: Link) -> None:
        self._exported: Final = exported
        self._connection: Final = connection
        self._limit: Final = 2 * connection.cpus
        self._lock = threading.Lock()
        self._outbox: deque[Waiting] = deque()
        # How many tasks of Ray's are on their way.
        self._in_flight = 0
        self._is_timed = False
        self._is_closed = False
        self._score = 0
        self._mean = _SHORT
        self._is_short = False

    # ------------------------------------------------------------------ what is known

    def note(self, seconds: float) -> None:
        """Take note of how long a run took on its worker, which returned something small."""
        if seconds < _SHORT:
            self._score = min(self._score + 1, _SAMPLE)
            self._mean += (seconds - self._mean) / _SAMPLE
        else:
            self._score = max(self._score - 4, -_SAMPLE)
        # Whatever a busy machine does to one run or another, the function is what it was.
        self._is_short = self._score >= (1 if self._is_short else _SAMPLE)

    def reset(self) -> None:
        """Take note that a run was not short."""
        self._score = 0
        self._mean = _SHORT
        self._is_short = False

    def close(self) -> None:
        """Have each run go alone from now on."""
        self._is_closed = True

    @property
    def _may_be_short(self) -> bool:
        return self._score >= 0 and not self._is_closed

    # ------------------------------------------------------------------ the way out

    def takes(self, run: RayRun[object], shipment: Shipment) -> bool:
        """Have a run go with others, if it is short and they are there; else count it in."""
        with self._lock:
            if self._may_be_short and (self._outbox or self._in_flight >= self._limit):
                self._outbox.append(Waiting(run, shipment))
                has_room = self._in_flight < self._limit
                is_first = not has_room and not self._is_timed
                self._is_timed = self._is_timed or is_first
            else:
                self._in_flight += 1
                return False
        if has_room:
            self.flush()
        elif is_first:
            SYSTEM_CLOCK.call_later(_PATIENCE, self._lose_patience)
        return True

    def ended(self) -> None:
        """Take note that a task of Ray's has ended; in any thread, where nothing may block."""
        with self._lock:
            self._in_flight -= 1
            is_due = bool(self._outbox)
        if is_due:
            self._connection.completions.call_soon(self.flush)

    def _lose_patience(self) -> None:
        # In the clock's thread, where nothing may block.
        self._is_timed = False
        if self._outbox:
            left = len(self._outbox)
            self._connection.completions.call_soon(partial(self._send_overdue, left))

    def _send_overdue(self, left: int) -> None:
        """Send so many runs whether there is room or not, and take notes in between."""
        with self._lock:
            size = min(self._batch_size(), len(self._outbox))
            taken = [self._outbox.popleft() for _ in range(size)]
            self._in_flight += bool(taken)
        if taken:
            self._send(taken)
        if left > size > 0:
            self._connection.completions.call_soon(partial(self._send_overdue, left - size))

    def flush(self) -> None:
        """Send what has come in, as far as there is room."""
        while True:
            with self._lock:
                room = self._limit - self._in_flight
                if not self._outbox or room <= 0:
                    return
                size = min(self._batch_size(), -(-len(self._outbox) // max(room, 1)))
                taken = [self._outbox.popleft() for _ in range(size)]
                self._in_flight += 1
            self._send(taken)

    def _batch_size(self) -> int:
        if not self._is_short:
            return 1
        return max(1, min(_MAX_RUNS, int(_MAX_SECONDS / max(self._mean, 1e-6))))

    def _send(self, taken: Sequence[Waiting]) -> None:
        wanted = [each for each in taken if not each.run.done()]
        if not wanted:
            self.ended()
            return
        try:
            if len(wanted) == 1:
                self._send_alone(wanted[0])
            else:
                Batch(self, self._connection, wanted).send(self._exported)
        except Exception as error:
            self.ended()
            for each in wanted:
                each.run.set_final(Failed(error, message=describe(error)))

    def _send_alone(self, waiting: Waiting) -> None:
        run, shipment = waiting.run, waiting.shipment
        parcel = parcel_of(shipment, 0, run.origin.home)
        value_ref, outcome_ref = self._exported.remote(parcel)
        run.submitted(value_ref, outcome_ref, ())
