"""A runner that does everything right, in the simplest way."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from functools import partial
from typing import ClassVar, TypeVar, cast
from weakref import WeakSet

import anyio

from anabranch.futures import (
    Cancellation,
    Cancelled,
    ConcurrencyType,
    Future,
    Retrying,
    Running,
    State,
    TaskRunner,
    WorkItem,
)
from anabranch.futures.runner import (
    EventLoop,
    default_backend,
    mark_library,
    run_item,
    run_item_async,
    running_loop,
    when_ready,
)

R = TypeVar("R")


class _OverError(Exception):
    """Leaves a lifecycle whose run has been cancelled between two attempts."""


class ThreadRun(Future[R]):
    """A run in a thread of its own."""

    _known: ClassVar[WeakSet[ThreadRun[object]]] = WeakSet()
    _knowing: ClassVar = threading.Lock()

    def __init__(self, item: WorkItem[R]) -> None:
        super().__init__(item.task_run, listener=item.listener)
        with self._knowing:
            self._known.add(cast("ThreadRun[object]", self))
        self.stop: Callable[[], object] | None = None
        self._behind = (*item.upstreams, *item.tolerated)

    @classmethod
    def all_known(cls) -> list[ThreadRun[object]]:
        """Return all that there are."""
        with cls._knowing:
            return list(cls._known)

    def missing(self) -> Iterable[Future[object]]:
        """Return what the run waits for."""
        return [each for each in self._behind if not each.done()]

    def note_progress(self, state: Running | Retrying) -> None:
        """Take note of the next attempt, or of the delay before it."""
        if isinstance(state, Retrying):
            self.set_retrying(state)
        else:
            self.set_running()

    def rest(self, seconds: float) -> None:
        """Wait for the next attempt, or until the run is cancelled."""
        self.park(seconds)
        if self.done():
            raise _OverError

    async def rest_async(self, seconds: float) -> None:
        """`rest`, in an event loop."""
        await self.park_async(seconds)
        if self.done():
            raise _OverError

    def cancel(self) -> Cancellation:
        """End the run if no attempt is being made, and stop it if it is async."""
        if self.set_final_unless_running(Cancelled()):
            return Cancellation.CANCELLED
        if self.done():
            return Cancellation.CANNOT_STOP
        if self.stop is not None:
            self.stop()
            return Cancellation.WILL_STOP
        return Cancellation.CANNOT_STOP


class RightTaskRunner(TaskRunner):
    """Takes a thread for each run, and does everything right."""

    #: What the runs are.
    run: ClassVar[type[ThreadRun[object]]] = ThreadRun
    #: How long a behaviour that such a runner has may take it, in seconds.
    patience: ClassVar[float] = 20.0
    kind: ClassVar[ConcurrencyType] = ConcurrencyType.CONCURRENT

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[threading.Thread] = []

    @property
    def concurrency_type(self) -> ConcurrencyType:
        """Concurrent."""
        return self.kind

    async def _start(self, exit_stack: AsyncExitStack) -> None:
        def join() -> None:
            for thread in self.threads:
                thread.join()

        exit_stack.callback(join)

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        run = cast("ThreadRun[R]", self.run(item))
        when_ready(item, partial(self.begin, run, item), run.set_final)
        return run

    def begin(self, run: ThreadRun[R], item: WorkItem[R]) -> None:
        """Execute a run that is ready in a new thread, unless it was cancelled."""
        variables = self.variables(item)
        thread = threading.Thread(target=variables.run, args=(self.work, run, item), daemon=True)
        self.threads.append(thread)
        thread.start()

    def variables(self, item: WorkItem[R]) -> contextvars.Context:
        """Return the context variables of a run."""
        return item.variables or contextvars.Context()

    def work(self, run: ThreadRun[R], item: WorkItem[R]) -> None:
        """Execute a run, unless it was cancelled."""
        mark_library(None)  # Whatever loop it was submitted in, this thread has none.
        if run.set_running():
            self.end(run, item)

    def end(self, run: ThreadRun[R], item: WorkItem[R]) -> None:
        """Execute a run, and set its final state."""
        try:
            state = self.execute(run, item)
        except _OverError:
            return
        run.set_final(state)

    def execute(self, run: ThreadRun[R], item: WorkItem[R]) -> State[R]:
        """Execute a run that is ready, in its thread."""
        if not item.is_async:
            return run_item(item, self, progress=run.note_progress, rest=run.rest)
        backend = item.backend or self.backend or default_backend()
        return anyio.run(self.execute_async, run, item, backend=backend)

    async def execute_async(self, run: ThreadRun[R], item: WorkItem[R]) -> State[R]:
        """Execute an async run in the event loop of its thread."""
        loop = cast("EventLoop", running_loop())
        with anyio.CancelScope() as scope:
            run.stop = lambda: loop.call_soon(scope.cancel)
            return await run_item_async(item, self, progress=run.note_progress, rest=run.rest_async)
        return Cancelled()
