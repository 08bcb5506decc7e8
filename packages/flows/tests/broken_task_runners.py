"""Task runners for flows that each do one thing wrong, which a behaviour of flows is there to tell.

They leave the work to a concurrent runner, and change what goes in or what comes out.
"""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, ClassVar, Self, TypeVar, cast
from weakref import WeakSet

import attrs

from anabranch.flows import (
    Cancelled,
    Completed,
    ConcurrentTaskRunner,
    Crashed,
    Failed,
    Future,
    TaskRun,
    TaskRunner,
    UpstreamFailed,
)
from anabranch.futures import ConcurrencyType, WorkItem
from anabranch.futures.runner import NO_RETRIES, RunScope, current_scope, run_item, running_loop

R = TypeVar("R")

#: How long to wait for a run that a broken runner has lost, in seconds.
LOST = 0.02


class BentTaskRunner(TaskRunner):
    """Does as a concurrent runner does, and nothing wrong by itself."""

    #: How long a behaviour may take it, in seconds.
    patience: ClassVar[float] = 20.0
    kind: ClassVar[ConcurrencyType] = ConcurrencyType.CONCURRENT
    workers: ClassVar[int] = 40
    _known: ClassVar[WeakSet[Future[Any]]] = WeakSet()
    _knowing: ClassVar = threading.Lock()

    def __init__(self) -> None:
        super().__init__()
        self.inner = ConcurrentTaskRunner(self.workers)

    @property
    def concurrency_type(self) -> ConcurrencyType:
        """Concurrent."""
        return self.kind

    async def _start(self, exit_stack: AsyncExitStack) -> None:
        await exit_stack.enter_async_context(self.inner.start())

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        return self.pass_on(self.change(item))

    def pass_on(self, item: WorkItem[R]) -> Future[R]:
        """Have an item executed."""
        run = self.inner._submit(item)
        self._note(run)
        return run

    def dispatch(self, item: WorkItem[R]) -> Future[R]:
        """Take note of all futures that are given out."""
        future = super().dispatch(item)
        self._note(future)
        return future

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        """Return what is executed instead of an item."""
        return item

    def _note(self, run: Future[Any]) -> None:
        with self._knowing:
            self._known.add(run)

    @classmethod
    def all_known(cls) -> list[Future[Any]]:
        """Return all runs that there are."""
        with cls._knowing:
            return list(cls._known)


def around(
    item: WorkItem[R], change: Callable[[Any], Any], before: Callable[[], object] = lambda: None
) -> WorkItem[R]:
    """Return an item whose function returns something else."""
    function: Any = item.function

    @functools.wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        before()
        return change(function(*args, **kwargs))

    @functools.wraps(function)
    async def call_async(*args: object, **kwargs: object) -> object:
        before()
        return change(await function(*args, **kwargs))

    return attrs.evolve(item, function=call_async if item.is_async else call)


# ---------------------------------------------------------------------------- changed outcomes


class WrongValue(BentTaskRunner):
    """Loses what tasks return."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return around(item, lambda _: None)


class TakesStatesForValues(BentTaskRunner):
    """Completes with whatever a task returns."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return around(item, Completed)


class SwallowsExceptions(BentTaskRunner):
    """Calls failed runs completed ones."""

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        future: Future[Any] = Future(item.task_run)
        self.pass_on(item).add_done_callback(lambda run: future.set_final(_without_failure(run)))
        return future


def _without_failure(run: Future[Any]) -> Any:  # noqa: ANN401 - any state
    state = run.final_state()
    return Completed(None) if isinstance(state, Failed) else state


class HidesTheRootCause(BentTaskRunner):
    """Says that an upstream failed, but not why."""

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        future: Future[Any] = Future(item.task_run)

        def end(run: Future[Any]) -> None:
            state = run.final_state()
            if isinstance(state, UpstreamFailed):
                state = UpstreamFailed(cause=RuntimeError("something failed"))
            future.set_final(state)

        self.pass_on(item).add_done_callback(end)
        return future


class IgnoresUpstreams(BentTaskRunner):
    """Executes what is behind a failure all the same."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return attrs.evolve(item, upstreams=(), tolerated=(*item.upstreams, *item.tolerated))


# ---------------------------------------------------------------------------- changed items


class NeverRetries(BentTaskRunner):
    """Makes one attempt."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return attrs.evolve(item, retry=NO_RETRIES)


