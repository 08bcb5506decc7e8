"""A started runner's connection to its cluster."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, final

import attrs

from anabranch.runners.dask._client import close_client, connect_timeout, connected_client
from anabranch.runners.dask._cluster import (
    ClusterFactory,
    close_cluster,
    open_cluster,
    prepare_scheduler,
    refuse_unguarded_script,
)
from anabranch.runners.dask._fetching import Fetcher
from anabranch.runners.dask._link import Link
from anabranch.runners.dask._native import Client, import_distributed
from anabranch.runners.dask._quiet import quiet_about_dead_workers
from anabranch.runners.dask._worker import execute

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from anabranch.futures import TaskRun
    from anabranch.runners.dask._native import Distributed


@final
@attrs.frozen
class Settings:
    """What a runner was told, checked."""

    address: str | None
    cluster_class: ClusterFactory | None
    cluster_kwargs: Mapping[str, object]
    adapt_kwargs: Mapping[str, object]
    client_kwargs: Mapping[str, object]


@final
class Connection(Link):
    """A client in the process of a flow, and the cluster if it is the runner's own.

    Opening and closing it blocks.
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

    # ------------------------------------------------------------------ opening and closing

    def open(self) -> None:
        """Make the cluster, unless there is one, and connect to it.

        Raises:
            MissingDependencyError: Dask is not installed, or this package not on the scheduler.
            ConnectionError: The cluster does not answer.
            RuntimeError: The script lacks its guard.
        """
        with self._lock:  # Closing waits for it, should the wait for this be given up.
            distributed = import_distributed()
            client = self._connect(distributed)
            prepare_scheduler(client, is_ours=self._settings.address is None)
            fetch = Fetcher(client, connect_timeout(self._settings.client_kwargs))
            self._stack.callback(fetch.close)
            self._attach(distributed, client, fetch)
            self._stack.callback(self._detach)

    def _connect(self, distributed: Distributed) -> Client:
        settings = self._settings
        client_kwargs = {"set_as_default": False, **settings.client_kwargs}
        if settings.address is not None:
            self._logger.info("Connecting to an existing Dask cluster at %s", settings.address)
            return self._stack.enter_context(
                connected_client(distributed, settings.address, client_kwargs)
            )
        refuse_unguarded_script()
        self._stack.enter_context(quiet_about_dead_workers())
        cluster = open_cluster(
            distributed, settings.cluster_class, settings.cluster_kwargs, self._logger
        )
        self._stack.callback(
            lambda: close_cluster(distributed, cluster, in_a_hurry=self._is_in_a_hurry)
        )
        if settings.adapt_kwargs:
            cluster.adapt(**settings.adapt_kwargs)
        client = distributed.Client(cluster, **client_kwargs)
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
