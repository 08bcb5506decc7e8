"""The future of a run: what `.submit()` returns, and what runners complete."""

from __future__ import annotations

import enum
import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, Never, TypeVar, cast, overload

import anyio
import anyio.to_thread

from anabranch.futures._exceptions import NotFinishedError, WouldDeadlockError
from anabranch.futures._loops import EventLoop, running_loop
from anabranch.futures._states import Completed, Pending, Running

if TYPE_CHECKING:
    from anabranch.futures._states import State, Unfinished
    from anabranch.futures._work import TaskRun

R_co = TypeVar("R_co", covariant=True)

_logger = logging.getLogger("anabranch.futures")


class Cancellation(enum.Enum):
    """What became of a request to cancel a run."""

    CANCELLED = "cancelled"
    """The run is over, and it never ran or did not end by itself."""
    WILL_STOP = "will stop"
    """The run has been told to stop and will end soon."""
    CANNOT_STOP = "cannot stop"
    """The run is over already, or is out of reach, such as a thread in foreign code."""


class BlockingSection:
    """What a runner puts around the waits of its own worker threads.

    A worker thread that waits holds a place in its pool. The pool may lend the place to another
    while it waits, or have the thread run what it waits for.
    """

    def wait(self, future: Future[object], timeout: float | None = None) -> None:
        """Return when ``future`` is done, or the time is over: park, or run what it waits for."""
        future.park(timeout)


class _Thread(threading.local):
    """What the engine keeps for each thread."""

    section: BlockingSection | None = None
    draining: deque[tuple[Callable[[Future[object]], object], Future[object]]] | None = None


_thread = _Thread()


def set_blocking_section(section: BlockingSection | None) -> BlockingSection | None:
    """For runners: have this thread's waits go through ``section``; returns the one before."""
    before = _thread.section
    _thread.section = section
    return before


