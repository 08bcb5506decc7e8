"""Runners that each do one thing wrong, which a row of the behaviour table is there to tell."""

from __future__ import annotations

import contextvars
import copy
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, ClassVar, Never, Self, TypeVar, cast

import anyio
import attrs
from runner_of_threads import RightTaskRunner, ThreadRun

from anabranch.futures import (
    Cancellation,
    Cancelled,
    Completed,
    ConcurrencyType,
    Crashed,
    Failed,
    Future,
    ResultUnavailableError,
    Retrying,
    RetryPolicy,
    Running,
    State,
    TaskRun,
    TimedOut,
    UpstreamFailed,
    WorkItem,
)
from anabranch.futures.runner import (
    NO_RETRIES,
    current_scope,
    limit_by_thread,
    make_item,
    new_run_id,
    run_item,
    running_loop,
    timed_out,
    when_ready,
)
from anabranch.futures.testing import Ticket

R = TypeVar("R")

#: How long to wait for a run that a broken runner has lost, in seconds.
LOST = 0.02


# ---------------------------------------------------------------------------- changed items


class ChangesItems(RightTaskRunner):
    """Executes something else than it was given."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        """Return what it executes."""
        return item

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        return super()._submit(self.change(item))


class DropsKeywords(ChangesItems):
    """Forgets keyword arguments."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return attrs.evolve(item, kwargs={})


class LeavesFutures(ChangesItems):
    """Hands futures on as they are."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return attrs.evolve(item, is_plain=True)


class IgnoresUpstreamFailures(ChangesItems):
    """Starts runs though one upstream has failed."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return attrs.evolve(item, upstreams=(), tolerated=(*item.upstreams, *item.tolerated))


class ToleratesNothing(ChangesItems):
    """Starts no run with a failure among its arguments, though that was allowed."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return attrs.evolve(item, tolerated=(), upstreams=(*item.upstreams, *item.tolerated))


class NeverRetries(ChangesItems):
    """Makes one attempt."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return attrs.evolve(item, retry=NO_RETRIES)


class RetriesOnceMore(ChangesItems):
    """Has a budget of its own, as a backend that retries by itself."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return attrs.evolve(item, retry=attrs.evolve(item.retry, retries=item.retry.retries + 1))


class HurriesRetries(ChangesItems):
    """Retries at once."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return attrs.evolve(item, retry=attrs.evolve(item.retry, delay=0.0))


class IgnoresConditions(ChangesItems):
    """Retries whatever has failed."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return attrs.evolve(item, retry=attrs.evolve(item.retry, condition=None))


class RetriesNoTimeOuts(ChangesItems):
    """Retries what has failed, but not what has timed out."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        policy = RetryPolicy(item.retry.retries, condition=_is_in_time)
        return attrs.evolve(item, retry=policy)


def _is_in_time(state: State[object]) -> bool:
    return not isinstance(state, TimedOut)


class IgnoresTimeLimits(ChangesItems):
    """Lets every run take its time."""

    patience = LOST

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return attrs.evolve(item, time_limit=None)


class DropsListeners(ChangesItems):
    """Tells nobody of the progress of runs."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return attrs.evolve(item, listener=None)


class IgnoresBackends(ChangesItems):
    """Has one kind of event loop."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return attrs.evolve(item, backend="trio")