class IgnoresConditions(BentTaskRunner):
    """Retries whatever has failed."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return attrs.evolve(item, retry=attrs.evolve(item.retry, condition=None))


class IgnoresTimeLimits(BentTaskRunner):
    """Lets every run take its time."""

    patience = LOST

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return attrs.evolve(item, time_limit=None)


class RefusesOptions(BentTaskRunner):
    """Takes no options but its own, and has none."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        if item.runner_options:
            raise TypeError("no such options")
        return item


class DropsListeners(BentTaskRunner):
    """Tells nobody of the progress of runs."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return attrs.evolve(item, listener=None)


class RenamesRuns(BentTaskRunner):
    """Gives runs names of its own."""

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        run = TaskRun(item.task_run.id, "unnamed", "unnamed", item.task_run.tags)
        return self.pass_on(attrs.evolve(item, task_run=run))


class ForgetsWhoRuns(BentTaskRunner):
    """Executes functions outside the scopes of their runs."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return around(item, lambda value: value, lambda: current_scope.set(_NOBODY))


_NOBODY = RunScope()


class DropsArguments(BentTaskRunner):
    """Sends no default arguments of methods and partials: it calls the bare function."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return attrs.evolve(item, function=cast("Any", item.function).func)


class LeavesGenerators(BentTaskRunner):
    """Returns the first of what a generator yields."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return around(item, lambda value: value[:1] if isinstance(value, list) else value)


# ---------------------------------------------------------------------------- lost and misplaced


class LosesSomeRuns(BentTaskRunner):
    """Loses every third run."""

    patience = LOST

    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.count(1)

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        if next(self.numbers) % 3:
            return super()._submit(item)
        return Future(item.task_run)


class LosesRuns(BentTaskRunner):
    """Never begins."""

    patience = LOST

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        return Future(item.task_run)


class NeverCancels(BentTaskRunner):
    """Gives out futures that cannot be cancelled."""

    patience = LOST

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        future: Future[R] = Future(item.task_run)
        run = self.pass_on(item)
        run.add_done_callback(lambda run: future.set_final(run.final_state()))
        return future


class CompletesWhatIsCancelled(BentTaskRunner):
    """Calls runs that were stopped completed ones."""

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        return _Stoppable(item, self.pass_on(item))


class _Stoppable(Future[R]):
    def __init__(self, item: WorkItem[R], run: Future[R]) -> None:
        super().__init__(item.task_run, listener=item.listener)
        self.run = run
        run.add_done_callback(self.end)

    def cancel(self) -> Any:  # noqa: ANN401 - as the other's
        return self.run.cancel()

    def end(self, run: Future[Any]) -> None:
        state = run.final_state()
        self.set_final(Completed(None) if isinstance(state, Cancelled) else state)


class HastyStarts(BentTaskRunner):
    """Says that runs are running from the beginning."""

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        future = _Stoppable(item, self.pass_on(item))
        future.set_running()
        return future


class OneAtATime(BentTaskRunner):
    """Executes one run at a time, though it says that it executes many."""

    patience = LOST
    workers = 1


class NothingToSubmitTo(BentTaskRunner):
    """Does not tell tasks who executes them."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return around(item, lambda value: value, _forget_runner)


def _forget_runner() -> None:
    scope = current_scope.get()
    if scope is not None:
        current_scope.set(RunScope(scope.flow_run, scope.task_run, owner=scope.owner))


class IsInNoOtherProcess(BentTaskRunner):
    """Says that its runs execute in other processes."""

    kind = ConcurrencyType.PARALLEL


class PretendsToBeElsewhere(BentTaskRunner):
    """Says that its runs execute here, and has them tell of another process."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return around(item, lambda value: 1 if value == os.getpid() else value)


# ---------------------------------------------------------------------------- wrong contexts


class DuplicatesNothing(BentTaskRunner):
    """Is its own duplicate."""

    def duplicate(self) -> Self:
        return self


class StartsOnlyOnTrio(BentTaskRunner):
    """Knows one event loop."""

    async def _start(self, exit_stack: AsyncExitStack) -> None:
        loop = running_loop()
        if loop is not None and loop.backend != "trio":
            raise RuntimeError("trio only")
        await super()._start(exit_stack)


class KnowsOneLoop(BentTaskRunner):
    """Brings trio along, whatever it is asked for."""

    def __enter__(self) -> Self:
        self.backend = "trio"
        return super().__enter__()


