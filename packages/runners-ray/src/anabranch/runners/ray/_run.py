"""A run in Ray: its future, and its value that stays there."""

from __future__ import annotations

import threading
from functools import partial
from typing import Final, TypeVar, cast, final

from anabranch.futures import (
    Cancellation,
    Cancelled,
    Completed,
    Future,
    State,
    TaskRun,
    WorkItem,
)
from anabranch.futures.runner import StoredValue, failure_behind, when_ready
from anabranch.runners.ray import _native
from anabranch.runners.ray._connection import Connection
from anabranch.runners.ray._native import Ref
from anabranch.runners.ray._outcome import find_run_error, own_state

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_NOT_STARTED: Final = "The run was cancelled before it started."
_STOPPED: Final = "The run was cancelled."


@final
class RayValue(StoredValue[R]):
    """The value of a run, in Ray's object store until it is asked for.

    Args:
        connection: Where it lies.
        ref: What it is there.
        run_name: The run that it is the value of.
    """

    __slots__ = ("_connection", "_ref", "_run_name")

    def __init__(self, connection: Connection, ref: Ref, run_name: str) -> None:
        super().__init__()
        self._connection = connection
        self._ref = ref
        self._run_name = run_name

    def _fetch(self) -> R:
        return cast("R", self._connection.fetch(self._ref, self._run_name))


@final
class RayRun(Future[R_co]):
    """The future of a run in Ray.

    Ray is not told to forget a run: dropping the future, and with it the refs, does that.

    Attributes:
        connection: Where the run is.
        value_ref: What the run's value is in Ray; None before it was submitted there, and when
            there is no value to come.
        outcome_ref: What tells of the run's end, without the value; None before and after.
    """

    __slots__ = (
        "_ended",
        "_fails_in_ray",
        "_has_ended",
        "_upstreams",
        "connection",
        "outcome_ref",
        "value_ref",
    )

    def __init__(self, task_run: TaskRun, connection: Connection) -> None:
        super().__init__(task_run)
        self.connection: Final = connection
        self.value_ref: Ref | None = None
        self.outcome_ref: Ref | None = None
        self._upstreams: tuple[Future[object], ...] = ()
        self._ended: threading.Event | None = None
        self._has_ended = False
        # Whether Ray knows by itself that there is no value to come, nor to what depends on it.
        self._fails_in_ray = False

    def is_in(self, connection: Connection) -> bool:
        """Whether the run's value lies, or will lie, where this connection leads to."""
        return self.connection is connection and self.value_ref is not None

    # ------------------------------------------------------------------ the way out

    def submitted(
        self, value_ref: Ref, outcome_ref: Ref, upstreams: tuple[Future[object], ...]
    ) -> None:
        """Go on from here with what Ray tells.

        Args:
            value_ref: What the run's value is in Ray.
            outcome_ref: What tells of its end.
            upstreams: The runs in Ray that it waits for there.
        """
        self._upstreams = upstreams
        self.value_ref = value_ref
        self.outcome_ref = outcome_ref
        _native.on_completed(outcome_ref, partial(self._report, value_ref))
        if self.done():  # Cancelled meanwhile, by someone who found nothing to cancel in Ray.
            self._stop(outcome_ref)
            self._let_go()
        # Ray hands failures down from run to run, and each time adds to their text: along a chain
        # of a thousand that takes it ten seconds.
        for upstream in upstreams:
            upstream.add_done_callback(self._upstream_ended)

    def _upstream_ended(self, upstream: Future[object]) -> None:
        failure = failure_behind(upstream)
        if failure is not None and not self.done():
            self._fails_in_ray = isinstance(upstream, RayRun) and upstream._fails_in_ray
            self.set_final(failure)

    def _report(self, value_ref: Ref, outcome: object) -> None:
        # In Ray's own thread: nothing of the user's may run here.
        self._has_ended = True
        if self._ended is not None:
            self._ended.set()
        if isinstance(outcome, BaseException):
            self._fails_in_ray = True
            _native.mark_as_read(value_ref)
        self.connection.completions.call_soon(partial(self._end_in_ray, value_ref, outcome))

    # ------------------------------------------------------------------ the way back

    def _end_in_ray(self, value_ref: Ref, outcome: object) -> None:
        if self.done():
            return
        if not isinstance(outcome, BaseException):
            self.set_final(Completed(RayValue(self.connection, value_ref, self.task_run.name)))
        elif (error := find_run_error(outcome)) is not None:
            is_own = error.run_id == self.task_run.id
            if is_own and self._ended is not None and error.kind == "Crashed":
                # What stopped it is the KeyboardInterrupt by which Ray cancels.
                self.set_final(Cancelled(message=_STOPPED))
            else:
                self.set_final(error.state_of(self.task_run))
        elif self._ended is not None:
            self.set_final(Cancelled(message=_STOPPED))
        else:
            self._end_or_blame(own_state(outcome, self.task_run))

    def _end_or_blame(self, state: State[R_co]) -> None:
        """End in this state, unless it is a run upstream that has ended so.

        Ray hands down cancellations and crashes without a name. But if this run has started, then
        all runs upstream have completed, and their ends are on their way here.
        """
        item: WorkItem[object] = WorkItem(
            _nothing, (), {}, self.task_run, upstreams=self._upstreams
        )
        when_ready(item, lambda: self.set_final(state), self.set_final)

    def set_final(self, state: State[object]) -> bool:
        """End the run; see `Future.set_final`. If it goes on in Ray, it is stopped there."""
        outcome_ref = self.outcome_ref
        if not super().set_final(state):
            return False
        if outcome_ref is not None and not self._has_ended and not self._fails_in_ray:
            self._stop(outcome_ref)
        self._let_go()
        return True

    def _let_go(self) -> None:
        self._upstreams = ()
        self.outcome_ref = None
        if not isinstance(self.final_state(), Completed):
            self.value_ref = None

    # ------------------------------------------------------------------ cancelling

    def cancel(self) -> Cancellation:
        """Ask for the run to be stopped.

        A run that has certainly not started is over at once. Of any other, Ray does not tell
        whether it has: it is taken out of the queue, or else interrupted like by Ctrl-C, and if
        that has not ended it a quarter of a second later, its worker process is killed.
        """
        upstreams = self._upstreams
        outcome_ref = self.outcome_ref
        has_not_started = outcome_ref is None or not all(each.done() for each in upstreams)
        if has_not_started and self.set_final(Cancelled(message=_NOT_STARTED)):
            return Cancellation.CANCELLED
        if self.done() or outcome_ref is None:
            ended_so = isinstance(self.final_state(), Cancelled)
            return Cancellation.CANCELLED if ended_so else Cancellation.CANNOT_STOP
        self._stop(outcome_ref)
        return Cancellation.WILL_STOP

    def _stop(self, outcome_ref: Ref) -> None:
        with self._lock:
            if self._ended is not None:
                return
            self._ended = ended = threading.Event()
        if self._has_ended:
            return
        self.connection.stop(outcome_ref, ended)


def _nothing() -> None:
    return None