class WrapsReturned(ChangesItems):
    """Takes everything that a function returns for a value."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return attrs.evolve(item, function=partial(_in_a_list, item.function))

    def execute(self, run: ThreadRun[R], item: WorkItem[R]) -> State[R]:
        state: State[Any] = super().execute(run, item)
        return Completed(state.value[0]) if isinstance(state, Completed) else state


def _in_a_list(function: Callable[..., object], *args: object, **kwargs: object) -> list[object]:
    return [function(*args, **kwargs)]


# ---------------------------------------------------------------------------- changed outcomes


class WrongValue(RightTaskRunner):
    """Loses what functions return."""

    def execute(self, run: ThreadRun[R], item: WorkItem[R]) -> State[R]:
        state = super().execute(run, item)
        return Completed(cast("R", None)) if isinstance(state, Completed) else state


class TruthyValuesOnly(RightTaskRunner):
    """Takes nothing, zero and false for no result."""

    def execute(self, run: ThreadRun[R], item: WorkItem[R]) -> State[R]:
        state = super().execute(run, item)
        wrong = isinstance(state, Completed) and not state.value
        return Completed(cast("R", "no result")) if wrong else state


class SwallowsExceptions(RightTaskRunner):
    """Calls a failed run a completed one."""

    patience = LOST

    def execute(self, run: ThreadRun[R], item: WorkItem[R]) -> State[R]:
        state = super().execute(run, item)
        return state if isinstance(state, Completed) else Completed(cast("R", None))


class WrapsExceptions(RightTaskRunner):
    """Puts an exception of its own around what was raised."""

    def execute(self, run: ThreadRun[R], item: WorkItem[R]) -> State[R]:
        state = super().execute(run, item)
        if isinstance(state, Failed):
            wrapped = RuntimeError("a task failed")
            wrapped.__cause__ = state.exception
            return Failed(wrapped, message=state.message)
        return state


class TaintsFailures(RightTaskRunner):
    """Has failures refer to what cannot be pickled."""

    def execute(self, run: ThreadRun[R], item: WorkItem[R]) -> State[R]:
        state = super().execute(run, item)
        return Failed(LookupError(threading.Lock())) if isinstance(state, Failed) else state


class CallsExitsFailures(RightTaskRunner):
    """Takes SystemExit and KeyboardInterrupt for failures like others."""

    def execute(self, run: ThreadRun[R], item: WorkItem[R]) -> State[R]:
        state = super().execute(run, item)
        return Failed(state.exception) if isinstance(state, Crashed) else state


class PicklesOutcomes(RightTaskRunner):
    """Relies on exceptions that can be pickled."""

    def execute(self, run: ThreadRun[R], item: WorkItem[R]) -> State[R]:
        try:
            return cast("State[R]", pickle.loads(pickle.dumps(super().execute(run, item))))
        except TypeError as error:
            return Failed(error)


class PicklesFunctions(RightTaskRunner):
    """Relies on functions that can be imported."""

    def execute(self, run: ThreadRun[R], item: WorkItem[R]) -> State[R]:
        try:
            pickle.dumps(item.function)
        except Exception as error:
            return Failed(error)
        return super().execute(run, item)


class RefusesAsync(RightTaskRunner):
    """Knows no coroutine functions."""

    async def execute_async(self, run: ThreadRun[R], item: WorkItem[R]) -> State[R]:
        return Failed(TypeError("no coroutine functions, please"))


class CountsNoAttempts(RightTaskRunner):
    """Makes each attempt as if it were the first."""

    def execute(self, run: ThreadRun[R], item: WorkItem[R]) -> State[R]:
        once = attrs.evolve(item, retry=NO_RETRIES)
        for _ in range(item.retry.retries + 1):
            state = super().execute(run, once)
            if isinstance(state, Completed):
                break
        return state


class TimesEverythingOut(RightTaskRunner):
    """Takes a time limit for a time."""

    def execute(self, run: ThreadRun[R], item: WorkItem[R]) -> State[R]:
        if item.time_limit is not None:
            return timed_out(item.task_run, item.time_limit)
        return super().execute(run, item)


class AbandonsAsyncRuns(RightTaskRunner):
    """Treats async runs like threads, which cannot be stopped."""

    def execute(self, run: ThreadRun[R], item: WorkItem[R]) -> State[R]:
        if not item.is_async or item.time_limit is None:
            return super().execute(run, item)
        endless: WorkItem[R] = attrs.evolve(item, time_limit=None)

        def execute() -> State[R]:
            return RightTaskRunner.execute(self, run, endless)

        state: State[R] | None = limit_by_thread(execute, 0.05)
        return timed_out(item.task_run, item.time_limit) if state is None else state


# ---------------------------------------------------------------------------- lost and misplaced


class LosesRuns(RightTaskRunner):
    """Never begins."""

    patience = LOST

    def begin(self, run: ThreadRun[R], item: WorkItem[R]) -> None:
        pass


class LosesSomeRuns(RightTaskRunner):
    """Loses every tenth run."""

    patience = LOST

    def begin(self, run: ThreadRun[R], item: WorkItem[R]) -> None:
        if len(self.threads) % 10 < 9:
            super().begin(run, item)


class LosesRunsInSequence(LosesRuns):
    """Says that it does one thing after the other."""

    kind = ConcurrencyType.SEQUENTIAL


class LeavesRunsBehind(LosesRuns):
    """Does not look at what is left when it is left."""

    async def _finish(self, *_: object) -> None:
        pass


class OneAtATime(RightTaskRunner):
    """Executes one run at a time, though it says that it executes many."""

    patience = LOST

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def end(self, run: ThreadRun[R], item: WorkItem[R]) -> None:
        while not self.lock.acquire(timeout=0.01):
            if run.done():  # The test is over.
                return
        try:
            super().end(run, item)
        finally:
            self.lock.release()


class LendsNoPlaces(OneAtATime):
    """Lets runs wait in the places of those that they wait for."""


class DoesNotWait(RightTaskRunner):
    """Starts runs before those that they wait for have ended."""

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        if not item.upstreams:
            return super()._submit(item)
        run: ThreadRun[R] = ThreadRun(item)
        state: State[R] = self.execute(run, item)
        run.set_final(state)
        return run


class HidesTheRootCause(RightTaskRunner):
    """Says that an upstream failed, but not why."""

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        run: ThreadRun[R] = ThreadRun(item)

        def fail(failure: UpstreamFailed) -> None:
            run.set_final(UpstreamFailed(cause=RuntimeError(failure.message)))

        when_ready(item, partial(self.begin, run, item), fail)
        return run


class TakesOnlyItsOwn(RightTaskRunner):
    """Waits for futures of its own, and for no others."""

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        if all(isinstance(each, ThreadRun) for each in item.upstreams):
            return super()._submit(item)
        run: ThreadRun[R] = ThreadRun(item)
        run.set_final(Failed(TypeError("a stranger")))
        return run


class TakesAnyArguments(RightTaskRunner):
    """Does not look whether arguments fit."""

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - wrong
        run = TaskRun(new_run_id(), "any", "any")
        return self.dispatch(make_item(function, args, kwargs, task_run=run))


class TakesWorkAnytime(RightTaskRunner):
    """Does not mind whether it has been started."""

    def dispatch(self, item: WorkItem[R]) -> Future[R]:
        return self._submit(item)


class ForgetsVariables(RightTaskRunner):
    """Executes runs in threads that know nothing of the submitter."""

    def variables(self, item: WorkItem[R]) -> contextvars.Context:
        return contextvars.Context()


class NothingToSubmitTo(RightTaskRunner):
    """Does not tell runs who executes them."""

    def execute(self, run: ThreadRun[R], item: WorkItem[R]) -> State[R]:
        return run_item(item, None)


class LeavesChildren(RightTaskRunner):
    """Lets a run end before what it has submitted to wait at a gate, which begins after that."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: dict[str, Future[object]] = {}

    def dispatch(self, item: WorkItem[R]) -> Future[R]:
        scope = current_scope.get()
        token = current_scope.set(None)
        try:
            if scope is not None and scope.context.task_run is not None:
                parent = self.runs[scope.context.task_run.id]
                if any(isinstance(each, Ticket) for each in item.args):
                    item = attrs.evolve(item, upstreams=(*item.upstreams, parent))
            return super().dispatch(item)
        finally:
            current_scope.reset(token)

    def begin(self, run: ThreadRun[R], item: WorkItem[R]) -> None:
        self.runs[item.task_run.id] = run
        super().begin(run, item)


