"""What happens on a Dask worker. Dask is imported in functions: the client names these as well."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import TYPE_CHECKING, Final, TypeVar, cast, final

import attrs

from anabranch.futures import (
    Cancelled,
    Crashed,
    Retrying,
    RunCrashedError,
    Running,
    State,
    TaskRun,
)
from anabranch.futures.runner import (
    SYSTEM_CLOCK,
    AnyCoroutine,
    AnyFunction,
    RunError,
    RunStop,
    Shipment,
    current_lease,
    describe,
    pickled_if_small,
    run_shipment,
    set_blocking_section,
)
from anabranch.runners.dask._bare import bare
from anabranch.runners.dask._errand import Errand
from anabranch.runners.dask._failure import RemoteFailure
from anabranch.runners.dask._functions import load_function
from anabranch.runners.dask._limiter import limit_on_worker
from anabranch.runners.dask._native import import_dumps, import_sync
from anabranch.runners.dask._nested import WorkerTaskRunner, runner_on
from anabranch.runners.dask._quiet import mute_failed_runs
from anabranch.runners.dask._seceding import Seceding, SecedingLease
from anabranch.runners.dask._stopping import forget_stop, stop_of
from anabranch.runners.dask._versions import difference_from_client

if TYPE_CHECKING:
    from anabranch.runners.dask._native import Worker
    from anabranch.runners.dask._parcel import Parcel

T = TypeVar("T")

_BEFORE_START: Final = "The run was cancelled before it started."
_BETWEEN_ATTEMPTS: Final = "The run was cancelled between two attempts."

#: Of the message of a state that is announced: the scheduler keeps announcements for long.
_MAX_LENGTH: Final = 1_000

#: How long a first attempt goes on before it is announced, in seconds.
_A_WHILE: Final = 0.02

_NOTHING: Final = object()


def execute(parcel: Parcel, *values: object) -> object:
    """Run what a parcel holds, as a Dask task.

    Args:
        parcel: The packed run.
        *values: The values for its slots, and after them whatever else it had to wait for.

    Raises:
        RemoteFailure: The run ended in any other way than well.
    """
    mute_failed_runs()
    try:
        return _execute(parcel, values)
    except RunError as error:
        failure = RemoteFailure(error)
    # Raised out here, it has no context: Dask would pickle that too.
    raise failure


def _execute(parcel: Parcel, values: tuple[object, ...]) -> object:
    from distributed import get_worker  # noqa: PLC0415 - see the module's docstring

    stop = stop_of(parcel.run_id)
    try:
        if stop.is_wanted:
            raise RunError.of(_run_of(parcel), Cancelled(message=_BEFORE_START))
        worker = cast("Worker", get_worker())
        progress = _Progress(worker, parcel, stop)
        progress.first_attempt_begins()
        errand = Errand(worker, parcel)
        try:
            try:
                with errand.logging():
                    value = _make_attempts(worker, parcel, values, errand, progress, stop)
            finally:
                errand.finish()
        except RunError:
            progress.ended()
            raise
        progress.ended(value)
        return value
    finally:
        forget_stop(parcel.run_id)


def _make_attempts(
    worker: Worker,
    parcel: Parcel,
    values: tuple[object, ...],
    errand: Errand,
    progress: _Progress,
    stop: RunStop,
) -> object:
    try:
        function = load_function(worker, parcel)
        shipment: Shipment = pickle.loads(parcel.shipment)
    # Unpickling runs foreign code, or finds it missing. Dask would end the worker for a
    # SystemExit or KeyboardInterrupt; a real Ctrl-C comes to no thread that executes runs.
    except BaseException as error:
        raise _unpacking_failed(parcel, worker, error) from None
    if shipment.is_async:
        function = stop.guard(cast("AnyFunction[AnyCoroutine[object]]", function))
    if parcel.first_attempt > 1:
        shipment = attrs.evolve(shipment, first_attempt=parcel.first_attempt)
    with (
        runner_on(worker, execute) as runner,
        errand.executing(shipment, runner) as scope,
        _leaving_its_place(shipment, runner, errand.outside),
    ):
        stop.reach(scope)
        return run_shipment(
            function,
            shipment,
            values,
            _dumps_bare,
            runner=runner,
            progress=progress,
            limiter=progress.limit,
            rest=stop.rest_async if shipment.is_async else stop.rest,
        )


@contextmanager
def _leaving_its_place(
    shipment: Shipment, runner: WorkerTaskRunner, outside: Context
) -> Generator[None]:
    """Have a run leave its place on the worker while it waits for another run."""
    if shipment.is_async:
        token = current_lease.set(SecedingLease(runner.settle, outside))
        try:
            yield
        finally:
            current_lease.reset(token)
        return
    outer = set_blocking_section(Seceding(runner.settle, outside))
    try:
        yield
    finally:
        set_blocking_section(outer)


@final
class _Progress:
    """Announces the attempts of a run to its client, and has it end between two if need be.

    The client counts attempts, and a worker may be lost at any time. So those that follow the first
    are announced before they begin, and by a request that the scheduler answers. That of the first
    need not be: a run that was lost is taken to have been attempted once. It is when it has taken a
    while; most are over by then, and one message tells of them and of the small values that they
    returned, each of which would have to be asked for otherwise.
    """

    def __init__(self, worker: Worker, parcel: Parcel, stop: RunStop) -> None:
        self._worker = worker
        self._parcel = parcel
        self._stop = stop
        self._attempt = parcel.first_attempt
        self._was_given_up = False
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._announce_later: Callable[[], object] | None = None

    def first_attempt_begins(self) -> None:
        """Announce the first attempt here, unless it is over soon."""
        if self._attempt == 1:
            self._announce_later = SYSTEM_CLOCK.call_later(_A_WHILE, self._announce_first)
        else:
            self._announce_for_certain()

    def _announce_first(self) -> None:
        with self._lock:  # What follows must not overtake it.
            if self._announce_later is None:
                return
            with suppress(RuntimeError):  # The worker is closing.
                self._worker.log_event(self._parcel.topic, self._announcement())

    def _is_unannounced(self) -> bool:
        """Call off the announcement of the first attempt; whether it was still to come."""
        with self._lock:
            announce_later, self._announce_later = self._announce_later, None
        if announce_later is None:
            return False
        announce_later()
        return True

    def ended(self, value: object = _NOTHING) -> None:
        """Announce the first attempt after the event, if need be, and send along a small value.

        The client has it before it hears of the run's end.
        """
        pickled = None if value is _NOTHING else pickled_if_small(value)
        if self._is_unannounced() or pickled is not None:
            seconds = time.monotonic() - self._began
            event = [self._parcel.run_id, seconds, pickled]
            self._worker.log_event(self._parcel.topic, event)

    def __call__(self, state: Running | Retrying) -> None:
        self._is_unannounced()
        self._end_if_unwanted()
        if isinstance(state, Retrying):
            self._announce_for_certain(state.message)
        else:
            self._attempt += 1
            self._was_given_up = False
            self._announce_for_certain()
            self._end_if_unwanted()

    def limit(self, function: Callable[[], State[T]], seconds: float) -> State[T] | None:
        """Keep an attempt within its time limit."""
        state = limit_on_worker(function, seconds)
        self._was_given_up = state is None
        return state

    def _end_if_unwanted(self) -> None:
        if self._stop.is_wanted:
            raise RunError.of(_run_of(self._parcel), Cancelled(message=_BETWEEN_ATTEMPTS))

    def _announcement(self, message: str | None = None) -> list[object]:
        if message is not None:
            message = message[:_MAX_LENGTH].encode(errors="replace").decode()
        run_id, address = self._parcel.run_id, self._worker.address
        return [run_id, address, self._attempt, message, self._was_given_up]

    def _announce_for_certain(self, message: str | None = None) -> None:
        worker = self._worker
        announcement = self._announcement(message)
        announce = worker.scheduler.log_event
        import_sync()(worker.loop, announce, topic=self._parcel.topic, msg=announcement)


def _unpacking_failed(parcel: Parcel, worker: Worker, error: BaseException) -> RunError:
    message = (
        f"Run {parcel.run_name!r} could not be unpacked on the Dask worker {worker.address}, where "
        f"the same packages must be installed as here{difference_from_client(worker, parcel.topic)}"
        f": {describe(error)}"
    )
    crash = RunCrashedError(message)
    crash.__cause__ = error
    return RunError.of(_run_of(parcel), Crashed(exception=crash, message=message))


def _run_of(parcel: Parcel) -> TaskRun:
    return TaskRun(parcel.run_id, parcel.run_name, parcel.run_name)


def _dumps_bare(error: object) -> bytes:
    assert isinstance(error, BaseException), "the value of a run stays as it is"
    return import_dumps()(bare(error))
