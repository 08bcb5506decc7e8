"""Many futures at once."""

from __future__ import annotations

import abc
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Generic, Never, Self, SupportsIndex, TypeVar, final, overload

import attrs

from anabranch.futures._cancellation import Cancellation
from anabranch.futures._future import Future
from anabranch.futures._states import Completed, State, bring_over
from anabranch.futures._stored_values import StoredValue
from anabranch.futures._work import TaskRun, new_run_id

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@final
@attrs.frozen(eq=False)
class unmapped(Generic[R_co]):
    """An argument of `.map()` that every call gets as it is."""

    value: R_co


@final
class FutureList(Future[list[R]], Sequence[Future[R]]):
    """Several futures, and the future of the list of their values.

    It is a sequence of futures, and it is itself a future: given to a task that takes a list, the
    task gets the list of values. It fails with the first of its futures that fails.
    """

    __slots__ = ("_futures",)

    def __init__(self, futures: Iterable[Future[R]]) -> None:
        self._futures = list(futures)
        run_id = new_run_id()
        super().__init__(TaskRun(run_id, f"gather-{run_id[-8:]}", "gather"))
        _Countdown(self, self._futures)

    @overload
    def __getitem__(self, index: int) -> Future[R]: ...
    @overload
    def __getitem__(self, index: slice[SupportsIndex | None]) -> FutureList[R]: ...
    def __getitem__(self, index: int | slice[SupportsIndex | None]) -> Future[R] | FutureList[R]:
        if isinstance(index, slice):
            return FutureList(self._futures[index])
        return self._futures[index]

    def __len__(self) -> int:
        return len(self._futures)

    def __iter__(self) -> Iterator[Future[R]]:
        return iter(self._futures)

    def __bool__(self) -> Never:
        raise TypeError(
            "A list of futures has no truth value: it may not be done. "
            "Use len(futures) or futures.done()"
        )

    def __repr__(self) -> str:
        return f"<FutureList of {len(self)} futures>"

    def cancel(self) -> Cancellation:
        """Ask for every run of the list to be stopped; see `Future.cancel`."""
        answers = {future.cancel() for future in self._futures}
        if answers <= {Cancellation.CANCELLED}:
            return Cancellation.CANCELLED
        if answers <= {Cancellation.CANNOT_STOP}:
            return Cancellation.CANNOT_STOP
        return Cancellation.WILL_STOP

    def observe(self) -> None:
        """Count the futures as looked at, too."""
        super().observe()
        for future in self._futures:
            future.observe()

    def missing(self) -> Iterable[Future[object]]:
        """Return the futures of the list that are not done."""
        return [future for future in self._futures if not future.done()]

    def needed_loops(self) -> frozenset[int]:
        """Return the threads of the event loops that one of the futures still needs."""
        return frozenset[int]().union(*(future.needed_loops() for future in self.missing()))

    def awaited(self) -> None:
        """Pass it on to the futures that are not done."""
        for future in self.missing():
            future.awaited()


class _Countdown(Generic[R]):
    """Ends a list's future when its futures have ended."""

    def __init__(self, target: FutureList[R], futures: Sequence[Future[R]]) -> None:
        self._target = target
        self._futures = futures
        self._lock = threading.Lock()
        self._missing = len(futures)
        target.set_running()
        if not futures:
            target.set_final(Completed([]))
        for future in futures:
            future.add_done_callback(self._ended)

    def _ended(self, future: Future[R]) -> None:
        state = future.final_state()
        if not isinstance(state, Completed):
            self._target.set_final(state)
            return
        with self._lock:
            self._missing -= 1
            is_last = self._missing == 0
        if is_last:
            values = _GatheredValues([each.final_state() for each in self._futures])
            self._target.set_final(Completed(values))


@final
class _GatheredValues(StoredValue[list[R]]):
    """The values of completed runs, left where they are until they are asked for."""

    __slots__ = ("_states",)

    def __init__(self, states: list[State[R]]) -> None:
        super().__init__()
        self._states = states

    def _fetch(self) -> list[R]:
        bring_over(self._states)
        return [state.result() for state in self._states]


def gather(futures: Iterable[Future[R]], /) -> FutureList[R]:
    """Make one future of several: of the list of their values, in their order.

    It fails as soon as one of them fails, with what that one failed with.
    """
    return FutureList(futures)


class Stream(Iterator[R_co], AsyncIterator[R_co]):
    """Values that come one after the other, for ``for`` in threads and ``async for`` in loops.

    A stream is for one consumer. It is a context manager, sync and async, that closes it.
    """

    @abc.abstractmethod
    def __next__(self) -> R_co:
        """Block this thread until there is another value."""

    @abc.abstractmethod
    async def __anext__(self) -> R_co:
        """Wait until there is another value."""

    @abc.abstractmethod
    def close(self) -> None:
        """End the stream, and let go of what it holds. Does not wait; may be called again."""

    async def aclose(self) -> None:
        """`close`, in an event loop, for what has to be awaited to let go of it."""
        self.close()

    def __iter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
