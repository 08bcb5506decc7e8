"""Waiting for several runs: for all of them, for the first failure, or for one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar, final

from anabranch.futures._clock import Clock, current_clock
from anabranch.futures._collections import Stream
from anabranch.futures._future import Future
from anabranch.futures._in_flight import AsTheyEnd
from anabranch.futures._states import Completed

R = TypeVar("R")


class Waited(NamedTuple, Generic[R]):
    """What `wait` returns: the futures that are done, and those that are not, in their order."""

    done: Sequence[Future[R]]
    not_done: Sequence[Future[R]]


def wait(
    futures: Iterable[Future[R]], /, *, timeout: float | None = None, fail_fast: bool = False
) -> Waited[R]:
    """Block this thread until every future is done, or the timeout is over.

    The runs' own failures are never raised.

    Args:
        futures: What to wait for.
        timeout: How long to wait for all of them together, in seconds.
        fail_fast: Whether to return as soon as one has ended otherwise than well.

    Raises:
        WouldDeadlockError: This thread runs an event loop that one of the runs needs.
    """
    waited = list(futures)
    time = _TimeLeft(timeout)
    if fail_fast:
        runs = _in_flight(waited)
        try:
            while (future := runs.join(time.left())) is not None and _is_completed(future):
                runs.pop()
        finally:
            runs.clear()
    else:
        for future in waited:
            future.join(time.left())
    return _waited(waited)


async def wait_async(
    futures: Iterable[Future[R]], /, *, timeout: float | None = None, fail_fast: bool = False
) -> Waited[R]:
    """Wait in an event loop until every future is done, or the timeout is over.

    See `wait`. Cancelling the wait does not cancel the runs.
    """
    waited = list(futures)
    time = _TimeLeft(timeout)
    if fail_fast:
        runs = _in_flight(waited)
        try:
            while True:
                future = await runs.join_async(time.left())
                if future is None or not _is_completed(future):
                    break
                runs.pop()
        finally:
            runs.clear()
    else:
        for future in waited:
            await future.join_async(time.left())
    return _waited(waited)


def _in_flight(futures: Iterable[Future[R]]) -> AsTheyEnd[R]:
    runs: AsTheyEnd[R] = AsTheyEnd()
    for future in dict.fromkeys(futures):
        runs.add(future)
    return runs


def _is_completed(future: Future[R]) -> bool:
    return isinstance(future.final_state(), Completed)


def _waited(futures: Sequence[Future[R]]) -> Waited[R]:
    done: list[Future[R]] = []
    not_done: list[Future[R]] = []
    for future in futures:
        future.observe()
        # It is looked at once: it may end at any time, and has to be in one of the two.
        (done if future.done() else not_done).append(future)
    return Waited(done, not_done)


@final
class _TimeLeft:
    """Counts a timeout down, on the clock of the code that waits."""

    def __init__(self, timeout: float | None) -> None:
        self._clock: Clock = current_clock.get()
        self._deadline = None if timeout is None else self._clock.now() + timeout

    def left(self) -> float | None:
        """Return how many seconds are left; None if there is no limit."""
        return None if self._deadline is None else max(0.0, self._deadline - self._clock.now())


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
        self._time = _TimeLeft(timeout)
        self._runs = _in_flight(futures)

    def __next__(self) -> Future[R]:
        future = self._runs.join(self._time.left())
        if future is None:
            raise self._no_next(StopIteration)
        self._runs.pop()
        return future

    async def __anext__(self) -> Future[R]:
        future = await self._runs.join_async(self._time.left())
        if future is None:
            raise self._no_next(StopAsyncIteration)
        self._runs.pop()
        return future

    def close(self) -> None:
        self._runs.clear()

    def _no_next(self, at_the_end: type[Exception]) -> Exception:
        count = len(self._runs)
        if count == 0:
            return at_the_end()
        return TimeoutError(f"{count} runs have not ended within the timeout")
