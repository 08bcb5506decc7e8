"""A started runner's way of having items run in Ray."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, final

import attrs

from anabranch.futures import (
    Completed,
    Failed,
    Future,
    WorkItem,
)
from anabranch.futures.runner import (
    Packed,
    describe,
    find_unpicklable,
    pack,
    unpicklable_error,
    upstream_failure,
    when_ready,
)
from anabranch.runners.ray import _native
from anabranch.runners.ray._capacity import Capacity
from anabranch.runners.ray._functions import KEPT, ExportedFunctions
from anabranch.runners.ray._lines import Line
from anabranch.runners.ray._native import Exported, Ref
from anabranch.runners.ray._options import NO_OPTIONS, Options, refusal, with_options
from anabranch.runners.ray._parcel import parcel_of
from anabranch.runners.ray._questions import InstanceLostError
from anabranch.runners.ray._run import RayRun

if TYPE_CHECKING:
    from anabranch.futures.runner import Shipment
    from anabranch.runners.ray._link import Link
    from anabranch.runners.ray._origin import Origin
    from anabranch.runners.ray._parcel import Execute

R = TypeVar("R")


@final
class Session:
    """Submits items to Ray, as soon as what they depend on is there or on its way there.

    Args:
        connection: Where to.
        execute: Runs what arrives on workers.
    """

    def __init__(self, connection: Link, execute: Execute) -> None:
        self._connection: Final = connection
        self._functions: Final = ExportedFunctions(execute)
        self._capacity: Final = Capacity()
        self._lines: Final[OrderedDict[Exported, Line]] = OrderedDict()

    def submit(
        self, item: WorkItem[R], admit: Callable[[Future[object]], object], origin: Origin
    ) -> RayRun[R]:
        """Have an item run, and return its future at once.

        Args:
            item: What to run.
            admit: Told of the run before it can start.
            origin: Where the run belongs, and who hears of it.

        Raises:
            TypeError: There is no such option for Ray, or one is of the wrong type.
            ValueError: An option is not possible, or Ray refuses it.
        """
        item, options = with_options(item)
        launch = self._launch
        if options:
            self._check(item, options)
            launch = partial(launch, options=options)
        run: RayRun[R] = RayRun(item, self._connection, launch, origin)
        admit(run)
        try:
            self._bring(run, item, launch)
        except BaseException:  # Ctrl-C: nobody gets the run, and it may never end by itself.
            run.cancel()
            raise
        return run

    def _check(self, item: WorkItem[R], options: Options) -> None:
        """Have Ray look at the options of a run, before it is there."""
        run = item.task_run
        try:
            self._functions.get(item.function, run.task_name, options)
        except Exception as error:
            raise refusal(run, error) from error
        if self._connection.is_local and self._connection.is_open():
            self._capacity.warn_if_exceeded(run, options, self._connection)

    def _bring(
        self, run: RayRun[R], item: WorkItem[R], launch: Callable[[RayRun[R], WorkItem[R]], None]
    ) -> None:
        """Launch a run, now or when what it depends on is there or has ended."""
        strangers = [each for each in item.upstreams if not self._is_there(each)]
        strangers.extend(item.tolerated)  # To Ray, a failure is never a value.
        waiting = [each for each in strangers if not each.done()]
        if not waiting and not any(map(_is_far, strangers)):
            if (failure := upstream_failure(item)) is not None:
                run.set_final(failure)
            else:
                launch(run, item)
            return

        def launch_elsewhere() -> None:
            # This is the thread in which some other runner's run has ended.
            start = partial(run.guard, partial(launch, run, item))
            self._connection.helper.call_soon(start)

        when_ready(item, launch_elsewhere, run.set_final, waiting)

    def _is_there(self, future: Future[object]) -> bool:
        return isinstance(future, RayRun) and future.is_in(self._connection)

    def _launch(
        self,
        run: RayRun[R],
        item: WorkItem[R],
        first_attempt: int = 1,
        options: Options = NO_OPTIONS,
    ) -> None:
        if run.done():  # Cancelled while it waited.
            return
        try:
            packed = pack(item, self._is_there)
        except Exception as error:  # A value is lost, or unpickling it ran foreign code.
            run.set_final(Failed(error, message=describe(error)))
            return
        upstreams, values, outcomes = self._native_upstreams(item, packed)
        if (failure := upstream_failure(item)) is not None:
            run.set_final(failure)
            return
        name = item.task_run.task_name
        exported, before = self._functions.get(item.function, name, options)
        shipment = packed.shipment
        if first_attempt > 1:
            shipment = attrs.evolve(shipment, first_attempt=first_attempt)
        if (
            self._connection.cpus
            and not (before or options or upstreams)
            and _may_wait(item, shipment)
        ):
            run.line = line = self._line(exported)
            if line.takes(run, shipment):
                return
        parcel = parcel_of(shipment, len(values), run.origin.home)
        arguments = (*before, parcel, *values, *outcomes)
        try:
            value_ref, outcome_ref = self._connection.submit(exported, arguments)
        except BaseException as error:  # Pickling runs foreign code, which may raise anything.
            if run.line is not None:
                run.line.ended()
            if not isinstance(error, Exception):
                raise
            if not isinstance(error, InstanceLostError):
                error = _why_refused(item, packed, options, error)
            run.refused(error)
            return
        run.submitted(value_ref, outcome_ref, upstreams)

    def _line(self, exported: Exported) -> Line:
        line = self._lines.get(exported)
        if line is None:
            line = self._lines.setdefault(exported, Line(exported, self._connection))
            if len(self._lines) > KEPT:  # What waits in one has it.
                self._lines.popitem(last=False)
        return line

    def _native_upstreams(
        self, item: WorkItem[R], packed: Packed
    ) -> tuple[tuple[Future[object], ...], list[Ref], list[Ref]]:
        """Return the runs in Ray that an item waits for there, and the refs to wait with.

        For those whose values are wanted that is the value; for the others it is the outcome, so
        that no value is moved for nothing. A run that has failed meanwhile has neither.
        """
        wanted = {id(each): each for each in packed.slots}
        values = [each.value_ref for each in packed.slots if isinstance(each, RayRun)]
        others = [
            each
            for each in item.upstreams
            if id(each) not in wanted and isinstance(each, RayRun) and self._is_there(each)
        ]
        outcomes = [each.outcome_ref for each in others]  # None where it has ended.
        return (
            (*packed.slots, *others),
            [ref for ref in values if ref is not None],
            [ref for ref in outcomes if ref is not None],
        )


def _why_refused(
    item: WorkItem[R], packed: Packed, options: Options, error: Exception
) -> Exception:
    name = item.task_run.name
    try:
        _native.pickle(item.retry)
    except Exception as reason:  # The policy is the user's code.
        failure = TypeError(
            f"Run {name!r} cannot be sent to Ray: its retry policy cannot be pickled "
            f"({describe(reason)}). It is asked on the worker: have retry_condition and "
            "retry_delay refer to what can travel there"
        )
        failure.__cause__ = error.with_traceback(None)
        return failure
    call = item.function, packed.shipment.args, packed.shipment.kwargs
    if options and find_unpicklable(*call, _native.pickle) is None:
        return refusal(item.task_run, error)
    return unpicklable_error(name, "Ray", *call, _native.pickle, error)


def _may_wait(item: WorkItem[R], shipment: Shipment) -> bool:
    """Whether a run may go to Ray with others."""
    return (
        not item.retry.retries
        and item.time_limit is None
        and not item.is_async
        and shipment.is_simple()
    )


def _is_far(future: Future[object]) -> bool:
    """Whether reading the value of a run that has ended takes its time."""
    if not future.done():
        return False
    state = future.final_state()
    return isinstance(state, Completed) and not state.is_local
