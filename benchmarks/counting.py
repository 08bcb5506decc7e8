"""Counts the bytes that clients of Dask and Ray receive, for as long as their process lasts."""

from __future__ import annotations

from collections.abc import Callable
from typing import final


@final
class Counter:
    """Counts bytes; calling it tells how many there were so far."""

    def __init__(self) -> None:
        self._bytes = 0

    def __call__(self) -> int:
        return self._bytes

    def watch(
        self, owner: type, method: str, count: Callable[[tuple[object, ...], object], int]
    ) -> None:
        """Count what each call of a method brings.

        Args:
            owner: The class of the method.
            method: What it is called.
            count: Returns the bytes of a call, of its arguments and of what it returned.
        """
        original = getattr(owner, method)

        def watched(*args: object, **kwargs: object) -> object:
            found: object = original(*args, **kwargs)
            self._bytes += count(args, found)
            return found

        setattr(owner, method, watched)


def count_from_sockets() -> Counter:
    """Count what comes through Dask's connections in this process.

    It is what the client receives, and what the scheduler does too where that runs beside it.
    """
    from tornado.iostream import IOStream  # noqa: PLC0415 - it comes with Dask  # pants: no-infer-dep

    counter = Counter()
    counter.watch(IOStream, "read_from_fd", lambda _, read: read if isinstance(read, int) else 0)
    return counter


def count_from_store() -> Counter:
    """Count the bytes of the objects that this process reads from Ray's store.

    All values come through here, those that are asked for and those that callbacks are given.
    """
    from ray._private.serialization import SerializationContext  # noqa: PLC0415 - heavy, and most rows need none

    counter = Counter()
    counter.watch(SerializationContext, "deserialize_objects", lambda args, _: _bytes_of(args[1]))
    return counter


def _bytes_of(objects: object) -> int:
    assert isinstance(objects, list), "Ray gives the serialized objects first"
    # Of each the data, the metadata and more; there are objects with metadata only.
    return sum(0 if data is None else len(data) for data, *_ in objects)
