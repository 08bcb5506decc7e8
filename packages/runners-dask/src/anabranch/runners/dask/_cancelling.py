"""Having Dask forget what is not wanted any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast, final

from anabranch.futures import Completed, Future, TaskRun
from anabranch.futures.runner import describe, new_run_id
from anabranch.runners.dask._native import Client, Distributed, NativeFuture, call_in_loop
from anabranch.runners.dask._outbox import Outbox, nothing
from anabranch.runners.dask._stopping import stop_runs

if TYPE_CHECKING:
    import logging

    from anabranch.runners.dask._run import DaskRun

#: What is waited for until Dask has heard of runs that were cancelled.
_WORD: Final = TaskRun("", "the word of what was cancelled", "word")

#: How long the last cancellations are waited for, in seconds.
_TIMEOUT: Final = 5.0


@final
class Canceller:
    """Cancels runs in the client's own loop, many at a time.

    The scheduler forgets their keys, and the workers refuse those that reach them all the same. For
    as long as word takes to get there, a worker may still start one: a function that ends at that
    moment is as quick to tell the scheduler as this is, and then what depends on it begins.

    Args:
        distributed: The module.
        client: Whose keys they are.
        outbox: Where those are that Dask has not been given yet.
        logger: Where to say that it did not work.
    """

    def __init__(
        self, distributed: Distributed, client: Client, outbox: Outbox, logger: logging.Logger
    ) -> None:
        self._distributed: Final = distributed
        self._client: Final = client
        self._outbox: Final = outbox
        self._logger: Final = logger
        self._lock: Final = threading.Lock()
        # The runs are held too: one that starts all the same is yet to be told so.
        self._waiting: list[tuple[NativeFuture, DaskRun[object]]] = []
        self._is_busy = False
        # Ends when Dask has heard of all of them, and of those before them.
        self._word: Future[None] | None = None

    def cancel(self, run: DaskRun[object], native: NativeFuture) -> None:
        """Have Dask forget a run; does not wait for it."""
        # At once, and once more with the others: what the run depends on may end at any moment.
        self._outbox.forget([native.key])
        with self._lock:
            if not self._waiting:
                self._word = Future(_WORD)
            self._waiting.append((native, run))
            if self._is_busy:
                return
            self._is_busy = True
        call_in_loop(self._client.loop, self._work)

    def stop(self, run: DaskRun[object], worker: str) -> None:
        """Have a run stopped as far as can be on the worker that executes it; does not wait."""
        call_in_loop(self._client.loop, self._tell_workers, [run.task_run.id], [worker])

    def undelivered(self) -> Future[None] | None:
        """Return what ends when Dask has heard of everything up to now; None if it has."""
        return self._word

    def finish(self) -> None:
        """Wait until Dask has heard of everything, if it is still listening."""
        if (word := self._word) is not None:
            word.park(_TIMEOUT)

    async def _work(self) -> None:
        while True:
            with self._lock:
                batch, self._waiting = self._waiting, []
                word = self._word
                if not batch:
                    self._is_busy = False
                    return
                assert word is not None, "it was made with the first of the batch"
            try:
                await asyncio.gather(
                    self._tell_workers([run.task_run.id for _, run in batch]),
                    self._forget([native for native, _ in batch]),
                )
            except Exception as error:  # The scheduler may be gone, and all runs with it.
                self._logger.debug("Runs could not be cancelled on Dask: %s", describe(error))
            with self._lock:
                if self._word is word:
                    self._word = None
            word.set_final(Completed(None))

    async def _tell_workers(self, run_ids: list[str], workers: list[str] | None = None) -> None:
        with suppress(Exception):  # A worker may be gone, and the run with it.
            await self._client.run(stop_runs, run_ids, workers=workers, on_error="ignore")

    async def _forget(self, natives: list[NativeFuture]) -> None:
        client = self._client
        await self._outbox.flush()
        # Given back, and not cancelled: where something else depends on a key that nobody wants any
        # more, cancelling it makes the scheduler drop the client, and all of its runs.
        keys = [native.key for native in natives]
        self._outbox.forget(keys)
        # The scheduler passes over keys that it does not know yet, and it learns of a key some
        # time after it has been told: what was submitted just now would run all the same. It works
        # on submissions in their order, so it knows the keys once it has refused this one, which
        # depends on something that never was. Then it is told again.
        unheard_of = self._distributed.Future(f"anabranch-{new_run_id()}", client)
        key = f"anabranch-{new_run_id()}"
        refused = await self._outbox.call_after_all(nothing, unheard_of, key)
        with suppress(CancelledError):
            await cast("Awaitable[object]", refused.result())  # In the loop, it is a coroutine.
        self._outbox.forget(keys)
        for native in natives:  # Nobody answers: whoever watches them would do so for ever.
            native._state.cancel()