class RefusesBesideALoop(BentTaskRunner):
    """Cannot be used in plain code where a loop runs."""

    def __enter__(self) -> Self:
        if running_loop() is not None:
            raise RuntimeError("not beside your loop")
        return super().__enter__()


class WrapsBodyErrors(BentTaskRunner):
    """Lets the exceptions of its block out in others."""

    @asynccontextmanager
    async def start(self) -> AsyncIterator[Self]:
        try:
            async with super().start():
                yield self
        except KeyError as error:
            raise ExceptionGroup("in a task group", [error]) from None


class SurvivesInterrupts(BentTaskRunner):
    """Has its flow complete although it is interrupted."""

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        future: Future[Any] = Future(item.task_run)
        try:
            self.pass_on(item).wait()
        except BaseException:
            future.set_final(Completed(1))
            os._exit(0)
        return future


class LeavesFutures(BentTaskRunner):
    """Hands futures on as they are."""

    def change(self, item: WorkItem[R]) -> WorkItem[R]:
        return attrs.evolve(item, is_plain=True)


class CallsCrashesFailures(BentTaskRunner):
    """Takes SystemExit for a failure like others."""

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        future: Future[Any] = Future(item.task_run)

        def end(run: Future[Any]) -> None:
            state = run.final_state()
            future.set_final(Failed(state.exception) if isinstance(state, Crashed) else state)

        self.pass_on(item).add_done_callback(end)
        return future


class TakesOnlyItsOwn(BentTaskRunner):
    """Waits for futures of its own, and for no others."""

    def __init__(self) -> None:
        super().__init__()
        self.own: set[int] = set()

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        future: Future[R] = Future(item.task_run)
        if all(id(each) in self.own for each in item.upstreams):
            future = super()._submit(item)
        else:
            future.set_final(Failed(TypeError("a stranger")))
        self.own.add(id(future))
        return future


class LeavesValuesBehind(BentTaskRunner):
    """Loses the values that were not fetched before it is left."""

    def __init__(self) -> None:
        super().__init__()
        self.is_left = False

    async def _start(self, exit_stack: AsyncExitStack) -> None:
        exit_stack.callback(self.leave)
        await super()._start(exit_stack)

    def leave(self) -> None:
        """Be left."""
        self.is_left = True

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        return _Forgetful(item, super()._submit(item), self)


class _Forgetful(Future[R]):
    def __init__(self, item: WorkItem[R], run: Future[R], runner: LeavesValuesBehind) -> None:
        super().__init__(item.task_run)
        self.runner = runner
        run.add_done_callback(lambda run: self.set_final(run.final_state()))

    def result(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - wrong
        assert not self.runner.is_left, "the value was left behind"
        return super().result(*args, **kwargs)


class StartsOnlyOnce(BentTaskRunner):
    """Can be started once in a process, duplicates included, and then ends."""

    def __init__(self, starts: list[int] | None = None) -> None:
        super().__init__()
        self.starts: list[int] = [] if starts is None else starts

    def _settings(self) -> Mapping[str, object]:
        return {"starts": self.starts}

    async def _start(self, exit_stack: AsyncExitStack) -> None:
        self.starts.append(1)
        if len(self.starts) > 1:
            raise RuntimeError("only once")
        await super()._start(exit_stack)


class WaitsForThreads(BentTaskRunner):
    """Abandons nothing."""

    patience = LOST

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        return _Stubborn(item, super()._submit(item))


class _Stubborn(Future[R]):
    def __init__(self, item: WorkItem[R], run: Future[R]) -> None:
        super().__init__(item.task_run)
        run.add_done_callback(lambda run: self.set_final(run.final_state()))

    def abandon(self, state: object) -> bool:
        return False


class OneInAProcess(BentTaskRunner):
    """Cannot be started beside another of its kind."""

    patience = LOST
    started: ClassVar[list[BentTaskRunner]] = []

    async def _start(self, exit_stack: AsyncExitStack) -> None:
        if self.started:
            raise RuntimeError("one in a process")
        self.started.append(self)
        exit_stack.callback(self.started.clear)
        await super()._start(exit_stack)


class RunsDependantsAtOnce(BentTaskRunner):
    """Executes what is to wait for something there and then."""

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        behind = (*item.upstreams, *item.tolerated)
        if item.is_async or all(each.done() for each in behind):
            return super()._submit(item)
        future: Future[R] = Future(item.task_run)
        future.set_final(run_item(item))
        return future
