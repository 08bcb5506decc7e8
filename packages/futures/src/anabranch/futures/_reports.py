"""What becomes of runs below a run in another process, as the flow hears of it.

The flow that a run belongs to keeps account of all runs below it. In another process the run's
scope is owned by a `Reporter`, which says how each of them has ended; `take_report` tells the owner
of the run's scope at home.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import ClassVar, Final, TypeAlias, TypeVar, final

from anabranch.futures._future import Future
from anabranch.futures._remote import RunError
from anabranch.futures._scope import ScopeOwner
from anabranch.futures._states import Completed, State, UpstreamFailed
from anabranch.futures._work import TaskRun

R = TypeVar("R")

#: From how many bytes on an exception is reported by its description alone.
_MAX_SIZE: Final = 100_000

#: How many failures are kept until it is known who has looked at them: owners keep few.
_KEPT: Final = 20

#: A report, in a form that always travels: what `take_report` takes.
Report: TypeAlias = tuple[object, ...]

_SUBFLOW: Final = TaskRun("", "a subflow", "a subflow")


@final
class Reporter:
    """Owns the scopes of a run in a process that is not its flow's.

    Args:
        send: Takes a report home. What is sent arrives in that order, and before the run's end.
        dumps: Pickles exceptions.

    Attributes:
        flow: The flow run, as an engine knows it where that is; here it is not.
    """

    flow: ClassVar[None] = None

    def __init__(
        self, send: Callable[[Report], object], dumps: Callable[[object], bytes] = pickle.dumps
    ) -> None:
        self._send: Final = send
        self._dumps: Final = dumps
        # Those that failed, with whom it is not certain yet that somebody has looked at them.
        self._failed: Final[list[Future[object]]] = []

    def child_ended(self, child: Future[object]) -> None:
        """Report a submitted run that has ended."""
        state = child.final_state()
        if not isinstance(state, Completed | UpstreamFailed) and len(self._failed) < _KEPT:
            self._failed.append(child)
        self._report(
            child.task_run,
            state,
            is_subflow=child.logs_its_end,
            was_disowned=child.was_disowned(),
        )

    def note_end(self, run: TaskRun, state: State[object]) -> None:
        """Report a run that was called directly."""
        self._report(run, state)

    def note_no_loss(self, run: TaskRun, state: State[object]) -> None:
        """Report a run that ended as it was meant to, and does not count."""
        self._report(run, state, was_disowned=True)

    def note_subflow_end(self, state: State[object]) -> None:
        """Report a subflow that was called directly; it has logged its end itself."""
        self._report(_SUBFLOW, state, is_subflow=True)

    def finish(self) -> None:
        """Report which of the failed runs somebody has looked at: the run is about to end."""
        observed = [run.task_run.id for run in self._failed if run.was_observed()]
        if observed:
            self._send(("observed", *observed))

    def _report(
        self,
        run: TaskRun,
        state: State[object],
        *,
        is_subflow: bool = False,
        was_disowned: bool = False,
    ) -> None:
        names = (run.id, run.name, run.task_name, run.tags)
        end: str | RunError | None
        if isinstance(state, Completed):
            end = state.message
        else:
            end = RunError.of(run, state, self._dumps)
            if end.pickled is not None and len(end.pickled) > _MAX_SIZE:
                end = end.without_original()
        self._send(("ended", names, end, is_subflow, was_disowned))


class _ReportedRun(Future[R]):
    """Stands, in the flow's process, for a run below a run elsewhere."""

    __slots__ = ()


@final
class _ReportedSubflow(_ReportedRun[R]):
    """One that has logged its end elsewhere."""

    logs_its_end: ClassVar[bool] = True

    __slots__ = ()


@final
class ReportTaker:
    """Tells the owner of a run's scope of the runs below that run.

    Args:
        owner: The owner.
    """

    def __init__(self, owner: ScopeOwner) -> None:
        self._owner: Final = owner
        self._failed: Final[dict[str, Future[object]]] = {}

    def __call__(self, report: Report) -> None:
        """Take note of what a `Reporter` has sent."""
        match report:
            case ("observed", *ids):
                for run_id in ids:
                    if isinstance(run_id, str) and run_id in self._failed:
                        self._failed.pop(run_id).observe()
            case (
                "ended",
                (str(run_id), str(name), str(task_name), frozenset() as tags),
                (None | str() | RunError()) as end,
                bool(is_subflow),
                bool(was_disowned),
            ):
                run = TaskRun(run_id, name, task_name, tags)
                kind = _ReportedSubflow if is_subflow else _ReportedRun
                child: Future[object] = kind(run)
                if isinstance(end, RunError):
                    child.set_final(end.state())
                    if len(self._failed) < _KEPT:
                        self._failed[run_id] = child
                else:
                    child.set_final(Completed(None, message=end))
                if was_disowned:
                    child.disown()
                self._owner.child_ended(child)
