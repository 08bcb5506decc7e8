"""Handing runs over to Dask, as many at a time as there are."""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, cast, final

import attrs

from anabranch.futures.runner import AnyFunction, SerialThread
from anabranch.runners.dask._annotations import NO_ANNOTATIONS, Annotations, call_with
from anabranch.runners.dask._functions import FunctionStore
from anabranch.runners.dask._native import Client, Distributed, NativeFuture
from anabranch.runners.dask._parcel import Parcel
from anabranch.runners.dask._receipts import Receipts

if TYPE_CHECKING:
    from anabranch.runners.dask._run import DaskRun

#: How much goes into one message, in bytes. Dask warns of messages of 10 MB.
_MAX_SIZE: Final = 8_000_000

#: How long runs are collected for each that is out already, and at most, in seconds. The scheduler
#: takes longer over a run, so the workers do not run out of work.
_PAUSE: Final = 0.0005
_MAX_PAUSE: Final = 0.1

#: Of what holds up others, and costs nothing.
_FIRST: Final[Annotations] = {"priority": 1_000}


class Execute(Protocol):
    """Executes a run on a worker, as a Dask task."""

    def __call__(self, parcel: Parcel, /, *values: object) -> object: ...


class _ClientModule(Protocol):
    def done_callback(
        self, future: NativeFuture, callback: Callable[[NativeFuture], object]
    ) -> Awaitable[None]: ...


@final
@attrs.frozen(eq=False)
class _Letter:
    """Something that Dask is to execute.

    Attributes:
        number: Counts letters.
        native: Its key.
        function: What is called on a worker.
        parcel: What it is called with.
        dependencies: The keys whose values it gets besides.
        annotations: What Dask is told of it.
        run: The run that it is; None for what is there for others.
        is_known: Whether Dask has had the key before, and is to begin anew.
        goes_alone: Whether it is refused alone if something is wrong with it.
    """

    number: int
    native: NativeFuture
    function: AnyFunction[object]
    parcel: Parcel | None
    dependencies: tuple[NativeFuture, ...]
    annotations: Annotations
    run: DaskRun[object] | None
    is_known: bool = False
    goes_alone: bool = False

    def goes_with(self, other: _Letter) -> bool:
        """Whether both can be in one graph: what Dask is told is told of whole graphs."""
        return (
            self.annotations == other.annotations
            and len(self.dependencies) == len(other.dependencies)
            and self.function is other.function
            and not (self.goes_alone or other.goes_alone)
        )


