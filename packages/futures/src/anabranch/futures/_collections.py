"""Many futures at once."""

from __future__ import annotations

import abc
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Generic, NamedTuple, Never, Self, TypeVar, final, overload

import attrs

from anabranch.futures._future import Cancellation, Future
from anabranch.futures._in_flight import AsTheyEnd
from anabranch.futures._states import Completed, State, StoredValue
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
    def __getitem__(self, index: slice) -> FutureList[R]: ...
    def __getitem__(self, index: int | slice) -> Future[R] | FutureList[R]:
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
        return [state.result() for state in self._states]


def gather(futures: Iterable[Future[R]], /) -> FutureList[R]:
    """Make one future of several: of the list of their values, in their order.

    It fails as soon as one of them fails, with what that one failed with.
    """
    return FutureList(futures)


class Waited(NamedTuple, Generic[R]):
    """What `wait` returns: the futures that are done, and those that are not, in their order."""

    done: Sequence[Future[R]]
    not_done: Sequence[Future[R]]


def wait(futures: Iterable[Future[R]], /, *, timeout: float | None = None) -> Waited[R]:
    """Block this thread until every future is done, or the timeout is over.

    The runs' own failures are never raised.

    Args:
        futures: What to wait for.
        timeout: How long to wait for all of them together, in seconds.

    Raises:
        WouldDeadlockError: This thread runs an event loop that one of the runs needs.
    """
    waited = list(futures)
    deadline = None if timeout is None else time.monotonic() + timeout
    for future in waited:
        future.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
    return Waited(
        [future for future in waited if future.done()],
        [future for future in waited if not future.done()],
    )


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


def as_completed(
    futures: Iterable[Future[R]], /, *, timeout: float | None = None
) -> Stream[Future[R]]:
    """Return the futures one by one as their runs end, in ``for`` or in ``async for``.

    The stream is for one consumer. Leaving it early, or closing it, does nothing to the runs.

    Args:
        futures: What to wait for; each future comes once.
        timeout: How long to wait for all of them together, in seconds. When it is over, the next
            step raises TimeoutError; the runs go on.
    """
    return _Completions(futures, timeout)


@final
class _Completions(Stream[Future[R]]):
    """Futures in the order of their ends."""

    def __init__(self, futures: Iterable[Future[R]], timeout: float | None) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._runs: AsTheyEnd[R] = AsTheyEnd()
        for future in dict.fromkeys(futures):
            self._runs.add(future)

    def __next__(self) -> Future[R]:
        future = self._runs.join(self._time_left())
        if future is None:
            raise self._no_next(StopIteration)
        self._runs.pop()
        return future

    async def __anext__(self) -> Future[R]:
        future = await self._runs.join_async(self._time_left())
        if future is None:
            raise self._no_next(StopAsyncIteration)
        self._runs.pop()
        return future

    def close(self) -> None:
        self._runs.clear()

    def _time_left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _no_next(self, at_the_end: type[Exception]) -> Exception:
        count = len(self._runs)
        if count == 0:
            return at_the_end()
        return TimeoutError(f"{count} runs have not ended within the timeout")
