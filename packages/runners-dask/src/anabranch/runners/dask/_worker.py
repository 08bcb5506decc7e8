"""What happens on a Dask worker. Dask is imported in functions: the client names these as well."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Coroutine
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, Final, cast, final

import anyio

from anabranch.futures import Cancelled, Crashed, RunCancelledError, RunCrashedError, TaskRun
from anabranch.futures.runner import (
    EventLoop,
    RunError,
    Shipment,
    describe,
    run_shipment,
    running_loop,
)
from anabranch.runners.dask._bare import bare
from anabranch.runners.dask._native import import_dumps
from anabranch.runners.dask._quiet import mute_failed_runs

if TYPE_CHECKING:
    from anabranch.runners.dask._parcel import Parcel

_CANCELLED_BEFORE_START: Final = "The run was cancelled before it started."
_CANCELLED_WHILE_RUNNING: Final = "The run was cancelled while it was running."


@final
class RemoteFailure(Exception):
    """Carries a `RunError` through Dask, which cuts short whatever has a long ``str()``."""

    def __init__(self, error: RunError) -> None:
        super().__init__(error)
        self.error = error

    def __str__(self) -> str:
        return f"Run {self.error.run_name!r} ended in state {self.error.kind}"

    def __repr__(self) -> str:
        return f"RemoteFailure({str(self)!r})"


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

    stop = _stops.setdefault(parcel.run_id, _Stop())
    try:
        if stop.is_wanted:
            raise RunError.of(_run_of(parcel), Cancelled(message=_CANCELLED_BEFORE_START))
        worker = get_worker()
        worker.log_event(parcel.topic, [parcel.run_id, worker.address])
        try:
            function = _load_function(parcel.function)
            shipment: Shipment = pickle.loads(parcel.shipment)
        # Unpickling runs foreign code, or finds it missing. Dask would end the worker for a
        # SystemExit or KeyboardInterrupt; a real Ctrl-C comes to no thread that executes runs.
        except BaseException as error:
            raise _unpacking_failed(parcel, worker.address, error) from None
        if shipment.is_async:
            function = stop.guard(cast("Callable[..., Coroutine[Any, Any, object]]", function))
        try:
            return run_shipment(function, shipment, values, _dumps_bare)
        except RunError:
            if not stop.was_heeded:
                raise
            cancelled = Cancelled(message=_CANCELLED_WHILE_RUNNING)
            raise RunError.of(shipment.task_run, cancelled) from None
    finally:
        _stops.pop(parcel.run_id, None)


def _unpacking_failed(parcel: Parcel, address: str, error: BaseException) -> RunError:
    message = (
        f"Run {parcel.run_name!r} could not be unpacked on the Dask worker {address}, where the "
        f"same packages must be installed as here: {describe(error)}"
    )
    crash = RunCrashedError(message)
    crash.__cause__ = error
    return RunError.of(_run_of(parcel), Crashed(exception=crash, message=message))


def _run_of(parcel: Parcel) -> TaskRun:
    return TaskRun(parcel.run_id, parcel.run_name, parcel.run_name)


def _dumps_bare(error: object) -> bytes:
    assert isinstance(error, BaseException), "the value of a run stays as it is"
    return import_dumps()(bare(error))


@lru_cache(maxsize=256)
def _load_function(pickled: bytes) -> Callable[..., object]:
    return cast("Callable[..., object]", pickle.loads(pickled))


def nothing(*_: object) -> None:
    """Do nothing: a task that is there for what it depends on."""


# ------------------------------------------------------------------ being stopped

#: How many runs that are not here a process remembers as unwanted, for they may be on their way.
_MEMORY: Final = 10_000

# By the ids of the runs: those that this process is executing, and those that it has been told
# to stop before they came. A process may hold several workers.
_stops: dict[str, _Stop] = {}
_early: deque[str] = deque()


def stop_runs(run_ids: list[str]) -> None:
    """Stop runs that this process is executing, if they are async, and refuse those to come."""
    for run_id in run_ids:
        stop = _stops.get(run_id)
        if stop is None:
            _stops[run_id] = stop = _Stop()
            _early.append(run_id)
        stop()
    while len(_early) > _MEMORY:
        _stops.pop(_early.popleft(), None)


@final
class _Stop:
    """Stops one run, from any thread: an async one at any time, others before they start.

    Attributes:
        is_wanted: Whether the run is to be stopped.
        was_heeded: Whether the run ended because of it.
    """

    def __init__(self) -> None:
        self.is_wanted = False
        self.was_heeded = False
        self._target: tuple[EventLoop, anyio.CancelScope] | None = None

    def __call__(self) -> None:
        self.is_wanted = True
        if (target := self._target) is not None:
            loop, scope = target
            loop.call_soon(scope.cancel)

    def guard(
        self, function: Callable[..., Coroutine[Any, Any, object]]
    ) -> Callable[..., Coroutine[Any, Any, object]]:
        """Return an async function that this can stop."""

        @wraps(function)
        async def stoppable(*args: object, **kwargs: object) -> object:
            with anyio.CancelScope() as scope:
                self._target = cast("EventLoop", running_loop()), scope
                if self.is_wanted:  # It may have come before there was anything to stop.
                    scope.cancel()
                return await function(*args, **kwargs)
            self.was_heeded = True
            raise RunCancelledError(_CANCELLED_WHILE_RUNNING)

        return stoppable
