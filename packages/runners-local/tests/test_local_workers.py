"""The threads of the concurrent runner: no run that is queued with them is forgotten."""

from __future__ import annotations

import threading

import pytest

from anabranch.futures import Cancelled, Crashed, TaskRun, WorkItem
from anabranch.futures.runner import NO_LOOPS, make_item
from anabranch.runners.local._run import LocalRun
from anabranch.runners.local._workers import WorkerThreads, _Worker

#: How long something that should happen at once is waited for, in seconds.
PATIENCE = 10.0


def new_run() -> LocalRun[object]:
    """Return a run that is in no runner."""
    item: WorkItem[object] = make_item(sum, ((3, 4),), {}, task_run=TaskRun("1", "run", "task"))
    return LocalRun(item, NO_LOOPS)


def refuse(run: LocalRun[object]) -> None:
    """Execute nothing."""
    raise AssertionError(f"{run!r} is not to be executed")


def test_a_run_that_is_queued_as_the_pool_closes_ends() -> None:
    """If nobody is left to take a run, closing the pool ends it."""
    pool = WorkerThreads(refuse, 1, "pool", on_exit=lambda: None)
    run = new_run()
    with pool._lock:  # Somebody holds it, and has looked for the last time.
        thread = threading.Thread(target=pool.put, args=(run,))
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert not run.done()
    pool.close()
    assert isinstance(run.state, Cancelled)


def test_a_run_that_is_queued_as_another_gets_no_thread_has_crashed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever finds that no thread is to be had looks again for what was queued meanwhile."""

    def get_no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    class Pool(WorkerThreads):
        def _take_all(self) -> list[LocalRun[object]]:
            taken = super()._take_all()
            if not second.is_queued:
                self.put(second)  # The lock is held, so whoever holds it is left to see to it.
            return taken

    pool = Pool(refuse, 1, "pool", on_exit=lambda: None)
    first, second = new_run(), new_run()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", get_no_thread)
        pool.put(first)
    assert isinstance(first.state, Crashed)
    assert isinstance(second.state, Crashed)


def test_a_run_that_is_queued_as_ctrl_c_comes_is_taken_all_the_same() -> None:
    """Whoever is interrupted while it calls a thread calls it before it goes."""
    executed = threading.Event()

    class Pool(WorkerThreads):
        is_interrupted = False

        def _call(self) -> bool:
            if not self.is_interrupted:
                self.is_interrupted = True
                raise KeyboardInterrupt
            return super()._call()

    pool = Pool(lambda _: executed.set(), 1, "pool", on_exit=lambda: None)
    with pytest.raises(KeyboardInterrupt):
        pool.put(new_run())
    assert executed.wait(PATIENCE)
    pool.close()
    for thread in pool.leaving():
        thread.join(PATIENCE)


def test_the_last_thread_that_leaves_ends_what_was_queued_meanwhile() -> None:
    """A run may be queued when the last thread has looked, just before the pool is closed."""
    pool = WorkerThreads(refuse, 1, "pool", on_exit=lambda: None)
    worker, run = _Worker(pool, "worker"), new_run()
    pool._workers.add(worker)
    pool._coming = worker  # So nobody else is called.
    pool.put(run)
    pool.close()
    assert not run.done()
    pool.leave(worker)
    assert isinstance(run.state, Cancelled)


def test_what_was_queued_ends_when_the_last_thread_of_a_closed_pool_is_given_up() -> None:
    """A thread that is stuck takes no other run."""
    pool = WorkerThreads(refuse, 1, "pool", on_exit=lambda: None)
    worker, stuck, run = _Worker(pool, "worker"), new_run(), new_run()
    worker.runs.append(stuck)
    pool._workers.add(worker)
    pool.put(run)
    pool.close()
    assert not run.done()
    pool.give_up(stuck)
    assert isinstance(run.state, Cancelled)
