"""What happens in Ray's workers."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import TYPE_CHECKING, cast

from anabranch.futures.runner import (
    AnyCoroutine,
    AnyFunction,
    RunError,
    pickled_if_small,
    run_shipment,
    set_blocking_section,
)
from anabranch.runners.ray._attempts import AttemptLog
from anabranch.runners.ray._batch_work import BatchWork
from anabranch.runners.ray._errand import Errand
from anabranch.runners.ray._home import Home, PackedHome
from anabranch.runners.ray._interrupts import Interrupts
from anabranch.runners.ray._native import pickle as dumps
from anabranch.runners.ray._nested import runner_here
from anabranch.runners.ray._parcel import BatchParcel, Outcome, Parcel
from anabranch.runners.ray._place import Yielding, call_beside

if TYPE_CHECKING:
    from anabranch.futures.runner import Shipment


def run_parcel(
    function: AnyFunction[object], parcel: Parcel, values: Sequence[object]
) -> tuple[object, bytes]:
    """Run what has arrived, in a worker of Ray's, and return its value and its outcome.

    Args:
        function: What to call.
        parcel: With what.
        values: The values for the slots, and outcomes that are of no more use.

    Raises:
        RunError: The run ended in any other way than well.
    """
    found = cast("Parcel | BatchParcel", pickle.loads(parcel) if type(parcel) is bytes else parcel)
    if isinstance(found, BatchParcel):
        return BatchWork(found).execute(partial(_run, function))
    shipment, slots, home = cast("tuple[Shipment, int, PackedHome]", found)
    value, outcome = _run(function, shipment, home, values[:slots])
    return value, pickle.dumps(outcome)


def _run(
    function: AnyFunction[object],
    shipment: Shipment,
    home: PackedHome,
    values: Sequence[object] = (),
    goes_on: Callable[[], int] | None = None,
) -> tuple[object, Outcome]:
    log = AttemptLog(shipment)
    seconds = 0.0

    @wraps(function)
    def timed(*args: object, **kwargs: object) -> object:
        nonlocal seconds
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds = time.perf_counter() - start

    interrupts = Interrupts(shipment.task_run.name, log.give_up)
    failure: RunError | None = None
    # Around all of it: an errand that Ray interrupted before its end would go on listening, and end
    # this process when its run is to stop.
    with interrupts.possible():
        errand = Errand(Home.unpacked(home), shipment.task_run, log, interrupts, goes_on)
        try:
            value = _make_attempts(
                function if shipment.is_async else timed, shipment, values, errand, interrupts, log
            )
        except RunError as error:
            failure = error.with_traceback(None)  # With its frames it would be a cycle.
        finally:
            words = errand.finish()
    if failure is None:
        return value, (log.history, pickled_if_small(value), words, seconds)
    # Raised out here, it has no context: Ray would pickle that too.
    raise failure.with_history((log.history, words))


def _make_attempts(
    function: AnyFunction[object],
    shipment: Shipment,
    values: Sequence[object],
    errand: Errand,
    interrupts: Interrupts,
    log: AttemptLog,
) -> object:
    runner = runner_here(run_parcel)
    progress = partial(log.note, errand)
    with errand.executing(shipment, runner):
        if shipment.is_async:
            stoppable = errand.stopping.guard(cast("AnyFunction[AnyCoroutine[object]]", function))
            run = partial(
                run_shipment,
                stoppable,
                shipment,
                values,
                dumps,
                runner=runner,
                progress=progress,
                rest=errand.stopping.rest_async,
            )
            return call_beside(run, errand.relay)
        outer = set_blocking_section(Yielding(errand.relay, interrupts))
        try:
            return run_shipment(
                interrupts.guard(function),
                shipment,
                values,
                dumps,
                runner=runner,
                progress=progress,
                limiter=interrupts.limit,
                rest=errand.stopping.rest,
            )
        finally:
            set_blocking_section(outer)