class BelongsToTheLoop(RightTaskRunner):
    """Begins in the event loop of the caller, without saying so."""

    patience = LOST

    def begin(self, run: ThreadRun[R], item: WorkItem[R]) -> None:
        loop = running_loop()
        if loop is None:
            super().begin(run, item)
        else:
            loop.call_soon(partial(super().begin, run, item))


class KeepsRuns(RightTaskRunner):
    """Keeps what has ended."""

    patience = LOST
    kept: ClassVar[list[object]] = []

    def end(self, run: ThreadRun[R], item: WorkItem[R]) -> None:
        self.kept.extend((run, item))
        super().end(run, item)


class StartsCancelledRuns(RightTaskRunner):
    """Executes runs although they were cancelled, and what depends on them."""

    def work(self, run: ThreadRun[R], item: WorkItem[R]) -> None:
        run.set_running()
        self.end(run, item)

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        tolerant = attrs.evolve(item, upstreams=(), tolerated=(*item.upstreams, *item.tolerated))
        return super()._submit(tolerant)


class IsInNoOtherProcess(RightTaskRunner):
    """Says that its runs execute in other processes, and loses none: it does not execute them."""

    kind = ConcurrencyType.PARALLEL

    def execute(self, run: ThreadRun[R], item: WorkItem[R]) -> State[R]:
        if item.function.__name__.startswith("lose"):
            return Completed(cast("R", 1))
        return super().execute(run, item)


