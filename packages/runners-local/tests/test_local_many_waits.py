"""Many runs that wait for others: on few threads, and without a deadlock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from anabranch.futures import (
    Backend,
    Completed,
    Future,
    TaskRun,
    TimedOut,
    as_completed,
    gather,
    lift,
    wait_async,
)
from anabranch.futures.runner import current_scope, make_item, new_run_id
from anabranch.runners.local import ConcurrentTaskRunner

SLOTS = 2

#: How many runs may wait for what is under way elsewhere before no new ones are begun.
WAITING = 16


class Count:
    """How many are inside, and the most that ever were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.inside = 0
        self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.inside -= 1


def double(x: int) -> int:
    """Double."""
    return 2 * x


async def double_async(x: int) -> int:
    """Double, after letting the loop turn once."""
    await anyio.lowlevel.checkpoint()
    return 2 * x


def here() -> ConcurrentTaskRunner:
    """Return the runner of the run that asks."""
    scope = current_scope.get()
    assert scope is not None
    assert isinstance(scope.runner, ConcurrentTaskRunner)
    return scope.runner


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_parents_wait_for_a_child_each_on_a_few_threads(count: int) -> None:
    """A thread that waits for a run that has not started runs it; only else another stands in."""
    threads: set[str] = set()
    at_work = Count()

    def parent(x: int) -> int:
        with at_work:
            threads.add(threading.current_thread().name)
            return here().submit(double, x).result()

    with ConcurrentTaskRunner(max_workers=SLOTS) as runner:
        assert sum(gather(runner.submit(parent, x) for x in range(count)).result()) == count * (
            count - 1
        )
    assert at_work.most <= SLOTS + WAITING
    # Those that end are followed by others, more often on a busy machine.
    assert SLOTS <= len(threads) <= count // 10


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_parents_of_async_children_are_begun_a_few_at_a_time(backend: Backend) -> None:
    """While runs wait for what is under way elsewhere, only a few new ones are begun."""
    count = Count()
    go = threading.Event()
    begun = threading.Semaphore(0)

    def parent(x: int) -> int:
        with count:
            child = here().submit(double_async, x)
            begun.release()
            go.wait()
            return child.result()

    async def late(x: int) -> int:
        await anyio.to_thread.run_sync(go.wait)
        return 2 * x

    def waiting_parent(x: int) -> int:
        with count:
            child = here().submit(late, x)
            begun.release()
            return child.result()

    runner = ConcurrentTaskRunner(max_workers=SLOTS)
    runner.backend = backend
    with runner:
        runs = [runner.submit(waiting_parent, x) for x in range(100)]
        for _ in range(SLOTS + WAITING):
            assert begun.acquire(timeout=10)
        assert runs[-1].cancel().value == "cancelled"
        go.set()
        assert sum(gather(runs[:-1]).result()) == sum(range(99)) * 2
        assert sum(gather(runner.submit(parent, x) for x in range(100)).result()) == 9_900
    assert SLOTS <= count.most <= SLOTS + WAITING


def test_what_is_waited_for_is_begun_however_many_wait() -> None:
    """New runs that running ones wait for are begun though no others would be."""
    ready = threading.Semaphore(0)
    wanted: list[Future[int]] = []
    go = threading.Event()

    async def wait_for_last() -> int:
        await anyio.to_thread.run_sync(go.wait)
        return await wanted[0]

    def parent() -> int:
        child = here().submit(wait_for_last)
        ready.release()
        return child.result()

    with ConcurrentTaskRunner(max_workers=1) as runner:
        parents = [runner.submit(parent) for _ in range(1 + WAITING)]
        for _ in parents:
            assert ready.acquire(timeout=10)
        wanted.append(runner.submit(double, 4))
        go.set()
        assert gather(parents).result(timeout=10) == [8] * len(parents)


def test_what_is_waited_for_may_depend_on_more_new_runs() -> None:
    """What a run waits for indirectly is begun as well."""
    ready = threading.Semaphore(0)
    go = threading.Event()
    chain: list[Future[int]] = []

    async def wait_for_last() -> int:
        await anyio.to_thread.run_sync(go.wait)
        return await chain[-1]

    def parent() -> int:
        child = here().submit(wait_for_last)
        ready.release()
        return child.result()

    with ConcurrentTaskRunner(max_workers=1) as runner:
        parents = [runner.submit(parent) for _ in range(1 + WAITING)]
        for _ in parents:
            assert ready.acquire(timeout=10)
        chain.append(runner.submit(double, 1))
        for _ in range(5):
            chain.append(runner.submit(double, lift(chain[-1])))
        go.set()
        assert gather(parents).result(timeout=10) == [64] * len(parents)


async def all_together(runs: list[Future[int]]) -> None:
    """Wait for the list of the values."""
    await gather(runs)


async def as_they_come(runs: list[Future[int]]) -> None:
    """Take one after the other."""
    async for _ in as_completed(runs):
        pass


async def until_one_fails(runs: list[Future[int]]) -> None:
    """Wait for all, or for the first that fails."""
    await wait_async(runs, fail_fast=True)


@pytest.mark.anyio
@pytest.mark.parametrize("wait", [all_together, as_they_come, until_one_fails])
async def test_waiting_for_many_in_a_loop_begins_no_more_of_them(
    wait: Callable[[list[Future[int]]], Coroutine[Any, Any, None]],
) -> None:
    """Async code that waits for all of its runs at once does not get a thread for each."""
    count = Count()
    go = anyio.Event()
    begun = threading.Semaphore(0)

    async def late(x: int) -> int:
        await go.wait()
        return 2 * x

    def parent(x: int) -> int:
        with count:
            child = here().submit(late, x)
            begun.release()
            return child.result()

    async with ConcurrentTaskRunner(max_workers=SLOTS).start() as runner:
        runs = [runner.submit(parent, x) for x in range(60)]
        async with anyio.create_task_group() as group:
            group.start_soon(wait, runs)
            for _ in range(SLOTS + WAITING):
                await anyio.to_thread.run_sync(begun.acquire)
            go.set()
    assert count.most <= SLOTS + WAITING


def test_runs_that_were_given_up_as_they_waited_keep_no_new_one_from_beginning() -> None:
    """A run that waits, and whose time is up, counts no more among those that wait."""
    endless: Future[None] = Future(TaskRun("endless", "endless", "endless"))

    def wait() -> None:
        endless.wait()

    with ConcurrentTaskRunner(max_workers=1) as runner:
        stuck = [
            runner.dispatch(
                make_item(wait, (), {}, task_run=TaskRun(new_run_id(), "w", "w"), time_limit=0.02)
            )
            for _ in range(1 + WAITING)
        ]
        new = runner.submit(double, 4)
        assert all(isinstance(run.wait(timeout=10), TimedOut) for run in stuck)
        assert new.result(timeout=10) == 8
        endless.set_final(Completed(None))
