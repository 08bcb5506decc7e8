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
from anabranch.runners.dask._native import Client, Distributed, NativeFuture, call_in_loop
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

#: How long the last ends are waited for, in seconds.
_PATIENCE: Final = 1.0

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
        native: Its key.
        function: What is called on a worker.
        parcel: What it is called with.
        dependencies: The keys whose values it gets besides.
        annotations: What Dask is told of it.
        run: The run that it is; None for what is there for others.
        is_known: Whether Dask has had the key before, and is to begin anew.
        goes_alone: Whether it is refused alone if something is wrong with it.
    """

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
            _are_equal(self.annotations, other.annotations)
            and len(self.dependencies) == len(other.dependencies)
            and self.function is other.function
            and not (self.goes_alone or other.goes_alone)
        )


@final
class Outbox:
    """Submits runs in the client's own loop, in their order, as few graphs as can be.

    To the scheduler a graph is about a millisecond's work, whether there is one run in it or a
    hundred. A lone run leaves at once. What comes in while others are out is collected for a
    moment, and what a thread puts in `together` leaves in one graph.

    If one key has gone that a graph depends on, Dask refuses all of the graph, and what depends on
    that. The runs see to it that they are put once more, alone.

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
        self._ready: list[_Letter] = []
        # How many have become ready, and how many of them have left or been dropped.
        self._made_ready = 0
        self._passed = 0
        self._is_flush_due = False
        # What a thread is putting together.
        self._block: Final = _Block()
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

    def _put(self, key: str, letter: Callable[[NativeFuture], _Letter]) -> NativeFuture:
        native = self._distributed.Future(key, self._client)
        if native.done():  # It shares what is known of the key.
            native._state.retry()
        block = self._block.letters
        if block is not None:
            block.append(letter(native))
        else:
            self._make_ready([letter(native)], self._flush_soon)
        return native

    def _make_ready(
        self, letters: list[_Letter], flush: Callable[[], Awaitable[None]], *, is_new: bool = False
    ) -> None:
        try:
            with self._lock:
                self._ready += letters
                self._made_ready += len(letters)
                is_due = self._is_flush_due and not is_new
                self._is_flush_due = True
            if not is_due:
                call_in_loop(self._client.loop, flush)
        except BaseException:  # Ctrl-C. Two flushes do no harm; none at all would.
            self._is_flush_due = False
            raise

    @contextmanager
    def together(self) -> Generator[None]:
        """Have what the calling thread puts in a block leave in one graph, if it can."""
        if self._block.letters is not None:  # It leaves with what is around it.
            yield
            return
        try:
            self._block.letters = []
            yield
        finally:
            self.release()
            self._block.letters = None

    def release(self) -> None:
        """Let go of what the calling thread has put together up to now."""
        letters = self._block.letters
        if letters:
            self._block.letters = []
            self._make_ready(letters, self.flush, is_new=True)

    def settle(self, timeout: float) -> bool:
        """Block until the scheduler has taken what the calling thread has put up to now.

        Args:
            timeout: How long to wait, in seconds.

        Returns:
            Whether it has.
        """
        assert self._receipts is not None, "where this is wanted, there are receipts"
        self.release()
        count = self._made_ready
        if self._receipts.has(count):
            return True
        call_in_loop(self._client.loop, self.flush)
        return self._receipts.wait_for(count, timeout)

    # ------------------------------------------------------------------ in the loop

    async def _flush_soon(self) -> None:
        if self._watches:
            await asyncio.sleep(min(len(self._watches) * _PAUSE, _MAX_PAUSE))
        await self.flush()

    async def flush(self) -> None:
        """Submit all that is ready; to be called in the client's loop."""
        async with self._sending:
            with self._lock:
                letters, self._ready = self._ready, []
                self._is_flush_due = False
            batch: list[_Letter] = []
            size = 0
            for letter in letters:
                if letter.run is not None and letter.run.done():  # Cancelled meanwhile.
                    self._passed += 1
                    if not batch and self._receipts is not None:
                        self._receipts.note_dropped(self._passed)
                    continue
                own = 0 if letter.parcel is None else letter.parcel.size
                size += own
                if batch and (size > _MAX_SIZE or not letter.goes_with(batch[-1])):
                    await self._send(batch)
                    batch, size = [], own
                batch.append(letter)
                self._passed += 1
            if batch:
                await self._send(batch)

    async def finish(self) -> None:
        """Refuse what is left, and tell of all that has ended; the client has been closed."""
        await self.flush()
        if self._watches:
            await asyncio.wait(self._watches, timeout=_PATIENCE)

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
        try:
            await self._submit(batch)
        except Exception as error:  # Dask raises all sorts of them when the scheduler is gone.
            for letter in batch:
                if letter.run is not None:
                    refuse = partial(letter.run.refused, error)
                    self._ended.call_soon(partial(letter.run.guard, refuse))
            if self._receipts is not None:
                self._receipts.note_dropped(self._passed)
        else:
            if self._receipts is not None:
                self._receipts.note_graph(self._passed)
            for letter in batch:
                self._watch(letter)

    async def _submit(self, batch: list[_Letter]) -> None:
        if self._client.status != "running":
            raise ConnectionError("The connection to the Dask scheduler is lost")
        await self._functions.ship(letter.parcel for letter in batch if letter.parcel)
        self.forget([letter.native.key for letter in batch if letter.is_known])
        values = zip(*(letter.dependencies for letter in batch), strict=True)
        submit = partial(
            self._client.map,
            batch[0].function,
            [letter.parcel for letter in batch],
            *(list(each) for each in values),
            key=[letter.native.key for letter in batch],
            pure=False,
        )
        call_with(batch[0].annotations, submit)

    def forget(self, keys: list[str]) -> None:
        """Have the scheduler drop keys, some time soon; messages arrive in their order."""
        if keys:
            message = {"op": "client-releases-keys", "keys": keys, "client": self._client.id}
            self._client._send_to_scheduler(message)

    def _watch(self, letter: _Letter) -> None:
        if letter.run is None:
            return
        # Of the letter nothing is kept until then: there may be much in it.
        tell = partial(self._tell, letter.run)
        watch = asyncio.ensure_future(self._done_callback(letter.native, tell))
        self._watches.add(watch)  # The loop itself does not hold it.
        watch.add_done_callback(self._watches.discard)

    def _tell(self, run: DaskRun[object], native: NativeFuture) -> None:
        self._ended.call_soon(partial(run.guard, run.native_ended, native))


class _Block(threading.local):
    """What a thread is putting together; None if it is not."""

    letters: list[_Letter] | None = None


def _are_equal(one: Annotations, other: Annotations) -> bool:
    try:
        return bool(one == other)
    except Exception:  # There may be anything in them, such as an array.
        return False


def nothing(*_: object) -> None:
    """Do nothing: a task that is there for what it depends on."""
