"""The runner itself: its settings, and the way of a run to Dask."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Final, Self, TypeVar, final

import anyio
import anyio.to_thread

from anabranch.futures import ConcurrencyType, Future, TaskRunner, WorkItem
from anabranch.futures.runner import AnyFunction, LogLevels, current_scope
from anabranch.runners.dask._annotations import with_annotations
from anabranch.runners.dask._connection import Connection
from anabranch.runners.dask._guard import UNGUARDED
from anabranch.runners.dask._home import Home
from anabranch.runners.dask._native import ExistingClient, ExistingCluster
from anabranch.runners.dask._run import DaskRun, bring
from anabranch.runners.dask._settings import make_settings

if TYPE_CHECKING:
    from types import TracebackType

R = TypeVar("R")


@final
class DaskTaskRunner(TaskRunner):
    """Runs tasks in the worker processes of a Dask cluster.

    By default a local cluster is made when the runner starts, and ended with it. Another kind of
    cluster is made if ``cluster_class`` says so. With ``address``, ``cluster`` or ``client`` the
    runner uses a cluster that is there already, and leaves it as it is; so it does the client.

    Values stay on the workers until they are asked for, and a future given to another task of the
    same runner is never fetched. What tasks are given and return travels by pickle, and the same
    packages must be installed on the scheduler and on the workers. If an existing cluster has other
    versions than this process, a warning in the log names them.

    A script that makes a local cluster must do so under ``if __name__ == "__main__":``, since the
    worker processes import it.

    A pickled copy of a runner with a ``cluster`` or ``client`` has the address instead.

    Args:
        address: Of the scheduler of a running cluster, such as ``"192.0.2.255:8786"``.
        cluster_class: What to make a cluster with: a class, any other callable that returns a
            cluster, or the dotted path of one. The default is ``distributed.LocalCluster``.
        cluster_kwargs: What to call it with, such as ``{"n_workers": 4}``.
        adapt_kwargs: If given, the cluster adapts the number of its workers to the load, with
            these arguments for its ``adapt``, such as ``{"maximum": 10}``.
        client_kwargs: Arguments for ``distributed.Client``, such as ``{"security": ...}`` for TLS.
        performance_report_path: Where to write Dask's performance report of the time for which the
            runner was started, an HTML page. It is written when the runner ends, however that is.
            The scheduler needs bokeh for it.
        cluster: A cluster object of Dask's, synchronous or not, that is running.
        client: A ``distributed.Client`` that is connected, and not asynchronous.

    Raises:
        ValueError: Several of ``address``, ``cluster``, ``client`` and the settings for a new
            cluster are given, a setting is given that is the runner's own business, the client is
            asynchronous, or there is nothing at the dotted path.
        TypeError: ``cluster_class`` is nothing that can be called, or one of the last three
            arguments is not what it is to be.
    """

    def __init__(
        self,
        address: str | None = None,
        cluster_class: str | AnyFunction[object] | None = None,
        cluster_kwargs: Mapping[str, object] | None = None,
        adapt_kwargs: Mapping[str, object] | None = None,
        client_kwargs: Mapping[str, object] | None = None,
        performance_report_path: str | PathLike[str] | None = None,
        *,
        cluster: ExistingCluster | None = None,
        client: ExistingClient | None = None,
    ) -> None:
        super().__init__()
        self._given: Final = make_settings(
            address,
            cluster_class,
            cluster_kwargs,
            adapt_kwargs,
            client_kwargs,
            performance_report_path,
            cluster,
            client,
        )
        self._connection: Connection | None = None

    @property
    def concurrency_type(self) -> ConcurrencyType:
        """Parallel; concurrent where the workers are threads of this process.

        Of an existing cluster that may be known for certain only once the runner has started.
        """
        known = None if self._connection is None else self._connection.is_in_threads
        in_threads = self._given.mean_threads() if known is None else known
        return ConcurrencyType.CONCURRENT if in_threads else ConcurrencyType.PARALLEL

    @property
    def keeps_to_clock(self) -> bool:
        """Never: the threads of a worker go by the machine's clock, even in this process."""
        return False

    def _settings(self) -> Mapping[str, object]:
        return self._given.as_arguments()

    def __getstate__(self) -> object:
        # Objects of Dask's do not travel, and what they are connected to stays where it is.
        return self._given.as_address().as_arguments(), self._unavailable is None

    def __enter__(self) -> Self:
        """Start the runner; see `TaskRunner`."""
        try:
            return super().__enter__()
        except RuntimeError as error:
            if str(error) != UNGUARDED:
                raise
            # The message is all that there is to it, and a page of our own frames would hide it.
            raise error.with_traceback(None) from None

    async def _start(self, exit_stack: AsyncExitStack) -> None:
        connection = Connection(self._given, self.logger, self.note_abandoned)

        async def close(
            _kind: object, error: BaseException | None, _traceback: TracebackType | None
        ) -> None:
            # Nobody wants what is left then, and it may go on for as long as it likes.
            was_interrupted = error is not None and not isinstance(error, Exception)
            in_a_hurry = was_interrupted or self.statistics().abandoned > 0
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(partial(connection.close, in_a_hurry=in_a_hurry))

        # Before it is opened: it may be given up while it is.
        exit_stack.push_async_exit(close)
        await anyio.to_thread.run_sync(connection.open)
        self._connection = connection

    def together(self) -> AbstractContextManager[None]:
        """Hand what is submitted in a block over in one message."""
        return nullcontext() if self._connection is None else self._connection.together()

    def undelivered(self) -> Future[None] | None:
        """Return what ends when the workers have heard of what was cancelled; None if they have."""
        return None if self._connection is None else self._connection.undelivered()

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        connection = self._connection
        assert connection is not None, "dispatch() refuses work while the runner is not started"
        item, annotations = with_annotations(item)
        home = Home(connection.topic, item.task_run.id, LogLevels.of_this_process())
        run = DaskRun(item, connection, home, annotations)
        scope = current_scope.get()
        if scope is not None and scope.runner is self and scope.owner is not None:
            run.reports_to(scope.owner)
        self.admit(run)
        try:
            bring(run, item, connection)
        except BaseException:  # Ctrl-C: nobody gets the run, and it may never end by itself.
            run.cancel()
            raise
        return run
