"""A started runner's connection to its cluster."""

from __future__ import annotations

import itertools
import pickle
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final, cast, final
from weakref import WeakValueDictionary

import attrs

from anabranch.futures import ResultUnavailableError
from anabranch.futures.runner import SerialThread, describe
from anabranch.runners.dask._annotations import NO_ANNOTATIONS, call_with
from anabranch.runners.dask._cancelling import Canceller
from anabranch.runners.dask._client import close_client, connect_timeout, connected_client
from anabranch.runners.dask._cluster import (
    ClusterFactory,
    close_cluster,
    open_cluster,
    prepare_scheduler,
    refuse_unguarded_script,
)
from anabranch.runners.dask._fetching import Fetcher
from anabranch.runners.dask._native import Client, NativeFuture, import_distributed
from anabranch.runners.dask._outbox import Outbox
from anabranch.runners.dask._parcel import Packer, Parcel
from anabranch.runners.dask._quiet import quiet_about_dead_workers
from anabranch.runners.dask._worker import nothing

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from anabranch.futures import TaskRun
    from anabranch.runners.dask._native import Distributed
    from anabranch.runners.dask._run import DaskRun

#: How long the helper is waited for in the end: nobody wants what it is at any more. In seconds.
_PATIENCE: Final = 1.0

#: Before everything else: they hold up others, and cost nothing.
_GATE_PRIORITY: Final = 1_000


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
class Connection:
    """A client, and the cluster if it is the runner's own.

    Opening and closing it blocks, and so does `fetch`; all else does not.

    Attributes:
        helper: Calls what would block.
        note_abandoned: Told of runs whose thread on a worker was given up.
        packer: Makes the parcels for this connection; there once it is open.
    """

    packer: Packer
    _canceller: Canceller
    _outbox: Outbox
    _fetch: Fetcher

    def __init__(
        self,
        settings: Settings,
        logger: logging.Logger,
        note_abandoned: Callable[[TaskRun], object],
    ) -> None:
        self._settings: Final = settings
        self._logger: Final = logger
        self._stack: Final = ExitStack()
        self._lock: Final = threading.Lock()
        self._client: Client | None = None
        self._is_in_a_hurry = False
        self._runs: Final[WeakValueDictionary[str, DaskRun[object]]] = WeakValueDictionary()
        self._numbers: Final = itertools.count(1)
        self.note_abandoned: Final = note_abandoned
        self.helper: Final = SerialThread("anabranch-dask-helper")
        # In it runs end.
        self._completions: Final = SerialThread("anabranch-dask")

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
            topic = f"anabranch-{client.id}"
            client.subscribe_topic(topic, self._note_progress)
            self.packer = Packer(topic)
            self._outbox = Outbox(distributed, client, self._completions)
            self._canceller = Canceller(distributed, client, self._outbox, self._logger)
            self._stack.callback(self._canceller.finish)
            self._fetch = Fetcher(client, connect_timeout(self._settings.client_kwargs))
            self._stack.callback(self._fetch.close)
            self._client = client

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
            self._client = None
            self._is_in_a_hurry = in_a_hurry
            self._completions.close(_PATIENCE)
            self.helper.close(_PATIENCE)
            self._stack.close()

    # ------------------------------------------------------------------ runs

    def submit(
        self, run: DaskRun[object], parcel: Parcel, dependencies: list[NativeFuture]
    ) -> NativeFuture:
        """Hand a run to Dask, soon, and return its key.

        Args:
            run: The run.
            parcel: What is sent.
            dependencies: The keys behind the parcel's slots, and then those to wait for besides.
        """
        self._open_client()
        self._runs[parcel.run_id] = run
        # Dask shows the part of the key before the first "-" as the name.
        key = f"{parcel.run_name}-{parcel.run_id}"
        if parcel.first_attempt > 1:  # Dask may not be through with the key that was lost.
            key = f"{key}-{next(self._numbers)}"
        return self._outbox.put(run, key, parcel, dependencies)

    def gate(self, run: DaskRun[object], native: NativeFuture) -> NativeFuture:
        """Return a key that ends as a run does, and holds nothing.

        What waits for a run without wanting its value depends on this one, so that the value stays
        where it is.
        """
        client = self._open_client()
        self._outbox.flush()  # The key itself may still be in there.
        submit = partial(
            client.submit,
            nothing,
            native,
            key=f"wait_for-{run.task_run.name}-{run.task_run.id}",
            pure=False,
            priority=_GATE_PRIORITY,
        )
        return call_with(NO_ANNOTATIONS, submit)

    def _open_client(self) -> Client:
        client = self._client
        if client is None or self.is_lost():
            raise ConnectionError("The connection to the Dask scheduler is lost")
        return client

    def is_lost(self) -> bool:
        """Whether there is no connection to the scheduler, or not any more."""
        # A client that has lost its scheduler accepts work, and may never say what became of it.
        return self._client is None or self._client.status != "running"

    def fetch(self, native: NativeFuture, run_name: str, pickled: bytes | None) -> object:
        """Bring a value over, unless it came by itself; blocks.

        Raises:
            ResultUnavailableError: It is not there any more.
        """
        if self._client is None:
            raise ResultUnavailableError(
                f"The value of run {run_name!r} was left on a Dask cluster that its runner is not "
                "connected to any more. Ask for it before the runner ends: return it from the "
                "flow, or call future.result() inside"
            )
        try:
            if pickled is not None:
                return pickle.loads(pickled)
            return native.result() if self.is_lost() else self._fetch(native)
        # Whatever Dask met with on the way, or foreign code in unpickling.
        except (Exception, SystemExit) as error:
            raise ResultUnavailableError(
                f"The value of run {run_name!r} could not be brought over from the Dask cluster: "
                f"{describe(error)}"
            ) from error

    # ------------------------------------------------------------------ attempts, and stops

    def _note_progress(self, event: tuple[float, object]) -> None:
        _, announcement = event
        match announcement:
            case [str(run_id), str(worker), int(attempt), message, bool(was_given_up)]:
                run = self._runs.get(run_id)
                if run is None:
                    return
                if message is None:
                    run.attempt_begins(attempt, worker)
                else:
                    run.attempt_failed(attempt, str(message), was_given_up=was_given_up)
            case [str(run_id), float(seconds), pickled]:
                run = self._runs.get(run_id)
                if run is not None:
                    run.attempt_ended(seconds, cast("bytes | None", pickled))

    def stop(self, run: DaskRun[object], worker: str) -> None:
        """Have a run stopped where it is being executed, as far as can be; does not wait for it."""
        if self._client is not None:
            self._canceller.stop(run, worker)

    def cancel(self, run: DaskRun[object], native: NativeFuture) -> None:
        """Have Dask forget a run that has not ended there; does not wait for it."""
        if self._client is not None:
            self._canceller.cancel(run, native)

    def report_straggler(self, run: DaskRun[object], worker: str) -> None:
        """Say that a run was cancelled just as it started, and cannot be stopped."""
        self._logger.warning(
            "Run %r was cancelled just as it started: its function runs to its end on the Dask "
            "worker %s, and what it returns is dropped",
            run.task_run.name,
            worker,
        )