class Future(Generic[R_co]):
    """The outcome of a run that may still be going on.

    A future completes once, with a `State` that says how the run ended. Any thread and any event
    loop may wait for it, as often as they like, and giving up a wait never cancels the run. The
    runner keeps no finished run: whoever holds the future owns its value.

    In threads use `result` and `wait`; in async code ``await future``. A future given as an
    argument to `.submit()` is replaced by its value once there is one.

    Runners complete futures with `set_running` and `set_final`, and may subclass this to say how a
    run of theirs is cancelled. Nobody else does.

    Attributes:
        task_run: Which run this is the future of.
    """

    __slots__ = (
        "__weakref__",
        "_callbacks",
        "_lock",
        "_loops",
        "_observed",
        "_running_since",
        "_state",
        "task_run",
    )

    def __init__(self, task_run: TaskRun, *, loops: frozenset[int] = frozenset()) -> None:
        """Make a pending future.

        Args:
            task_run: Which run this is the future of.
            loops: The threads of the event loops without which the run cannot go on. A blocking
                wait in one of them could never end, so it raises.
        """
        self.task_run = task_run
        self._state: State[R_co] | None = None
        self._running_since: datetime | None = None
        self._callbacks: list[Callable[[Future[object]], object]] | None = None
        self._observed = False
        self._loops = loops
        self._lock = threading.Lock()

    # ------------------------------------------------------------------ looking

    def done(self) -> bool:
        """Whether the run has ended."""
        return self._state is not None

    def is_running(self) -> bool:
        """Whether the run has started and has not ended."""
        return self._state is None and self._running_since is not None

    @property
    def state(self) -> State[R_co] | Unfinished:
        """How the run is doing now."""
        if self._state is not None:
            self.observe()
            return self._state
        if self._running_since is not None:
            return Running(timestamp=self._running_since)
        return Pending()

    def __bool__(self) -> Never:
        raise TypeError(
            "A future has no truth value: it may not be done. "
            "Use future.done(), or future.result() for the value"
        )

    def __repr__(self) -> str:
        state = self._state or (Running() if self._running_since else Pending())
        return f"<{type(self).__name__} of {self.task_run.name!r}: {state}>"

    def __reduce__(self) -> Never:
        raise TypeError(
            f"The future of {self.task_run.name!r} cannot be pickled: it belongs to this process. "
            "Pass it as an argument to .submit(), or pass its .result()"
        )

    # ------------------------------------------------------------------ waiting

    def wait(self, timeout: float | None = None) -> State[R_co] | None:
        """Block this thread until the run has ended.

        Args:
            timeout: How long to wait, in seconds; None waits as long as it takes.

        Returns:
            How the run ended, or None if it has not within the timeout. The run's own failure is
            never raised.

        Raises:
            WouldDeadlockError: This thread runs an event loop that the run needs.
        """
        self.observe()
        return self.join(timeout)

    @overload
    def result(
        self, timeout: float | None = None, raise_on_failure: Literal[True] = True
    ) -> R_co: ...
    @overload
    def result(
        self, timeout: float | None = None, *, raise_on_failure: bool
    ) -> R_co | BaseException: ...
    def result(
        self, timeout: float | None = None, raise_on_failure: bool = True
    ) -> R_co | BaseException:
        """Block this thread until the run has ended, and return its value.

        Args:
            timeout: How long to wait, in seconds; None waits as long as it takes.
            raise_on_failure: Whether to raise what the run failed with; if false, it is returned.

        Returns:
            The value; or the exception of a failed run, if it is not to be raised.

        Raises:
            TimeoutError: The run has not ended within the timeout. It goes on.
            WouldDeadlockError: This thread runs an event loop that the run needs.
            BaseException: What the run failed with.
        """
        state = self.wait(timeout)
        if state is None:
            raise TimeoutError(f"Run {self.task_run.name!r} has not ended after {timeout} s")
        return state.result(raise_on_failure=raise_on_failure)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Block this thread until the run has ended, and return what it failed with, if it did.

        Args:
            timeout: How long to wait, in seconds; None waits as long as it takes.

        Raises:
            TimeoutError: The run has not ended within the timeout. It goes on.
            WouldDeadlockError: This thread runs an event loop that the run needs.
        """
        state = self.wait(timeout)
        if state is None:
            raise TimeoutError(f"Run {self.task_run.name!r} has not ended after {timeout} s")
        return None if isinstance(state, Completed) else state.exception

    async def wait_async(self, timeout: float | None = None) -> State[R_co] | None:
        """Wait in an event loop until the run has ended.

        Cancelling the wait does not cancel the run.

        Args:
            timeout: How long to wait, in seconds; None waits as long as it takes.

        Returns:
            How the run ended, or None if it has not within the timeout.
        """
        self.observe()
        with anyio.move_on_after(timeout):
            await self.join_async()
        return self._state

    def __await__(self) -> Generator[Any, None, R_co]:
        return self._result_async().__await__()

    async def _result_async(self) -> R_co:
        self.observe()
        state = await self.join_async()
        if isinstance(state, Completed) and not state.is_local:
            return await anyio.to_thread.run_sync(state.result)
        return state.result()

    def join(self, timeout: float | None = None) -> State[R_co] | None:
        """For runners and engines: `wait`, without counting as a look at the outcome."""
        if self._state is None:
            self._refuse_deadlock()
            section = _thread.section
            if section is None:
                self.park(timeout)
            else:
                section.wait(self, timeout)
        return self._state

    def _refuse_deadlock(self) -> None:
        if threading.get_ident() in self.needed_loops():
            raise WouldDeadlockError(
                f"Waiting for run {self.task_run.name!r} here would never end: this thread's event "
                "loop has to run it. Use `await future` instead of `future.result()`"
            )

    def park(self, timeout: float | None = None) -> None:
        """For runners: block this thread until the run has ended or the timeout is over."""
        done = threading.Lock()
        done.acquire()

        def wake(_: Future[object]) -> None:
            done.release()

        self._add_callback(wake)
        limit = -1 if timeout is None else min(max(timeout, 0), threading.TIMEOUT_MAX)
        if not done.acquire(timeout=limit):
            self._remove_callback(wake)

    async def join_async(self) -> State[R_co]:
        """For runners and engines: `wait_async`, without counting as a look at the outcome."""
        if self._state is None:
            loop = cast(EventLoop, running_loop())
            done = anyio.Event()

            def wake(_: Future[object]) -> None:
                loop.call_soon(done.set)

            self._add_callback(wake)
            try:
                self.awaited()
                await done.wait()
            finally:
                self._remove_callback(wake)
        return cast("State[R_co]", self._state)

    def missing(self) -> Iterable[Future[object]]:
        """For runners to override: return the runs that have to end before this one can."""
        return ()

    def awaited(self) -> None:
        """For runners to override: something has begun to wait for this run."""

    # ------------------------------------------------------------------ acting

    def cancel(self) -> Cancellation:
        """Ask for the run to be stopped.

        A run that has not started is over at once; an async task that is running is told to stop;
        a thread cannot be stopped from outside.

        Returns:
            What became of the request.
        """
        return Cancellation.CANNOT_STOP

    def add_done_callback(self, callback: Callable[[Future[R_co]], object]) -> None:
        """Have ``callback`` called with this future when the run has ended.

        It is called in the thread in which the run ends, or at once if it has ended already, so it
        should be quick and must not block. What it raises is logged.
        """
        self._add_callback(cast("Callable[[Future[object]], object]", callback))

    def _add_callback(self, callback: Callable[[Future[object]], object]) -> None:
        with self._lock:
            if self._state is None:
                if self._callbacks is None:
                    self._callbacks = [callback]
                else:
                    self._callbacks.append(callback)
                return
        _call(callback, self)

    def _remove_callback(self, callback: Callable[[Future[object]], object]) -> None:
        with self._lock:
            if self._callbacks is not None and callback in self._callbacks:
                self._callbacks.remove(callback)

    # ------------------------------------------------------------------ for runners

    def observe(self) -> None:
        """For engines: count as looked at."""
        self._observed = True

    def was_observed(self) -> bool:
        """For engines: whether anyone has looked at how the run ended."""
        return self._observed

    def needed_loops(self) -> frozenset[int]:
        """For runners: return the threads of the event loops that the run still needs."""
        return self._loops

    def final_state(self) -> State[R_co]:
        """For runners: return how the run ended, without counting as a look at the outcome."""
        if self._state is None:
            raise NotFinishedError(f"Run {self.task_run.name!r} has not ended")
        return self._state

    def set_running(self) -> bool:
        """For runners: claim the run for execution.

        Returns:
            Whether the caller is now the one to execute it. False if another has claimed it, or if
            it has ended, having been cancelled.
        """
        with self._lock:
            if self._running_since is not None or self._state is not None:
                return False
            self._running_since = datetime.now(UTC)
            return True

    def set_final(self, state: State[object]) -> bool:
        """For runners: end the run, and wake all that wait for it.

        Only the first call has an effect.

        Args:
            state: How the run ended.

        Returns:
            Whether this call ended the run.
        """
        with self._lock:
            if self._state is not None:
                return False
            self._state = cast("State[R_co]", state)
            callbacks, self._callbacks = self._callbacks, None
        self._loops = frozenset()
        if callbacks is not None:
            _drain(self, callbacks)
        return True


def _call(callback: Callable[[Future[object]], object], future: Future[object]) -> None:
    try:
        callback(future)
    except Exception:  # A subscriber is never in the way of a run.
        _logger.exception("A callback of run %r failed", future.task_run.name)


def _drain(future: Future[object], callbacks: list[Callable[[Future[object]], object]]) -> None:
    """Call callbacks, and those of the runs that they end, one after the other.

    Were they nested, a long chain of runs that fail one by another would overflow the stack.
    """
    pending = _thread.draining
    if pending is not None:
        pending.extend((callback, future) for callback in callbacks)
        return
    _thread.draining = pending = deque((callback, future) for callback in callbacks)
    try:
        while pending:
            _call(*pending.popleft())
    finally:
        _thread.draining = None
        if pending:  # Ctrl-C in a callback. Those behind it wake others, who would wait for ever.
            _drain_rest(pending)


def _drain_rest(pending: deque[tuple[Callable[[Future[object]], object], Future[object]]]) -> None:
    by_future: dict[Future[object], list[Callable[[Future[object]], object]]] = {}
    for callback, future in pending:
        by_future.setdefault(future, []).append(callback)
    for future, callbacks in by_future.items():
        _drain(future, callbacks)
