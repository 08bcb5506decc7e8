"""A run on Dask: its key there, and its own future."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, final

from anabranch.futures import (
    Cancellation,
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Future,
    Retrying,
    State,
    TimedOut,
    UpstreamFailed,
    WorkItem,
)
from anabranch.futures.runner import (
    AnyFunction,
    CancelTimer,
    Delay,
    Report,
    ReportTaker,
    ScopeOwner,
    current_clock,
    describe,
    failure_behind,
    lifecycle,
    pack,
    upstream_failure,
    when_ready,
)
from anabranch.runners.dask._annotations import NO_ANNOTATIONS, Annotations
from anabranch.runners.dask._bare import bare
from anabranch.runners.dask._outcomes import crashed, failure_of, was_refused
from anabranch.runners.dask._value import DaskValue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anabranch.runners.dask._home import Home
    from anabranch.runners.dask._link import Link
    from anabranch.runners.dask._native import NativeFuture
    from anabranch.runners.dask._parcel import Parcel

_BEFORE_START: Final = "The run was cancelled before it started."
_BETWEEN_ATTEMPTS: Final = "The run was cancelled between two attempts."

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_logger = logging.getLogger("anabranch.task_runner.dask")


@final
class DaskRun(Future[R_co]):
    """The future of a run on Dask.

    Until its end it holds what it depends on, and from its submission to Dask its key. Having
    completed it holds the key alone, and so the value, until it is dropped.

    Its attempts are made on the worker, one after the other. If the worker is lost, the run is
    submitted anew, under the same key, with the attempts that are left. So what depends on a run
    that may be retried does not depend on its key before it has completed.

    Args:
        item: What is run.
        connection: Where.
        annotations: What Dask is told of it.

    Attributes:
        annotations: The same, for each time that the run is submitted.
        was_abandoned: Whether the run was given up, and may go on.
    """

    __slots__ = (
        "_attempt",
        "_clock",
        "_connection",
        "_gate",
        "_gates",
        "_is_async",
        "_is_unwanted",
        "_losses",
        "_may_go_alone",
        "_native",
        "_parcel",
        "_reports",
        "_retry",
        "_slots",
        "_timer",
        "_turn",
        "_upstreams",
        "_value",
        "_worker",
        "annotations",
        "home",
        "was_abandoned",
    )

    def __init__(
        self,
        item: WorkItem[R_co],
        connection: Link,
        home: Home,
        annotations: Annotations = NO_ANNOTATIONS,
    ) -> None:
        loops: frozenset[int] = frozenset()
        for upstream in (*item.upstreams, *item.tolerated):
            loops |= upstream.needed_loops()
        super().__init__(item.task_run, loops=loops, listener=item.listener)
        self.annotations: Final = annotations
        self.was_abandoned: bool = False
        self._connection = connection
        self.home: Final = home
        # Who is told of the runs below this one, if they are elsewhere.
        self._reports: ReportTaker | None = None
        self._is_async = item.is_async
        self._is_unwanted = False
        self._may_go_alone = False
        self._native: NativeFuture | None = None
        self._gate: NativeFuture | None = None
        # Dask cancels what depends on a key that nobody holds any more.
        self._upstreams: tuple[Future[object], ...] = (*item.upstreams, *item.tolerated)
        self._gates: list[NativeFuture] = []
        self._worker = ""
        # The value, pickled, if it is so small that it came along with the end.
        self._value: bytes | None = None
        self._retry = item.retry
        self._clock = current_clock.get()
        self._timer: CancelTimer | None = None
        # Kept while the run may have to be submitted anew.
        self._parcel: Parcel | None = None
        self._slots: dict[int, NativeFuture] = {}
        # The last attempt that is known of. Attempts are numbered through all workers.
        self._attempt = 0
        self._losses = 0
        self._turn = threading.Lock()

    # ------------------------------------------------------------------ starting

    def awaited(self) -> None:
        """Have the run handed over that the calling thread collects to hand over together."""
        if not self.done():
            self._connection.flush()

    def missing(self) -> Iterable[Future[object]]:
        """Return the runs that have to end before this one can."""
        return [each for each in self._upstreams if not each.done()]

    def native_in(self, connection: Link) -> NativeFuture | None:
        """Return the run's key, if it has one on this connection that others may depend on."""
        if connection is not self._connection:
            return None
        if self._retry.retries and not self.done():
            return None  # The attempt behind the key may be lost, and another be made.
        return self._native

    def follow(self, upstream: Future[object]) -> None:
        """End this run as soon as that one has ended otherwise than well."""
        upstream.add_done_callback(self._upstream_ended)

    def ship(self, item: WorkItem[R_co]) -> None:
        """Hand the run over to Dask. All that it depends on has ended, or is on Dask too."""
        connection = self._connection
        natives = natives_in(connection, self._upstreams)
        # Looked for after that: an upstream that ended badly in between has no key any more.
        if self.done() or self.fail(upstream_failure(item)):
            return
        try:
            packed = pack(item, lambda future: id(future) in natives)
            parcel = connection.packer(item, packed.shipment, self.home, self._priority())
        except Exception as error:  # Fetching, copying and pickling arguments runs foreign code.
            self.set_final(Failed(bare(error), message=describe(error)))
            return
        self._slots = {id(future): natives[id(future)] for future in packed.slots}
        if self.fail(upstream_failure(item)):  # One may have ended in between.
            return
        if self._retry.retries or self._upstreams:
            self._parcel = parcel
        self._hand_over(parcel)

    def _hand_over(
        self, parcel: Parcel, *, is_known: bool = False, goes_alone: bool = False
    ) -> None:
        """Submit the run to Dask."""
        connection = self._connection
        slots = self._slots
        try:
            others = [each for each in self._own_upstreams() if id(each) not in slots]
            gates = [each.gate() for each in others if not each.done()]
            self._gates = [each for each in gates if each is not None]
            self._upstreams = tuple(self._own_upstreams())  # The values of others are on their way.
            self._value = None
            natives = [*slots.values(), *self._gates]
            self._may_go_alone = bool(natives) and not goes_alone
            if is_known:
                self._gate = None  # It was refused with the run, or has failed with it.
            self._native = connection.submit(
                self, parcel, natives, is_known=is_known, goes_alone=goes_alone
            )
            self._loops = frozenset()  # All that it waits for is on Dask.
            self.settle()  # Its end may have been told before it was known by what key.
        except Exception as error:  # Dask raises all sorts of them when the scheduler is gone.
            self.refused(error)
            return
        if self.done():  # Cancelled in the meantime, when there was no key to cancel.
            self._let_go()

    def refused(self, error: Exception) -> None:
        """End the run, because Dask has not taken it."""
        message = f"Dask did not take the run: {describe(error)}"
        self.set_final(crashed(self.task_run, message, error))

    def _own_upstreams(self) -> list[DaskRun[object]]:
        return [each for each in self._upstreams if isinstance(each, DaskRun)]

    def gate(self) -> NativeFuture | None:
        """Return a key that ends as this run does, and has no value; None if it has no key."""
        native = self._native
        gate = self._gate
        if gate is None and native is not None:
            self._gate = gate = self._connection.gate(self, native)
        return gate

    def _priority(self) -> float:
        """Return the priority of the run, which is a function of the key in some annotations."""
        priority = self.annotations.get("priority")
        return priority if isinstance(priority, int | float) else 0

    # ------------------------------------------------------------------ runs below

    def reports_to(self, owner: ScopeOwner) -> None:
        """Tell who is to hear of the runs that this one submits or calls on its worker."""
        self._reports = ReportTaker(owner)

    def take_report(self, report: Report) -> None:
        """Take note of the end of a run below this one."""
        reports = self._reports
        if reports is not None:
            reports(report)

    # ------------------------------------------------------------------ attempts

    def attempt_ended(self, seconds: float, pickled: bytes | None) -> None:
        """Take note that an attempt is over; how the run ends is yet to be told.

        Args:
            seconds: How long it has taken.
            pickled: What it returned, if that is small.
        """
        self._value = pickled
        self._attempt = max(self._attempt, 1)
        self._note_running(max(self._created, time.time() - seconds))

    def attempt_begins(self, number: int, worker: str) -> None:
        """Take note that a worker begins with an attempt."""
        if worker != self._worker:
            self._value = None  # Of the worker before, which has been lost.
        self._worker = worker
        if number > self._attempt:
            self._attempt = number
            if self._note_running():
                return
            is_late = (
                isinstance(self.final_state(), Cancelled) if self.done() else self._is_unwanted
            )
            if is_late and not self._is_async:
                self._connection.report_straggler(self, worker)

    def _note_running(self, since: float | None = None) -> bool:
        # A run that was to be stopped ends between two attempts, even if its worker has made
        # another one before it heard of that.
        return not (self._is_unwanted and self._attempt > 1) and self.set_running(since)

    def attempt_failed(self, number: int, message: str, *, was_given_up: bool) -> None:
        """Take note that an attempt has failed on a worker, which will make another."""
        if number < self._attempt:
            return  # Dask has begun anew by itself.
        # That the attempt began may not have been told yet: announcements can overtake the first.
        self._attempt = number
        self._note_running()
        if not self.set_retrying(Retrying(message=message)):
            return
        if was_given_up:
            self._connection.note_abandoned(self.task_run)
        # Not here, in the loop of Dask's client: callbacks of the run may want it for their own.
        if self._is_unwanted:
            self._connection.helper.call_soon(self._end_if_unwanted)

    def _end_if_unwanted(self) -> None:
        if self._is_unwanted:
            self.set_final_unless_running(Cancelled(message=_BETWEEN_ATTEMPTS))

    def _lost(self, native: NativeFuture, state: State[object]) -> None:
        """Have the run attempted anew after it was lost, if its policy says so; else end it."""
        with self._turn:
            if self._native is not native:
                return  # Another thread is at it.
            self._native = None
        self._losses += 1
        # What was lost has not always had the time to say that it began.
        self._attempt = max(self._attempt, self._losses)
        steps = lifecycle(self._retry, first_attempt=self._attempt)
        next(steps)
        try:
            command = steps.send(state)
        except StopIteration as end:
            self.set_final(end.value)
            return
        assert isinstance(command, Delay), "between two attempts there is a delay"
        self.set_running()
        if not self.set_retrying(command.state):
            return
        self._end_if_unwanted()
        if command.seconds:
            self._timer = self._clock.call_later(command.seconds, self._call_helper)
        else:
            self._call_helper()
        if self.done():
            self._let_go()

    def _call_helper(self) -> None:
        self._connection.helper.call_soon(partial(self.guard, self.submit_anew))

    def submit_anew(self) -> None:
        """Submit the run to Dask with the attempts that are left to it."""
        parcel = self._parcel
        if parcel is not None and not self.done():
            self._hand_over(parcel.from_attempt(self._attempt + 1), is_known=True)

    def _submit_alone(self) -> None:
        """Submit the run to Dask by itself, once those have ended that it depends on.

        It was refused, together with others, or because one of those was.
        """
        with self._turn:
            if self._native is None:
                return  # Another thread is at it.
            self._native = None
        missing = [each for each in self._own_upstreams() if not each.done()]
        left = len(missing) + 1

        def ended(_: object) -> None:
            nonlocal left
            with self._turn:
                left -= 1
                is_last = not left
            parcel = self._parcel
            if is_last and parcel is not None and not self.done():
                self._hand_over(parcel, is_known=True, goes_alone=True)

        for upstream in missing:
            upstream.add_done_callback(ended)
        ended(None)

    # ------------------------------------------------------------------ ending

    def cancel(self) -> Cancellation:
        """Ask for the run to be stopped; see `Future.cancel`.

        A function goes on, but no other attempt is made.
        """
        self._is_unwanted = True
        message = _BETWEEN_ATTEMPTS if self._attempt else _BEFORE_START
        if self.set_final_unless_running(Cancelled(message=message)):
            return Cancellation.CANCELLED
        if self.done():
            ended_so = isinstance(self.final_state(), Cancelled)
            return Cancellation.CANCELLED if ended_so else Cancellation.CANNOT_STOP
        if self._worker:  # What a function has submitted is cancelled, although it goes on itself.
            self._connection.stop(self, self._worker)
        return Cancellation.WILL_STOP if self._is_async else Cancellation.CANNOT_STOP

    def abandon(self, state: State[object]) -> bool:
        """End the run although it may go on; see `Future.abandon`."""
        self.was_abandoned = True
        return super().abandon(state)

    def guard(self, function: AnyFunction[object], *args: object) -> None:
        """Call a function in a thread of ours or Dask's; if it raises, the run has `Crashed`."""
        try:
            function(*args)
        except BaseException as error:  # It comes of foreign code, and the run would never end.
            _logger.exception("Run %r could not be brought to its end", self.task_run.name)
            message = f"What had to be done for it here failed: {describe(error)}"
            self.set_final(crashed(self.task_run, message, error))

    def _end(self, state: State[object], even_if_running: bool, /) -> bool:
        try:
            return super()._end(state, even_if_running)
        finally:  # Also if Ctrl-C comes while the callbacks are called.
            if self.done():
                self._let_go()

    def _let_go(self) -> None:
        self._upstreams = ()
        self._slots = {}
        self._gates = []
        self._gate = self._parcel = self._reports = None
        timer, self._timer = self._timer, None
        if timer is not None:
            timer()
        if not isinstance(self.final_state(), Completed):
            native, self._native = self._native, None
            if native is not None and not native.done():
                self._connection.cancel(self, native)

    def fail(self, failure: UpstreamFailed | None) -> bool:
        """End the run because of one upstream, if there is a failure; returns whether there is."""
        if failure is not None:
            self.set_final(failure)
        return failure is not None

    def _upstream_ended(self, upstream: Future[object]) -> None:
        self.fail(failure_behind(upstream))

    def native_ended(self, native: NativeFuture) -> None:
        """Take note that a key has ended, in whatever way."""
        if self.done() or native is not self._native:
            return
        self._end_if_unwanted()
        if self.done():
            return
        if self._may_go_alone and was_refused(native):
            self._submit_alone()
            return
        name = self.task_run.name
        if native.status == "finished":
            self.set_final(Completed(DaskValue(self._connection, native, name, self._value)))
            return
        # What Dask says of a lost worker does not tell whose run it was. If an upstream has ended
        # too, and is only about to be told of it, then it ends this run as well.
        for upstream in self._own_upstreams():
            upstream.settle()
        if self.done():
            return
        failure = failure_of(self.task_run, native, is_lost=self._connection.is_lost())
        state = failure.state
        if self._is_unwanted and isinstance(state, Crashed):
            # Ctrl-C reaches the worker processes too.
            state = Cancelled(message="The run was cancelled, and ended with its worker.")
        elif failure.is_loss and self._retry.retries:
            self._lost(native, state)
            return
        if self.set_final(state) and isinstance(state, TimedOut) and not self._is_async:
            self._connection.note_abandoned(self.task_run)

    def settle(self) -> None:
        """End the run if Dask has told how it ended."""
        native = self._native
        if native is not None and native.done():
            self.native_ended(native)


