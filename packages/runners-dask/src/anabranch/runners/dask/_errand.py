"""A run that a worker executes, as what it submits, calls and logs sees it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Final, final

from anabranch.futures import TaskRun
from anabranch.futures.runner import LogSink, Reporter, RunScope, current_scope, forwarded_logs
from anabranch.runners.dask._home import is_here
from anabranch.runners.dask._mail import Mailbox
from anabranch.runners.dask._native import import_dumps

if TYPE_CHECKING:
    from anabranch.futures import TaskRunner
    from anabranch.futures.runner import PackedRecord, Report, Shipment
    from anabranch.runners.dask._native import Worker
    from anabranch.runners.dask._parcel import Parcel


@final
class Errand:
    """A run that a worker executes, and its way to the process of its flow.

    Args:
        worker: The worker.
        parcel: The run.

    Attributes:
        parcel: The run.
        outside: The context around it.
    """

    def __init__(self, worker: Worker, parcel: Parcel) -> None:
        self.parcel: Final = parcel
        self.outside: Final = copy_context()
        self._mailbox: Final = Mailbox(worker, parcel.home)
        self._reporter: Final = Reporter(self._send_report, import_dumps())

    @contextmanager
    def logging(self) -> Generator[None]:
        """Have what is logged in a block logged at home."""
        parcel = self.parcel
        if is_here(parcel.home.topic):
            yield
            return
        sink = LogSink(parcel.home.levels, self._send_record, parcel.run_id, parcel.run_name)
        with forwarded_logs(sink):
            yield

    @contextmanager
    def executing(self, shipment: Shipment, runner: TaskRunner) -> Generator[RunScope]:
        """Surround the attempts of the run with a scope, by which its children are cancelled.

        Args:
            shipment: The run.
            runner: Where it submits to.
        """
        scope = RunScope(shipment.flow_run, shipment.task_run, 1, runner, self._reporter)
        with ExitStack() as stack:
            stack.callback(current_errand.reset, current_errand.set(self))
            stack.callback(current_scope.reset, current_scope.set(scope))
            yield scope

    def finish(self) -> None:
        """Say what is left to say: the run is about to end."""
        self._reporter.finish()
        self._mailbox.flush()

    def note_abandoned(self, run: TaskRun) -> None:
        """Have a run below this one counted as abandoned; of this one, its end tells."""
        if run.id != self.parcel.run_id:
            self._mailbox.post(("abandoned", run))

    def _send_record(self, record: PackedRecord) -> None:
        self._mailbox.post(("log", dict(record)))

    def _send_report(self, report: Report) -> None:
        self._mailbox.post(report)


#: What the calling code is a part of, on a worker.
current_errand: Final[ContextVar[Errand | None]] = ContextVar("current_errand", default=None)
