"""Submitting from runs on workers: the runner that is there, and its connection."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, cast, final

from anabranch.futures import ConcurrencyType, Future, TaskRun, TaskRunner, WorkItem
from anabranch.runners.dask._annotations import with_annotations
from anabranch.runners.dask._errand import current_errand
from anabranch.runners.dask._home import leave_here
from anabranch.runners.dask._link import Link
from anabranch.runners.dask._mail import Mailbox
from anabranch.runners.dask._native import call_in_loop, import_distributed, import_sync
from anabranch.runners.dask._receipts import Receipts
from anabranch.runners.dask._run import DaskRun, bring
from anabranch.runners.dask._topic import Topic

if TYPE_CHECKING:
    import logging
    from collections.abc import Awaitable, Callable

    from anabranch.runners.dask._native import Client, NativeFuture, Worker
    from anabranch.runners.dask._outbox import Execute

R = TypeVar("R")

#: How long the scheduler is waited for to tell that it knows a run, in seconds.
_PATIENCE: Final = 1.0

#: How long workers may take to disconnect, in seconds.
_PROMPT: Final = 5.0

# What a worker object is told: its runner, and whether a plugin looks after that.
_PLACE: Final = "_anabranch_runner"
_IS_FOLLOWED: Final = "_anabranch_is_followed"

#: How often the scheduler may fail to tell before it is not waited for any more.
_MAX_MISSES: Final = 3


# Held while it is decided whether a worker's runner is used.
_deciding: Final = threading.Lock()


@contextmanager
def runner_on(worker: Worker, execute: Execute) -> Generator[WorkerTaskRunner]:
    """Give what a run on a worker submits to, for as long as the run is there.

    Args:
        worker: The worker.
        execute: What executes runs on workers.
    """
    with _deciding:
        runner = _found_on(worker)
        if runner is None:
            runner = WorkerTaskRunner(worker, execute)
            vars(worker)[_PLACE] = runner
        runner.users += 1
    try:
        yield runner
    finally:
        with _deciding:
            runner.users -= 1
            is_over = runner.is_unwanted and not runner.users
            if is_over:
                vars(worker).pop(_PLACE, None)
        if is_over:
            call_in_loop(worker.loop, runner.close)


def _found_on(worker: Worker) -> WorkerTaskRunner | None:
    return cast("WorkerTaskRunner | None", vars(worker).get(_PLACE))


def leave_workers(client: Client) -> None:
    """Have workers end the connections that nobody needs there any more; blocks."""

    async def leave() -> None:
        await client.run(_leave, workers=None, on_error="ignore")

    with suppress(Exception):  # They may be gone.
        import_sync()(client.loop, leave, callback_timeout=_PROMPT)


async def _leave(dask_worker: Worker) -> None:
    with _deciding:
        runner = _found_on(dask_worker)
        if runner is None:
            return
        if runner.users:  # They may be those of others, who do not know of it.
            runner.is_unwanted = True
            return
        del vars(dask_worker)[_PLACE]
    await runner.close()


@final
class WorkerTaskRunner(TaskRunner):
    """Submits runs from a worker to the cluster that the worker belongs to.

    There is one on each worker. It connects when the first run there submits something.

    Attributes:
        users: How many runs there have it.
        is_unwanted: Whether it is to end with the last of them.
    """

    def __init__(self, worker: Worker, execute: Execute) -> None:
        super().__init__()
        self.users = 0
        self.is_unwanted = False
        self._link: Final = WorkerLink(worker, execute, self.logger, self.note_abandoned)
        self._enter_in_place()

    @property
    def name(self) -> str:
        """As of the runner that the flow has."""
        return "dask"

    def __str__(self) -> str:
        return "DaskTaskRunner"

    @property
    def concurrency_type(self) -> ConcurrencyType:
        """Parallel: on all workers."""
        return ConcurrencyType.PARALLEL

    def settle(self, timeout: float | None = None) -> None:
        """Block until the scheduler knows what has been submitted here, or the time is over."""
        self._link.settle(timeout)

    async def close(self) -> None:
        """Disconnect, in the worker's event loop."""
        await self._link.close()

    def note_abandoned(self, run: TaskRun) -> None:
        """Have a run that was given up counted where its flow is."""
        errand = current_errand.get()
        if errand is None:  # It is told by the threads of the link.
            self._link.report_abandoned(run)
        else:
            errand.note_abandoned(run)

    def together(self) -> AbstractContextManager[None]:
        """Hand what is submitted in a block over in one message."""
        self._link.open()
        return self._link.together()

    def undelivered(self) -> Future[None] | None:
        """Return what ends when the workers have heard of what was cancelled; None if they have."""
        return self._link.undelivered()

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        errand = current_errand.get()
        assert errand is not None, "scopes and errands are left together"
        self._link.open()
        # It goes before what has not begun: who waits for it has.
        item, annotations = with_annotations(item, errand.parcel.priority + 1)
        run = DaskRun(item, self._link, errand.parcel.home, annotations)
        self.admit(run)
        try:
            bring(run, item, self._link)
        except BaseException:  # Ctrl-C: nobody gets the run, and it may never end by itself.
            run.cancel()
            raise
        return run


