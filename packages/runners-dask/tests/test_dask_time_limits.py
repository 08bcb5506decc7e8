"""Time limits on Dask: threads of workers are given up, async runs are stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import distributed
import pytest
from dask_tasks import dispatch, increment, until

from anabranch.futures import (
    Completed,
    Retrying,
    RetryPolicy,
    RunTimedOutError,
    TaskRunner,
    TimedOut,
    UpstreamFailed,
    lift,
)
from anabranch.futures.runner import current_scope
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.dask import DaskTaskRunner

pytestmark = pytest.mark.slow

#: A cluster that starts in no time: a scheduler and a worker in this process, on real sockets.
_LIGHT: dict[str, Any] = {
    "n_workers": 1,
    "threads_per_worker": 1,
    "processes": False,
    "protocol": "tcp://",
    "dashboard_address": ":0",
}

#: Time limits in seconds: one that is always exceeded here, and one that never is.
_SHORT = 0.02
_LONG = 3_600.0


@pytest.fixture(scope="module")
def runner() -> Iterator[TaskRunner]:
    """A started runner with one worker, whose pool has one thread."""
    with DaskTaskRunner(cluster_kwargs=_LIGHT) as runner:
        yield runner


def wait_at(ticket: Ticket, value: object = None) -> object:
    ticket.wait()
    return value


def wait_at_first(ticket: Ticket, value: object = None) -> object:
    """Wait at a gate in the first attempt."""
    scope = current_scope.get()
    assert scope is not None
    if scope.context.attempt == 1:
        ticket.wait()
    return value


async def wait_for_ever(path: Path) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        path.touch()


def submit_on_own_worker(number: int) -> int:
    """Have the only thread of this worker execute something else meanwhile."""
    address = distributed.get_worker().address
    with distributed.worker_client() as client:
        future = client.submit(increment, number, workers=[address], pure=False)
        found = future.result()
    assert isinstance(found, int)
    return found


def leave_pool(number: int) -> int:
    distributed.secede()
    return submit_on_own_worker(number)


def leave_pool_and_wait(ticket: Ticket) -> None:
    with distributed.worker_client():
        ticket.wait()


def pool_of_worker() -> set[threading.Thread]:
    """Return the threads of the pool of the worker that this runs on."""
    executor: Any = distributed.get_worker().executors["default"]
    threads = executor._threads
    assert isinstance(threads, set)
    return threads


def is_in_pool() -> bool:
    return pool_of_worker() == {threading.current_thread()}


def test_dask_ends_a_run_on_time_and_gives_up_its_thread(runner: TaskRunner) -> None:
    """A function that exceeds its limit has timed out, is counted, and its worker goes on."""
    before = runner.statistics().abandoned
    with Gate() as gate:
        future = dispatch(runner, wait_at, gate.ticket, time_limit=_SHORT)
        dependant = runner.submit(wait_at, gate.ticket, lift(future))
        state = future.wait()
        assert isinstance(state, TimedOut)
        with pytest.raises(
            RunTimedOutError, match=r"'wait_at-\w+' did not end within its time limit of 0.02 s"
        ):
            future.result()
        assert runner.statistics().abandoned == before + 1
        assert runner.submit(increment, 1).result() == 2
        after = dependant.wait()
        assert isinstance(after, UpstreamFailed)
        assert isinstance(after.cause, RunTimedOutError)
    assert runner.submit(is_in_pool).result()


def test_dask_limits_each_attempt(runner: TaskRunner) -> None:
    """A run that is out of time is tried again, with the same limit, and its thread is counted."""
    before = runner.statistics().abandoned
    with Gate() as gate:
        options = {"retry": RetryPolicy(9), "time_limit": 0.3}
        future = dispatch(runner, wait_at_first, gate.ticket, 7, **options)
        assert future.result() == 7
    retrying = [state for state in future.history if isinstance(state, Retrying)]
    assert "ended in state TimedOut" in str(retrying[0])
    assert runner.statistics().abandoned == before + len(retrying)


def test_dask_stops_an_async_run_that_is_out_of_time(runner: TaskRunner, tmp_path: Path) -> None:
    """An async run that exceeds its limit is cancelled on its worker, and nothing is abandoned."""
    before, path = runner.statistics().abandoned, tmp_path / "cleaned up"
    state = dispatch(runner, wait_for_ever, path, time_limit=_SHORT).wait()
    assert isinstance(state, TimedOut)
    assert path.exists()
    assert runner.statistics().abandoned == before


@pytest.mark.parametrize("function", [submit_on_own_worker, leave_pool])
@pytest.mark.parametrize("retry", [RetryPolicy(), RetryPolicy(1)])
def test_dask_lets_a_run_with_a_limit_leave_its_pool(
    runner: TaskRunner, function: Callable[[int], int], retry: RetryPolicy
) -> None:
    """`get_worker`, `worker_client` and `secede` work in a run with a time limit."""
    for number in range(3):
        future = dispatch(runner, function, number, retry=retry, time_limit=_LONG)
        assert future.result() == number + 1
    until(lambda: runner.submit(is_in_pool).result())


def test_dask_keeps_its_pool_whole(runner: TaskRunner) -> None:
    """A thread that is given up while it is out of the pool has left it for good."""
    with Gate() as gate:
        future = dispatch(runner, leave_pool_and_wait, gate.ticket, time_limit=0.5)
        assert isinstance(future.wait(), TimedOut)
        assert runner.submit(is_in_pool).result()
    until(lambda: not any("-limited" in thread.name for thread in threading.enumerate()))
    assert [runner.submit(is_in_pool).result() for _ in range(3)] == [True] * 3


@pytest.mark.parametrize("processes", [False, True])
def test_dask_does_not_wait_for_threads_that_were_given_up(*, processes: bool) -> None:
    """Leaving the runner ends its cluster, whatever abandoned threads are at."""
    with Gate() as gate:
        with DaskTaskRunner(cluster_kwargs={**_LIGHT, "processes": processes}) as runner:
            future = dispatch(runner, wait_at, gate.ticket, time_limit=_SHORT)
            assert isinstance(future.wait(), TimedOut)
            gate.await_arrival()
            kept = runner.submit(increment, 1)
            assert kept.result() == 2
        assert isinstance(kept.state, Completed)
