"""Several runs that are one task to Ray, as the process sees them that has submitted them."""

from __future__ import annotations

import pickle
import threading
import uuid
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, cast, final

from ray.exceptions import RayTaskError, TaskCancelledError, WorkerCrashedError

from anabranch.futures import Crashed, State, TaskRun
from anabranch.runners.ray import _native
from anabranch.runners.ray._journal import find_journal
from anabranch.runners.ray._outcome import crashed, has_begun, own_state
from anabranch.runners.ray._parcel import BatchParcel

if TYPE_CHECKING:
    from anabranch.runners.ray._lines import Line, Waiting
    from anabranch.runners.ray._link import Link
    from anabranch.runners.ray._native import Exported, Ref
    from anabranch.runners.ray._run import RayRun


@final
class Batch:
    """Several runs of one function that go to Ray together.

    Each ends by itself. What the worker has not begun, for whatever reason, it gives back, and it
    is sent once more.

    Args:
        line: Where they come from.
        connection: Where they go.
    """

    def __init__(self, line: Line, connection: Link) -> None:
        self._id: Final = uuid.uuid4().hex
        self._line: Final = line
        self._connection: Final = connection
        # Without those that were given back; for the thread in which runs end.
        self._runs: list[Waiting] = []
        self._lock = threading.Lock()
        self._ref: Ref | None = None
        self._is_unwanted = False
        # The run that it is at, if that goes on and is the last one.
        self._alone: RayRun[object] | None = None

    def send(self, runs: Sequence[Waiting], exported: Exported) -> None:
        """Have Ray execute runs, which leave with this batch.

        Args:
            runs: The runs.
            exported: What calls their function.
        """
        self._runs.extend(runs)
        packed = [(each.shipment, each.run.origin.home.packed()) for each in runs]
        parcel = pickle.dumps(BatchParcel(self._id, packed))
        value_ref, outcome_ref = self._connection.submit(exported, (parcel,))
        with self._lock:
            self._ref = outcome_ref
            is_unwanted, alone = self._is_unwanted, self._alone
        if is_unwanted:
            self._connection.cancel(outcome_ref)
        if alone is not None:
            alone.goes_on_alone(outcome_ref)
        _native.on_completed(outcome_ref, partial(self._report, value_ref))

    # ------------------------------------------------------------------ stopping runs

    def stop(self) -> None:
        """Have all runs given back that have not begun, since one of them is to be stopped."""
        with self._lock:
            ref = None if self._is_unwanted else self._ref
            self._is_unwanted = True
        if ref is not None:
            self._connection.cancel(ref)

    def goes_on(self, run: RayRun[object], begun: int) -> None:
        """Take note that a run goes on, and that none begins after it; in the completions thread.

        Args:
            run: The run.
            begun: How many have begun.
        """
        self._line.reset()
        self._give_back(begun, at_once=True)
        with self._lock:
            self._alone, ref = run, self._ref
        if ref is not None:
            run.goes_on_alone(ref)

    # ------------------------------------------------------------------ the way back

    def _report(self, value_ref: Ref, outcome: object) -> None:
        # In Ray's own thread: nothing of the user's may run here.
        if isinstance(outcome, BaseException):
            self._connection.mark_as_read(value_ref)
        self._line.ended()
        self._connection.completions.call_soon(partial(self._end, value_ref, outcome))

    def _end(self, value_ref: Ref, outcome: object) -> None:
        if isinstance(outcome, bytes):
            self._end_each(value_ref, cast("list[bytes]", pickle.loads(outcome)))
            return
        error = cast("BaseException", outcome)
        # Ray also says that it has cancelled what had begun, if that has lost its worker since.
        if _is_cancelled(error) or has_begun(own_state(error, self._runs[0].run.task_run)):
            self._connection.helper.call_soon(partial(self._find_journal, error))
        else:
            self._lose(error, self._runs)

    def _end_each(self, value_ref: Ref | None, entries: Sequence[bytes]) -> None:
        for each, entry in zip(self._runs, entries, strict=False):
            run = each.run
            run.guard(partial(run.ended_in_batch, value_ref, entry))
        self._give_back(len(entries))

    def _give_back(self, begun: int, *, at_once: bool = False) -> None:
        rest = self._runs[begun:]
        if rest:
            del self._runs[begun:]
            self._line.take_back([each for each in rest if each.run.given_back()], at_once=at_once)

    # ------------------------------------------------------------------ lost workers

    def _find_journal(self, error: BaseException) -> None:
        entries: list[bytes] | None = None
        try:
            if self._connection.is_open():  # Asked first, because Ray would start an instance.
                entries = find_journal(self._id)
        finally:
            end = partial(self._end_after_loss, error, entries)
            self._connection.completions.call_soon(end)

    def _end_after_loss(self, error: BaseException, entries: Sequence[bytes] | None) -> None:
        if entries is None and _is_cancelled(error):  # It has not begun.
            if self._is_unwanted:
                self._give_back(0)
            else:
                self._lose(error, self._runs)
            return
        # For good: what took one worker along may do so again, with other runs beside it.
        self._line.close()
        if entries is None:
            self._lose(error, self._runs, is_uncertain=len(self._runs) > 1)
            return
        if _is_cancelled(error):
            error = WorkerCrashedError()
        begun = self._runs[len(entries) : len(entries) + 1]
        rest = self._runs[len(entries) + 1 :]
        del self._runs[len(entries) :]
        self._end_each(None, entries)
        self._lose(error, begun)
        self._line.take_back([each for each in rest if each.run.given_back()], at_once=True)

    def _lose(
        self, error: BaseException, runs: Sequence[Waiting], *, is_uncertain: bool = False
    ) -> None:
        for each in runs:
            run = each.run
            run.guard(partial(run.lost_in_batch, error, is_uncertain=is_uncertain))


def _is_cancelled(error: BaseException) -> bool:
    cause = error.cause if isinstance(error, RayTaskError) else error
    return isinstance(cause, TaskCancelledError)


def uncertain_crash(run: TaskRun, state: State[object]) -> Crashed:
    """Return the state of a run that has shared a worker with others, and was lost with them."""
    message = (
        f"{state.message} (The run shared a task of Ray's with others, and what their worker had "
        "noted of them is lost as well: it may have ended, or not have begun)"
    )
    return crashed(run, message, state.exception if isinstance(state, Crashed) else None)
