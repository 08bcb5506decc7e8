"""The runner itself: its settings, and the way of a run to Dask."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, final

import anyio
import anyio.to_thread

from anabranch.futures import ConcurrencyType, Future, TaskRunner, WorkItem
from anabranch.futures.runner import AnyFunction, LogLevels, current_scope
from anabranch.runners.dask._annotations import with_annotations
from anabranch.runners.dask._cluster import resolve_cluster_class
from anabranch.runners.dask._connection import Connection, Settings
from anabranch.runners.dask._home import Home
from anabranch.runners.dask._run import DaskRun, bring

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

R = TypeVar("R")


@final
class DaskTaskRunner(TaskRunner):
    """Runs tasks in the worker processes of a Dask cluster.

    By default a local cluster is made when the runner starts, and ended with it. Another kind of
    cluster is made if ``cluster_class`` says so. With ``address`` the runner uses a cluster that is
    there already, and leaves it as it is.

    Values stay on the workers until they are asked for, and a future given to another task of the
    same runner is never fetched. What tasks are given and return travels by pickle, and the same
    packages must be installed on the scheduler and on the workers.

    A script that makes a local cluster must do so under ``if __name__ == "__main__":``, since the
    worker processes import it.

    Args:
        address: Of the scheduler of a running cluster, such as ``"192.0.2.255:8786"``.
        cluster_class: What to make a cluster with: a class, any other callable that returns a
            cluster, or the dotted path of one. The default is ``distributed.LocalCluster``.
        cluster_kwargs: What to call it with, such as ``{"n_workers": 4}``.
        adapt_kwargs: If given, the cluster adapts the number of its workers to the load, with
            these arguments for its ``adapt``, such as ``{"maximum": 10}``.
        client_kwargs: Arguments for ``distributed.Client``.

    Raises:
        ValueError: An ``address`` is given together with settings for a new cluster, a setting is
            given that is the runner's own business, or there is nothing at the dotted path.
        TypeError: ``cluster_class`` is nothing that can be called.
    """

    def __init__(
        self,
        address: str | None = None,
        cluster_class: str | AnyFunction[object] | None = None,
        cluster_kwargs: Mapping[str, object] | None = None,
        adapt_kwargs: Mapping[str, object] | None = None,
        client_kwargs: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        new = {
            "cluster_class": cluster_class,
            "cluster_kwargs": cluster_kwargs,
            "adapt_kwargs": adapt_kwargs,
        }
        if address is not None:
            _refuse_both(address, [name for name, value in new.items() if value])
        for name, kwargs in (("cluster_kwargs", cluster_kwargs), ("client_kwargs", client_kwargs)):
            if kwargs and "asynchronous" in kwargs:
                raise ValueError(
                    f"DaskTaskRunner({name}={{'asynchronous': ...}}): the runner sees to that "
                    "itself, and works in sync and async code alike; leave it out"
                )
        self._given: Final = Settings(
            address,
            resolve_cluster_class(cluster_class),
            dict(cluster_kwargs or {}),
            dict(adapt_kwargs or {}),
            dict(client_kwargs or {}),
        )
        self._connection: Connection | None = None

    @property
    def concurrency_type(self) -> ConcurrencyType:
        """Parallel; concurrent only for a local cluster without processes of its own."""
        if self._given.cluster_kwargs.get("processes") is False:
            return ConcurrencyType.CONCURRENT
        return ConcurrencyType.PARALLEL

    @property
    def keeps_to_clock(self) -> bool:
        """Never: the threads of a worker go by the machine's clock, even in this process."""
        return False

    def _settings(self) -> Mapping[str, object]:
        given = self._given
        return {
            "address": given.address,
            "cluster_class": given.cluster_class,
            "cluster_kwargs": given.cluster_kwargs,
            "adapt_kwargs": given.adapt_kwargs,
            "client_kwargs": given.client_kwargs,
        }

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


def _refuse_both(address: str, others: Iterable[str]) -> None:
    names = " and ".join(others)
    if names:
        raise ValueError(
            f"DaskTaskRunner(address={address!r}) uses the cluster that is there, and cannot make "
            f"one with {names} as well. Leave out {names} to use it, or leave out address to have "
            "a new one made"
        )
