"""What runs need of a client of Dask, be it the flow's or a worker's."""

from __future__ import annotations

import logging
import pickle
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast
from weakref import WeakValueDictionary

from anabranch.futures import ResultUnavailableError, TaskRun
from anabranch.futures.runner import SerialThread, deliver_record, describe
from anabranch.runners.dask._cancelling import Canceller
from anabranch.runners.dask._home import leave_here, settle_here
from anabranch.runners.dask._outbox import Outbox
from anabranch.runners.dask._parcel import Packer, Parcel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from anabranch.futures import Future
    from anabranch.futures.runner import PackedRecord
    from anabranch.runners.dask._fetching import Fetch
    from anabranch.runners.dask._native import Client, Distributed, NativeFuture
    from anabranch.runners.dask._outbox import Execute
    from anabranch.runners.dask._receipts import Receipts
    from anabranch.runners.dask._run import DaskRun
    from anabranch.runners.dask._topic import Topic

_logger = logging.getLogger("anabranch.task_runner.dask")

#: How long the helper is waited for in the end: nobody wants what it is at any more. In seconds.
_PATIENCE: Final = 1.0


class Link:
    """Submits runs through a client, and hears what becomes of them.

    `fetch` blocks; all else does not.

    Args:
        execute: What executes runs on workers.
        logger: Where to log.
        note_abandoned: Told of runs whose thread on a worker was given up.

    Attributes:
        helper: Calls what would block.
        note_abandoned: As given.
        packer: Makes the parcels for this link; there once a client is.
        topic: Where workers announce what becomes of its runs; likewise.
    """

    packer: Packer
    topic: str
    _canceller: Canceller
    _outbox: Outbox
    _fetch: Fetch

    def __init__(
        self,
        execute: Execute,
        logger: logging.Logger,
        note_abandoned: Callable[[TaskRun], object],
    ) -> None:
        self._execute: Final = execute
        self._logger: Final = logger
        self._client: Client | None = None
        self._has_runs_below = False
        self._runs: Final[WeakValueDictionary[str, DaskRun[object]]] = WeakValueDictionary()
        self.note_abandoned: Final = note_abandoned
        self.helper: Final = SerialThread("anabranch-dask-helper")
        # In it runs end.
        self._completions: Final = SerialThread("anabranch-dask")

    def _attach(
        self,
        distributed: Distributed,
        client: Client,
        topic: Topic,
        fetch: Fetch,
        receipts: Receipts | None = None,
    ) -> None:
        """Begin to use a client; `_detach` is the end of that."""
        self.topic = topic.name
        settle_here(self.topic)
        self.packer = Packer(self.topic)
        self._outbox = Outbox(distributed, client, self._completions, self._execute, receipts)
        self._canceller = Canceller(distributed, client, self._outbox, self._logger)
        self._fetch = fetch
        self._client = client

    def _detach(self) -> None:
        """Use the client no longer; every run has ended."""
        client, self._client = self._client, None
        self._completions.close(_PATIENCE)
        self.helper.close(_PATIENCE)
        if client is not None:
            leave_here(self.topic)
            self._canceller.finish()

    # ------------------------------------------------------------------ runs

    def submit(
        self,
        run: DaskRun[object],
        parcel: Parcel,
        dependencies: list[NativeFuture],
        *,
        is_known: bool = False,
        goes_alone: bool = False,
    ) -> NativeFuture:
        """Hand a run to Dask, soon, and return its key.

        Args:
            run: The run.
            parcel: What is sent.
            dependencies: The keys behind the parcel's slots, and then those to wait for besides.
            is_known: Whether Dask has had it before.
            goes_alone: Whether to submit it by itself.
        """
        self._open_client()
        self._runs[parcel.run_id] = run
        # Dask shows the part of the key before the first "-" as the name.
        key = f"{parcel.run_name}-{parcel.run_id}"
        native = self._outbox.put(
            run, key, parcel, dependencies, is_known=is_known, goes_alone=goes_alone
        )
        return self._keep(native)

    def _keep(self, native: NativeFuture) -> NativeFuture:
        """Take note of a key; for links whose client outlives them."""
        return native

    def flush(self) -> None:
        """Let go of what the calling thread collects to hand over together."""
        self._outbox.release()

    def together(self) -> AbstractContextManager[None]:
        """Have the runs that are submitted in a block handed over in one message."""
        return self._outbox.together()

    def gate(self, run: DaskRun[object], native: NativeFuture) -> NativeFuture:
        """Return a key that ends as a run does, and holds nothing.

        What waits for a run without wanting its value depends on this one, so that the value stays
        where it is.
        """
        self._open_client()
        key = f"wait_for-{run.task_run.name}-{run.task_run.id}"
        return self._keep(self._outbox.put_gate(key, native))

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

    def fetch_many(self, natives: list[NativeFuture]) -> Iterator[tuple[str, object]]:
        """Bring values over, many at a time, and give those that could be had, by their keys."""
        if self._client is not None and not self.is_lost():
            yield from self._fetch.many(natives)

    # ------------------------------------------------------------------ what workers say

    def _note_event(self, event: tuple[float, object]) -> None:
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
            case [str(run_id), bytes(mail)]:
                # Handlers of logs may block, and runs end in the same thread, after this.
                self._completions.call_soon(lambda: self._open_mail(run_id, mail))

    def _open_mail(self, run_id: str, mail: bytes) -> None:
        letters: list[tuple[object, ...]] = pickle.loads(mail)
        for letter in letters:
            try:
                self._read(run_id, letter)
            except Exception:  # Handlers and filters of logs are foreign code.
                with suppress(Exception):  # They may raise once more.
                    _logger.exception("What a run on a Dask worker said could not be noted")

    def _read(self, run_id: str, letter: tuple[object, ...]) -> None:
        match letter:
            case ("log", dict(record)):
                deliver_record(cast("PackedRecord", record))
            case ("abandoned", TaskRun() as abandoned):
                self.note_abandoned(abandoned)
            case _:
                self._has_runs_below = True
                run = self._runs.get(run_id)
                if run is not None:
                    run.take_report(letter)

    def stop(self, run: DaskRun[object], worker: str) -> None:
        """Have a run stopped where it is being executed, as far as can be; does not wait for it."""
        if self._client is not None:
            self._canceller.stop(run, worker)

    def cancel(self, run: DaskRun[object], native: NativeFuture) -> None:
        """Have Dask forget a run that has not ended there; does not wait for it."""
        if self._client is not None:
            self._canceller.cancel(run, native)

    def undelivered(self) -> Future[None] | None:
        """Return what ends when Dask has heard of all that was cancelled; None if it has."""
        return None if self._client is None else self._canceller.undelivered()

    def report_straggler(self, run: DaskRun[object], worker: str) -> None:
        """Say that a run was cancelled just as it started, and cannot be stopped."""
        self._logger.warning(
            "Run %r was cancelled just as it started: its function runs to its end on the Dask "
            "worker %s, and what it returns is dropped",
            run.task_run.name,
            worker,
        )
