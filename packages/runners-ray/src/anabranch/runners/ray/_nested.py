"""Submitting from runs on workers: the runner that is there."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final, TypeVar, final

from anabranch.futures import ConcurrencyType, Future, TaskRun, TaskRunner, WorkItem
from anabranch.runners.ray._errand import current_errand
from anabranch.runners.ray._link import Link
from anabranch.runners.ray._session import Session

if TYPE_CHECKING:
    from anabranch.runners.ray._parcel import Execute

R = TypeVar("R")


@cache
def runner_here(execute: Execute) -> WorkerTaskRunner:
    """Return the runner of this worker process.

    Args:
        execute: Runs what arrives on workers.
    """
    return WorkerTaskRunner(execute)


@final
class WorkerTaskRunner(TaskRunner):
    """Submits runs from a worker to the Ray instance that the worker belongs to.

    There is one in each process, for as long as that lasts. Ray ends what a lost process has
    submitted.
    """

    def __init__(self, execute: Execute) -> None:
        super().__init__()
        self._execute: Final = execute
        self._session: Session | None = None
        self._enter_in_place()

    @property
    def name(self) -> str:
        """As of the runner that the flow has."""
        return "ray"

    def __str__(self) -> str:
        return "RayTaskRunner"

    @property
    def concurrency_type(self) -> ConcurrencyType:
        """Parallel: in all processes of the instance."""
        return ConcurrencyType.PARALLEL

    def note_abandoned(self, run: TaskRun) -> None:
        """Have a run that was given up counted where its flow is."""
        errand = current_errand.get()
        if errand is not None:
            errand.note_abandoned(run)

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        errand = current_errand.get()
        assert errand is not None, "scopes and errands are left together"
        session = self._session
        if session is None:
            self._session = session = Session(Link(), self._execute)
        return session.submit(item, self.admit, errand.origin)
