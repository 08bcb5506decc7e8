"""What is sent to a worker for a run, and what comes back."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias, final

import attrs

from anabranch.futures.runner import AnyFunction
from anabranch.runners.ray._home import PackedHome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anabranch.futures.runner import Shipment
    from anabranch.runners.ray._home import Home

#: A shipment, how many values follow for its slots, and where the run belongs; pickled, if that is
#: quicker.
Parcel: TypeAlias = "tuple[Shipment, int, PackedHome] | bytes"

#: A state between the first attempt and the end: its name, its time in seconds since the epoch, and
#: its message.
Moment: TypeAlias = tuple[str, float, str | None]

#: What a run has gone through on one worker.
History: TypeAlias = tuple[Moment, ...]

#: A piece of news from a worker: its kind, and what there is to say.
Letter: TypeAlias = tuple[object, ...]

#: What a run says at its end: the letters that it has not posted, pickled, and whether there are
#: others on their way through the relay, of this run or of one below it.
LastWords: TypeAlias = tuple[bytes | None, bool]

SILENCE: LastWords = (None, False)

#: What the run went through, its value, pickled, if that is small, its last words, and how long it
#: took, in seconds.
Outcome: TypeAlias = tuple[History, bytes | None, LastWords, float]

#: What is called on a worker: with a parcel, the values for the slots of the shipment in it, and
#: then the outcomes of the runs that are only waited for. It gives a value and an outcome: what is
#: to be known here of a run that ended well, pickled, since Ray takes long over all but bytes.
Entry: TypeAlias = AnyFunction[tuple[object, bytes]]

#: Runs what has arrived: a function, its parcel, and what follows.
Execute: TypeAlias = Callable[
    [AnyFunction[object], Parcel, "Sequence[object]"], tuple[object, bytes]
]


class Pickler(Protocol):
    """The module ``cloudpickle``."""

    def dumps(
        self,
        value: object,
        /,
        *,
        protocol: int | None = None,
        buffer_callback: Callable[[object], object] | None = None,
    ) -> bytes:
        """Pickle a value."""
        ...


@final
@attrs.frozen(eq=False)
class BatchParcel:
    """Several runs of one function that are one task to Ray.

    Attributes:
        id: Tells it from any other.
        runs: Their shipments, which have no slots, and where they belong.
    """

    id: str
    runs: list[tuple[Shipment, PackedHome]]

    def __reduce__(self) -> tuple[object, ...]:
        return BatchParcel, (self.id, self.runs)


def parcel_of(shipment: Shipment, slots: int, home: Home) -> Parcel:
    """Return a shipment as it is sent.

    Args:
        shipment: The shipment.
        slots: How many values follow for its slots.
        home: Where the run belongs.
    """
    parcel = (shipment, slots, home.packed())
    # Ray takes three times as long over anything but bytes.
    return pickle.dumps(parcel) if shipment.is_simple() else parcel


def entry_of(function: AnyFunction[object], name: str, execute: Execute) -> Entry:
    """Return what calls ``function`` on a worker; shipped once, with the function in it.

    Args:
        function: The task's function.
        name: What Ray calls it.
        execute: Runs what has arrived.
    """

    def entry(parcel: Parcel, *values: object) -> tuple[object, bytes]:
        return execute(function, parcel, values)

    return _named(entry, name)


def travelling_entry(name: str, execute: Execute) -> Entry:
    """Return what calls a function that comes along with each parcel.

    Args:
        name: What Ray calls it.
        execute: Runs what has arrived.
    """

    def entry(
        function: AnyFunction[object], parcel: Parcel, *values: object
    ) -> tuple[object, bytes]:
        return execute(function, parcel, values)

    return _named(entry, name)


def _named(entry: Entry, name: str) -> Entry:
    entry.__name__ = entry.__qualname__ = name
    return entry
