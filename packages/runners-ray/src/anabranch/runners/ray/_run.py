"""A run in Ray: its future, and its value that stays there."""

from __future__ import annotations

import logging
import pickle
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, cast, final

from anabranch.futures import (
    Cancellation,
    Cancelled,
    Completed,
    Crashed,
    Future,
    Retrying,
    Running,
    State,
    WorkItem,
)
from anabranch.futures.runner import (
    CancelTimer,
    Delay,
    RunError,
    current_clock,
    describe,
    failure_behind,
    lifecycle,
    timed_out,
    when_ready,
)
from anabranch.runners.ray import _native
from anabranch.runners.ray._attempts import forget_record, take_record
from anabranch.runners.ray._batch import uncertain_crash
from anabranch.runners.ray._departure import NOT_STARTED, DepartingRun
from anabranch.runners.ray._native import Ref
from anabranch.runners.ray._outcome import crashed, find_run_error, has_begun, own_state
from anabranch.runners.ray._parcel import SILENCE, History, LastWords, Letter, Outcome
from anabranch.runners.ray._value import RayValue

if TYPE_CHECKING:
    from anabranch.runners.ray._link import Link
    from anabranch.runners.ray._origin import Origin

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_BETWEEN_ATTEMPTS: Final = "The run was cancelled between two attempts."
_STOPPED: Final = "The run was cancelled."

_logger = logging.getLogger("anabranch.task_runner.ray")


