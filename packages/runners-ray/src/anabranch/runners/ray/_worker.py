"""What runs in Ray's workers, and how it gets its work."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, cast

from ray import cloudpickle

from anabranch.futures.runner import Shipment, run_shipment

#: What is called on a worker: with a parcel, the values for the slots of the shipment in it, and
#: then the outcomes of the runs that are only waited for.
Entry: TypeAlias = Callable[..., tuple[object, None]]

#: A shipment and how many values follow for its slots; pickled, if that is quicker.
Parcel: TypeAlias = tuple[Shipment, int] | bytes

# Values that pickle alike anywhere. Ray takes three times as long over anything but bytes.
_SIMPLE: Final = frozenset({int, float, bool, type(None), str})
_SHORT: Final = 10_000


def parcel_of(shipment: Shipment, slots: int) -> Parcel:
    """Return a shipment as it is sent.

    Args:
        shipment: The shipment.
        slots: How many values follow for its slots.
    """
    if shipment.is_plain and _are_simple((*shipment.args, *shipment.kwargs.values())):
        return pickle.dumps((shipment, slots))
    return shipment, slots


def _are_simple(values: Sequence[object]) -> bool:
    return all(
        type(value) in _SIMPLE and not (isinstance(value, str) and len(value) > _SHORT)
        for value in values
    )


def entry_of(function: Callable[..., object], name: str) -> Entry:
    """Return what calls ``function`` on a worker; shipped once, with the function in it.

    Args:
        function: The task's function.
        name: What Ray calls it.
    """

    def entry(parcel: Parcel, *values: object) -> tuple[object, None]:
        return run_parcel(function, parcel, values), None

    return _named(entry, name)


def travelling_entry(name: str) -> Entry:
    """Return what calls a function that comes along with each parcel.

    Args:
        name: What Ray calls it.
    """

    def entry(
        function: Callable[..., object], parcel: Parcel, *values: object
    ) -> tuple[object, None]:
        return run_parcel(function, parcel, values), None

    return _named(entry, name)


def run_parcel(function: Callable[..., object], parcel: Parcel, values: Sequence[object]) -> object:
    """Run what has arrived, in a worker of Ray's, and return its value.

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
    dumps = cast("Callable[[object], bytes]", cloudpickle.dumps)
    return run_shipment(function, shipment, values[:slots], dumps)


def _named(entry: Entry, name: str) -> Entry:
    entry.__name__ = entry.__qualname__ = name
    return entry
