"""Executes runs in this process: async tasks in a nursery, the others on threads it owns."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, final

import anyio

from anabranch.futures import Cancelled, Completed, Future, State, TaskRun, TaskRunner, WorkItem
from anabranch.futures.runner import (
    NO_LOOPS,
    Attempt,
    EventLoop,
    RunnerHost,
    attempt_scope,
    is_interruption,
    make_attempt,
    mark_library,
    upstream_failure,
)
from anabranch.runners.local._async_runs import AsyncRuns
from anabranch.runners.local._run import RUNNER_HAS_ENDED, LocalRun
from anabranch.runners.local._workers import WorkerThreads

_LEAVING: Final = TaskRun("", "the end of the threads", "threads")


@final
class Executor:
    """Starts runs at once, each where it belongs.

    Async tasks become children of a nursery, in the event loop that the executor was opened in; one
    that was made in sync code starts a loop in a thread beside it when the first of them comes.
    Sync tasks go to threads of the executor's own.

    Attributes:
        runner: The runner that it executes for.
        threads: The threads of the sync tasks.
    """

    def __init__(self, runner: TaskRunner, max_workers: int) -> None:
        self.runner: Final = runner
        name = f"anabranch-{runner.name}"
        self.threads: Final = WorkerThreads(
            self._execute_here, max_workers, name, on_exit=self._note_thread_end
        )
        self._lock: Final = threading.Lock()
        self._async_runs: AsyncRuns | None = None
        self._host: RunnerHost | None = None
        self._is_closed = False
        self._threads_left: Final[Future[None]] = Future(_LEAVING)

    @staticmethod
    @asynccontextmanager
    async def open(runner: TaskRunner, max_workers: int) -> AsyncGenerator[Executor]:
        """Make an executor in the running event loop, for as long as the context lasts."""
        executor = Executor(runner, max_workers)
        async with AsyncRuns.open(runner) as executor._async_runs:
            try:
                yield executor
            finally:
                threads = executor._close_threads()
                # Shielded: all that is waited for is threads that have nothing left to do.
                with anyio.CancelScope(shield=True):
                    await executor._threads_left.join_async()
                _join(threads)

    # ------------------------------------------------------------------ async tasks

    @property
    def loop(self) -> EventLoop:
        """The event loop of the async tasks, once there is one."""
        assert self._async_runs is not None, "it has been opened in one, or has had an async task"
        return self._async_runs.loop

    def is_in_loop(self) -> bool:
        """Whether the calling thread runs the event loop of the async tasks."""
        runs = self._async_runs
        return runs is not None and runs.loop.thread_id == threading.get_ident()

    def loops(self) -> frozenset[int]:
        """Return the threads of the event loops that async tasks need; one is started if need be.

        There is none once the executor has been closed.
        """
        async_runs = self._async_runs
        if async_runs is None:
            with self._lock:
                if self._async_runs is None and not self._is_closed:
                    self._start_loop()
                async_runs = self._async_runs
        return NO_LOOPS if async_runs is None else async_runs.needed_loops

    def _start_loop(self) -> None:
        self._host = RunnerHost(self.runner, self._take_async_runs)
        try:
            self._host.open()
        except BaseException:  # Ctrl-C. The host has ended the loop.
            self._host = self._async_runs = None
            raise

    @asynccontextmanager
    async def _take_async_runs(self) -> AsyncGenerator[None]:
        async with AsyncRuns.open(self.runner) as self._async_runs:
            yield

    # ------------------------------------------------------------------ executing

    def execute(self, run: LocalRun[object]) -> None:
        """Start a run that is ready. Thread-safe."""
        run.executor = self
        run.queued()
        if run.item is None or not run.item.is_async:
            self.threads.put(run)
        elif self._async_runs is not None:
            self._async_runs.execute(run)
        else:
            run.end(Cancelled(message=RUNNER_HAS_ENDED))

    def _execute_here(self, run: LocalRun[object]) -> None:
        item = run.item
        if item is None or (attempt := run.claim()) is None:
            return
        variables = item.variables or contextvars.copy_context()
        if attempt.time_limit is not None or item.retry.retries:
            # Each attempt begins with what was there at first; and a thread that was given up at an
            # earlier one may still be in there.
            variables = variables.copy()
        # Not kept in this frame: a failure's traceback leads back here, and would be a cycle.
        run.attempt_ended(attempt, variables.run(self._make_attempt, run, item, attempt))

    def _make_attempt(
        self, run: LocalRun[object], item: WorkItem[object], attempt: Attempt
    ) -> State[object]:
        mark_library(None)
        if item.upstreams and (failure := upstream_failure(item)) is not None:
            return failure
        scope = attempt_scope(item, attempt, self.runner)
        run.enter(attempt, scope)
        return make_attempt(item, attempt, self.runner, scope)

    def give_up(self, run: LocalRun[object]) -> None:
        """Do without the thread that is at a run: nothing waits for it, and another stands in."""
        self.threads.give_up(run)

    # ------------------------------------------------------------------ ending

    @contextmanager
    def closed_after(self, error: BaseException | None) -> Generator[None]:
        """Surround the wait for all runs, in sync code, and end the threads and the loop after it.

        Args:
            error: What the runner is left by, if by an exception.
        """
        in_a_hurry = True
        try:
            yield
            in_a_hurry = is_interruption(error)
        finally:
            try:
                self._close(in_a_hurry=in_a_hurry)
            except BaseException:  # Ctrl-C as it waits, or just before.
                self._close(in_a_hurry=True)
                raise

    def _close(self, *, in_a_hurry: bool) -> None:
        threads = self._close_threads()
        host, self._host = self._host, None
        if host is not None:
            host.close(None, in_a_hurry=in_a_hurry)
        self._threads_left.park()
        _join(threads)

    def _close_threads(self) -> list[threading.Thread]:
        """Have the threads end, and return those that will."""
        with self._lock:
            self._is_closed = True
        threads = self.threads.leaving()
        self.threads.close()
        self._note_thread_end()
        return threads

    def _note_thread_end(self) -> None:
        if self._is_closed and not self.threads.leaving():
            self._threads_left.set_final(Completed(None))


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join()  # It has said goodbye: all that is left to it is to vanish.
