"""A run on its way to Ray: alone or with others, now or when its turn comes."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, TypeVar

from anabranch.futures import Cancellation, Cancelled, Failed, Future, WorkItem
from anabranch.futures.runner import describe
from anabranch.runners.ray._outcome import crashed
from anabranch.runners.ray._questions import InstanceLostError

if TYPE_CHECKING:
    from anabranch.runners.ray._batch import Batch
    from anabranch.runners.ray._lines import Line
    from anabranch.runners.ray._link import Link
    from anabranch.runners.ray._native import Ref
    from anabranch.runners.ray._origin import Origin

R_co = TypeVar("R_co", covariant=True)

NOT_STARTED: Final = "The run was cancelled before it started."


class DepartingRun(Future[R_co]):
    """The part of a run that sees to it that it is either sent or withdrawn, and never both.

    A run with a line may wait there, and then leave in a batch. The batch gives it back if it has
    not begun, and it leaves once more.

    Attributes:
        connection: Where the run is.
        origin: Where it comes from.
        outcome_ref: What tells of the run's end, without the value; None before, after, and while
            the run waits to be submitted again. In a batch, None as long as it is not known that
            the run is the one that is being executed.
        line: The line that it may wait in; None if it always goes alone.

    Args:
        item: What is run.
        connection: Where to.
        origin: Where it comes from.
    """

    __slots__ = (
        "_batch",
        "_ended",
        "_has_ended",
        "_is_leaving",
        "_is_withdrawn",
        "_latest",
        "connection",
        "line",
        "origin",
        "outcome_ref",
    )

    def __init__(self, item: WorkItem[R_co], connection: Link, origin: Origin) -> None:
        super().__init__(item.task_run, listener=item.listener)
        self.connection: Final = connection
        self.origin: Final = origin
        self.outcome_ref: Ref | None = None
        self.line: Line | None = None
        self._batch: Batch | None = None
        # Whether it is being sent, and whether it is not to be sent; never both.
        self._is_leaving = self._is_withdrawn = False
        # There as soon as the run is to be stopped; set when Ray has reported its end.
        self._ended: threading.Event | None = None
        self._has_ended = False
        # The time of the latest event, in seconds since the epoch.
        self._latest = 0.0

    def refused(self, error: BaseException) -> None:
        """End because Ray has not taken it."""
        if isinstance(error, InstanceLostError):
            self.set_final(crashed(self.task_run, str(error)))
        elif isinstance(error, Exception):
            self.set_final(Failed(error, message=describe(error)))
        else:
            self.set_final(Cancelled(message=f"Its submission was ended by {describe(error)}"))

    def leaves(self, batch: Batch | None) -> bool:
        """Take note that the run is about to be sent, with others or alone.

        Args:
            batch: What it is sent with.

        Returns:
            Whether it is; not if it has been cancelled.
        """
        with self._lock:
            if self._is_withdrawn or self._state is not None:
                return False
            self._is_leaving = True
            self._batch = batch
        self._latest = time.time()
        return True

    def _withdraw(self) -> Cancellation | None:
        """Cancel the run before it is sent, or else ask for that; None if it has been sent."""
        with self._lock:
            if self.outcome_ref is not None or self._state is not None:
                return None
            batch, self._is_withdrawn = self._batch, not self._is_leaving
            if self._is_leaving and self._ended is None:
                self._ended = threading.Event()
        if self._is_withdrawn:
            self.set_final(Cancelled(message=NOT_STARTED))
            return Cancellation.CANCELLED
        if batch is not None:
            batch.stop()
        return Cancellation.WILL_STOP

    def goes_on_alone(self, ref: Ref) -> None:
        """Take note that it is the run that its batch is at, and the last one."""
        with self._lock:
            if self._batch is None:
                return
            ended, self.outcome_ref = self._ended, ref
        if ended is not None:
            self.connection.stop(self.task_run.id, self.origin.home, ref, ended)

    def given_back(self) -> bool:
        """Take note that the run has not begun; return whether it is to be sent again."""
        with self._lock:
            self._batch = None
            self._is_leaving = False
            is_unwanted = self._ended is not None
        if is_unwanted:
            self.set_final(Cancelled(message=NOT_STARTED))
        return not self.done()

    def _leave_batch(self) -> None:
        with self._lock:
            self._batch = None
            self._has_ended = True
            ended = self._ended
        if ended is not None:
            ended.set()