# ---------------------------------------------------------------------------- wrong futures


class CopyingRun(ThreadRun[R]):
    """Gives out a copy each time."""

    def result(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - wrong
        return copy.copy(super().result(*args, **kwargs))


class RaisingRun(ThreadRun[R]):
    """Raises, whatever it was asked."""

    def result(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - wrong
        return super().result()


class UncancellableRun(ThreadRun[R]):
    """Pretends that nothing can be cancelled."""

    def cancel(self) -> Cancellation:
        return Cancellation.CANNOT_STOP


class OverconfidentRun(ThreadRun[R]):
    """Pretends that everything can be cancelled."""

    def cancel(self) -> Cancellation:
        self.set_final(Cancelled())
        return Cancellation.CANCELLED


class PatientRun(ThreadRun[R]):
    """Waits as long as it takes."""

    def join(self, timeout: float | None = None) -> State[R] | None:
        return super().join()


class ForgetfulRun(ThreadRun[R]):
    """Knows only what it is now."""

    @property
    def history(self) -> tuple[Any, ...]:
        return (self.state,)


class VanishingRun(ThreadRun[R]):
    """Loses its value with its runner unless it was read before, and says no more than that."""

    is_kept = is_lost = False

    def result(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - wrong
        if self.is_lost and not self.is_kept:
            raise ResultUnavailableError("gone")
        self.is_kept = True
        return super().result(*args, **kwargs)


class HastyRun(ThreadRun[R]):
    """Is running from the beginning."""

    def __init__(self, item: WorkItem[R]) -> None:
        super().__init__(item)
        self.is_begun = False
        super().set_running()

    def set_running(self, since: float | None = None) -> bool:
        was_begun, self.is_begun = self.is_begun, True
        return not was_begun


class FragileRun(ThreadRun[R]):
    """Fails with its listener."""

    def _tell(self, state: Running | Retrying) -> None:
        if self._listener is None:
            return
        try:
            self._listener(self.task_run, state)
        except RuntimeError as error:
            self.set_final(Failed(error))


class RunOfItsWait(ThreadRun[R]):
    """Is cancelled with the wait for it."""

    async def park_async(self, timeout: float | None = None) -> None:
        try:
            await super().park_async(timeout)
        except anyio.get_cancelled_exc_class():
            self.set_final(Cancelled())
            raise


class RepeatingRun(ThreadRun[R]):
    """Calls twice."""

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        for _ in range(2):
            super().add_done_callback(callback)


class RaisingCallbacks(ThreadRun[R]):
    """Lets out what callbacks raise."""

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        if self.done():
            callback(self)
        else:
            super().add_done_callback(callback)


class TruthyRun(ThreadRun[R]):
    """Is always true."""

    def __bool__(self) -> Any:  # noqa: ANN401 - wrong
        return True


class UnawaitableRun(ThreadRun[R]):
    """Is for threads alone."""

    def __await__(self) -> Generator[Never, None, Never]:
        raise TypeError("object cannot be used in 'await' expression")


def _with_runs(
    run: type[ThreadRun[object]], patience: float = RightTaskRunner.patience
) -> type[RightTaskRunner]:
    """Return a kind of runner whose runs are of this kind."""
    return type(f"Of{run.__name__}", (RightTaskRunner,), {"run": run, "patience": patience})


CopiesValues = _with_runs(CopyingRun)
AlwaysRaises = _with_runs(RaisingRun)
NeverCancels = _with_runs(UncancellableRun)
ClaimsToStop = _with_runs(OverconfidentRun, 0.5)
WaitsForEver = _with_runs(PatientRun, LOST)
ForgetsHistory = _with_runs(ForgetfulRun)
RunsFromTheStart = _with_runs(HastyRun)
FailsWithListeners = _with_runs(FragileRun)
CancelsWithTheWait = _with_runs(RunOfItsWait)
CallsBackTwice = _with_runs(RepeatingRun)
FailsWithCallbacks = _with_runs(RaisingCallbacks)
TruthyFutures = _with_runs(TruthyRun)
CannotBeAwaited = _with_runs(UnawaitableRun)


# ---------------------------------------------------------------------------- wrong contexts


class ForgetsItsSettings(RightTaskRunner):
    """Is equal to nobody."""

    def _settings(self) -> Mapping[str, object]:
        return {"itself": object()}

    def duplicate(self) -> ForgetsItsSettings:
        return ForgetsItsSettings()


class CopiesSilently(RightTaskRunner):
    """Does not tell a copy what it is."""

    def __setstate__(self, state: tuple[dict[str, object], bool]) -> None:
        super().__setstate__((state[0], False))


class RefusesWithoutAReason(RightTaskRunner):
    """Does not say how to have another one."""

    def _refuse_second_start(self) -> None:
        if self._unavailable is None:
            raise RuntimeError("no")


class CountsNoAbandoned(RightTaskRunner):
    """Says nothing of threads that go on."""

    patience = 0.5

    def note_abandoned(self, run: TaskRun) -> None:
        pass


class LosesValues(RightTaskRunner):
    """Loses the values of its runs when it ends."""

    run = cast("type[ThreadRun[object]]", VanishingRun)

    async def _start(self, exit_stack: AsyncExitStack) -> None:
        await super()._start(exit_stack)
        exit_stack.callback(self.lose)

    def lose(self) -> None:
        for run in VanishingRun.all_known():
            if isinstance(run, VanishingRun):
                run.is_lost = True


class StartsOnlyInThreads(RightTaskRunner):
    """Cannot be started in a loop of the caller's."""

    @asynccontextmanager
    async def start(self) -> AsyncIterator[Self]:
        if not threading.current_thread().name.startswith("anabranch-"):
            raise RuntimeError("not in your loop")
        async with super().start():
            yield self


class RefusesBesideALoop(RightTaskRunner):
    """Cannot be used in plain code where a loop runs."""

    def __enter__(self) -> Self:
        if running_loop() is not None:
            raise RuntimeError("not beside your loop")
        return super().__enter__()


class WrapsBodyErrors(RightTaskRunner):
    """Lets the exceptions of its block out in others."""

    @asynccontextmanager
    async def start(self) -> AsyncIterator[Self]:
        try:
            async with super().start():
                yield self
        except KeyError as error:
            raise ExceptionGroup("in a task group", [error]) from None
