"""The functions of runs, which are shipped to the cluster once."""

from __future__ import annotations

import hashlib
import pickle
from collections import OrderedDict
from collections.abc import Iterable
from threading import Lock
from typing import TYPE_CHECKING, Final, cast, final

from anabranch.futures.runner import AnyFunction
from anabranch.runners.dask._native import import_sync

if TYPE_CHECKING:
    from anabranch.runners.dask._native import Client, Worker
    from anabranch.runners.dask._parcel import Parcel

#: Up to how many bytes a function goes along with each run, as do those of importable modules.
_SMALL: Final = 500

#: How many functions a worker process keeps.
_MANY: Final = 256


@final
class PackedFunction:
    """A pickled function, and what stands for it in parcels.

    Attributes:
        pickled: The function.
        reference: The same if it is small; else a digest, under which the scheduler has it.
    """

    __slots__ = ("pickled", "reference")

    def __init__(self, pickled: bytes) -> None:
        self.pickled: Final = pickled
        is_small = len(pickled) <= _SMALL
        self.reference: Final = pickled if is_small else hashlib.sha256(pickled).hexdigest()


@final
class FunctionStore:
    """Brings functions to the scheduler, from where each worker gets them once.

    Args:
        client: The client of the scheduler.
    """

    def __init__(self, client: Client) -> None:
        self._client: Final = client
        self._shipped: Final[set[tuple[int, str, str]]] = set()

    async def ship(self, parcels: Iterable[Parcel]) -> None:
        """Bring the functions of parcels there, those that are not; in the client's loop."""
        for parcel in parcels:
            reference, packed = parcel.function, parcel.packed_function
            place = parcel.home.topic
            if isinstance(reference, bytes) or packed is None:
                continue
            # The client counts how often the scheduler was restarted, which forgets all then.
            shipped = (self._client.generation, place, reference)
            if shipped not in self._shipped:
                await self._client.scheduler.set_metadata(
                    keys=[place, "functions", reference], value=packed.pickled
                )
                self._shipped.add(shipped)


_functions: Final[OrderedDict[bytes | str, AnyFunction[object]]] = OrderedDict()
_lock: Final = Lock()
_fetching: Final = Lock()


def load_function(worker: Worker, parcel: Parcel) -> AnyFunction[object]:
    """Return the function of a run; the same object for all runs of it in this process.

    Raises:
        LookupError: The scheduler does not have it any more.
        BaseException: Whatever foreign code raises that is unpickled.
    """
    reference = parcel.function
    with _lock:
        function = _functions.get(reference)
        if function is not None:
            _functions.move_to_end(reference)
            return function
    if isinstance(reference, bytes):
        return _keep(reference, reference)
    with _fetching:  # Else each thread of the worker might have it sent.
        function = _functions.get(reference)
        if function is None:
            function = _keep(reference, _fetch(worker, parcel, reference))
    return function


def _keep(reference: bytes | str, pickled: bytes) -> AnyFunction[object]:
    function = cast("AnyFunction[object]", pickle.loads(pickled))
    with _lock:
        _functions[reference] = function
        if len(_functions) > _MANY:
            _functions.popitem(last=False)
    return function


def _fetch(worker: Worker, parcel: Parcel, reference: str) -> bytes:
    get = worker.scheduler.get_metadata
    path = [parcel.home.topic, "functions", reference]
    pickled = import_sync()(worker.loop, get, keys=path, default=None)
    if pickled is None:
        raise LookupError("the scheduler does not have its function any more; was it restarted?")
    return cast("bytes", pickled)
