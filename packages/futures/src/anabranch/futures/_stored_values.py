"""Values that lie where they were made."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Generic, TypeVar

R = TypeVar("R")


class StoredValue(Generic[R]):
    """The value of a completed run that still lies where it was made, such as on a Dask worker.

    A runner whose tasks run elsewhere puts one of these into `Completed` in place of the value.
    The value is brought over when it is first asked for, and kept from then on. What lies here
    means nothing in another process, so pickling brings the value over and pickles that.

    Type checkers have to be told of what type it is: ``state: Completed[int] = Completed(stored)``.
    """

    __slots__ = ("_fetched", "_lock", "_value")

    def __init__(self) -> None:
        self._fetched = False
        self._lock = threading.Lock()

    # To be overridden. No abstract class: each value that is read would be asked for its own.
    def _fetch(self) -> R:
        """Bring the value over; blocks, and may be called in any thread.

        Raises:
            ResultUnavailableError: What held the value is gone.
        """
        raise NotImplementedError

    @classmethod
    def _fetch_many(cls, values: Sequence[StoredValue[object]]) -> None:
        """Bring several over at once, as far as that goes; for runners to override.

        It `keep`s them, and raises nothing: what it leaves is fetched one by one.
        """

    def keep(self, value: R) -> None:
        """For runners: take note of the value, which has been brought over."""
        with self._lock:
            if not self._fetched:
                self._value = value
                self._fetched = True

    @property
    def is_local(self) -> bool:
        """Whether the value has been brought over already, so that `get` does not block."""
        return self._fetched

    def get(self) -> R:
        """Return the value, fetching it the first time.

        Raises:
            ResultUnavailableError: What held the value is gone.
        """
        with self._lock:
            if not self._fetched:
                self._value = self._fetch()
                self._fetched = True
            return self._value

    def __reduce__(self) -> tuple[object, ...]:
        return _identity, (self.get(),)


def _identity(value: R) -> R:
    return value
