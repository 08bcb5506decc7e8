"""The worker threads of a local runner: daemons that take runs from one queue."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Final

from anabranch.futures import Cancelled, Crashed, Future
from anabranch.futures.runner import (
    BlockingSection,
    current_scope,
    set_blocking_section,
    start_thread,
)
from anabranch.runners.local._run import RUNNER_HAS_ENDED, LocalRun

# Runs that a waiting thread executes itself lie on its stack, one upon the other. Beyond this
# depth a stand-in takes over.
_MAX_NESTING: Final = 32

# So many runs may have begun to wait, and hold a thread each, before no new ones are begun.
_MOST_WAITING: Final = 16


class WorkerThreads:
    """Threads that execute runs, ``max_workers`` of them at work at a time.

    A thread that waits for a run that has not started executes it itself. While it waits for one
    that is under way elsewhere, a stand-in takes its place. Beyond a few, stand-ins take only what
    running ones have submitted or wait for: if each of 10,000 runs waited in a thread of its own,
    there would be 10,000 threads. So no wait starves the pool, and the threads stay few. One that
    comes back goes on at once: until its stand-in is through with what it is at, there is one more
    at work.

    Args:
        execute: Executes one run, in the thread that calls it.
        max_workers: How many threads may be at work at a time.
        name: What the threads' names begin with.
        on_exit: Called by each thread as the last thing it does.
    """

    def __init__(
        self,
        execute: Callable[[LocalRun[object]], None],
        max_workers: int,
        name: str,
        on_exit: Callable[[], object],
    ) -> None:
        self._execute = execute
        self._max_workers = max_workers
        self._name = name
        self._on_exit = on_exit
        self._lock = threading.Lock()
        self._workers: set[_Worker] = set()
        self._started = 0
        # The last one to fall asleep is the first to be woken.
        self._asleep: list[_Worker] = []
        # One thread at a time is on its way to a run. When it has taken one, it calls the next: a
        # burst of submissions would wake all of them, and each would wait for the interpreter only
        # to find that the few before it have done the work.
        self._coming: _Worker | None = None
        self._blocked = 0
        # Threads that are at a run, or wait in one, and have not been given up. Beyond a number,
        # only those runs are begun that running ones have submitted or wait for.
        self._engaged = 0
        self._most_engaged = max_workers + _MOST_WAITING
        self._closed = False
        # What running ones have submitted or wait for goes before new ones, or they would pile up.
        self._nested: deque[LocalRun[object]] = deque()
        self._fresh: deque[LocalRun[object]] = deque()

    def put(self, run: LocalRun[object]) -> None:
        """Queue a run that is ready to be executed."""
        scope = current_scope.get()
        is_nested = scope is not None and scope.task_run is not None
        run.is_queued = True  # First: whoever hastens it meanwhile sees that, or is seen here.
        (self._nested if is_nested or run.is_wanted else self._fresh).append(run)
        if self._coming is None:
            self._call_if_needed()
        if self._closed:
            run.end(Cancelled(message=RUNNER_HAS_ENDED))

    def hasten(self, run: LocalRun[object]) -> None:
        """Let a run go before new ones, for a running one waits for it."""
        run.is_wanted = True
        if run.is_queued:
            # Whoever comes to it by its old place finds it taken.
            self._nested.append(run)
            self._call_if_needed()

    def close(self) -> None:
        """Have every thread end when it is through with what it is doing."""
        self._closed = True
        with self._lock:
            for worker in self._asleep:
                worker.wake()
        self._end_if_nobody_is_left()

    def leaving(self) -> list[threading.Thread]:
        """Return the threads that are about to end: all but those stuck in an abandoned run."""
        # Ctrl-C may have come between the making of a thread and its start.
        return [
            worker.thread
            for worker in list(self._workers)
            if worker.thread.is_alive() and not worker.is_stuck()
        ]

    def take(self, worker: _Worker) -> LocalRun[object] | None:
        """Wait for a run and return it; None if there is nothing more to do for this thread."""
        if worker.is_engaged and not self._has_surplus():  # It comes from a run.
            run = self._next(self._engaged - 1)
            if run is not None:
                if self._coming is None:
                    self._call_if_needed()
                return run
        while True:
            with self._changing():
                if self._coming is worker:
                    self._coming = None
                if worker in self._asleep:
                    self._asleep.remove(worker)
                others = self._engaged - worker.is_engaged
                run = None if self._has_surplus() else self._next(others)
                if run is not None:
                    self._engage(worker)
                    return run
                self._disengage(worker)
                if self._closed or self._has_surplus():
                    return None
                self._asleep.append(worker)
            worker.sleep()

    def _next(self, engaged: int) -> LocalRun[object] | None:
        """Take a run, for a thread besides which so many are engaged."""
        try:
            if self._nested:
                return self._nested.popleft()
            if self._fresh and engaged < self._most_engaged:
                return self._fresh.popleft()
        except IndexError:  # Another thread has been faster.
            pass
        return None

    def _engage(self, worker: _Worker) -> None:
        if not worker.is_engaged:
            worker.is_engaged = True
            self._engaged += 1

    def _disengage(self, worker: _Worker) -> None:
        if worker.is_engaged:
            worker.is_engaged = False
            self._engaged -= 1

    def _has_surplus(self) -> bool:
        # Those are back for whom others had been standing in.
        return len(self._workers) - self._blocked > self._max_workers

    def leave(self, worker: _Worker) -> None:
        """Let a thread go."""
        with self._changing():
            self._workers.discard(worker)
        self._end_if_nobody_is_left()
        self._on_exit()

    @contextmanager
    def lent_place(self, worker: _Worker) -> Generator[None]:
        """Let another thread take a worker's place for as long as that one waits."""
        with self._changing():
            self._lend(worker)
        try:
            yield
        finally:
            with self._changing():
                self._take_back(worker)

    def _lend(self, worker: _Worker) -> None:
        # A worker has one place to lend, be it waiting, given up, or both.
        worker.lendings += 1
        if worker.lendings == 1:
            self._blocked += 1

    def _take_back(self, worker: _Worker) -> None:
        worker.lendings -= 1
        if worker.lendings == 0:
            self._blocked -= 1

    def run(self, worker: _Worker, run: LocalRun[object]) -> None:
        """Execute one run in this thread, which is the worker's."""
        worker.runs.append(run)
        try:
            self._execute(run)
        finally:
            worker.runs.pop()
            if worker.given_up:
                with self._changing():
                    if run in worker.given_up:
                        worker.given_up.remove(run)
                        self._take_back(worker)
                    if not worker.given_up:
                        self._engage(worker)

    def give_up(self, run: LocalRun[object]) -> None:
        """Let another thread take the place of the one that is at a run, until it comes back."""
        try:
            with self._lock:
                is_given_up = self._give_up(run)
        finally:  # Ctrl-C may come. Others have not looked, for this thread would.
            self._call_if_needed()
        if is_given_up:
            self._end_if_nobody_is_left()
            self._on_exit()  # Whoever joins the threads is not to wait for this one.

    def _give_up(self, run: LocalRun[object]) -> bool:
        # Others may be stuck in earlier attempts of the same run.
        at_it = (each for each in self._workers if run in each.runs)
        worker = next((each for each in at_it if run not in each.given_up), None)
        if worker is None:
            return False
        worker.given_up.add(run)
        if run not in worker.runs:  # It has come back just now, and may not have seen that.
            worker.given_up.remove(run)
            return False
        self._disengage(worker)
        self._lend(worker)
        return True

    @contextmanager
    def _changing(self) -> Generator[None]:
        """Hold the lock for a change; then call a thread, if one is needed by now.

        For the threads of the pool only: in the main thread, Ctrl-C could come in between, and keep
        the lock held for as long as it is handled.
        """
        with self._lock:
            yield
        self._call_if_needed()

    def _call_if_needed(self) -> None:
        """Wake a thread, or start one, if there is a run for it and none is on its way."""
        if self._is_one_needed():
            try:
                self._call_while_needed()
            except BaseException:  # Ctrl-C. Others have not looked, for this thread would.
                self._call_while_needed()
                raise

    def _call_while_needed(self) -> None:
        # Whoever changes something under the lock comes here afterwards, so a thread that has only
        # queued a run need not wait for it. Threads that stop each other at a lock, each holding it
        # until it has the interpreter as well, go on stopping each other at every run, and change
        # places more often than they do anything.
        while self._is_one_needed() and not self._lock.locked():
            with self._lock:
                is_called = not self._is_one_needed() or self._call()
                stranded = [] if is_called or self._workers else self._take_all()
            for run in stranded:
                run.end(Crashed(message="The machine has no thread left to make the run in."))
            if not is_called and not stranded:
                return  # The machine has no more threads. Those that there are do without.

    def _end_if_nobody_is_left(self) -> None:
        """End what was queued while the last threads went."""
        if self._closed and all(worker.is_stuck() for worker in list(self._workers)):
            for run in self._take_all():
                run.end(Cancelled(message=RUNNER_HAS_ENDED))

    def _take_all(self) -> list[LocalRun[object]]:
        taken: list[LocalRun[object]] = []
        for runs in (self._nested, self._fresh):
            with suppress(IndexError):
                while True:
                    taken.append(runs.popleft())
        return taken

    def _is_one_needed(self) -> bool:
        return (
            self._coming is None
            and len(self._workers) - len(self._asleep) - self._blocked < self._max_workers
            and bool(self._nested or (self._fresh and self._engaged < self._most_engaged))
            and not self._closed
        )

    def _call(self) -> bool:
        # Ctrl-C may come at any step, so the thread is called before anyone counts on it; and it
        # takes itself off the list of those asleep.
        if self._asleep:
            worker = self._asleep[-1]
            worker.wake()
            self._coming = worker
        else:
            self._coming = self._start()
        return self._coming is not None

    def _start(self) -> _Worker | None:
        self._started += 1
        worker = _Worker(self, f"{self._name}-{self._started}")
        try:
            self._workers.add(worker)
            start_thread(worker.thread)
        except BaseException as error:  # Ctrl-C, or
            if worker.thread.ident is None:
                self._workers.discard(worker)
            if not isinstance(error, RuntimeError):
                raise
            return None  # the machine has no more.
        return worker


