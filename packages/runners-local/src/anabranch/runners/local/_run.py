"""A run in this process: its item, its lifecycle, and its own future."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from anabranch.futures import (
    Cancellation,
    Cancelled,
    Clock,
    Future,
    Retrying,
    Running,
    State,
    WorkItem,
)
from anabranch.futures.runner import (
    SYSTEM_CLOCK,
    Attempt,
    CancelTimer,
    Delay,
    EventLoop,
    Hold,
    Lifecycle,
    RunScope,
    current_clock,
    current_hold,
    current_lease,
    current_scope,
    lifecycle_of,
    new_hold,
    only_attempt,
    timed_out,
)

if TYPE_CHECKING:
    from anabranch.runners.local._executor import Executor

R_co = TypeVar("R_co", covariant=True)

RUNNER_HAS_ENDED: Final = "The runner of the run has ended."
_BEFORE_START: Final = "The run was cancelled before it started."
_BETWEEN_ATTEMPTS: Final = "The run was cancelled between two attempts."


class LocalRun(Future[R_co]):
    """The future of a run in this process, which holds the run's work until it has ended.

    It drives the run's lifecycle: the executor takes an attempt with `claim` and tells how it ended
    with `attempt_ended`. Between two attempts the run holds no thread, and no place in a pool.

    Attributes:
        item: The work; None once the run has ended, so that a kept future keeps no arguments.
        executor: What executes the run, once that has been decided.
        scope: The scope of the attempt that is being made by a thread.
        is_queued: Whether the run has been handed to the executor's threads.
        is_wanted: Whether something waits for the run, so that it goes before new ones.
    """

    __slots__ = (
        "_attempt",
        "_clock",
        "_hold",
        "_is_unwanted",
        "_is_waiting",
        "_steps",
        "_stop",
        "_timer",
        "_when_awaited",
        "executor",
        "is_queued",
        "is_wanted",
        "item",
        "scope",
    )

    def __init__(
        self,
        item: WorkItem[R_co],
        loops: frozenset[int],
        executor: Executor | None = None,
        when_awaited: Callable[[LocalRun[object]], None] | None = None,
    ) -> None:
        super().__init__(item.task_run, loops=loops, listener=item.listener)
        self.item: WorkItem[R_co] | None = item
        self.executor: Executor | None = executor
        self.scope: RunScope | None = None
        self.is_queued = False
        self.is_wanted = False
        self._when_awaited = when_awaited
        self._stop: tuple[EventLoop, Callable[[], object]] | None = None
        self._steps: Lifecycle | None = None
        # The attempt that is to be made, or is being made; whoever takes it away goes on.
        self._attempt: Attempt | None = None
        self._is_waiting = False
        # It has been asked to stop while a thread was at it, which cannot be.
        self._is_unwanted = False
        self._timer: CancelTimer | None = None
        self._hold: Hold | None = None
        variables = item.variables
        if variables is None:
            self._clock: Clock = SYSTEM_CLOCK
        else:
            self._clock = current_clock.of(variables)
            lease = variables.get(current_lease)
            if lease is not None:
                lease.belongs_to(self)

    # ------------------------------------------------------------------ before it starts

    def missing(self) -> Iterable[Future[object]]:
        """Return the runs that this one waits for before it can start."""
        item = self.item
        if item is None:
            return ()
        return [each for each in (*item.upstreams, *item.tolerated) if not each.done()]

    def is_ready(self, loops: frozenset[int]) -> None:
        """Take note that all upstreams have ended: from now on only these loops are needed."""
        if not self.done():
            self._loops = loops

    def is_startable(self) -> bool:
        """Whether an attempt could be made now, and nobody is at it."""
        if self.done() or self.is_running() or self._is_waiting:
            return False
        return not any(True for _ in self.missing())

    def awaited(self) -> None:
        """Take note that something waits for the run, and so for what it waits for itself."""
        if self._when_awaited is not None:
            self._when_awaited(self)
        if self._is_waited_for_by_user():
            return
        behind: list[Future[object]] = [self]
        while behind:
            run = behind.pop()
            if isinstance(run, LocalRun):
                if not (run.is_wanted or run.done()) and run.executor is not None:
                    run.executor.threads.hasten(run)
                    behind.extend(run.missing())
            elif not run.done():
                run.awaited()

    def _is_waited_for_by_user(self) -> bool:
        """Whether what waits is the code that the runner was started for, and none of its runs.

        No run waits for that, so there is no hurry; and a flow's body may wait for all its runs.
        """
        scope = current_scope.get()
        if scope is None:
            return True
        is_own = self.executor is None or self.executor.runner is scope.runner
        return is_own and scope.task_run is None

    # ------------------------------------------------------------------ attempts

    def queued(self) -> None:
        """Take note that the run could start now: a test's clock is held."""
        clock = self._clock
        if clock is not SYSTEM_CLOCK and self._hold is None:
            self._hold = hold = new_hold(clock)
            if hold is not None and self.done():  # It was cancelled meanwhile.
                hold.end()

    def claim(self) -> Attempt | None:
        """Take the attempt that is to be made next; None if another has, or the run has ended."""
        item = self.item
        if item is None:
            return None
        with self._lock:
            # One that a waiting thread has run may still be queued when it waits for its next
            # attempt.
            if self._is_waiting or self.item is None or not self._begin():
                return None
            attempt = self._attempt
            if attempt is None:
                attempt = only_attempt(item) or self._begin_lifecycle(item)
                self._attempt = attempt
        if self._listener is not None:
            self._tell_running()
        if item.is_async and (hold := self._hold) is not None and self.executor is not None:
            # From here on, its event loop is at work.
            self._clock.watch(self.executor.loop)
            hold.end()
            self._hold = None
        if attempt.time_limit is not None and not item.is_async:
            expire = partial(self._out_of_time, attempt)
            self._timer = self._clock.call_later(attempt.time_limit, expire)
        return attempt

    def _begin_lifecycle(self, item: WorkItem[object]) -> Attempt:
        self._steps = lifecycle_of(item)
        attempt = next(self._steps)
        assert isinstance(attempt, Attempt), "a lifecycle begins with an attempt"
        return attempt

    def enter(self, attempt: Attempt, scope: RunScope) -> None:
        """Make an attempt in this context: in a scope, and holding a test's clock for the run."""
        if self._clock is not SYSTEM_CLOCK:
            current_hold.set(self._hold)
        if self._attempt is attempt:
            self.scope = scope
        # It may have been given up, or asked to stop, before there was a scope.
        if self._attempt is not attempt or self._is_unwanted:
            scope.cancel()

    def note_progress(self, state: Running | Retrying) -> None:
        """Take note of what the run is in, while another drives its lifecycle."""
        if isinstance(state, Retrying):
            self.set_retrying(state)
        else:
            self.set_running()

    def attempt_ended(self, attempt: Attempt, state: State[object]) -> None:
        """Go on with the lifecycle after an attempt, unless that has been given up."""
        if self._steps is None and attempt.time_limit is None:
            self.end(state)  # None is to follow. If it has been abandoned, this does nothing.
        elif self._take(attempt):
            self._advance(state)

    def _take(self, attempt: Attempt) -> bool:
        with self._lock:
            if self._attempt is not attempt:
                return False
            self._attempt = None
        if self._timer is not None:
            self._timer()
            self._timer = None
        return True

    def _out_of_time(self, attempt: Attempt) -> None:
        """Go on without the thread that is at it."""
        if self._take(attempt):
            self._give_up_thread(self.scope)
            if self.executor is not None:
                self.executor.runner.note_abandoned(self.task_run)
            assert attempt.time_limit is not None, "it has a timer"
            self._advance_elsewhere(timed_out(self.task_run, attempt.time_limit))

    def _give_up_thread(self, scope: RunScope | None) -> None:
        if self.executor is not None:
            self.executor.give_up(self)
        if scope is not None:
            scope.stop(f"Run {self.task_run.name!r}, which submitted it, was given up.")

    def _advance_elsewhere(self, state: State[object]) -> None:
        """`_advance` in the clock's thread, but for the policy: that may be the user's code."""
        item = self.item
        if item is not None and item.retry.retries:
            name = f"{self.task_run.name}-retry"
            with suppress(RuntimeError):  # The machine has no thread left.
                threading.Thread(
                    target=self._advance, args=(state,), name=name, daemon=True
                ).start()
                return
        self._advance(state)

    def _advance(self, state: State[object]) -> None:
        steps = self._steps
        if steps is None:  # It was the only attempt; or the run has been abandoned just now.
            self.end(state)
            return
        hold, self._hold = self._hold, None
        self._stop = None
        try:
            command = steps.send(state)
        except StopIteration as end:
            self.end(end.value)
        else:
            assert isinstance(command, Delay), "between two attempts there is a delay"
            self._wait(steps, command)
        finally:
            if hold is not None:
                hold.end()

    def _wait(self, steps: Lifecycle, delay: Delay) -> None:
        following = steps.send(None)
        assert isinstance(following, Attempt), "a delay is followed by an attempt"
        with self._lock:
            self._is_waiting = True
            self._attempt = following
            is_retrying = not self._is_unwanted and self._pause(delay.state)
        if is_retrying:
            self._tell(delay.state)
        if self._is_unwanted:
            self.end(Cancelled(message=_BETWEEN_ATTEMPTS))
            return
        if not is_retrying:
            return  # It was abandoned while its policy was asked.
        if delay.seconds:
            self._timer = cancel_timer = self._clock.call_later(delay.seconds, self._resume)
            if self.done():  # It was cancelled meanwhile, when there was no timer.
                cancel_timer()
        else:
            self._resume()

    def _resume(self) -> None:
        self.queued()  # Before a thread that waits for the run may take it.
        self._is_waiting = False
        if self.executor is not None and not self.done():
            self.executor.execute(self)

    # ------------------------------------------------------------------ ending

    def stop_with(self, loop: EventLoop, cancel: Callable[[], object]) -> None:
        """Tell what stops the run, in an event loop, while it is an async task."""
        self._stop = (loop, cancel)

    def end(self, state: State[object]) -> bool:
        """End the run, and let go of its work; returns whether this call ended it."""
        # In this order: what waits for the run takes hold of a test's clock before it lets go, and
        # finds nothing left of the work.
        hold = self._let_go()
        is_first = self._end(state, True)
        if hold is not None:
            hold.end()
        if self._hold is not None:  # Another thread has queued the run meanwhile, in vain.
            self._hold.end()
        return is_first

    def _let_go(self) -> Hold | None:
        self.item = self.scope = self._steps = self._stop = self._attempt = None
        if self._timer is not None:
            self._timer()
            self._timer = None
        if (hold := self._hold) is not None:
            self._hold = None
        return hold

    def abandon(self, state: State[object]) -> bool:
        """End the run, and do without the thread that is at it; see `Future.abandon`."""
        scope = self.scope
        has_thread = self.is_running() and self._stop is None
        # First of all: it could complete as soon as a run is given up that it waits for.
        if not self.end(state):
            return False
        if has_thread:
            self._give_up_thread(scope)
        return True

    def cancel(self) -> Cancellation:
        """Ask for the run to be stopped; see `Future.cancel`.

        A thread goes on, but what it has submitted is cancelled, and it makes no other attempt.
        """
        self._is_unwanted = True
        message = _BEFORE_START if self._steps is None else _BETWEEN_ATTEMPTS
        if self.set_final_unless_running(Cancelled(message=message)):
            hold = self._let_go()
            if hold is not None:
                hold.end()
            return Cancellation.CANCELLED
        if self.done():
            ended_so = isinstance(self.final_state(), Cancelled)
            return Cancellation.CANCELLED if ended_so else Cancellation.CANNOT_STOP
        if (stop := self._stop) is not None:
            loop, cancel = stop
            loop.call_soon(cancel)
            return Cancellation.WILL_STOP
        if (attempt_scope := self.scope) is not None:
            attempt_scope.cancel()
        return Cancellation.CANNOT_STOP