def natives_in(connection: Link, futures: Iterable[Future[object]]) -> dict[int, NativeFuture]:
    """Return the keys of those futures that have one on a connection, by the futures' ids."""
    found: dict[int, NativeFuture] = {}
    for future in futures:
        if isinstance(future, DaskRun) and (native := future.native_in(connection)) is not None:
            found[id(future)] = native
    return found


def bring(run: DaskRun[R], item: WorkItem[R], link: Link) -> None:
    """Hand a run over to Dask, now or when what it depends on is there or has ended."""
    natives = natives_in(link, item.upstreams)
    elsewhere: list[Future[object]] = [*item.tolerated]
    for upstream in item.upstreams:
        if id(upstream) in natives:
            run.follow(upstream)
        else:
            elsewhere.append(upstream)

    def ship() -> None:
        there = natives_in(link, elsewhere)
        if any(_is_remote(each) for each in elsewhere if id(each) not in there):
            link.helper.call_soon(partial(run.guard, partial(run.ship, item)))
        else:
            run.ship(item)

    when_ready(item, ship, run.fail, elsewhere)


def _is_remote(future: Future[object]) -> bool:
    """Whether bringing over the value of a run that has ended would block."""
    state = future.final_state()
    return isinstance(state, Completed) and not state.is_local
