"""The value of a run, which stays in Ray until somebody asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar, cast, final

from anabranch.futures.runner import StoredValue

if TYPE_CHECKING:
    from anabranch.runners.ray._link import Link
    from anabranch.runners.ray._native import Ref

R = TypeVar("R")


@final
class RayValue(StoredValue[R]):
    """The value of a run, in Ray's object store until it is asked for.

    Args:
        connection: Where it lies.
        ref: What it is there; None if it is small, and has come along with others.
        run_name: The run that it is the value of.
        pickled: The value itself, if it is small.
    """

    __slots__ = ("_connection", "_pickled", "_ref", "_run_name")

    def __init__(
        self, connection: Link, ref: Ref | None, run_name: str, pickled: bytes | None
    ) -> None:
        super().__init__()
        self._pickled = pickled
        self._connection = connection
        self._ref = ref
        self._run_name = run_name

    def _fetch(self) -> R:
        return cast("R", self._connection.fetch(self._ref, self._run_name, self._pickled))

    @classmethod
    def _fetch_many(cls, values: Sequence[StoredValue[object]]) -> None:
        stored = [each for each in values if isinstance(each, RayValue) and each._pickled is None]
        for link in {id(each._connection): each._connection for each in stored}.values():
            here = [each for each in stored if each._connection is link]
            found = link.fetch_many([each._ref for each in here if each._ref is not None])
            for each, value in zip(here, found, strict=False):
                each.keep(value)
