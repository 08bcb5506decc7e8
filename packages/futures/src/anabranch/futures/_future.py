"""The future of a run: what `.submit()` returns, and what runners complete."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, ClassVar, Final, Generic, Literal, Never, TypeVar, overload

import anyio
import anyio.to_thread

from anabranch.futures._blocking import current_lease, lent, lent_async, wait_for_end
from anabranch.futures._callbacks import Callback, Keeper, call, call_all, release_from
from anabranch.futures._cancellation import Cancellation
from anabranch.futures._exceptions import NotFinishedError, WouldDeadlockError
from anabranch.futures._locks import SharedLocks
from anabranch.futures._parking import park_task, park_thread
from anabranch.futures._states import Completed, Pending, Retrying, Running

if TYPE_CHECKING:
    from anabranch.futures._states import State, Unfinished
    from anabranch.futures._work import Listener, TaskRun

R_co = TypeVar("R_co", covariant=True)

_logger = logging.getLogger("anabranch.futures")

# What is done under one is short, and takes no other lock.
_locks: Final = SharedLocks()

#: What a run needs that can go on by itself.
NO_LOOPS: Final[frozenset[int]] = frozenset()


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
        admitted_by: For runners: a token of the one that has taken note of the run.
        logs_its_end: For engines: whether the run itself logs how it ended.
    """

    logs_its_end: ClassVar[bool] = False

    __slots__ = (
        "__weakref__",
        "_callbacks",
        "_created",
        "_disowned",
        "_earlier",
        "_keepers",
        "_listener",
        "_lock",
        "_loops",
        "_observed",
        "_retrying",
        "_running_since",
        "_state",
        "admitted_by",
        "task_run",
    )

    def __init__(
        self,
        task_run: TaskRun,
        *,
        loops: frozenset[int] = NO_LOOPS,
        listener: Listener | None = None,
    ) -> None:
        """Make a pending future.

        Args:
            task_run: Which run this is the future of.
            loops: The threads of the event loops without which the run cannot go on. A blocking
                wait in one of them could never end, so it raises.
            listener: Told whenever the run becomes Running or Retrying.
        """
        self.task_run: TaskRun = task_run
        self._state: State[R_co] | None = None
        # Seconds since the epoch: a datetime costs more than all the rest, and few are looked at.
        self._created = time.time()
        self._running_since: float | None = None
        self._retrying: Retrying | None = None
        # Of the attempts before the present one.
        self._earlier: tuple[Running | Retrying, ...] = ()
        self._listener = listener
        self._callbacks: list[Callback] | None = None
        self._keepers: tuple[Keeper, ...] = ()
        self.admitted_by: object = None
        self._observed = False
        self._disowned = False
        self._loops = loops
        self._lock = _locks.take()

    def done(self) -> bool:
        """Whether the run has ended."""
        return self._state is not None

    def is_running(self) -> bool:
        """Whether an attempt is being made right now."""
        return self._state is None and self._running_since is not None and self._retrying is None

    @property
    def state(self) -> State[R_co] | Unfinished:
        """How the run is doing now."""
        if self._state is not None:
            self.observe()
            return self._state
        return self._unfinished()

    @property
    def history(self) -> tuple[State[R_co] | Unfinished, ...]:
        """The states that the run has been in, the present one last.

        Each has the time at which the run entered it.
        """
        states: list[State[R_co] | Unfinished] = [Pending(timestamp=self._created)]
        with self._lock:
            states.extend(self._earlier)
            if self._running_since is not None:
                states.append(Running(timestamp=self._running_since))
            if self._retrying is not None:
                states.append(self._retrying)
            if self._state is not None:
                self.observe()
                states.append(self._state)
        return tuple(states)

    def _unfinished(self) -> Unfinished:
        with self._lock:
            if self._retrying is not None:
                return self._retrying
            if self._running_since is not None:
                return Running(timestamp=self._running_since)
        return Pending(timestamp=self._created)

    def __bool__(self) -> Never:
        raise TypeError(
            "A future has no truth value: it may not be done. "
            "Use future.done(), or future.result() for the value"
        )

    def __repr__(self) -> str:
        state = self._state or self._unfinished()
        return f"<{type(self).__name__} of {self.task_run.name!r}: {state}>"

    def __reduce__(self) -> Never:
        raise TypeError(
            f"The future of {self.task_run.name!r} cannot be pickled: it belongs to this process. "
            "Pass it as an argument to .submit(), or pass its .result()"
        )

    # ------------------------------------------------------------------ waiting

    @overload
    def wait(self, timeout: None = None) -> State[R_co]: ...
    @overload
    def wait(self, timeout: float | None) -> State[R_co] | None: ...
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
        self.observe()
        state = self._state or self.join(timeout)
        if state is None:
            raise TimeoutError(f"Run {self.task_run.name!r} has not ended after {timeout} s")
        return state.result(raise_on_failure)

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

    @overload
    async def wait_async(self, timeout: None = None) -> State[R_co]: ...
    @overload
    async def wait_async(self, timeout: float | None) -> State[R_co] | None: ...
    async def wait_async(self, timeout: float | None = None) -> State[R_co] | None:
        """Wait in an event loop until the run has ended.

        Cancelling the wait does not cancel the run.

        Args:
            timeout: How long to wait, in seconds; None waits as long as it takes.

        Returns:
            How the run ended, or None if it has not within the timeout.
        """
        self.observe()
        return await self.join_async(timeout)

    def __await__(self) -> Generator[object, None, R_co]:
        return self._result_async().__await__()

    async def _result_async(self) -> R_co:
        self.observe()
        await self.join_async()
        state = self.final_state()
        if isinstance(state, Completed) and not state.is_local:
            return await anyio.to_thread.run_sync(state.result)
        return state.result()

    def join(self, timeout: float | None = None) -> State[R_co] | None:
        """For runners and engines: `wait`, without counting as a look at the outcome."""
        if self._state is None:
            self.refuse_deadlock()
            lease = current_lease.get()
            if lease is None:
                wait_for_end(self, timeout)
            else:
                with lent(lease):
                    wait_for_end(self, timeout)
        return self._state

    def refuse_deadlock(self) -> None:
        """For runners and engines: raise if waiting in this thread would never end.

        Raises:
            WouldDeadlockError: This thread runs an event loop that the run needs.
        """
        if threading.get_ident() in self.needed_loops():
            raise WouldDeadlockError(
                f"Waiting for run {self.task_run.name!r} here would never end: this thread's event "
                "loop has to run it. Use `await future` instead of `future.result()`"
            )

    def park(self, timeout: float | None = None) -> None:
        """For runners: block this thread until the run has ended or the timeout is over."""
        park_thread(self._add_callback, self._remove_callback, timeout)

    async def join_async(self, timeout: float | None = None) -> State[R_co] | None:
        """For runners and engines: `wait_async`, without counting as a look at the outcome."""
        if self._state is not None:
            return self._state
        lease = current_lease.get()
        if lease is None:
            await self.park_async(timeout)
        else:
            async with lent_async(lease):
                await self.park_async(timeout)
        return self._state

    async def park_async(self, timeout: float | None = None) -> None:
        """For runners: `park`, in an event loop."""
        self.awaited()
        await park_task(self._add_callback, self._remove_callback, timeout)

    def missing(self) -> Iterable[Future[object]]:
        """For runners to override: return the runs that have to end before this one can."""
        return ()

    def awaited(self) -> None:
        """For runners to override: something has begun to wait for this run."""

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
        self._add_callback(callback)

    def remove_done_callback(self, callback: Callable[[Future[R_co]], object]) -> None:
        """For engines: undo one `add_done_callback`, unless it is called already."""
        self._remove_callback(callback)

    def _add_callback(self, callback: Callback) -> None:
        with self._lock:
            if self._state is None:
                if self._callbacks is None:
                    self._callbacks = [callback]
                else:
                    self._callbacks.append(callback)
                return
        call(callback, self)

    def _remove_callback(self, callback: Callback) -> None:
        with self._lock:
            if self._callbacks is not None and callback in self._callbacks:
                self._callbacks.remove(callback)

    # ------------------------------------------------------------------ for runners

    def keep(self, keepers: tuple[Keeper, ...]) -> None:
        """For engines: have these told when the run has ended; at once if it has ended already.

        Like a callback, but for the few that hold every run: told first, and for next to nothing.
        To be called by one thread at a time, so mostly before the run is known to others.
        """
        self._keepers += keepers
        if self._state is not None:  # They may have been told by now, and know that.
            self._keepers = ()
            release_from(keepers, self)

    def observe(self) -> None:
        """For engines: count as looked at."""
        self._observed = True

    def was_observed(self) -> bool:
        """For engines: whether anyone has looked at how the run ended."""
        return self._observed

    def disown(self) -> None:
        """For engines: whoever submitted the run has let go of it, and is to cancel it."""
        self._disowned = True

    def was_disowned(self) -> bool:
        """For engines: whether it is nobody's loss if the run is cancelled."""
        return self._disowned

    def needed_loops(self) -> frozenset[int]:
        """For runners: return the threads of the event loops that the run still needs."""
        return self._loops

    def final_state(self) -> State[R_co]:
        """For runners: return how the run ended, without counting as a look at the outcome."""
        if self._state is None:
            raise NotFinishedError(f"Run {self.task_run.name!r} has not ended")
        return self._state

    def set_running(self, since: float | None = None) -> bool:
        """For runners: claim the run for an attempt.

        Args:
            since: When the attempt began, in seconds since the epoch; now if None.

        Returns:
            Whether the caller is now the one to make it. False if another has claimed it, or if the
            run has ended, having been cancelled.
        """
        with self._lock:
            if not self._begin(since):
                return False
        if self._listener is not None:
            self._tell_running()
        return True

    def _begin(self, since: float | None = None) -> bool:
        """`set_running`, under the lock, and without telling anyone."""
        if self._state is not None:
            return False
        if self._running_since is not None:
            if self._retrying is None:
                return False
            before = Running(timestamp=self._running_since)
            self._earlier = (*self._earlier, before, self._retrying)
            self._retrying = None
        self._running_since = time.time() if since is None else since
        return True

    def set_retrying(self, state: Retrying) -> bool:
        """For runners: take note that an attempt has failed, and another is to follow.

        Returns:
            Whether the run now waits for that. False if no attempt was being made.
        """
        with self._lock:
            if not self._pause(state):
                return False
        self._tell(state)
        return True

    def _pause(self, state: Retrying) -> bool:
        """`set_retrying`, under the lock, and without telling anyone."""
        if not self.is_running():
            return False
        self._retrying = state
        return True

    def _tell_running(self) -> None:
        since = self._running_since
        if since is not None:
            self._tell(Running(timestamp=since))

    def _tell(self, state: Running | Retrying) -> None:
        listener = self._listener
        if listener is None:
            return
        try:
            listener(self.task_run, state)
        except Exception:  # A subscriber is never in the way of a run.
            _logger.exception("A listener of run %r failed", self.task_run.name)

    def set_final(self, state: State[object]) -> bool:
        """For runners: end the run, and wake all that wait for it.

        Only the first call has an effect.

        Args:
            state: How the run ended.

        Returns:
            Whether this call ended the run.
        """
        return self._end(state, True)

    def set_final_unless_running(self, state: State[object]) -> bool:
        """For runners: `set_final`, if no attempt is being made right now."""
        return self._end(state, False)

    def _end(self, state: State[object], even_if_running: bool, /) -> bool:
        callbacks: list[Callback] | None = None
        try:
            with self._lock:
                if self._state is not None or (not even_if_running and self.is_running()):
                    return False
                self._state = state  # type: ignore[assignment]  # A cast would be a call.
                if self._retrying is not None and self._running_since is not None:
                    before = Running(timestamp=self._running_since)
                    self._earlier = (*self._earlier, before, self._retrying)
                    self._retrying = self._running_since = None
                callbacks, self._callbacks = self._callbacks, None
                keepers, self._keepers = self._keepers, ()
            self._listener = None
            self._loops = NO_LOOPS
            if keepers:
                release_from(keepers, self)
        finally:  # Ctrl-C may have come: those who wait are woken all the same.
            if callbacks is not None:
                call_all(self, callbacks)
        return True

    def abandon(self, state: State[object]) -> bool:
        """For runners to override: end the run although it may go on where it cannot be stopped.

        Returns:
            Whether this call ended the run.
        """
        return self.set_final(state)
