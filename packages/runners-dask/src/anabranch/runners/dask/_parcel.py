"""A run as it travels to a worker."""

from __future__ import annotations

import functools
import pickle
import types
from typing import Final, SupportsIndex, TypeVar, final
from weakref import WeakKeyDictionary

from anabranch.futures import WorkItem
from anabranch.futures.runner import AnyFunction, LogLevels, Shipment, unpicklable_error
from anabranch.runners.dask._functions import PackedFunction
from anabranch.runners.dask._home import Home
from anabranch.runners.dask._native import import_dumps

R = TypeVar("R")

#: The pickle protocol that began with it.
_OUT_OF_BAND: Final = 5

#: From how many bytes on it saves more than it costs: each buffer is a part of the message.
_LARGE: Final = 50_000

#: What there is to a parcel besides, in bytes.
_ENVELOPE: Final = 300


@final
class Parcel:
    """A run, pickled once and not looked into on the way.

    The scheduler gets to see every argument that Dask is given, has to be able to import its type,
    and mistakes a string that happens to be a key for what lies under that key. A parcel is bytes.

    Attributes:
        topic: Where the attempts of the run are announced.
        run_id: The run's id.
        run_name: Its name.
        function: Its function, pickled; or under which name the scheduler has that.
        shipment: All the rest of it, pickled.
        home: Where it belongs.
        priority: Its priority, to go by for what it submits.
        first_attempt: The number of the attempt to begin with.
        packed_function: The function itself, where the run is submitted.
    """

    __slots__ = (
        "first_attempt",
        "function",
        "home",
        "packed_function",
        "priority",
        "run_id",
        "run_name",
        "shipment",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        run_id: str,
        run_name: str,
        function: bytes | str,
        shipment: bytes | memoryview,
        home: Home,
        priority: float = 0,
        first_attempt: int = 1,
        packed_function: PackedFunction | None = None,
    ) -> None:
        self.topic = topic
        self.run_id = run_id
        self.run_name = run_name
        self.function = function
        self.shipment = shipment
        self.home = home
        self.priority = priority
        self.first_attempt = first_attempt
        self.packed_function = packed_function

    @property
    def size(self) -> int:
        """About how many bytes it takes; functions are shared."""
        return len(self.shipment) + _ENVELOPE

    def from_attempt(self, number: int) -> Parcel:
        """Return the same run, for another attempt than the first to begin with."""
        return Parcel(
            self.topic,
            self.run_id,
            self.run_name,
            self.function,
            self.shipment,
            self.home,
            self.priority,
            number,
            self.packed_function,
        )

    def __repr__(self) -> str:
        return f"<Parcel of {self.run_name!r}>"  # Dask logs it whole.

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[object, ...]:
        # Out of band, the bytes are not copied again at every stop.
        out_of_band = len(self.shipment) >= _LARGE and protocol.__index__() >= _OUT_OF_BAND
        shipment = pickle.PickleBuffer(self.shipment) if out_of_band else bytes(self.shipment)
        home = self.home
        return _unpack, (
            self.topic,
            self.run_id,
            self.run_name,
            self.function,
            shipment,
            (home.topic, home.run_id, home.levels.ours, home.levels.others),
            self.priority,
            self.first_attempt,
        )


def _unpack(
    topic: str,
    run_id: str,
    run_name: str,
    function: bytes | str,
    shipment: bytes | memoryview,
    home: tuple[str, str, int, int],
    priority: float,
    first_attempt: int,
) -> Parcel:
    home_topic, home_run_id, ours, others = home
    there = Home(home_topic, home_run_id, LogLevels(ours, others))
    return Parcel(topic, run_id, run_name, function, shipment, there, priority, first_attempt)


@final
class Packer:
    """Pickles runs, and each plain function only once."""

    def __init__(self, topic: str) -> None:
        self._dumps = import_dumps()
        self._topic = topic
        self._functions: WeakKeyDictionary[AnyFunction[object], PackedFunction] = (
            WeakKeyDictionary()
        )

    def __call__(
        self, item: WorkItem[R], shipment: Shipment, home: Home, priority: float
    ) -> Parcel:
        """Pickle one run.

        Args:
            item: The run.
            shipment: The run, taken apart.
            home: Where it belongs.
            priority: Its priority.

        Raises:
            TypeError: Something in it cannot be pickled; the message says what.
        """
        run = item.task_run
        try:
            function = self._packed_function(item.function)
            pickled = (pickle.dumps if shipment.is_simple() else self._dumps)(shipment)
        except Exception as error:  # Pickling runs foreign code, which may raise anything at all.
            failure = unpicklable_error(
                run.name,
                "a Dask worker",
                item.function,
                shipment.args,
                shipment.kwargs,
                self._dumps,
                error,
            )
        else:
            return Parcel(
                self._topic,
                run.id,
                run.name,
                function.reference,
                pickled,
                home,
                priority,
                packed_function=function,
            )
        raise failure

    def _packed_function(self, function: AnyFunction[object]) -> PackedFunction:
        is_plain = _is_plain(function)
        if is_plain and (known := self._functions.get(function)) is not None:
            return known
        packed = PackedFunction(self._dumps(function))
        if is_plain:
            self._functions[function] = packed
        return packed


def _is_plain(function: object) -> bool:
    """Whether it is safe to assume that a function stays what it is.

    What a closure refers to may be another thing the next time, or the same thing changed; and so
    may what is bound to a function.
    """
    if isinstance(function, functools.partial) and not (function.args or function.keywords):
        function = function.func  # As of a task.
    return isinstance(function, types.FunctionType) and function.__closure__ is None
