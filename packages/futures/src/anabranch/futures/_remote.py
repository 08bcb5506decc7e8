"""Work that travels to another process, and outcomes that travel back.

A runner whose tasks run elsewhere *packs* an item into a `Shipment` and a list of futures: those
whose values lie where the task will run, which the backend puts into their slots itself. On the
other side `run_shipment` runs it. A value is returned as it is, and stays there. A failure is
raised as a `RunError`, so that to the backend it is a native error: what depends on the run fails
with it, without having started. Back here `RunError.state_of` tells the one from the other.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Never, TypeVar, cast, final

import attrs

from anabranch.futures._arguments import LOOK_INSIDE, AllowedFailure, Quoted, rebuild
from anabranch.futures._collections import FutureList
from anabranch.futures._exceptions import RemoteExceptionError
from anabranch.futures._future import Future
from anabranch.futures._lifecycle import Progress, run_item, run_item_in_new_loop
from anabranch.futures._retries import NO_RETRIES, RetryPolicy
from anabranch.futures._small_values import SHORT, SMALL
from anabranch.futures._states import (
    Cancelled,
    Completed,
    Crashed,
    Failed,
    State,
    TimedOut,
    UpstreamFailed,
    root_cause,
)
from anabranch.futures._time_limits import TimeLimiter, limit_by_thread
from anabranch.futures._timers import sleep, sleep_async
from anabranch.futures._typing import AnyFunction
from anabranch.futures._work import Backend, FlowRun, TaskRun, WorkItem

if TYPE_CHECKING:
    from anabranch.futures._runner import TaskRunner

R = TypeVar("R")

#: What counts as long in an argument, in bytes.
_LONG: Final = 10_000


@final
@attrs.frozen
class Slot:
    """Stands among shipped arguments for the value of the future of this number."""

    index: int


@final
@attrs.frozen(eq=False)
class Shipment:
    """An item as it travels: without its function, which is shipped once, and without futures.

    Attributes:
        args: Positional arguments, with a `Slot` for each value that lies on the other side.
        kwargs: Keyword arguments, likewise.
        is_plain: Whether the arguments are as the function gets them.
        task_run: The run's id and names.
        flow_run: The flow run that it belongs to, if any.
        is_async: Whether calling the function gives a coroutine.
        backend: The event loop for the coroutine.
        retry: When the run is tried again.
        time_limit: How long each attempt may take, in seconds.
        first_attempt: The number of the attempt to begin with; those before it were lost together
            with what they ran on.
    """

    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    is_plain: bool
    task_run: TaskRun
    flow_run: FlowRun | None
    is_async: bool
    backend: Backend | None
    retry: RetryPolicy = NO_RETRIES
    time_limit: float | None = None
    first_attempt: int = 1

    def __reduce__(self) -> tuple[object, ...]:
        # Flat, and without names: that takes a fifth of the time, on either side.
        run, flow = self.task_run, self.flow_run
        runs = (run.id, run.name, run.task_name, run.tags)
        flows = None if flow is None else (flow.id, flow.name, flow.flow_name, flow.tags)
        rest = (self.is_async, self.backend, self.time_limit, self.first_attempt)
        retry = () if self.retry is NO_RETRIES else (self.retry,)
        return _unpack, (self.args, self.kwargs, self.is_plain, runs, flows, rest, *retry)

    def is_simple(self) -> bool:
        """Whether it pickles alike with any pickler, so that the quickest may be taken."""
        policy = self.retry
        delays = policy.delay if type(policy.delay) in (tuple, list) else (policy.delay,)
        return (
            self.is_plain
            and policy.condition is None
            and _are_simple((*self.args, *self.kwargs.values()))
            and _are_simple(cast("Sequence[object]", delays))
        )


def _unpack(
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    is_plain: bool,
    run: tuple[str, str, str, frozenset[str]],
    flow: tuple[str, str, str, frozenset[str]] | None,
    rest: tuple[bool, Backend | None, float | None, int],
    retry: RetryPolicy = NO_RETRIES,
) -> Shipment:
    is_async, backend, time_limit, first_attempt = rest
    return Shipment(
        args,
        kwargs,
        is_plain,
        TaskRun(*run),
        None if flow is None else FlowRun(*flow),
        is_async,
        backend,
        retry,
        time_limit,
        first_attempt,
    )


def _are_simple(values: Iterable[object]) -> bool:
    return all(
        type(value) in SMALL or (type(value) in SHORT and len(cast("str", value)) <= _LONG)
        for value in values
    )


@final
@attrs.frozen
class Packed:
    """A shipment, and the futures behind its slots, in order."""

    shipment: Shipment
    slots: list[Future[object]]


def pack(item: WorkItem[R], is_there: Callable[[Future[object]], bool]) -> Packed:
    """Take an item apart for travelling.

    Args:
        item: What to ship. Those of its futures that are not "there" have ended.
        is_there: Whether a future's value lies, or will lie, where the item is going.
    """
    packing = _Packing(is_there)
    args, kwargs = item.args, item.kwargs
    if not item.is_plain:
        args, kwargs = rebuild(args, kwargs, packing)
    # What has become of the futures may be as plain as if there had been none.
    is_plain = item.is_plain or (not packing.futures and _are_simple((*args, *kwargs.values())))
    shipment = Shipment(
        args,
        kwargs,
        is_plain,
        item.task_run,
        item.flow_run,
        item.is_async,
        item.backend,
        item.retry,
        item.time_limit,
    )
    return Packed(shipment, packing.futures)


@final
class _Packing:
    """Gives what an argument is replaced by for travelling; see `rebuild`.

    A function that calls itself would do, but it is a cycle: the futures in it, and so their values
    on a cluster, would be kept until the next garbage collection.

    Args:
        is_there: As of `pack`.

    Attributes:
        futures: Those behind the slots, in order.
    """

    def __init__(self, is_there: Callable[[Future[object]], bool]) -> None:
        self._is_there: Final = is_there
        self._slots: Final[dict[int, Slot]] = {}
        self.futures: Final[list[Future[object]]] = []

    def __call__(self, value: object) -> object:
        match value:
            case FutureList():
                return [self(each) for each in value]
            case Future():
                return self._slot_or_value(value)
            case AllowedFailure(future):
                if isinstance(future.final_state(), Completed):
                    return self._slot_or_value(future)
                return future.final_state().result(raise_on_failure=False)
            case Quoted():
                return value  # Taken off on the other side, which need not search it either.
            case _:
                return LOOK_INSIDE

    def _slot_or_value(self, future: Future[object]) -> object:
        if not self._is_there(future):
            return future.final_state().result(raise_on_failure=False)
        slot = self._slots.get(id(future))
        if slot is None:
            self._slots[id(future)] = slot = Slot(len(self.futures))
            self.futures.append(future)
        return slot


def run_shipment(
    function: AnyFunction[object],
    shipment: Shipment,
    values: Sequence[object] = (),
    dumps: Callable[[object], bytes] = pickle.dumps,
    *,
    runner: TaskRunner | None = None,
    progress: Progress | None = None,
    limiter: TimeLimiter = limit_by_thread,
    rest: Callable[[float], object] | None = None,
) -> object:
    """Run shipped work in this process, and return its value.

    Args:
        function: The item's function.
        shipment: The rest of the item.
        values: What goes into the slots, in order.
        dumps: Pickles exceptions for the way back.
        runner: Where the function's own submissions go; None where that is nowhere.
        progress: Told when the run waits for another attempt, and when it makes it.
        limiter: Keeps an attempt of a sync function within its time limit.
        rest: Lets so many seconds pass between two attempts; if the function is async, what it
            returns is awaited. It may be over sooner, for ``progress`` to raise something, which
            comes out of here. None for `sleep` and `sleep_async`.

    Raises:
        RunError: The run ended in any other way than well.
    """
    item: WorkItem[object] = WorkItem(
        function,
        shipment.args,
        shipment.kwargs,
        shipment.task_run,
        is_async=shipment.is_async,
        flow_run=shipment.flow_run,
        backend=shipment.backend,
        retry=shipment.retry,
        time_limit=shipment.time_limit,
    )
    if not shipment.is_plain:
        item = _filled(item, values)
    first = shipment.first_attempt
    if item.is_async:
        state = run_item_in_new_loop(
            item, runner, first_attempt=first, progress=progress, rest=rest or sleep_async
        )
    else:
        state = run_item(
            item,
            runner,
            first_attempt=first,
            progress=progress,
            limiter=limiter,
            rest=rest or sleep,
        )
    if isinstance(state, Completed):
        return state.value
    raise RunError.of(shipment.task_run, state, dumps)


def _filled(item: WorkItem[R], values: Sequence[object]) -> WorkItem[R]:
    def replace(value: object) -> object:
        match value:
            case Slot():
                return values[value.index]
            case Quoted():
                return value.value
            case _:
                return LOOK_INSIDE

    args, kwargs = rebuild(item.args, item.kwargs, replace)
    return attrs.evolve(item, args=args, kwargs=kwargs)


@final
class RunError(Exception):
    """How a run ended that did not end well, in a form that always travels.

    The exception itself may not survive pickling, or not unpickling. It travels as bytes inside,
    beside a description that always does, and is unpacked only where its run is known.

    Args:
        run_id: The run that failed.
        run_name: Its name.
        kind: The name of the state that it ended in.
        message: The state's message.
        report: The exception's type, message and traceback, as Python prints them.
        pickled: The exception itself, if it survives a round trip.
        history: What the run went through before, in the form that its runner gives it.
    """

    def __init__(
        self,
        run_id: str,
        run_name: str,
        kind: str,
        message: str | None,
        report: str,
        pickled: bytes | None,
        history: tuple[object, ...] = (),
    ) -> None:
        super().__init__(run_id, run_name, kind, message, report, pickled, history)
        self.run_id = run_id
        self.run_name = run_name
        self.kind = kind
        self.message = message
        self.report = report
        self.pickled = pickled
        self.history = history

    def __str__(self) -> str:
        # Short, and without the report: backends log it, and some cut up what is long.
        message = (self.message or "")[:500]
        return f"Run {self.run_name!r} ended in state {self.kind}({message!r})"

    @classmethod
    def of(
        cls,
        run: TaskRun,
        state: State[object],
        dumps: Callable[[object], bytes] = pickle.dumps,
    ) -> RunError:
        """Describe the unsuccessful state that a run has ended in."""
        assert not isinstance(state, Completed), "a run that completed has a value"
        error = root_cause(state)
        report = "".join(traceback.format_exception(error))
        # Libraries that pickle tracebacks would send along what the frames refer to.
        pickled = _pickled(error.with_traceback(None), dumps)
        return cls(run.id, run.name, state.name, state.message, report, pickled)

    def with_history(self, history: tuple[object, ...]) -> RunError:
        """Return the same failure, with what the run went through before it."""
        return RunError(
            self.run_id,
            self.run_name,
            self.kind,
            self.message,
            self.report,
            self.pickled,
            history,
        )

    def without_original(self) -> RunError:
        """Return the same failure, without the exception itself."""
        return RunError(
            self.run_id, self.run_name, self.kind, self.message, self.report, None, self.history
        )

    def exception(self) -> BaseException:
        """Return the run's exception; a `RemoteExceptionError` if it could not travel."""
        if self.pickled is not None:
            try:
                error = pickle.loads(self.pickled)
            except (Exception, SystemExit):  # Foreign code, which may not exist on this side.
                error = None
            if isinstance(error, BaseException):
                error.add_note(f"It was raised in another process:\n\n{self.report}")
                return error
        return RemoteExceptionError(f"{self.message}\n\n{self.report}")

    def state(self) -> State[Never]:
        """Return the state that the run has ended in."""
        error = self.exception()
        match self.kind:
            case "TimedOut":
                return TimedOut(exception=error, message=self.message)
            case "Cancelled":
                return Cancelled(exception=error, message=self.message)
            case "Crashed":
                return Crashed(exception=error, message=self.message)
            case "UpstreamFailed":
                return UpstreamFailed(cause=error, message=self.message)
            case _:
                return Failed(error, message=self.message)

    def state_of(self, run: TaskRun) -> State[Never]:
        """Return the state of a run whose backend reports this error for it.

        It is the run's own failure, or that of one upstream, which the backend has handed down.
        """
        if run.id == self.run_id:
            return self.state()
        return UpstreamFailed(
            cause=self.exception(),
            message=f"Run {self.run_name!r} upstream ended in state {self.kind}({self.message!r})",
        )


def _pickled(error: BaseException, dumps: Callable[[object], bytes]) -> bytes | None:
    try:
        pickled = dumps(error)
        survives = type(pickle.loads(pickled)) is type(error)
    except BaseException:  # Pickling runs foreign code, and must not end a worker by SystemExit.
        return None
    return pickled if survives else None
