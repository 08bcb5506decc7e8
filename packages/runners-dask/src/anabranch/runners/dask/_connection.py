"""A started runner's connection to its cluster."""

from __future__ import annotations

import itertools
import pickle
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, cast, final
from weakref import WeakValueDictionary

from anabranch.futures import ResultUnavailableError
from anabranch.futures.runner import SerialThread, describe
from anabranch.runners.dask._cancelling import Canceller
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
from anabranch.runners.dask._native import Client, NativeFuture, import_distributed
from anabranch.runners.dask._outbox import Outbox
from anabranch.runners.dask._parcel import Packer, Parcel
from anabranch.runners.dask._quiet import quiet_about_dead_workers
from anabranch.runners.dask._report import Report
from anabranch.runners.dask._settings import Settings, address_of, report_file
from anabranch.runners.dask._topic import Topic
from anabranch.runners.dask._versions import are_here, look_around, warn_of_differences
from anabranch.runners.dask._worker import nothing

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from pathlib import Path

    from anabranch.futures import TaskRun
    from anabranch.runners.dask._native import Distributed
    from anabranch.runners.dask._run import DaskRun

#: How long the helper is waited for in the end: nobody wants what it is at any more. In seconds.
_PATIENCE: Final = 1.0

#: Before everything else: they hold up others, and cost nothing.
_GATE_PRIORITY: Final = 1_000


@final
class Connection:
    """A client, and the cluster if it is the runner's own.

    Opening and closing it blocks, and so does `fetch`; all else does not.

    Attributes:
        helper: Calls what would block.
        note_abandoned: Told of runs whose thread on a worker was given up.
        packer: Makes the parcels for this connection; there once it is open.
        is_in_threads: Whether the workers are threads of this process; None if that is unknown.
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
        # Of a client that is not closed with the runner.
        self._natives: Final[WeakValueDictionary[int, NativeFuture]] = WeakValueDictionary()
        self.is_in_threads: bool | None = None
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
        settings = self._settings
        path = settings.performance_report_path
        with self._lock:  # Closing waits for it, should the wait for this be given up.
            if settings.is_ours:
                refuse_unguarded_script()
            distributed = import_distributed()
            report = None if path is None else report_file(path)
            client = self._connect(distributed)
            topic = Topic(client, self._note_progress)
            if not settings.is_ours:
                self._stack.callback(topic.end)
            self._get_to_know(client, topic.name)
            if report is not None:
                self._report_on(client, report)
            self.packer = Packer(topic.name)
            self._outbox = Outbox(distributed, client, self._completions)
            self._canceller = Canceller(distributed, client, self._outbox, self._logger)
            self._stack.callback(self._canceller.finish)
            self._fetch = Fetcher(client, connect_timeout(settings.client_kwargs))
            self._stack.callback(self._fetch.close)
            self._client = client

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
        report = Report(client, file)
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
        return self._lent(self._outbox.put(run, key, parcel, dependencies))

    def _lent(self, native: NativeFuture) -> NativeFuture:
        if self._settings.client is not None:
            self._natives[id(native)] = native
        return native

    def gate(self, run: DaskRun[object], native: NativeFuture) -> NativeFuture:
        """Return a key that ends as a run does, and holds nothing.

        What waits for a run without wanting its value depends on this one, so that the value stays
        where it is.
        """
        client = self._open_client()
        self._outbox.flush()  # The key itself may still be in there.
        return self._lent(
            client.submit(
                nothing,
                native,
                key=f"wait_for-{run.task_run.name}-{run.task_run.id}",
                pure=False,
                priority=_GATE_PRIORITY,
            )
        )

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