class _Worker(BlockingSection):
    """One thread, and what it does when the code that it runs has to wait."""

    def __init__(self, pool: WorkerThreads, name: str) -> None:
        self._pool = pool
        self._nesting = 0
        # The last is being executed, and each of the others waits for the one behind it.
        self.runs: list[LocalRun[object]] = []
        # Those of them that nobody waits for any more.
        self.given_up: set[LocalRun[object]] = set()
        self.is_engaged = False
        # For how many reasons another may have the thread's place.
        self.lendings = 0
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._bell = threading.Lock()
        self._bell.acquire()

    def sleep(self) -> None:
        """Wait to be woken."""
        self._bell.acquire()

    def wake(self) -> None:
        """Let the thread go on that sleeps, or is just about to."""
        with suppress(RuntimeError):  # It has been called already.
            self._bell.release()

    def _work(self) -> None:
        set_blocking_section(self)
        try:
            while (run := self._pool.take(self)) is not None:
                self._pool.run(self, run)
                run = None  # Before the next wait: an idle thread keeps no run alive.
        finally:
            self._pool.leave(self)

    def is_stuck(self) -> bool:
        """Whether the thread is at a run that nobody waits for any more."""
        return bool(self.given_up)

    def wait(self, future: Future[object], timeout: float | None = None) -> None:
        """Return when ``future`` is done, having run here what had not started."""
        scope = current_scope.get()
        if timeout is None and (scope is None or not scope.has_deadline):
            future.awaited()  # It may have to be given leave to start, by its runner.
            self._help(future)
        if not future.done():
            # The rest is under way elsewhere; what it starts is taken by whoever is free.
            future.awaited()
            with self._pool.lent_place(self):
                future.park(timeout)

    def _help(self, future: Future[object]) -> None:
        """Run what ``future`` waits for, as far as that has not started and can be run here."""
        # What is waited for, and behind it what that waits for, as far as it is not done.
        waited_for = [(future, iter(future.missing()))]
        while waited_for:
            target, missing = waited_for[-1]
            if target.done():
                waited_for.pop()
            elif isinstance(target, LocalRun) and self._can_run(target):
                self._nesting += 1
                try:
                    self._pool.run(self, target)
                finally:
                    self._nesting -= 1
            elif (behind := next(missing, None)) is not None:
                waited_for.append((behind, iter(behind.missing())))
            else:
                waited_for.pop()

    def _can_run(self, run: LocalRun[object]) -> bool:
        item = run.item
        return (
            item is not None
            and not item.is_async
            # When its time is over, its thread is given up, but who waits for it has to go on.
            and item.time_limit is None
            and self._nesting < _MAX_NESTING
            and run.executor is not None
            and run.executor.threads is self._pool
            and run.is_startable()
        )
