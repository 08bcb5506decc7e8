"""The runner for debugging: one task at a time."""

from __future__ import annotations

import contextvars
import threading
from contextlib import AsyncExitStack
from contextvars import ContextVar
from types import TracebackType
from typing import Final, Self, TypeVar, cast, final

from anabranch.futures import ConcurrencyType, Crashed, Future, State, TaskRunner, WorkItem
from anabranch.futures.runner import (
    NO_LOOPS,
    current_scope,
    run_item,
    upstream_failure,
    when_ready,
)
from anabranch.runners.local._executor import Executor
from anabranch.runners.local._run import LocalRun

R = TypeVar("R")


@final
class SequentialTaskRunner(TaskRunner):
    """Runs tasks one at a time, in the order of their submission.

    In sync code, ``submit`` runs the task there and then, in the calling thread, and returns a
    future that is done. In async code, where that would block the event loop, tasks queue: each
    starts when the one before it has ended. A task that waits for one that it submitted itself lets
    it go first.
    """

    def __init__(self) -> None:
        super().__init__()
        self._turns: _Turns | None = None
        self._runs_in_place = False

    @property
    def concurrency_type(self) -> ConcurrencyType:
        """Sequential: one task at a time."""
        return ConcurrencyType.SEQUENTIAL

    async def _start(self, exit_stack: AsyncExitStack) -> None:
        executor = await exit_stack.enter_async_context(Executor.open(self, max_workers=1))
        self._turns = _Turns(self, executor)
        exit_stack.callback(self._forget_turns)

    def _forget_turns(self) -> None:
        self._turns = None

    def runs_in_place(self, item: WorkItem[R]) -> bool:
        """In sync code, yes; but no loop can stand still for one of its own async tasks."""
        turns = self._turns
        if turns is None or not turns.executor.is_in_loop():
            return self._runs_in_place
        upstreams = (*item.upstreams, *item.tolerated)
        return self._runs_in_place and not item.is_async and all(each.done() for each in upstreams)

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        if not item.is_async and self.runs_in_place(item):
            return self._run_in_place(item)
        turns = self._turns
        assert turns is not None, "dispatch() refuses work while the runner is not started"
        # Even a sync task may queue behind one that needs the loop.
        run = LocalRun(item, turns.executor.loops(), when_awaited=turns.let_pass)
        try:
            self.admit(run)
            when_ready(item, lambda: turns.queue(run), run.end)
            if self.runs_in_place(item):
                run.join()
        except BaseException:  # Ctrl-C. Nobody else has the run's future.
            run.cancel()
            raise
        return run

    def _run_in_place(self, item: WorkItem[R]) -> Future[R]:
        run = LocalRun(item, NO_LOOPS)
        for upstream in (*item.upstreams, *item.tolerated):
            upstream.join()
        state: State[R] | None = upstream_failure(item)
        if state is None:
            run.set_running()
            variables = item.variables or contextvars.copy_context()
            state = variables.run(run_item, item, self, progress=run.note_progress)
        run.end(state)
        if isinstance(state, Crashed) and not isinstance(state.exception, Exception):
            raise state.exception  # Ctrl-C or SystemExit: the caller's own thread was meant.
        return run

    # ------------------------------------------------------------------ in sync code

    def __enter__(self) -> Self:
        # No event loop unless an async task comes: starting one costs more than most runs.
        self._enter_in_place()
        self._turns = _Turns(self, Executor(self, max_workers=1))
        self._runs_in_place = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        turns = self._turns
        assert turns is not None, "it has been entered"
        try:
            with turns.executor.closed_after(error):
                self._leave_in_place(error)
        finally:
            self._runs_in_place = False


@final
class _Turns:
    """Lets the runs of an executor go one at a time.

    A run that waits for others of its runner holds no turn meanwhile: those go next, one by one,
    before anything that was submitted later.
    """

    def __init__(self, runner: TaskRunner, executor: Executor) -> None:
        self._runner = runner
        self.executor = executor
        self._lock = threading.Lock()
        # In the order of their submission.
        self._ready: dict[LocalRun[object], None] = {}
        # What each run waits for that has not started, by the waiting run's id.
        self._wanted: dict[str, dict[LocalRun[object], None]] = {}
        # Those that have started. All but the last wait for the one behind them.
        self._started: list[LocalRun[object]] = []

    def queue(self, run: LocalRun[object]) -> None:
        """Have a run that is ready executed when its turn comes."""
        with self._lock:
            self._ready[run] = None
        self._go()

    def let_pass(self, run: LocalRun[object]) -> None:
        """Let a run go next, if a run of this runner has begun to wait for it."""
        scope = current_scope.get()
        if scope is None or scope.runner is not self._runner:
            return
        # The run whose turn it is may have called what waits: that has a scope of its own.
        turns, waiting = _turn.get()
        if turns is not self:
            return
        behind: list[Future[object]] = [run]
        others: list[Future[object]] = []
        with self._lock:
            wanted = self._wanted.setdefault(waiting, {})
            while behind:
                each = behind.pop()
                if isinstance(each, LocalRun) and not each.done() and each not in wanted:
                    wanted[each] = None
                    behind.extend(each.missing())
                elif not isinstance(each, LocalRun):
                    others.append(each)
        for each in others:  # What they wait for in turn, they know.
            each.awaited()
        self._go()

    def _go(self) -> None:
        with self._lock:
            run = self._next()
            if run is None:
                return
            del self._ready[run]
            self._started.append(run)
        run.add_done_callback(self._ended)
        item = run.item
        if item is not None and item.variables is not None:
            item.variables.run(_turn.set, (self, run.task_run.id))
        self.executor.execute(run)

    def _next(self) -> LocalRun[object] | None:
        if self._started:
            wanted = self._wanted.get(self._started[-1].task_run.id, {})
            for run in list(wanted):
                if run.done():
                    del wanted[run]
                elif run in self._ready:
                    del wanted[run]
                    return run
            return None
        while self._ready:
            run = next(iter(self._ready))
            if not run.done():
                return run
            del self._ready[run]  # It was cancelled.
        return None

    def _ended(self, run: Future[object]) -> None:
        with self._lock:
            self._started.remove(cast("LocalRun[object]", run))
            self._wanted.pop(run.task_run.id, None)
        self._go()


# In the context variables of a run: whose turn it is, among which runs.
_turn: Final[ContextVar[tuple[_Turns | None, str]]] = ContextVar("_turn", default=(None, ""))
