"""Executes runs in this process: async tasks in a nursery, the others on threads it owns."""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, Protocol, TypeVarTuple, Unpack, cast, final

import anyio

from anabranch.futures import Cancelled, TaskRunner
from anabranch.futures.runner import (
    EventLoop,
    run_item,
    run_item_async,
    running_loop,
    upstream_failure,
)
from anabranch.runners.local._run import LocalRun
from anabranch.runners.local._workers import WorkerThreads

Ts = TypeVarTuple("Ts")


class Nursery(Protocol):
    """What trio's nursery and anyio's task group have in common."""

    def start_soon(
        self, function: Callable[[Unpack[Ts]], Awaitable[None]], /, *args: Unpack[Ts]
    ) -> None:
        """Start a child task."""


def open_nursery(loop: EventLoop) -> AbstractAsyncContextManager[Nursery]:
    """Open a nursery: trio's own on trio, where anyio's wrapper costs three times as much."""
    if loop.backend == "trio":
        trio = sys.modules["trio"]
        return cast("AbstractAsyncContextManager[Nursery]", trio.open_nursery())
    return cast("AbstractAsyncContextManager[Nursery]", anyio.create_task_group())


@final
class Executor:
    """Starts runs at once, each where it belongs.

    Async tasks become children of the nursery. Sync tasks go to threads of the executor's own,
    which a child of the nursery joins.

    Attributes:
        loop: The event loop that the nursery is in.
        threads: The threads of the sync tasks.
    """

    def __init__(self, runner: TaskRunner, loop: EventLoop, nursery: Nursery, workers: int) -> None:
        self._runner: Final = runner
        self._nursery: Final = nursery
        self.loop: Final = loop
        self._thread_ended = anyio.Event()
        self.threads: Final = WorkerThreads(
            self._execute_here,
            workers,
            f"anabranch-{runner.name}",
            on_exit=partial(loop.call_soon, self._note_thread_end),
        )

    @staticmethod
    @asynccontextmanager
    async def open(runner: TaskRunner, max_workers: int) -> AsyncIterator[Executor]:
        """Make an executor in the running event loop, for as long as the context lasts."""
        loop = cast(EventLoop, running_loop())
        async with open_nursery(loop) as nursery:
            executor = Executor(runner, loop, nursery, max_workers)
            try:
                yield executor
            finally:
                executor.threads.close()
                nursery.start_soon(executor._join_threads)

    def execute(self, run: LocalRun[object]) -> None:
        """Start a run that is ready. Thread-safe."""
        run.executor = self
        if run.item is None or not run.item.is_async:
            self.threads.put(run)
        elif threading.get_ident() == self.loop.thread_id:
            self._start_child(run)
        elif not self.loop.call_soon(partial(self._start_child, run)):
            run.end(Cancelled(message="The event loop of the run has ended."))

    def _start_child(self, run: LocalRun[object]) -> None:
        item = run.item
        if item is None or item.variables is None or run.done():
            return
        try:
            # The child's context is a copy of the one that it is started in.
            item.variables.run(self._nursery.start_soon, self._execute_child, run)
        except RuntimeError:  # The nursery is closed already.
            run.end(Cancelled(message="The runner of the run has ended."))

    async def _execute_child(self, run: LocalRun[object]) -> None:
        item = run.item
        scope = anyio.CancelScope()
        run.stop_with(self.loop, scope)
        if item is None or not run.set_running():
            return
        try:
            with scope:
                run.end(upstream_failure(item) or await run_item_async(item, self._runner))
        finally:
            if not run.done():
                run.end(Cancelled(message="The run was cancelled while it was running."))

    def _execute_here(self, run: LocalRun[object]) -> None:
        item = run.item
        if item is None or item.variables is None or not run.set_running():
            return
        run.end(upstream_failure(item) or item.variables.run(run_item, item, self._runner))

    def _note_thread_end(self) -> None:
        self._thread_ended.set()
        self._thread_ended = anyio.Event()

    async def _join_threads(self) -> None:
        # Shielded: all that is waited for is threads that have nothing left to do.
        ending = self.threads.leaving()
        with anyio.CancelScope(shield=True):
            while self.threads.leaving():
                await self._thread_ended.wait()
        for thread in ending:
            thread.join()  # It has said goodbye: all that is left to it is to vanish.
