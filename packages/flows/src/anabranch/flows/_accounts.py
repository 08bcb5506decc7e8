"""How the runs of a flow have ended, and what that makes of the flow."""

from __future__ import annotations

import inspect
import logging
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar, cast, final

from anabranch.flows._logging import log_flow_run, log_task_run
from anabranch.futures import (
    Cancelled,
    Completed,
    Failed,
    Future,
    FutureList,
    State,
    StateType,
    TaskRun,
    UpstreamFailed,
)
from anabranch.futures.runner import FINAL_STATES, AtomicCount, Reporter, RunScope, children

if TYPE_CHECKING:
    from anabranch.flows._flow_run import ActiveFlowRun

R = TypeVar("R")

#: What decides how a flow that returns it ends.
Outcome: TypeAlias = Future[object] | State[object]

_FINISHED: Final = "Finished in state %s"

#: How many failures a flow run keeps for its final state; the others are only counted.
KEPT_FAILURES: Final = 10


@final
class Accounts:
    """How the runs of one attempt of a flow run have ended.

    They are what owns the scopes of the attempt: what is left behind by an attempt that was given
    up, such as a stuck thread, never counts in the next.

    Attributes:
        flow: The flow run.
    """

    def __init__(self, flow: ActiveFlowRun) -> None:
        self.flow: Final = flow
        self._lock: Final = threading.Lock()
        self._completed: Final = AtomicCount()
        self._failed_ends: Counter[StateType] = Counter()
        self._failures: list[BaseException] = []
        # Of runs that failed with one of another flow, which is not among this one's failures.
        self._root_causes: list[BaseException] = []
        self._failed_runs: list[Future[object]] = []

    def child_ended(self, child: Future[object]) -> None:
        """Take note of a submitted run that has ended."""
        state = child.final_state()
        if type(state) is Cancelled and child.was_disowned():
            self.note_no_loss(child.task_run, state)
            return
        if child.logs_its_end:
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
        if type(state) is Completed:  # As with most.
            self._completed.add()
            log_task_run(run, self.flow.flow_run, _FINISHED, state)
            return False
        is_kept = self._count_failure(state)
        log_task_run(run, self.flow.flow_run, _FINISHED, state, level=logging.ERROR)
        return is_kept

    def note_no_loss(self, run: TaskRun, state: Cancelled) -> None:
        """Log the end of a run that ended as it was meant to, and does not count."""
        log_task_run(run, self.flow.flow_run, _FINISHED, state)

    def note_subflow_end(self, state: State[object]) -> None:
        """Count a subflow run that has ended; it has logged that itself."""
        if type(state) is Completed:
            self._completed.add()
        else:
            self._count_failure(state)

    def _count_failure(self, state: State[object]) -> bool:
        """Count a run that did not complete; returns whether it is among those that are kept."""
        assert type(state) is not Completed, "those that completed are counted elsewhere"
        with self._lock:
            self._failed_ends[state.type] += 1
            if isinstance(state, UpstreamFailed):
                if not self._root_causes:
                    self._root_causes.append(state.cause)
                return False
            if len(self._failures) >= KEPT_FAILURES:
                return False
            self._failures.append(state.exception)
            return True

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
            ends = self._failed_ends + Counter({StateType.COMPLETED: int(self._completed)})
            return _aggregate(ends, self._failures or self._root_causes, None)
        self._warn_of_unseen_failures()
        return Completed(returned)

    def _warn_of_unseen_failures(self) -> None:
        unseen = [run.task_run.name for run in self._failed_runs if not run.was_observed()]
        if unseen:
            names = ", ".join(map(repr, unseen))
            log_flow_run(
                self.flow.flow_run,
                "Failed without anyone having looked at how they ended: %s",
                names,
                level=logging.WARNING,
            )


@final
class BranchAccounts:
    """What the flow's accounts hear of the runs in a branch, and in the tasks that run in it.

    Runs that end as Cancelled once the branch has been cancelled are no loss to the flow: what
    becomes of the branch tells of them.

    Args:
        around: The accounts of what surrounds the branch.

    Attributes:
        flow: The flow run; None in other processes than its own.
        are_cancelled: Whether the branch has been cancelled.
    """

    def __init__(self, around: AnyAccounts) -> None:
        self.flow: Final[ActiveFlowRun | None] = around.flow
        self.are_cancelled = False
        self._around: Final[AnyAccounts] = around

    def child_ended(self, child: Future[object]) -> None:
        """See `Accounts.child_ended`."""
        if self.are_cancelled:
            child.disown()
        self._around.child_ended(child)

    def note_end(self, run: TaskRun, state: State[object]) -> None:
        """See `Accounts.note_end`."""
        if self.are_cancelled and isinstance(state, Cancelled):
            self.note_no_loss(run, state)
        else:
            self._around.note_end(run, state)

    def note_no_loss(self, run: TaskRun, state: Cancelled) -> None:
        """See `Accounts.note_no_loss`."""
        self._around.note_no_loss(run, state)

    def note_subflow_end(self, state: State[object]) -> None:
        """See `Accounts.note_subflow_end`."""
        if not (self.are_cancelled and isinstance(state, Cancelled)):
            self._around.note_subflow_end(state)


#: What keeps account of runs.
AnyAccounts: TypeAlias = Accounts | BranchAccounts | Reporter

_SUSPENDABLE: Final = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def _forget_locals(error: BaseException) -> None:
    """Empty the frames of an exception that is kept: what they refer to would be kept with it."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        # Before Python 3.13, clearing a suspended coroutine or generator closed it; and one that
        # has raised an exception before may be suspended, and go on.
        if sys.version_info >= (3, 13) or not frame.f_code.co_flags & _SUSPENDABLE:
            with suppress(RuntimeError):  # It is being executed.
                frame.clear()


def accounts_of(scope: RunScope | None) -> AnyAccounts | None:
    """Return what keeps account of what runs in a scope, be it by reporting to another process."""
    # Whoever owns scopes here is one of these.
    return None if scope is None else scope.owner  # type: ignore[return-value]  # A cast would be a call.


def outcomes_in(returned: object) -> list[Outcome]:
    """Return the futures and the states in what a flow returned, at any depth."""
    found: list[Outcome] = []
    stack: list[Iterator[object]] = [iter((returned,))]
    seen: set[int] = set()
    while stack:
        for value in stack[-1]:
            if isinstance(value, FutureList):
                found.extend(value)
            elif isinstance(value, Future) or type(value) in FINAL_STATES:
                found.append(cast("Outcome", value))
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
