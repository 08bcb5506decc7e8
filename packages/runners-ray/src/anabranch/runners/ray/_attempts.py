"""What has happened to a run on its worker, and how that gets here even if the worker is lost."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast, final

import attrs
import ray
from ray.experimental import internal_kv

from anabranch.futures import Cancelled, Retrying, Running, TaskRun
from anabranch.futures.runner import AnyFunction, RunError, Shipment, describe
from anabranch.runners.ray._outcome import crashed
from anabranch.runners.ray._parcel import History

if TYPE_CHECKING:
    from anabranch.runners.ray._errand import Errand

_CANCELLED: Final = "The run was cancelled between two attempts."

_NAMESPACE: Final = b"anabranch"


@final
@attrs.frozen
class Record:
    """What a worker leaves in Ray's own store, to be found there if it is lost.

    Attributes:
        attempt: The number of the last attempt that was begun.
        history: What has happened on this worker so far.
        is_out_of_time: Whether the worker ended itself, because the attempt would not end in time.
    """

    attempt: int
    history: History
    is_out_of_time: bool = False

    def save(self, run: TaskRun) -> None:
        """Keep this as the record of a run; it is safe when this returns."""
        put = cast("AnyFunction[object]", internal_kv._internal_kv_put)
        put(_key(run), pickle.dumps(self), namespace=_NAMESPACE)


def take_record(run: TaskRun) -> Record | None:
    """Return the record that a lost worker left of a run, and have it forgotten."""
    get = cast("AnyFunction[bytes | None]", internal_kv._internal_kv_get)
    found = get(_key(run), namespace=_NAMESPACE)
    if found is None:
        return None
    forget_record(run)
    return cast("Record", pickle.loads(found))


def forget_record(run: TaskRun) -> None:
    """Remove the record of a run, if there is one."""
    delete = cast("AnyFunction[object]", internal_kv._internal_kv_del)
    delete(_key(run), namespace=_NAMESPACE)


def _key(run: TaskRun) -> bytes:
    return f"anabranch-run-{run.id}".encode()


@final
class AttemptLog:
    """Keeps what happens to a run, on its worker.

    Args:
        shipment: The run.

    Attributes:
        first_attempt: The number of the attempt that was the first one here.
        history: What has happened here so far.
    """

    def __init__(self, shipment: Shipment) -> None:
        self._run: Final = shipment.task_run
        self.first_attempt: Final = shipment.first_attempt
        self._attempt = shipment.first_attempt
        self.history: History = (("Running", time.time(), None),)

    def note(self, errand: Errand, state: Running | Retrying) -> None:
        """Take note that the run waits for another attempt, or is about to make it.

        Args:
            errand: The run.
            state: What it is in.

        Raises:
            RunError: It must not make it.
        """
        if (
            errand.stopping.is_wanted or is_cancelled()
        ):  # What interrupted the attempt may have come out as its own failure.
            raise RunError.of(self._run, Cancelled(message=_CANCELLED))
        moment = (state.name, state.timestamp.timestamp(), state.message)
        self.history = (*self.history, moment)
        if isinstance(state, Retrying):
            errand.tell_moments()
            return
        self._attempt += 1
        try:
            # Before the attempt begins: however soon it takes this process along, it counts.
            Record(self._attempt, self.history).save(self._run)
        except Exception as error:  # Ray's own store is out of reach, for whatever reason.
            message = f"Attempt {self._attempt} could not be recorded in Ray: {describe(error)}"
            raise RunError.of(self._run, crashed(self._run, message)) from error
        errand.tell_moments()

    def give_up(self) -> None:
        """Take note that this process ends itself, because the attempt would not end in time."""
        Record(self._attempt, self.history, is_out_of_time=True).save(self._run)


def is_cancelled() -> bool:
    """Whether Ray was asked to cancel what this process executes."""
    # Earlier versions of Ray do not tell.
    ask = getattr(ray.get_runtime_context(), "is_canceled", None)
    return ask is not None and bool(cast("Callable[[], object]", ask)())
