"""Runs of one function that are short, and go to Ray several at a time."""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, final

import attrs

from anabranch.futures.runner import SYSTEM_CLOCK
from anabranch.runners.ray._batch import Batch
from anabranch.runners.ray._parcel import parcel_of
from anabranch.runners.ray._questions import InstanceLostError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anabranch.futures.runner import Shipment
    from anabranch.runners.ray._link import Link
    from anabranch.runners.ray._native import Exported
    from anabranch.runners.ray._run import RayRun

#: How many short runs it takes for a function to be known as short, what a longer one counts
#: against them, and which are longer, in seconds. A busy machine makes any run longer at times.
_SAMPLE: Final = 20
_PENALTY: Final = 4
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

    A run goes to Ray at once as long as fewer of Ray's tasks are on their way than keep all CPUs
    busy. The next ones wait here until one of those has ended, or a moment has passed. If the
    function is known to be short, they then go together. If it is known not to be, none waits.

    How many Ray executes does not matter for correctness: whatever those are waiting for, such as
    a run that waits here, a moment later it is sent.

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
        # How many of Ray's tasks are on their way.
        self._in_flight = 0
        self._is_watched = False
        self._is_closed = False
        self._score = 0
        self._mean = _SHORT
        self._is_short = False

    # ------------------------------------------------------------------ what is known

    def note(self, seconds: float, *, is_small: bool) -> None:
        """Take note of a run that has completed.

        Args:
            seconds: How long it took on its worker.
            is_small: Whether its value came along.
        """
        if not is_small:
            self.close()
        if seconds < _SHORT:
            self._score = min(self._score + 1, _SAMPLE)
            self._mean += (seconds - self._mean) / _SAMPLE
        else:
            self._score = max(self._score - _PENALTY, -_SAMPLE)
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
        """Take over the sending of a run, unless it is to go alone and now.

        Args:
            run: The run.
            shipment: What is sent.

        Returns:
            Whether it is sent from here.
        """
        with self._lock:
            is_full = self._in_flight >= self._limit
            if not (self._may_be_short and (self._outbox or is_full)):
                self._in_flight += 1
                return False
            self._connection.remember(run)
            self._outbox.append(Waiting(run, shipment))
            self._watch()
        if not is_full:
            self.flush()
        return True

    def take_back(self, runs: Sequence[Waiting], *, at_once: bool) -> None:
        """Send runs again that have not begun where they were.

        Args:
            runs: The runs.
            at_once: Whether to send each by itself, and now.
        """
        if at_once:
            for each in runs:
                with self._lock:
                    self._in_flight += 1
                self._send([each])
        else:
            with self._lock:
                self._outbox.extendleft(reversed(runs))
                self._watch()
            self.flush()

    def ended(self) -> None:
        """Take note that a task of Ray's has ended; in any thread, where nothing may block."""
        with self._lock:
            self._in_flight -= 1
            is_due = bool(self._outbox)
        if is_due:
            self._connection.completions.call_soon(self.flush)

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        while True:
            with self._lock:
                room = self._limit - self._in_flight
                if room <= 0 or not self._outbox:
                    return
                taken = self._take(-(-len(self._outbox) // room))
            self._send(taken)

    def _take(self, at_most: int) -> list[Waiting]:
        size = min(self._batch_size(), len(self._outbox), at_most)
        self._in_flight += 1
        return [self._outbox.popleft() for _ in range(size)]

    def _batch_size(self) -> int:
        if not self._is_short or self._is_closed:
            return 1
        return min(_MAX_RUNS, max(1, int(_MAX_SECONDS / max(self._mean, 1e-9))))

    # ------------------------------------------------------------------ patience

    def _watch(self) -> None:
        """See to it that what waits is sent, whatever becomes of what is in flight."""
        if self._outbox and not self._is_watched:
            self._is_watched = True
            SYSTEM_CLOCK.call_later(_PATIENCE, self._lose_patience)

    def _lose_patience(self) -> None:
        # In the clock's thread, where nothing may block.
        with self._lock:
            self._is_watched = False
            if self._connection.has_ended():  # And so have the runs.
                self._outbox.clear()
            # Twice as many each time, so that it is soon over, and most wait until more is known.
            count = max(self._limit, self._in_flight)
            self._watch()
            is_due = bool(self._outbox)
        if is_due:
            self._connection.completions.call_soon(partial(self._send_overdue, count))

    def _send_overdue(self, count: int) -> None:
        """Send so many tasks, whether there is room or not, and have runs end in between."""
        with self._lock:
            if not self._outbox:
                return
            taken = self._take(_MAX_RUNS)
        self._send(taken)
        if count > 1:
            self._connection.completions.call_soon(partial(self._send_overdue, count - 1))

    # ------------------------------------------------------------------ sending

    def _send(self, taken: Sequence[Waiting]) -> None:
        batch = Batch(self, self._connection) if len(taken) > 1 else None
        try:
            wanted = [each for each in taken if each.run.leaves(batch)]
            if not wanted:
                self.ended()
            elif not self._connection.is_open():  # Asked first: Ray would start an instance.
                raise InstanceLostError("The connection to Ray has ended")
            elif batch is None:
                self._send_alone(wanted[0])
            else:
                batch.send(wanted, self._exported)
        except BaseException as error:  # Ctrl-C too, where runs go with one that is submitted.
            self.ended()
            for each in taken:
                each.run.refused(error)
            if not isinstance(error, Exception):
                raise

    def _send_alone(self, waiting: Waiting) -> None:
        run = waiting.run
        parcel = parcel_of(waiting.shipment, 0, run.origin.home)
        value_ref, outcome_ref = self._connection.submit(self._exported, (parcel,))
        run.submitted(value_ref, outcome_ref, ())