@final
class RayRun(DepartingRun[R_co]):
    """The future of a run in Ray.

    Ray is not told to forget a run: dropping the future, and with it the refs, does that.

    A worker makes the attempts of a run, one after the other. If it is lost, the run is submitted
    to Ray once more from here, to go on with the attempt after the one that was lost.

    Attributes:
        value_ref: What the run's value is in Ray; None before it was submitted there, when there is
            no value to come, and when that has come along with others.

    Args:
        item: What is run.
        connection: Where to.
        launch: Submits the run to Ray, to begin with the attempt of a number; called in the helper
            thread.
        origin: Where it comes from.
    """

    __slots__ = (
        "_attempt",
        "_clock",
        "_fails_in_ray",
        "_launch",
        "_retry",
        "_time_limit",
        "_timer",
        "_told",
        "_upstreams",
        "value_ref",
    )

    def __init__(
        self,
        item: WorkItem[R_co],
        connection: Link,
        launch: Callable[[RayRun[R_co], WorkItem[R_co], int], None],
        origin: Origin,
    ) -> None:
        super().__init__(item, connection, origin)
        self.value_ref: Ref | None = None
        self._retry: Final = item.retry
        self._time_limit: Final = item.time_limit
        self._launch = partial(launch, self, item) if item.retry.retries else None
        self._clock = current_clock.get()
        self._timer: CancelTimer | None = None
        # The attempt that the worker begins with.
        self._attempt = 1
        # How much of its history on that worker is known here.
        self._told = 0
        self._upstreams: tuple[Future[object], ...] = ()
        # Whether Ray knows by itself that there is no value to come, nor to what depends on it.
        self._fails_in_ray = False

    def is_in(self, connection: Link) -> bool:
        """Whether the run's value lies, or will lie, where this connection leads to.

        Where that of a run lies that may be retried is known when it has completed.
        """
        if self.connection is not connection or self.value_ref is None:
            return False
        return not self._retry.retries or self.done()

    # ------------------------------------------------------------------ the way out

    def submitted(
        self, value_ref: Ref, outcome_ref: Ref, upstreams: tuple[Future[object], ...]
    ) -> None:
        """Go on from here with what Ray tells.

        Args:
            value_ref: What the run's value is in Ray.
            outcome_ref: What tells of its end.
            upstreams: The runs in Ray that it waits for there.
        """
        self._latest = time.time()
        self._upstreams = upstreams
        self.value_ref = value_ref
        with self._lock:
            self.outcome_ref = outcome_ref
            ended = self._ended
        self.connection.remember(self)
        _native.on_completed(outcome_ref, partial(self._report, value_ref))
        if self.done():  # Cancelled meanwhile, by someone who found nothing to cancel in Ray.
            self._stop(outcome_ref)
            self._let_go()
        if ended is not None:  # Likewise, while it was being sent.
            self.connection.stop(self.task_run.id, self.origin.home, outcome_ref, ended)
        # Ray hands failures down from run to run, and each time adds to their text: along a chain
        # of a thousand that takes it ten seconds.
        for upstream in upstreams:
            upstream.add_done_callback(self._upstream_ended)

    def _upstream_ended(self, upstream: Future[object]) -> None:
        failure = failure_behind(upstream)
        if failure is not None and not self.done():
            self._fails_in_ray = isinstance(upstream, RayRun) and upstream._fails_in_ray
            self.set_final(failure)

    def _report(self, value_ref: Ref, outcome: object) -> None:
        # In Ray's own thread: nothing of the user's may run here.
        self._has_ended = True
        if self.line is not None:
            self.line.ended()
        if self._ended is not None:
            self._ended.set()
        if isinstance(outcome, BaseException):
            self._fails_in_ray = True
            self.connection.mark_as_read(value_ref)
        end = partial(self._end_in_ray, value_ref, outcome)
        self.connection.completions.call_soon(partial(self.guard, end))

    # ------------------------------------------------------------------ with others

    def ended_in_batch(self, value_ref: Ref | None, entry: bytes) -> None:
        """End as the worker says.

        Args:
            value_ref: Where the value lies, if it is not small.
            entry: The outcome, or the failure, pickled.
        """
        self._leave_batch()
        self._end_in_ray(value_ref, pickle.loads(entry))

    def lost_in_batch(self, error: BaseException, *, is_uncertain: bool) -> None:
        """End because the worker was lost.

        Args:
            error: What Ray says of it.
            is_uncertain: Whether it is not known that the run has begun, nor that it has not ended.
        """
        self._leave_batch()
        if is_uncertain and self._ended is None:
            self.set_final(uncertain_crash(self.task_run, own_state(error, self.task_run)))
        else:
            self._end_in_ray(None, error)

    def guard(self, function: Callable[[], object]) -> None:
        """Call a function in one of our threads; the run ends as `Crashed` if that raises."""
        try:
            function()
        except BaseException as error:  # It comes of foreign code, and the run would never end.
            _logger.exception("Run %r could not be brought to its end", self.task_run.name)
            message = f"Its end in Ray could not be read: {describe(error)}"
            self.set_final(crashed(self.task_run, message, error))

    # ------------------------------------------------------------------ the way back

    def _end_in_ray(self, value_ref: Ref | None, outcome: object) -> None:
        if not isinstance(outcome, BaseException):
            if isinstance(outcome, bytes):
                outcome = pickle.loads(outcome)
            history, pickled, words, seconds = cast(Outcome, outcome)
            if self.line is not None:
                self.line.note(seconds, is_small=pickled is not None)
            self._forget_record(history)
            self._hear(words, partial(self._complete, value_ref, history, pickled))
        elif (error := find_run_error(outcome)) is not None:
            is_own = error.run_id == self.task_run.id
            told = cast("tuple[History, LastWords]", error.history or ((), SILENCE))
            history, words = told if is_own else ((), SILENCE)
            self._forget_record(history)
            self._hear(words, partial(self._fail, error, history, is_own=is_own))
        elif self.done() or self._ended is not None:
            self._forget_record(None)
            self._end_after_loss(partial(self.set_final, Cancelled(message=_STOPPED)))
        else:
            state = own_state(outcome, self.task_run)
            if self.line is not None and isinstance(state, Crashed):
                self.line.close()
            self._end_after_loss(partial(self._end_or_blame, state))

    def _hear(self, words: LastWords, then: Callable[[], object]) -> None:
        """Take note of what the run has said, then call something; in the same thread."""
        if words == SILENCE:
            then()
        else:
            self.origin.hear(words, partial(self.guard, then))

    def _end_after_loss(self, end: Callable[[], object]) -> None:
        """End when all has been read that a lost worker has said of the run and of those below."""
        if self._told:
            self._hear((None, True), end)
        else:
            end()

    def _complete(self, value_ref: Ref | None, history: History, pickled: bytes | None) -> None:
        self._follow(history[self._told :])
        if self.value_ref is None:  # It has come with others: it has a value of its own in Ray
            value_ref = None if pickled is not None else value_ref  # only if that is not small.
            self.value_ref = value_ref
        value = RayValue[R_co](self.connection, value_ref, self.task_run.name, pickled)
        self.set_final(Completed(value))

    def _fail(self, error: RunError, history: History, *, is_own: bool) -> None:
        if self.done():
            return
        self._follow(history[self._told :])
        if is_own and self._ended is not None and error.kind == "Crashed":
            # What stopped it is an interrupt of ours.
            self.set_final(Cancelled(message=_STOPPED))
        else:
            self.set_final(error.state_of(self.task_run))

    def read(self, letters: Sequence[Letter]) -> None:
        """Take note of what the run has said while it goes on, in the thread in which runs end."""
        others = []
        for letter in letters:
            match letter:
                case ("moments", int(attempt), int(told), tuple(moments)):
                    if attempt == self._attempt and told == self._told and not self.done():
                        self._told += len(moments)
                        self._follow(cast("History", moments))
                case ("goes on", int(begun)):
                    if self._batch is not None:
                        self._batch.goes_on(self, begun)
                case _:
                    others.append(letter)
        self.origin.read(others)

    def _forget_record(self, history: History | None) -> None:
        """Have the record of the attempts removed, unless the history says that there is none."""
        if self._retry.retries and (history is None or len(history) > 1):
            forget = partial(forget_record, self.task_run)
            self.connection.helper.call_soon(partial(self.connection.while_open, forget))

    def _follow(self, history: History) -> None:
        """Tell of what the run has gone through on its worker, now that it is known."""
        for name, when, message in history:
            # Another machine's clock may differ; that is no reason for a history out of order.
            self._latest = when = max(self._latest, min(when, time.time()))
            if name == Retrying.__name__:
                timestamp = datetime.fromtimestamp(when, UTC)
                self.set_retrying(Retrying(message=message, timestamp=timestamp))
            else:
                self.set_running(when)

    def _end_or_blame(self, state: State[R_co]) -> None:
        """End in this state, unless it is a run upstream that has ended so.

        Ray hands down cancellations and crashes without a name. But if this run has started, then
        all runs upstream have completed, and their ends are on their way here.
        """
        item: WorkItem[object] = WorkItem(
            _nothing, (), {}, self.task_run, upstreams=self._upstreams
        )
        when_ready(item, partial(self._end_by_itself, state), self.set_final)

    def _end_by_itself(self, state: State[R_co]) -> None:
        if isinstance(state, Crashed) and (self._retry.retries or self._time_limit is not None):
            # Reading what the worker has left may take its time.
            judge = partial(self.guard, partial(self._judge_loss, state))
            self.connection.helper.call_soon(judge)
            return
        self._forget_record(None)
        self._follow(self._unrecorded() if has_begun(state) and not self._told else ())
        self.set_final(state)

    def _unrecorded(self) -> History:
        """Return the history of a run of which it is known only that it was submitted to Ray."""
        return ((Running.__name__, self._latest, None),)

    def _end(self, state: State[object], even_if_running: bool, /) -> bool:
        outcome_ref, batch = self.outcome_ref, self._batch
        try:
            return super()._end(state, even_if_running)
        finally:  # Also if Ctrl-C comes while the callbacks are called.
            if self.done():
                # What goes on in Ray is stopped there.
                if outcome_ref is not None and not self._has_ended and not self._fails_in_ray:
                    self._stop(outcome_ref)
                elif batch is not None:
                    batch.stop()
                self._let_go()

    def _let_go(self) -> None:
        self._upstreams = ()
        self._launch = None
        self.outcome_ref = None
        if self._timer is not None:
            self._timer()
            self._timer = None
        if not isinstance(self.final_state(), Completed):
            self.value_ref = None

    # ------------------------------------------------------------------ another attempt

    def _judge_loss(self, state: State[R_co]) -> None:
        """Decide what becomes of a run whose worker was lost; in the helper thread."""
        verdict: Delay | State[object] = state
        attempt, history = self._attempt, self._unrecorded()
        if self.connection.is_open():
            record = take_record(self.task_run)
            if record is not None:
                attempt, history = record.attempt, record.history
                if record.is_out_of_time and self._time_limit is not None:
                    state = timed_out(self.task_run, self._time_limit)
            verdict = self._verdict(attempt, state)
        go_on = partial(self._go_on, attempt, history[self._told :], verdict)
        self.connection.completions.call_soon(partial(self.guard, go_on))

    def _verdict(self, attempt: int, state: State[R_co]) -> Delay | State[object]:
        steps = lifecycle(self._retry, first_attempt=attempt)
        next(steps)
        try:
            delay = steps.send(state)
        except StopIteration as end:
            return cast("State[object]", end.value)
        assert isinstance(delay, Delay), "between two attempts there is a delay"
        return delay

    def _go_on(self, attempt: int, history: History, verdict: Delay | State[object]) -> None:
        self._follow(history)
        if not isinstance(verdict, Delay):
            self.set_final(verdict)
            return
        with self._lock:  # A cancellation comes either before or after this.
            is_unwanted = self._ended is not None
            self._attempt = attempt + 1
            self._told = 0
            self._has_ended = self._fails_in_ray = False
            self._upstreams = ()
            self.value_ref = self.outcome_ref = None
        if is_unwanted:
            self.set_final(Cancelled(message=_STOPPED))
        elif self.set_retrying(verdict.state):
            resume = partial(self._resume, verdict.state)
            self._timer = self._clock.call_later(verdict.seconds, resume)
            if self.done():
                self._let_go()

    def _resume(self, waiting: Retrying) -> None:
        launch = partial(self._launch_again, waiting)
        self.connection.helper.call_soon(partial(self.guard, launch))

    def _launch_again(self, waiting: Retrying) -> None:
        launch = self._launch
        if launch is None:  # It was cancelled meanwhile.
            return
        if not self.connection.is_open():  # Asked first, because Ray would start an instance.
            message = f"{waiting.message}; but the connection to Ray has ended"
            self.set_final(crashed(self.task_run, message))
            return
        launch(self._attempt)

    # ------------------------------------------------------------------ cancelling

    def cancel(self) -> Cancellation:
        """Ask for the run to be stopped.

        A run that has certainly not started, or that waits to be submitted to Ray again, is over at
        once. Any other is taken out of the queue, or else interrupted, and if that has not ended it
        half a second later, its worker process is ended.
        """
        if self.line is not None and (answer := self._withdraw()) is not None:
            return answer
        upstreams = self._upstreams
        outcome_ref = self.outcome_ref
        has_not_started = outcome_ref is None or not all(each.done() for each in upstreams)
        message = NOT_STARTED if self._attempt == 1 else _BETWEEN_ATTEMPTS
        if has_not_started and self.set_final(Cancelled(message=message)):
            return Cancellation.CANCELLED
        if self.done() or outcome_ref is None:
            ended_so = isinstance(self.final_state(), Cancelled)
            return Cancellation.CANCELLED if ended_so else Cancellation.CANNOT_STOP
        if not self._stop(outcome_ref):  # Its worker was lost just now.
            return self.cancel()
        return Cancellation.WILL_STOP

    def _stop(self, outcome_ref: Ref) -> bool:
        """Stop the run in Ray, unless it is not there any more, to be submitted again."""
        with self._lock:
            if self.outcome_ref is not outcome_ref and not self.done():
                return False
            if self._ended is not None:
                return True
            self._ended = ended = threading.Event()
        if not self._has_ended:
            self.connection.stop(self.task_run.id, self.origin.home, outcome_ref, ended)
        return True


def _nothing() -> None:
    return None
