"""The default runner: everything at once, in one process."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeVar, final

from anabranch.futures import ConcurrencyType, Future, TaskRunner, WorkItem
from anabranch.futures.runner import NO_LOOPS, when_ready
from anabranch.runners.local._executor import Executor
from anabranch.runners.local._run import LocalRun

R = TypeVar("R")


@final
class ConcurrentTaskRunner(TaskRunner):
    """Runs tasks concurrently: async ones as children of one nursery, others on its own threads.

    The runner's nursery owns all that it runs. Leaving it joins every task and every thread. The
    threads come as they are needed, and a task that waits for another does not hold up the rest:
    it runs what it waits for itself, or lends its place.

    Args:
        max_workers: How many sync tasks may be at work at a time. Async tasks are not counted.

    Raises:
        TypeError: ``max_workers`` is no whole number.
        ValueError: It is less than 1.
    """

    def __init__(self, max_workers: int = 40) -> None:
        super().__init__()
        if not isinstance(max_workers, int):
            raise TypeError(
                f"ConcurrentTaskRunner(max_workers={max_workers!r}): it is a whole number, such "
                "as 8; leave it out for 40"
            )
        if max_workers < 1:
            raise ValueError(
                f"ConcurrentTaskRunner(max_workers={max_workers!r}): at least one is needed; "
                "leave it out for 40"
            )
        self._max_workers: Final = max_workers
        self._executor: Executor | None = None

    @property
    def concurrency_type(self) -> ConcurrencyType:
        """Concurrent: many tasks at a time, in one process."""
        return ConcurrencyType.CONCURRENT

    def _settings(self) -> Mapping[str, object]:
        return {"max_workers": self._max_workers}

    async def _start(self, exit_stack: AsyncExitStack) -> None:
        executor = Executor.open(self, self._max_workers)
        self._executor = await exit_stack.enter_async_context(executor)

    def __enter__(self) -> Self:
        # No event loop unless an async task comes: starting one costs more than most flows.
        self._enter_in_place()
        self._executor = Executor(self, self._max_workers)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        executor = self._executor
        assert executor is not None, "it has been entered"
        with executor.closed_after(error):
            self._leave_in_place(error)

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        executor = self._executor
        assert executor is not None, "dispatch() refuses work while the runner is not started"
        loops = own_loops = executor.loops() if item.is_async else NO_LOOPS
        upstreams = (*item.upstreams, *item.tolerated)
        for each in upstreams:
            loops |= each.needed_loops()
        run = LocalRun(item, loops, executor)
        try:
            self.admit(run)
            if upstreams:
                when_ready(item, partial(self._execute, executor, run, own_loops), run.end)
            else:
                executor.execute(run)
        except BaseException:  # Ctrl-C. Whoever catches it has no future to wait for.
            run.cancel()
            raise
        return run

    @staticmethod
    def _execute(executor: Executor, run: LocalRun[object], loops: frozenset[int]) -> None:
        run.is_ready(loops)
        executor.execute(run)
