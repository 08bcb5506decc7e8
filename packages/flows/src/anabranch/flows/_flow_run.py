"""A flow run under way: its names, its accounts, and the state that it ends in."""

from __future__ import annotations

import inspect
import itertools
import logging
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final, TypeAlias, TypeVar, cast, final

from anabranch.flows._hooks import HookThread
from anabranch.flows._logging import (
    engine_logger,
    ensure_console_logging,
    log_flow_run,
    log_task_run,
)
from anabranch.flows._names import new_flow_run_name
from anabranch.flows._printing import logged_prints
from anabranch.flows._tag_limits import tag_limits_of_flow
from anabranch.flows._tags import current_tags
from anabranch.futures import (
    Cancellation,
    Cancelled,
    Completed,
    Failed,
    FlowRun,
    Future,
    FutureList,
    Retrying,
    RunContext,
    State,
    StateType,
    TaskRun,
    TaskRunner,
    UpstreamFailed,
)
from anabranch.futures.runner import (
    FINAL_STATES,
    RunScope,
    children,
    current_scope,
    describe,
    new_run_id,
)

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

#: What decides how a flow that returns it ends.
Outcome: TypeAlias = Future[object] | State[object]

#: How many failures a flow run keeps for its final state; the others are only counted.
KEPT_FAILURES: Final = 10


@final
class SubflowRun(Future[R_co]):
    """The future of a subflow, which runs in a thread of its own, never in a place of a pool."""

    __slots__ = ("_run", "_stop", "_upstreams")

    def __init__(self, run: ActiveFlowRun) -> None:
        names = run.flow_run
        super().__init__(TaskRun(names.id, names.name, names.flow_name))
        self._run = run
        self._stop: Callable[[], object] | None = None
        self._upstreams: tuple[Future[object], ...] = ()

    def depends_on(self, upstreams: tuple[Future[object], ...]) -> None:
        """Tell which runs have to end before the subflow starts."""
        self._upstreams = upstreams

    def missing(self) -> Iterable[Future[object]]:
        """Return the runs that have to end before the subflow starts."""
        return [each for each in self._upstreams if not each.done()]

    def needed_loops(self) -> frozenset[int]:
        """Return the threads of the event loops that those runs need."""
        return frozenset[int]().union(*(each.needed_loops() for each in self.missing()))

    def stop_with(self, stop: Callable[[], object]) -> None:
        """Tell how the subflow's body is stopped, if it is async."""
        self._stop = stop

    def cancel(self) -> Cancellation:
        """Ask for the subflow to be stopped.

        One that has not started is over at once. Of one that is running, the runs are cancelled;
        its body is, if it is async.
        """
        if self.set_running():
            self.set_final(Cancelled(message="The run was cancelled before it started."))
            return Cancellation.CANCELLED
        if self.done():
            return Cancellation.CANNOT_STOP
        self._run.cancel()
        if self._stop is None:
            return Cancellation.CANNOT_STOP
        self._stop()
        return Cancellation.WILL_STOP


