"""Several runs that are one task to Ray, on the worker that executes them."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, final

import ray

from anabranch.futures import Failed, State
from anabranch.futures.runner import RunError, describe
from anabranch.runners.ray._attempts import is_cancelled
from anabranch.runners.ray._interrupts import ignore_interrupts
from anabranch.runners.ray._journal import Journal
from anabranch.runners.ray._native import pickle as dumps
from anabranch.runners.ray._native import refuse_unpicklable
from anabranch.runners.ray._outcome import UNSTORABLE

if TYPE_CHECKING:
    from anabranch.futures.runner import Shipment
    from anabranch.runners.ray._home import PackedHome
    from anabranch.runners.ray._parcel import BatchParcel, Outcome


class Run(Protocol):
    """Executes one run, and returns its value and its outcome, or raises a `RunError`."""

    def __call__(
        self, shipment: Shipment, home: PackedHome, *, goes_on: Callable[[], int]
    ) -> tuple[object, Outcome]:
        """Execute a run; ``goes_on`` is called, in another thread, if that takes a while."""
        ...


@final
class BatchWork:
    """Executes the runs of a batch, one after the other, as far as it comes.

    It gives back those that have not begun when one goes on for a while, when one returns
    something that is not small, and when one of them is to be cancelled.

    Args:
        batch: The batch.
    """

    def __init__(self, batch: BatchParcel) -> None:
        self._batch: Final = batch
        # Held while it is decided whether a run begins or is given back.
        self._lock = threading.Lock()
        self._begun = 0
        self._is_over = False

    def execute(self, run: Run) -> tuple[object, bytes]:
        """Execute the runs, and return the value that is not small, if any, and all outcomes.

        Args:
            run: Executes one.
        """
        _ignore_interrupts()
        entries: list[bytes] = []
        value: object = None
        with Journal(self._batch.id) as journal:
            for shipment, home in self._batch.runs:
                if not self._begins():
                    break
                journal.note(entries[-1] if entries else None)
                try:
                    value, outcome = run(shipment, home, goes_on=self._give_back)
                    if outcome[1] is None:
                        self._is_over = True
                        _refuse_unstorable(shipment, value, outcome)
                    else:
                        value = None
                    entry = pickle.dumps(outcome)
                except RunError as error:
                    value = None
                    entry = pickle.dumps(error)
                entries.append(entry)
        return value, pickle.dumps(entries)

    def _begins(self) -> bool:
        with self._lock:
            if self._is_over or is_cancelled():
                return False
            self._begun += 1
            return True

    def _give_back(self) -> int:
        """Begin no other run, and return how many have begun."""
        with self._lock:
            self._is_over = True
            return self._begun


def _refuse_unstorable(shipment: Shipment, value: object, outcome: Outcome) -> None:
    """Raise what Ray would only say when nothing can be done any more for the other runs."""
    try:
        refuse_unpicklable(value)
    except (Exception, SystemExit) as error:  # Pickling runs foreign code.
        run = shipment.task_run
        error.add_note(UNSTORABLE.format(run.name))
        cause = error if isinstance(error, Exception) else RuntimeError(describe(error))
        state: State[object] = Failed(cause, message=describe(error))
        history, _, words, _ = outcome
        failure = RunError.of(run, state, dumps).with_history((history, words))
    else:
        return
    raise failure


def _ignore_interrupts() -> None:
    """Take no notice of Ray's interrupts until Ray has the end of its present task.

    One that Ray makes an error of would say that the batch is still to be executed.
    """
    task = _present_task()
    ignore_interrupts(lambda: _present_task() == task)


def _present_task() -> str:
    return str(ray.get_runtime_context().get_task_id())