class _ClosingClient(Protocol):
    def _close(self, *, fast: bool) -> Awaitable[None]: ...


class _GatheringClient(Protocol):
    def gather(self, futures: object) -> object: ...


@final
class _FromWorkers:
    """Brings values from worker to worker; those that are on this one are as they are."""

    def __init__(self, client: _GatheringClient) -> None:
        self._client: Final = client

    def __call__(self, native: NativeFuture) -> object:
        return self._client.gather(native)

    def many(self, natives: Sequence[NativeFuture]) -> Iterator[tuple[str, object]]:
        with suppress(Exception):  # Whoever asks for one of them alone hears of it.
            values = cast("list[object]", self._client.gather(list(natives)))
            yield from zip((native.key for native in natives), values, strict=True)


@final
class WorkerLink(Link):
    """A client on a worker, in the worker's own event loop."""

    def __init__(
        self,
        worker: Worker,
        execute: Execute,
        logger: logging.Logger,
        note_abandoned: Callable[[TaskRun], object],
    ) -> None:
        super().__init__(execute, logger, note_abandoned)
        self._worker: Final = worker
        self._opening: Final = threading.Lock()
        self._receipts: Final = Receipts()
        self._misses = 0
        self._is_closed = False
        self._events: Topic

    def open(self) -> None:
        """Connect, unless that has been done; blocks.

        Raises:
            ConnectionError: The worker ends.
        """
        if self._client is None or self._is_closed:
            with self._opening:
                if self._is_closed:
                    raise ConnectionError("The Dask worker ends: nothing can be submitted there")
                if self._client is None:
                    # In an event loop of its own, Dask would take this for the client's.
                    self.helper.call(self._connect)

    def _connect(self) -> None:
        distributed = import_distributed()
        worker = self._worker
        client = distributed.Client(
            worker.scheduler.address,
            loop=worker.loop,
            security=worker.security,
            set_as_default=False,
            direct_to_workers=True,
            name="anabranch-worker",
        )
        # The scheduler tells there of each graph that it has taken.
        client.subscribe_topic(client.id, self._note_graph)
        if not vars(worker).get(_IS_FOLLOWED):  # A second one would end what the first one is for.
            import_sync()(worker.loop, worker.plugin_add, plugin=_closer(), name=_PLACE)
            vars(worker)[_IS_FOLLOWED] = True
        self._events = Topic(client, self._note_event)
        self._events.keep_few()
        fetch = _FromWorkers(cast("_GatheringClient", client))
        self._attach(distributed, client, self._events, fetch, self._receipts)

    def settle(self, timeout: float | None) -> None:
        """Block until the scheduler knows all runs that have been submitted up to now.

        Args:
            timeout: How long to wait at most, in seconds.
        """
        # It is no documented event that tells. Without it all goes well, but with more threads.
        if self._client is None or self._misses >= _MAX_MISSES:
            return
        patience = _PATIENCE if timeout is None else min(timeout, _PATIENCE)
        if self._outbox.settle(patience):
            self._misses = 0
        elif patience == _PATIENCE:
            self._misses += 1

    def report_abandoned(self, run: TaskRun) -> None:
        """Have a run of this link that was given up counted where its flow is."""
        found = self._runs.get(run.id)
        if found is not None:
            mailbox = Mailbox(self._worker, found.home)
            mailbox.post(("abandoned", run))
            mailbox.flush()

    def _note_graph(self, event: tuple[float, object]) -> None:
        match event:
            case (_, {"action": "update-graph"}):
                self._receipts.note_taken()

    async def close(self) -> None:
        """Disconnect, in the worker's event loop. What has not ended here is lost."""
        self._is_closed = True
        client = self._client
        if client is None:
            return
        leave_here(self.topic)
        if client.status == "running":
            client.unsubscribe_topic(client.id)  # Else it would be told of its own end.
        await self._events.end_async()
        await cast("_ClosingClient", client)._close(fast=True)
        await self._outbox.finish()
        self._client = None
        for thread in (self._completions, self.helper):
            thread.close(0)


def _closer() -> object:
    """Return a plugin of a worker, which ends what there is here when the worker ends."""
    plugin = importlib.import_module("distributed.diagnostics.plugin")

    async def teardown(_: object, worker: Worker) -> None:
        runner = vars(worker).pop(_PLACE, None)
        if runner is not None:
            await cast("WorkerTaskRunner", runner).close()

    return type("CloseClient", (plugin.WorkerPlugin,), {"teardown": teardown})()