class ActiveFlowRun:
    """One run of a flow, from its first log line to its last.

    Attributes:
        flow_run: The run's id and names.
        runner: The runner that the tasks of the present attempt are submitted to.
        scope: The scope of the present attempt's body.
        hooks: Calls the hooks of submitted runs.
        parent: The flow run that called this one; None if there is none in this process.
        state: The state that the run has ended in; None until then.
    """

    def __init__(
        self,
        flow_name: str,
        runner: TaskRunner,
        *,
        name: str | None,
        is_submitted: bool,
        is_async: bool = False,
        log_prints: bool | None = None,
        tag_limits: Mapping[str, int] | None = None,
    ) -> None:
        self.flow_run: Final = FlowRun(
            new_run_id(), name or new_flow_run_name(), flow_name, current_tags.get()
        )
        self.runner = runner
        self._is_async: Final = is_async
        self._is_unwanted = False
        self.scope = self._new_scope(attempt=1)
        self.hooks: Final = HookThread(self.flow_run, self.scope, runner.backend)
        self.state: State[object] | None = None
        parent = current_scope.get()
        self.parent: Final = None if parent is None else owner_of(parent)
        self._is_submitted: Final = is_submitted
        self._log_prints: Final = log_prints
        self._tag_limits: Final = tag_limits or {}
        self._lock: Final = threading.Lock()
        self._counters: Final[dict[str, itertools.count[int]]] = {}
        self._open_accounts()

    def _new_scope(self, attempt: int) -> RunScope:
        context = RunContext(self.flow_run, attempt=attempt)
        return RunScope(context, self.runner, self, is_async=self._is_async)

    def _open_accounts(self) -> None:
        self._ends: Counter[StateType] = Counter()
        self._failures: list[BaseException] = []
        # Of runs that failed with one of another flow, which is not among this one's failures.
        self._root_causes: list[BaseException] = []
        self._failed_runs: list[Future[object]] = []

    def begin_attempt(self, number: int) -> None:
        """Get ready for another attempt: with a runner of its own, and its own accounts."""
        if number > 1:
            backend = self.runner.backend
            self.runner = self.runner.duplicate()
            self.runner.backend = backend
            self.scope = self._new_scope(number)
            self._open_accounts()

    def cancel(self) -> None:
        """Cancel what the flow has submitted; nothing is submitted or tried again after that."""
        self._is_unwanted = True
        self.scope.cancel()

    def is_unwanted(self) -> bool:
        """Whether the run has been cancelled."""
        return self._is_unwanted

    # ------------------------------------------------------------------ naming

    def next_number(self, task_key: str) -> int:
        """Return how many runs of a task this flow run has made so far."""
        counter = self._counters.get(task_key)
        if counter is None:
            counter = self._counters.setdefault(task_key, itertools.count())
        return next(counter)

    # ------------------------------------------------------------------ keeping account

    def child_ended(self, child: Future[object]) -> None:
        """Take note of a submitted run that has ended."""
        state = child.final_state()
        if child.was_disowned() and isinstance(state, Cancelled):
            # As it was meant to end: it is no loss to the flow.
            log_task_run(child.task_run, self.flow_run, "Finished in state %s", state)
            return
        if isinstance(child, SubflowRun):
            self.note_subflow_end(state)
            return
        is_new_failure = self.note_end(child.task_run, state)
        if is_new_failure:
            assert not isinstance(state, Completed), "a run that completed is no failure"
            with self._lock:
                self._failed_runs.append(child)
            _forget_locals(state.exception)

    def note_end(self, run: TaskRun, state: State[object]) -> bool:
        """Count a run that has ended, and log its end.

        Returns:
            Whether it is among the failures that are kept.
        """
        is_failure = not isinstance(state, Completed | UpstreamFailed)
        with self._lock:
            self._ends[state.type] += 1
            is_kept = is_failure and len(self._failures) < KEPT_FAILURES
            if is_kept:
                assert not isinstance(state, Completed), "a run that completed is no failure"
                self._failures.append(state.exception)
            if isinstance(state, UpstreamFailed) and not self._root_causes:
                self._root_causes.append(state.cause)
        level = logging.INFO if isinstance(state, Completed) else logging.ERROR
        log_task_run(run, self.flow_run, "Finished in state %s", state, level=level)
        return is_kept

    def note_subflow_end(self, state: State[object]) -> None:
        """Count a subflow run that was called here and has ended."""
        with self._lock:
            self._ends[state.type] += 1
            if not isinstance(state, Completed) and len(self._failures) < KEPT_FAILURES:
                self._failures.append(state.exception)

    # ------------------------------------------------------------------ from start to end

    @contextmanager
    def accounted(self) -> Iterator[None]:
        """Surround the whole run: log its start and its end, and turn a failure into its state."""
        ensure_console_logging()
        self._log_start()
        try:
            yield
        except Exception as error:  # Whatever the flow raised is its failure.
            self.state = Failed(error, message=describe(error))
        except BaseException as error:  # Ctrl-C and the like end the flow and the program.
            self.state = Cancelled(
                exception=error, message=f"The flow run was ended by {describe(error)}"
            )
            raise
        finally:
            if self.state is not None:
                self._log_end(self.state)
                if self.parent is not None and not self._is_submitted:
                    self.parent.note_subflow_end(self.state)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Surround the flow's body: what it submits belongs to this run."""
        token = current_scope.set(self.scope)
        try:
            with logged_prints(self._log_prints), tag_limits_of_flow(self._tag_limits):
                yield
        except BaseException:  # However the body was left.
            self.scope.cancel()
            raise
        finally:
            current_scope.reset(token)

    def conclude(self, returned: object, outcomes: Iterable[Outcome]) -> State[object]:
        """Return the final state from what the flow returned and how its runs ended.

        All of its runs have ended.

        Args:
            returned: What the flow returned.
            outcomes: The `outcomes_in` that; they have ended as well.
        """
        states = [_state_of(outcome) for outcome in outcomes]
        if states:
            failures = [
                state.exception
                for state in states
                if not isinstance(state, Completed | UpstreamFailed)
            ]
            root_causes = [state.cause for state in states if isinstance(state, UpstreamFailed)]
            ends = Counter(state.type for state in states)
            return _aggregate(ends, failures or root_causes, returned)
        if returned is None:
            return _aggregate(self._ends, self._failures or self._root_causes, None)
        self._warn_of_unseen_failures()
        return Completed(returned)

    # ------------------------------------------------------------------ log lines

    def _log_start(self) -> None:
        run = self.flow_run
        if self.parent is None:
            engine_logger.info("Created flow run %r for flow %r", run.name, run.flow_name)
        else:
            log_flow_run(
                self.parent.flow_run,
                "Created subflow run %r for flow %r",
                run.name,
                run.flow_name,
            )
        log_flow_run(
            run,
            "Starting %r; submitted tasks will be run %s...",
            str(self.runner),
            self.runner.concurrency_type.value,
        )

    def log_retry(self, state: Retrying) -> None:
        """Log that another attempt is to follow."""
        log_flow_run(self.flow_run, "%s", state.message, level=logging.WARNING)

    def log_abandoned_body(self) -> None:
        """Log that the function is still being executed, by a thread that cannot be stopped."""
        name = self.flow_run.name
        log_flow_run(self.flow_run, "Abandoned the body of %r", name, level=logging.WARNING)

    def _log_end(self, state: State[object]) -> None:
        level = logging.INFO if isinstance(state, Completed) else logging.ERROR
        log_flow_run(self.flow_run, "Finished in state %s", state, level=level)

    def _warn_of_unseen_failures(self) -> None:
        unseen = [run.task_run.name for run in self._failed_runs if not run.was_observed()]
        if unseen:
            names = ", ".join(map(repr, unseen))
            log_flow_run(
                self.flow_run,
                "Failed without anyone having looked at how they ended: %s",
                names,
                level=logging.WARNING,
            )


