"""What runs in Ray's workers, and how it gets its work."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import partial
from typing import Protocol, TypeAlias, cast

from ray import cloudpickle

from anabranch.futures.runner import (
    AnyFunction,
    RunError,
    Shipment,
    default_backend,
    pickled_if_small,
    run_shipment,
)
from anabranch.runners.ray._alarm import limit_by_alarm
from anabranch.runners.ray._attempts import AttemptLog, History
from anabranch.runners.ray._loading import load_backend

#: What is called on a worker: with a parcel, the values for the slots of the shipment in it, and
#: then the outcomes of the runs that are only waited for. It gives a value and an outcome: what is
#: to be known here of a run that ended well, pickled, since Ray takes long over all but bytes.
Entry: TypeAlias = AnyFunction[tuple[object, bytes]]

#: What the run went through, and its value, pickled, if that is small.
Outcome: TypeAlias = tuple[History, bytes | None]

#: A shipment and how many values follow for its slots; pickled, if that is quicker.
Parcel: TypeAlias = tuple[Shipment, int] | bytes


class Pickler(Protocol):
    """The module ``cloudpickle``."""

    def dumps(self, value: object, /) -> bytes:
        """Pickle a value."""
        ...


def parcel_of(shipment: Shipment, slots: int) -> Parcel:
    """Return a shipment as it is sent.

    Args:
        shipment: The shipment.
        slots: How many values follow for its slots.
    """
    # Ray takes three times as long over anything but bytes.
    return pickle.dumps((shipment, slots)) if shipment.is_simple() else (shipment, slots)


def entry_of(function: AnyFunction[object], name: str) -> Entry:
    """Return what calls ``function`` on a worker; shipped once, with the function in it.

    Args:
        function: The task's function.
        name: What Ray calls it.
    """

    def entry(parcel: Parcel, *values: object) -> tuple[object, bytes]:
        return run_parcel(function, parcel, values)

    return _named(entry, name)


def travelling_entry(name: str) -> Entry:
    """Return what calls a function that comes along with each parcel.

    Args:
        name: What Ray calls it.
    """

    def entry(
        function: AnyFunction[object], parcel: Parcel, *values: object
    ) -> tuple[object, bytes]:
        return run_parcel(function, parcel, values)

    return _named(entry, name)


def run_parcel(
    function: AnyFunction[object], parcel: Parcel, values: Sequence[object]
) -> tuple[object, bytes]:
    """Run what has arrived, in a worker of Ray's, and return its value and its outcome.

    Args:
        function: What to call.
        parcel: With what.
        values: The values for the slots, and outcomes that are of no more use.

    Raises:
        RunError: The run ended in any other way than well.
    """
    if isinstance(parcel, bytes):
        parcel = cast("tuple[Shipment, int]", pickle.loads(parcel))
    shipment, slots = parcel
    if shipment.is_async:
        load_backend(shipment.backend or default_backend())
    dumps = cast("Pickler", cloudpickle).dumps
    log = AttemptLog(shipment)
    limiter = partial(limit_by_alarm, give_up=log.give_up)
    try:
        value = run_shipment(
            function, shipment, values[:slots], dumps, progress=log.note, limiter=limiter
        )
    except RunError as error:
        failure = error.with_history(log.history)
    else:
        outcome: Outcome = (log.history, pickled_if_small(value))
        return value, pickle.dumps(outcome)
    raise failure


def _named(entry: Entry, name: str) -> Entry:
    entry.__name__ = entry.__qualname__ = name
    return entry
