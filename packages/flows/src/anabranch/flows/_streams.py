"""Streams of results, from inputs of any length, with a bound on what is in flight."""

from __future__ import annotations

import _thread
import operator
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, SupportsIndex, TypeAlias, TypeVar, final

import anyio.lowlevel
import anyio.to_thread

from anabranch.flows._rows import Call, Rows
from anabranch.futures import Cancellation, Completed, Future, Stream, WouldDeadlockError
from anabranch.futures.runner import InFlight

R = TypeVar("R")

Submit: TypeAlias = Callable[[tuple[object, ...], dict[str, object]], Future[R]]

#: How many runs a stream has in flight if it is not told: enough to keep the 40 threads of the
#: default runner busy while one run takes six times as long as the others.
MAX_PENDING: Final = 256


def checked_max_pending(name: str, value: object) -> int:
    """Return the bound that a user has given, or the default for None.

    Args:
        name: What errors call the method, such as ``"load.imap"``.
        value: What the user gave.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is less than 1.
    """
    if value is None:
        return MAX_PENDING
    told = f"{name}(max_pending={value!r})"
    fix = f"such as 100; leave it out for {MAX_PENDING}"
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{told}: give a whole number, {fix}")
    number = operator.index(value)
    if number < 1:
        raise ValueError(f"{told}: at least one run has to be in flight, {fix}")
    return number


@final
class ResultStream(Stream[R]):
    """The results of the runs that it submits itself, as they are asked for.

    Each step first takes the arguments of the next call from the inputs and submits its run; then
    of as many more as there is room for, until there is a result to hand out. What goes wrong in
    that is raised in its place: when the results before it have been handed out. It ends the
    stream, whereas the failure of a run does not.

    Args:
        name: What errors call the method, such as ``"load.imap()"``.
        rows: The arguments of the calls.
        submit: Submits a run.
        runs: Holds the runs in flight, and tells which comes next.
        max_pending: How many runs may have been submitted and not been handed out.
    """

    _is_closed = True  # Until it has been made.

    def __init__(
        self, name: str, rows: Rows, submit: Submit[R], runs: InFlight[R], max_pending: int
    ) -> None:
        self._name: Final = name
        self._rows: Final = rows
        self._submit: Final = submit
        self._runs: Final = runs
        self._max_pending: Final = max_pending
        self._is_taking = True
        self._error: Exception | None = None
        self._is_closed = False

    def __next__(self) -> R:
        is_first = True
        while self._has_room(is_first=is_first):
            try:
                self._start(self._rows.take())
            except Exception as error:  # Of the user's, or of an argument that does not fit.
                self._stop_taking(error)
                self._rows.close()
            is_first = False
        try:
            run = self._runs.join()
        except WouldDeadlockError:
            raise WouldDeadlockError(
                f"Waiting for the next result of {self._name} here would never end: this thread's "
                "event loop has to run it. Use `async for` instead of `for`"
            ) from None
        if run is None or self._is_closed:
            raise self._end(StopIteration)
        return self._hand_out(run)

    async def __anext__(self) -> R:
        is_first = True
        while self._has_room(is_first=is_first):
            try:
                self._start(await self._rows.take_async())
            except Exception as error:  # Of the user's, or of an argument that does not fit.
                self._stop_taking(error)
                await self._rows.aclose()
            is_first = False
        if self._runs.is_next_done():
            # A loop over results that are there already must not keep the event loop for itself.
            await anyio.lowlevel.checkpoint()
        run = await self._runs.join_async()
        if run is None or self._is_closed:
            raise self._end(StopAsyncIteration)
        state = run.final_state()
        if isinstance(state, Completed) and not state.is_local:
            try:
                await anyio.to_thread.run_sync(state.result)
            except Exception:  # The value is gone; other results may still be there.
                self._take_out(run)
                raise
        return self._hand_out(run)

    def close(self) -> None:
        """Cancel the runs in flight, and close the generators among the inputs."""
        self._is_closed = True
        self._is_taking = False
        self._error = None
        # The last first: cancelled before what it depends on, each is told of its own end.
        for run in reversed(self._runs.clear()):
            run.disown()
            if run.cancel() is not Cancellation.CANNOT_STOP:
                run.observe()  # Whoever left the stream knows how they ended.
        self._rows.close()

    async def aclose(self) -> None:
        """Cancel the runs in flight, and close the generators among the inputs, async ones too."""
        self.close()
        await self._rows.aclose()

    def __del__(self) -> None:
        if self._is_closed:
            return
        if sys.getrefcount(self) <= _UNREFERENCED:
            self.close()
        else:
            # In a cycle: the garbage collector is at work, in a thread that may hold any lock, even
            # one that cancelling a run takes.
            with suppress(RuntimeError):  # The interpreter is about to end.
                _thread.start_new_thread(self.close, ())

    # ------------------------------------------------------------------ one step

    def _has_room(self, *, is_first: bool) -> bool:
        # One for one, so that the next runs go on while the consumer is at a result; but more only
        # to have something to hand out. A runner that runs things in place so runs none ahead.
        return (
            self._is_taking
            and len(self._runs) < self._max_pending
            and (is_first or not self._runs.is_next_done())
        )

    def _start(self, call: Call | None) -> None:
        if call is None:
            self._is_taking = False
        else:
            self._runs.add(self._submit(*call))

    def _stop_taking(self, error: Exception) -> None:
        self._is_taking = False
        self._error = error

    def _hand_out(self, run: Future[R]) -> R:
        self._take_out(run)
        try:
            return run.final_state().result()
        except (StopIteration, StopAsyncIteration) as error:  # It would end the loop silently.
            raise RuntimeError(f"Run {run.task_run.name!r} raised {error!r}") from error

    def _take_out(self, run: Future[R]) -> None:
        self._runs.pop()
        run.observe()

    def _end(self, at_the_end: type[Exception]) -> Exception:
        error = self._error
        self.close()
        if isinstance(error, StopIteration | StopAsyncIteration):
            wrapped = RuntimeError(f"An input of {self._name} raised {error!r}")
            wrapped.__cause__ = error
            return wrapped
        return at_the_end() if error is None else error


class _Probe:
    """Finds out what `sys.getrefcount` says in the ``__del__`` of what nothing refers to."""

    count = 0

    def __del__(self) -> None:
        _Probe.count = sys.getrefcount(self)


_Probe()
_UNREFERENCED: Final = _Probe.count
