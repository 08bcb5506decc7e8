"""A run as it travels to a worker."""

from __future__ import annotations

import inspect
import pickle
import types
from collections.abc import Callable, Iterator
from typing import Final, SupportsIndex, TypeVar, final
from weakref import WeakKeyDictionary

from anabranch.futures import WorkItem
from anabranch.futures.runner import Shipment, describe
from anabranch.runners.dask._native import import_dumps

R = TypeVar("R")

#: The pickle protocol that began with it.
_OUT_OF_BAND: Final = 5


@final
class Parcel:
    """A run, pickled once and not looked into on the way.

    The scheduler gets to see every argument that Dask is given, has to be able to import its type,
    and mistakes a string that happens to be a key for what lies under that key. A parcel is bytes.

    Attributes:
        topic: Where the start of the run is announced.
        run_id: The run's id.
        run_name: Its name.
        function: Its function, pickled.
        shipment: All the rest of it, pickled.
    """

    __slots__ = ("function", "run_id", "run_name", "shipment", "topic")

    def __init__(
        self,
        topic: str,
        run_id: str,
        run_name: str,
        function: bytes,
        shipment: bytes | memoryview,
    ) -> None:
        self.topic = topic
        self.run_id = run_id
        self.run_name = run_name
        self.function = function
        self.shipment = shipment

    def __repr__(self) -> str:
        return f"<Parcel of {self.run_name!r}>"  # Dask logs it whole.

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[object, ...]:
        # Out of band, the bytes are not copied again at every stop.
        out_of_band = protocol.__index__() >= _OUT_OF_BAND
        shipment = pickle.PickleBuffer(self.shipment) if out_of_band else bytes(self.shipment)
        return Parcel, (
            self.topic,
            self.run_id,
            self.run_name,
            self.function,
            shipment,
        )


@final
class Packer:
    """Pickles runs, and each function only once."""

    def __init__(self, topic: str) -> None:
        self._dumps = import_dumps()
        self._topic = topic
        self._functions: WeakKeyDictionary[Callable[..., object], bytes] = WeakKeyDictionary()

    def __call__(self, item: WorkItem[R], shipment: Shipment) -> Parcel:
        """Pickle one run.

        Args:
            item: The run.
            shipment: The run, taken apart.

        Raises:
            TypeError: Something in it cannot be pickled; the message says what.
        """
        run = item.task_run
        function = self._pickled_function(item)
        try:
            pickled = self._dumps(shipment)
        except Exception as error:  # Pickling runs foreign code, which may raise anything at all.
            culprit, why = self._culprit(item, shipment) or ("its arguments", error)
            raise TypeError(
                f"Run {run.name!r} cannot be sent to a Dask worker: {culprit} cannot be pickled "
                f"({describe(why)}). Pass what it is made from, and make it in the task"
            ) from error
        return Parcel(self._topic, run.id, run.name, function, pickled)

    def _pickled_function(self, item: WorkItem[R]) -> bytes:
        function = item.function
        # Only of plain functions is it safe to assume that they stay what they were.
        is_plain = isinstance(function, types.FunctionType)
        if is_plain and (known := self._functions.get(function)) is not None:
            return known
        try:
            pickled = self._dumps(function)
        except Exception as error:  # Pickling runs foreign code, which may raise anything at all.
            raise TypeError(
                f"Run {item.task_run.name!r} cannot be sent to a Dask worker: its function cannot "
                f"be pickled ({describe(error)}). Pass what it refers to as an argument, or make "
                "it in the task"
            ) from error
        if is_plain:
            self._functions[function] = pickled
        return pickled

    def _culprit(self, item: WorkItem[R], shipment: Shipment) -> tuple[str, Exception] | None:
        for name, value in _named(item.function, shipment):
            try:
                self._dumps(value)
            except Exception as error:  # As above.
                return f"argument {name!r}", error
        return None


def _named(function: Callable[..., object], shipment: Shipment) -> Iterator[tuple[str, object]]:
    try:
        bound = inspect.signature(function).bind(*shipment.args, **shipment.kwargs)
    except (TypeError, ValueError):  # Some builtin functions tell no signature.
        yield from ((str(index), value) for index, value in enumerate(shipment.args))
        yield from shipment.kwargs.items()
    else:
        yield from bound.arguments.items()