@final
class Outbox:
    """Submits runs in the client's own loop, in their order, as few graphs as can be.

    To the scheduler a graph is about a millisecond's work, whether there is one run in it or a
    hundred. A lone run leaves at once. What comes in while others are out is collected for a
    moment, and what is submitted `together` leaves in one graph.

    If one key has gone that a graph depends on, Dask refuses all of the graph. Then its runs are
    submitted one by one.

    Args:
        distributed: The module.
        client: What submits.
        ended: Calls what a run does about its end; Dask's loop must not be held up by that.
        execute: What executes runs on workers.
        receipts: Told what has been sent, where somebody wants to know when it is taken.
    """

    def __init__(
        self,
        distributed: Distributed,
        client: Client,
        ended: SerialThread,
        execute: Execute,
        receipts: Receipts | None = None,
    ) -> None:
        self._execute: Final = execute
        self._distributed: Final = distributed
        self._client: Final = client
        self._ended: Final = ended
        self._receipts: Final = receipts
        self._functions: Final = FunctionStore(client)
        module = importlib.import_module("distributed.client")
        self._done_callback: Final = cast("_ClientModule", module).done_callback
        self._lock: Final = threading.Lock()
        # What may leave, and what is still being collected.
        self._ready: list[_Letter] = []
        self._collected: list[_Letter] = []
        self._is_flush_due = False
        self._collectors = 0
        self._count = 0
        # Held while messages are made, so that they leave in the order of the runs.
        self._sending: Final = asyncio.Lock()
        self._watches: set[asyncio.Future[None]] = set()

    # ------------------------------------------------------------------ in any thread

    def put(
        self,
        run: DaskRun[object],
        key: str,
        parcel: Parcel,
        dependencies: Iterable[NativeFuture],
        *,
        is_known: bool = False,
        goes_alone: bool = False,
    ) -> NativeFuture:
        """Have a run submitted, soon or at once, and return its key.

        Args:
            run: The run; told when the key has ended, or if Dask does not take it.
            key: What Dask is to call it.
            parcel: What is sent.
            dependencies: The keys behind the parcel's slots, and then those to wait for besides.
            is_known: Whether Dask has had the key before.
            goes_alone: Whether to submit it by itself.
        """
        return self._put(
            key,
            partial(
                _Letter,
                function=self._execute,
                parcel=parcel,
                dependencies=tuple(dependencies),
                annotations=run.annotations,
                run=run,
                is_known=is_known,
                goes_alone=goes_alone,
            ),
        )

    def put_gate(self, key: str, native: NativeFuture) -> NativeFuture:
        """Have something submitted that ends as a key does, and has no value; return its key."""
        return self._put(
            key,
            partial(
                _Letter,
                function=nothing,
                parcel=None,
                dependencies=(native,),
                annotations=_FIRST,
                run=None,
            ),
        )

    def _put(self, key: str, letter: Callable[[int, NativeFuture], _Letter]) -> NativeFuture:
        native = self._distributed.Future(key, self._client)
        if native.done():  # It shares what is known of the key.
            native._state.retry()
        try:
            with self._lock:
                self._count += 1
                self._collected.append(letter(self._count, native))
                is_due = self._is_flush_due or self._collectors > 0
                self._is_flush_due = self._is_flush_due or not is_due
            if not is_due:
                self._client.loop.add_callback(self._flush_soon)
        except BaseException:  # Ctrl-C. Two flushes do no harm; none at all would.
            self._is_flush_due = False
            raise
        return native

    @contextmanager
    def together(self) -> Generator[None]:
        """Have what is put in a block leave in one graph, if it can."""
        with self._lock:
            self._collectors += 1
        try:
            yield
        finally:
            with self._lock:
                self._collectors -= 1
                if not self._collectors:
                    self._make_ready()
            self._client.loop.add_callback(self._flush_ready)

    def settle(self, timeout: float) -> bool:
        """Block until the scheduler has taken what has been put up to now.

        Args:
            timeout: How long to wait, in seconds.

        Returns:
            Whether it has.
        """
        assert self._receipts is not None, "where this is wanted, there are receipts"
        count = self._count
        if self._receipts.has(count):
            return True
        self._client.loop.add_callback(self.flush)
        return self._receipts.wait_for(count, timeout)

    # ------------------------------------------------------------------ in the loop

    def _make_ready(self) -> None:
        """Under the lock: let what has been collected leave."""
        self._ready += self._collected
        self._collected = []

    async def _flush_soon(self) -> None:
        if self._watches:
            await asyncio.sleep(min(len(self._watches) * _PAUSE, _MAX_PAUSE))
        with self._lock:
            self._is_flush_due = False
            if not self._collectors:  # Else they go with what is being collected.
                self._make_ready()
        await self._flush_ready()

    async def flush(self) -> None:
        """Submit all that has come in; to be called in the client's loop."""
        with self._lock:
            self._make_ready()
        await self._flush_ready()

    async def _flush_ready(self) -> None:
        async with self._sending:
            with self._lock:
                letters, self._ready = self._ready, []
            batch: list[_Letter] = []
            size = 0
            for letter in letters:
                if letter.run is not None and letter.run.done():  # Cancelled meanwhile.
                    self._note_sent(letter, is_graph=False)
                    continue
                own = 0 if letter.parcel is None else letter.parcel.size
                size += own
                if batch and (size > _MAX_SIZE or not letter.goes_with(batch[-1])):
                    await self._send(batch)
                    batch, size = [], own
                batch.append(letter)
            if batch:
                await self._send(batch)

    async def call_after_all(
        self, function: AnyFunction[object], dependency: NativeFuture, key: str
    ) -> NativeFuture:
        """Have a function called, after all that has come in before; in the client's loop."""
        await self.flush()
        submit = partial(self._client.submit, function, dependency, key=key, pure=False)
        if self._receipts is not None:
            self._receipts.note_graph(0)
        return call_with(NO_ANNOTATIONS, submit)

    async def _send(self, batch: list[_Letter]) -> None:
        first = batch[0]
        keys = [letter.native.key for letter in batch]
        parcels = [letter.parcel for letter in batch]
        values = zip(*(letter.dependencies for letter in batch), strict=True)
        submit = partial(
            self._client.map,
            first.function,
            parcels,
            *(list(each) for each in values),
            key=keys,
            pure=False,
        )
        try:
            if self._client.status != "running":
                raise ConnectionError("The connection to the Dask scheduler is lost")
            await self._functions.ship(letter.parcel for letter in batch if letter.parcel)
            self._forget([letter.native.key for letter in batch if letter.is_known])
            call_with(first.annotations, submit)
        except Exception as error:  # Dask raises all sorts of them when the scheduler is gone.
            for letter in batch:
                if letter.run is not None:
                    refuse = partial(letter.run.refused, error)
                    self._ended.call_soon(partial(letter.run.guard, refuse))
            self._note_sent(batch[-1], is_graph=False)
        else:
            self._note_sent(batch[-1], is_graph=True)
            is_alone = len(batch) == 1
            for letter in batch:
                self._watch(letter, is_alone=is_alone)

    def _forget(self, keys: list[str]) -> None:
        if keys:
            message = {"op": "client-releases-keys", "keys": keys, "client": self._client.id}
            self._client._send_to_scheduler(message)

    def _note_sent(self, letter: _Letter, *, is_graph: bool) -> None:
        if self._receipts is None:
            return
        if is_graph:
            self._receipts.note_graph(letter.number)
        else:
            self._receipts.note_dropped(letter.number)

    def _watch(self, letter: _Letter, *, is_alone: bool) -> None:
        run = letter.run
        if run is None:
            return
        # Of the letter nothing is kept until then: there may be much in it.
        tell = partial(self._tell, run, bool(letter.dependencies) and not is_alone)
        watch = asyncio.ensure_future(self._done_callback(letter.native, tell))
        self._watches.add(watch)  # The loop itself does not hold it.
        watch.add_done_callback(self._watches.discard)

    def _tell(self, run: DaskRun[object], may_go_alone: bool, native: NativeFuture) -> None:
        end = run.submit_alone if may_go_alone and _was_refused(native) else run.native_ended
        self._ended.call_soon(partial(run.guard, end, native))


def _was_refused(native: NativeFuture) -> bool:
    """Whether the scheduler has refused a graph, because of some key in it."""
    if native.status != "cancelled":
        return False
    return getattr(native._state.exception, "reason", None) == "lost dependencies"


def nothing(*_: object) -> None:
    """Do nothing: a task that is there for what it depends on."""
