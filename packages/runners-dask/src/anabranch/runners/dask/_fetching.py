"""Bringing values over from the cluster."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol, TypeAlias, cast, final

from anabranch.runners.dask._native import Client, NativeFuture, import_sync

#: So many requests are made at a time.
_MAX_CONNECTIONS: Final = 16

#: So many values come with one request: all of them are in the scheduler's memory meanwhile.
_MANY: Final = 64


#: Values by their keys under "data", or what went wrong.
_Answer: TypeAlias = Mapping[str, Mapping[str, object]]


class Fetch(Protocol):
    """Brings values over."""

    def __call__(self, native: NativeFuture, /) -> object:
        """Bring one over; raises whatever can go wrong with that."""
        ...

    def many(self, natives: Sequence[NativeFuture], /) -> Iterator[tuple[str, object]]:
        """Bring several over, and give those that could be had, by their keys."""
        ...


class _Scheduler(Protocol):
    def gather(self, *, keys: list[str]) -> Awaitable[_Answer]: ...


class _Pool(Protocol):
    def __call__(self, address: str) -> _Scheduler: ...

    def start(self) -> Awaitable[None]: ...

    def close(self) -> Awaitable[None]: ...


class _PoolClass(Protocol):
    def __call__(
        self,
        *,
        deserialize: bool,
        connection_args: Mapping[str, object],
        timeout: float,
        limit: int,
    ) -> _Pool: ...


class _Core(Protocol):
    ConnectionPool: _PoolClass


class _Serialized(Protocol):
    header: Mapping[str, object]
    frames: object


class _Wrapped(Protocol):
    data: object


class _Serialization(Protocol):
    Serialized: type[_Serialized]
    Serialize: type[_Wrapped]
    ToPickle: type[_Wrapped]
    merge_and_deserialize: Callable[[object, object], object]


class _Compression(Protocol):
    decompress: Callable[[object, object], object]


@final
class Fetcher:
    """Brings values over as bytes, and unpickles them in the thread that asks for them.

    Dask would unpickle them in the client's event loop. A SystemExit would end that, and with it
    everything that waits for Dask; and large values would hold it up.

    Args:
        client: Whose values they are.
        timeout: How long to try to connect, in seconds.
    """

    def __init__(self, client: Client, timeout: float) -> None:
        core = cast("_Core", importlib.import_module("distributed.core"))
        protocol = "distributed.protocol"
        serialization = importlib.import_module(f"{protocol}.serialize")
        self._serialization: Final = cast("_Serialization", serialization)
        compression = importlib.import_module(f"{protocol}.compression")
        self._compression: Final = cast("_Compression", compression)
        self._client: Final = client
        self._sync: Final = import_sync()
        self._pool: Final = core.ConnectionPool(
            deserialize=False,
            connection_args=client.connection_args,
            timeout=timeout,
            limit=_MAX_CONNECTIONS,
        )
        self._sync(client.loop, self._pool.start)

    def __call__(self, native: NativeFuture) -> object:
        """Bring a value over; blocks, and raises whatever can go wrong with that."""
        key = native.key
        try:
            answer = self._sync(self._client.loop, self._gather, [key])
            value = cast("_Answer", answer)["data"][key]
        except (OSError, KeyError):
            return native.result()  # It is lost: Dask may compute it anew, or has its own error.
        return self._unpacked(value)

    def many(self, natives: Sequence[NativeFuture]) -> Iterator[tuple[str, object]]:
        """Bring values over, and give those that could be had."""
        for start in range(0, len(natives), _MANY):
            keys = [native.key for native in natives[start : start + _MANY]]
            try:
                answer = cast("_Answer", self._sync(self._client.loop, self._gather, keys))
            except Exception:  # Whoever asks for one of them alone hears of it.
                return
            for key, value in answer.get("data", {}).items():
                with suppress(Exception, SystemExit):  # As above; it is foreign code.
                    yield key, self._unpacked(value)

    def _unpacked(self, value: object) -> object:
        serialization = self._serialization
        if isinstance(value, serialization.Serialized):
            header, frames = value.header, value.frames
            if "compression" in header:
                frames = self._compression.decompress(header, frames)
            return serialization.merge_and_deserialize(header, frames)
        # Within one process it is never pickled.
        if isinstance(value, (serialization.Serialize, serialization.ToPickle)):
            return value.data
        return value

    async def _gather(self, keys: list[str]) -> _Answer:
        return await self._pool(self._client.scheduler.address).gather(keys=keys)

    def close(self) -> None:
        """End the connections."""
        with suppress(Exception):  # They may have ended before.
            self._sync(self._client.loop, self._pool.close, callback_timeout=5)
