"""Handing runs over to Dask, as many at a time as there are."""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, cast, final

import attrs

from anabranch.futures.runner import SerialThread
from anabranch.runners.dask._annotations import call_with
from anabranch.runners.dask._native import Client, Distributed, NativeFuture
from anabranch.runners.dask._parcel import Parcel
from anabranch.runners.dask._worker import execute

if TYPE_CHECKING:
    from anabranch.runners.dask._run import DaskRun

#: How much goes into one message, in bytes. Dask warns of messages of 10 MB.
_MAX_SIZE: Final = 4_000_000

#: How long runs are collected for each that is out already, and at most, in seconds. The scheduler
#: takes longer over a run, so the workers do not run out of work.
_PAUSE: Final = 0.0005
_MAX_PAUSE: Final = 0.1


class _ClientModule(Protocol):
    def done_callback(
        self, future: NativeFuture, callback: Callable[[NativeFuture], object]
    ) -> Awaitable[None]: ...


@final
@attrs.frozen
class _Letter:
    """A run that is to be submitted.

    Attributes:
        run: The run.
        native: Its key.
        parcel: What is sent.
    """

    run: DaskRun[object]
    native: NativeFuture
    parcel: Parcel


@final
class Outbox:
    """Submits runs, in one message what came in while the last one was on its way.

    To the scheduler a message is a graph, and a graph is about a millisecond's work, whether there
    is one run in it or a hundred. A lone run leaves at once.

    Runs that depend on others go one by one: if one key has gone that a graph depends on, Dask
    refuses all of it. Annotations are of a whole graph, too.

    Args:
        distributed: The module.
        client: What submits.
        ended: Calls what a run does about its end; Dask's loop must not be held up by that.
    """

    def __init__(self, distributed: Distributed, client: Client, ended: SerialThread) -> None:
        self._distributed: Final = distributed
        self._client: Final = client
        self._ended: Final = ended
        module = importlib.import_module("distributed.client")
        self._done_callback: Final = cast("_ClientModule", module).done_callback
        self._lock: Final = threading.Lock()
        self._waiting: list[_Letter] = []
        self._is_flush_due = False
        # Held while messages are made, so that they leave in the order of the runs.
        self._sending: Final = threading.RLock()
        self._watches: set[asyncio.Future[None]] = set()

    def put(
        self, run: DaskRun[object], key: str, parcel: Parcel, dependencies: list[NativeFuture]
    ) -> NativeFuture:
        """Have a run submitted, soon or at once, and return its key.

        Args:
            run: The run; told when the key has ended, or if Dask does not take it.
            key: What Dask is to call it.
            parcel: What is sent.
            dependencies: The keys behind the parcel's slots, and then those to wait for besides.
        """
        if dependencies:
            with self._sending:
                self.flush()
                submit = partial(
                    self._client.submit, execute, parcel, *dependencies, key=key, pure=False
                )
                native = call_with(run.annotations, submit)
            self._client.loop.add_callback(self._watch, [(run, native)])
            return native
        native = self._distributed.Future(key, self._client)
        letter = _Letter(run, native, parcel)
        try:
            with self._lock:
                self._waiting.append(letter)
                is_due, self._is_flush_due = self._is_flush_due, True
            if not is_due:
                self._client.loop.add_callback(self._flush_soon)
        except BaseException:  # Ctrl-C. Two flushes do no harm; none at all would.
            self._is_flush_due = False
            raise
        return native

    def flush(self) -> None:
        """Submit what has come in."""
        with self._sending:
            with self._lock:
                letters, self._waiting = self._waiting, []
                self._is_flush_due = False
            batch: list[_Letter] = []
            size = 0
            for letter in letters:
                if letter.run.done():  # Cancelled meanwhile.
                    continue
                size += letter.parcel.size
                is_other = batch and letter.run.annotations != batch[0].run.annotations
                if batch and (size > _MAX_SIZE or is_other):
                    self._send(batch)
                    batch, size = [], letter.parcel.size
                batch.append(letter)
            if batch:
                self._send(batch)

    async def _flush_soon(self) -> None:
        if self._watches:
            await asyncio.sleep(min(len(self._watches) * _PAUSE, _MAX_PAUSE))
        self.flush()

    def _send(self, batch: list[_Letter]) -> None:
        keys = [letter.native.key for letter in batch]
        parcels = [letter.parcel for letter in batch]
        submit = partial(self._client.map, execute, parcels, key=keys, pure=False)
        try:
            if self._client.status != "running":
                raise ConnectionError("The connection to the Dask scheduler is lost")
            call_with(batch[0].run.annotations, submit)
        except Exception as error:  # Dask raises all sorts of them when the scheduler is gone.
            for letter in batch:
                refuse = partial(letter.run.refused, error)
                self._ended.call_soon(partial(letter.run.guard, refuse))
        else:
            sent = [(letter.run, letter.native) for letter in batch]
            self._client.loop.add_callback(self._watch, sent)

    def _watch(self, sent: list[tuple[DaskRun[object], NativeFuture]]) -> None:
        for run, native in sent:
            watch = asyncio.ensure_future(self._done_callback(native, partial(self._tell, run)))
            self._watches.add(watch)  # The loop itself does not hold it.
            watch.add_done_callback(self._watches.discard)

    def _tell(self, run: DaskRun[object], native: NativeFuture) -> None:
        self._ended.call_soon(partial(run.guard, run.native_ended, native))