_SUSPENDABLE: Final = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def _forget_locals(error: BaseException) -> None:
    """Empty the frames of an exception that is kept: what they refer to would be kept with it."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        # Before Python 3.13, clearing a suspended coroutine or generator closed it; and one that
        # has raised an exception before may be suspended, and go on.
        if sys.version_info >= (3, 13) or not frame.f_code.co_flags & _SUSPENDABLE:
            with suppress(RuntimeError):  # It is being executed.
                frame.clear()


def owner_of(scope: RunScope) -> ActiveFlowRun | None:
    """Return the flow run that a scope belongs to, if that is in this process."""
    return cast("ActiveFlowRun | None", scope.owner)


def outcomes_in(returned: object) -> list[Outcome]:
    """Return the futures and the states in what a flow returned, at any depth."""
    found: list[Outcome] = []
    stack: list[Iterator[object]] = [iter((returned,))]
    seen: set[int] = set()
    while stack:
        for value in stack[-1]:
            if isinstance(value, FutureList):
                found.extend(value)
            elif isinstance(value, (Future, *FINAL_STATES)):
                found.append(value)
            elif id(value) not in seen and (inside := children(value)) is not None:
                seen.add(id(value))
                stack.append(iter(inside))
                break
        else:
            stack.pop()
    return found


def values_to_fetch(outcomes: Iterable[Outcome]) -> list[Completed[object]]:
    """Return those outcomes whose values lie where the runner is about to end."""
    states = [_state_of(outcome) for outcome in outcomes]
    return [each for each in states if isinstance(each, Completed) and not each.is_local]


def _state_of(outcome: Outcome) -> State[object]:
    return outcome.final_state() if isinstance(outcome, Future) else outcome


def _aggregate(ends: Counter[StateType], failures: list[BaseException], returned: R) -> State[R]:
    """Return the state that is the sum of several."""
    total = ends.total()
    completed = ends[StateType.COMPLETED]
    if completed == total:
        return Completed(returned, message="All states completed.")
    cancelled = ends[StateType.CANCELLED]
    if cancelled and completed + cancelled == total:
        return Cancelled(
            exception=_combined(failures, message := f"{cancelled}/{total} states cancelled."),
            message=message,
        )
    message = f"{total - completed}/{total} states failed."
    return Failed(_combined(failures, message), returned, message=message)


def _combined(failures: list[BaseException], message: str) -> BaseException:
    # Futures of one failed run may have been returned twice.
    distinct = list({id(failure): failure for failure in failures}.values())
    return distinct[0] if len(distinct) == 1 else BaseExceptionGroup(message, distinct)
