"""A started runner's connection to its cluster."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, final
from weakref import WeakValueDictionary

from anabranch.runners.dask._client import (
    check_running,
    close_client,
    connect_timeout,
    connected_client,
)
from anabranch.runners.dask._cluster import (
    close_cluster,
    open_cluster,
    prepare_scheduler,
    works_in_threads,
)
from anabranch.runners.dask._fetching import Fetcher
from anabranch.runners.dask._guard import refuse_unguarded_script
from anabranch.runners.dask._link import Link
from anabranch.runners.dask._native import Client, NativeFuture, import_distributed
from anabranch.runners.dask._nested import leave_workers
from anabranch.runners.dask._quiet import quiet_about_dead_workers
from anabranch.runners.dask._report import PerformanceReport
from anabranch.runners.dask._settings import Settings, address_of, report_file
from anabranch.runners.dask._topic import Topic
from anabranch.runners.dask._versions import are_here, look_around, warn_of_differences
from anabranch.runners.dask._worker import execute

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from pathlib import Path

    from anabranch.futures import TaskRun
    from anabranch.runners.dask._native import Distributed


@final
class Connection(Link):
    """A client in the process of a flow, and the cluster if it is the runner's own.

    Opening and closing it blocks.

    Attributes:
        is_in_threads: Whether the workers are threads of this process; None if that is unknown.
    """

    def __init__(
        self,
        settings: Settings,
        logger: logging.Logger,
        note_abandoned: Callable[[TaskRun], object],
    ) -> None:
        super().__init__(execute, logger, note_abandoned)
        self._settings: Final = settings
        self._stack: Final = ExitStack()
        self._lock: Final = threading.Lock()
        self._is_in_a_hurry = False
        # Of a client that is not closed with the runner.
        self._natives: Final[WeakValueDictionary[int, NativeFuture]] = WeakValueDictionary()
        self.is_in_threads: bool | None = None

    # ------------------------------------------------------------------ opening and closing

    def open(self) -> None:
        """Make the cluster, unless there is one, and connect to it.

        Raises:
            MissingDependencyError: Dask is not installed, or this package not on the scheduler.
            ConnectionError: The cluster does not answer.
            RuntimeError: The script lacks its guard.
        """
        settings = self._settings
        path = settings.performance_report_path
        with self._lock:  # Closing waits for it, should the wait for this be given up.
            if settings.is_ours:
                refuse_unguarded_script()
            distributed = import_distributed()
            report = None if path is None else report_file(path)
            client = self._connect(distributed)
            topic = Topic(client, self._note_event)
            if not settings.is_ours:
                self._stack.callback(topic.end)
                self._stack.callback(self._leave_workers, client)
            self._get_to_know(client, topic.name)
            if report is not None:
                self._report_on(client, report)
            fetch = Fetcher(client, connect_timeout(settings.client_kwargs))
            self._stack.callback(fetch.close)
            self._attach(distributed, client, topic, fetch)
            self._stack.callback(self._detach)

    def _leave_workers(self, client: Client) -> None:
        if self._has_runs_below:
            leave_workers(client)

    def _get_to_know(self, client: Client, topic: str) -> None:
        is_ours = self._settings.is_ours
        there = prepare_scheduler(client, topic, is_ours=is_ours)
        if is_ours:
            return
        answers = look_around(client)
        workers = {address: versions for address, (versions, _) in answers.items()}
        warn_of_differences(self._logger, address_of(client), there, workers)
        known = are_here(process for _, process in answers.values())
        self.is_in_threads = self.is_in_threads if known is None else known

    def _report_on(self, client: Client, file: Path) -> None:
        report = PerformanceReport(client, file)
        self._stack.callback(lambda: report.write(in_a_hurry=self._is_in_a_hurry))

    def _connect(self, distributed: Distributed) -> Client:
        settings = self._settings
        if settings.given_client is not None:
            return self._borrow(settings.given_client)
        if settings.is_ours:
            return self._connect_to_new(distributed)
        if settings.cluster is not None:
            check_running(
                "cluster",
                getattr(settings.cluster, "status", "running"),
                "Start the runner while the cluster is open, or leave out `cluster` to have a "
                "local one made",
            )
            self.is_in_threads = works_in_threads(distributed, settings.cluster)
        to_it = settings.as_address()
        address = str(to_it.address)
        self._logger.info("Connecting to an existing Dask cluster at %s", address)
        client_kwargs = {"set_as_default": False, **to_it.client_kwargs}
        return self._stack.enter_context(connected_client(distributed, address, client_kwargs))

    def _borrow(self, client: Client) -> Client:
        check_running(
            "client",
            client.status,
            "Start the runner while the client is open, or leave out `client` to have a local "
            "cluster made",
        )
        self._logger.info("Connecting to an existing Dask cluster at %s", address_of(client))
        self._stack.callback(self._release_all)
        return client

    def _release_all(self) -> None:
        """Give back what somebody still holds; a client that is closed does so by itself."""
        for native in list(self._natives.values()):
            native.release()

    def _connect_to_new(self, distributed: Distributed) -> Client:
        settings = self._settings
        self._stack.enter_context(quiet_about_dead_workers())
        cluster = open_cluster(
            distributed, settings.cluster_class, settings.cluster_kwargs, self._logger
        )
        self._stack.callback(
            lambda: close_cluster(distributed, cluster, in_a_hurry=self._is_in_a_hurry)
        )
        self.is_in_threads = works_in_threads(distributed, cluster)
        if settings.adapt_kwargs:
            cluster.adapt(**settings.adapt_kwargs)
        client = distributed.Client(cluster, **{"set_as_default": False, **settings.client_kwargs})
        self._stack.callback(close_client, client)
        return client

    def close(self, *, in_a_hurry: bool) -> None:
        """Disconnect, and end the cluster if it is the runner's own. Every run has ended.

        Args:
            in_a_hurry: Whether nobody waits any longer for what the workers are still at.
        """
        with self._lock:
            self._is_in_a_hurry = in_a_hurry
            self._stack.close()

    def _keep(self, native: NativeFuture) -> NativeFuture:
        if self._settings.client is not None:
            self._natives[id(native)] = native
        return native
