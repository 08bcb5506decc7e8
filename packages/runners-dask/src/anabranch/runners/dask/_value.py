"""Values that lie on Dask workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast, final

from anabranch.futures.runner import StoredValue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anabranch.runners.dask._link import Link
    from anabranch.runners.dask._native import NativeFuture

R = TypeVar("R")


@final
class DaskValue(StoredValue[R]):
    """A value in the memory of a Dask worker."""

    __slots__ = ("_connection", "_native", "_pickled", "_run_name")

    def __init__(
        self,
        connection: Link,
        native: NativeFuture,
        run_name: str,
        pickled: bytes | None,
    ) -> None:
        super().__init__()
        self._pickled = pickled
        self._connection = connection
        self._native = native
        self._run_name = run_name

    def _fetch(self) -> R:
        return cast("R", self._connection.fetch(self._native, self._run_name, self._pickled))

    @classmethod
    def _fetch_many(cls, values: Sequence[StoredValue[object]]) -> None:
        by_link: dict[Link, dict[str, tuple[NativeFuture, DaskValue[object]]]] = {}
        for value in values:
            if isinstance(value, DaskValue) and value._pickled is None:
                native = value._native
                by_link.setdefault(value._connection, {})[native.key] = (native, value)
        for link, wanted in by_link.items():
            for key, fetched in link.fetch_many([native for native, _ in wanted.values()]):
                wanted[key][1].keep(fetched)
