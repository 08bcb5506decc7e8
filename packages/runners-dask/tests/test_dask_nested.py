"""Runs on Dask workers that submit runs: places, joins, cancellation and values."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import distributed
import pytest
from dask_tasks import dispatch, increment, inner, until

from anabranch.futures import (
    Cancellation,
    Cancelled,
    Completed,
    Future,
    RetryPolicy,
    TaskRunner,
    TimedOut,
    gather,
    lift,
)
from anabranch.futures.runner import current_scope
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.dask import DaskTaskRunner

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    """One worker with one thread."""
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=":0"
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def runner(cluster: distributed.LocalCluster) -> Iterator[TaskRunner]:
    """A started runner."""
    with DaskTaskRunner(cluster_class=lambda: cluster) as runner:
        yield runner


@pytest.fixture(scope="module")
def two_workers() -> Iterator[distributed.LocalCluster]:
    """Two workers with one thread each."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0"
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def pair(two_workers: distributed.LocalCluster) -> Iterator[TaskRunner]:
    """A started runner with two workers."""
    with DaskTaskRunner(cluster_class=lambda: two_workers) as runner:
        yield runner


def is_known(cluster: distributed.LocalCluster, name: str) -> bool:
    """Whether a scheduler knows a run of a function of this name."""
    scheduler = cluster.scheduler
    assert isinstance(scheduler, distributed.Scheduler)
    return any(str(key).startswith(name) for key in scheduler.tasks)


def ask_and_count(number: int) -> tuple[int, int]:
    """Wait for a run of one's own; return its value, and how many threads there are."""
    value = inner().submit(increment, number).result()
    return value, threading.active_count()


async def ask_async(number: int) -> int:
    """`ask_and_count`, in an event loop."""
    one, other = inner().submit(increment, number), inner().submit(increment, number)
    return await one + await other


async def count_async(number: int) -> tuple[int, int]:
    """Wait for a run of one's own in an event loop; return how many threads there are."""
    return await inner().submit(increment, number), threading.active_count()


def ask_twice(number: int) -> int:
    """Wait for runs of one's own, one after the other."""
    for _ in range(3):
        number = inner().submit(increment, number).result()
    return number


def ask_in_vain(number: int) -> int:
    """Wait for a run in time, perhaps in vain, and again."""
    run = inner().submit(increment, number)
    run.wait(timeout=0)
    run.wait(timeout=0.0001)
    return run.result()


def leave_pool(number: int) -> int:
    """Leave the worker's pool by hand, and wait for a run then."""
    distributed.secede()
    return inner().submit(increment, number).result()


def wait_at(ticket: Ticket, value: int = 0) -> int:
    """Wait at a gate."""
    ticket.wait()
    return value


def touch(path: Path, _value: object = None) -> None:
    """Leave a trace."""
    path.touch()


def leave(ticket: Ticket, path: Path) -> None:
    """Submit runs, and do not wait for them."""
    inner().submit(touch, path, inner().submit(wait_at, ticket))


def leave_and_fail(ticket: Ticket, started: Ticket, path: Path) -> None:
    """Submit runs, and fail."""
    inner().submit(touch, path, inner().submit(wait_at, ticket))
    started.wait()
    raise ValueError("no")


def leave_and_wait(ticket: Ticket, path: Path) -> None:
    """Submit runs that wait, and wait oneself."""
    first = inner().submit(wait_at, ticket)
    inner().submit(touch, path, first)
    ticket.wait()


async def leave_and_stay(ticket: Ticket, path: Path) -> None:
    """Submit runs, and wait for ever."""
    first = inner().submit(wait_at, ticket)
    inner().submit(touch, path, first)
    await anyio.to_thread.run_sync(ticket.wait, abandon_on_cancel=True)
    await anyio.sleep_forever()


def stop_those_below(ticket: Ticket, started: Ticket, path: Path) -> bool:
    """Stop runs of one's own; return whether one can wait until all workers know."""
    scope, runner = current_scope.get(), inner()
    assert scope is not None
    runner.submit(touch, path, runner.submit(wait_at, ticket))
    started.wait()
    is_looked_at = threading.Event()
    distributed.get_worker().loop.add_callback(is_looked_at.wait, 10)  # Nobody is told before.
    scope.stop("Time is up.")
    word = runner.undelivered()
    is_looked_at.set()
    scope.join()
    return word is not None and word.done() and runner.undelivered() is None


def make(size: int) -> bytes:
    """Make a large value."""
    return b"x" * size


def pass_on(size: int) -> int:
    """Have a large value made, and measured where it is."""
    made = inner().submit(make, size)
    return inner().submit(len, lift(made)).result()


def fetch(size: int) -> int:
    """Have a large value made, and bring it here."""
    return len(inner().submit(make, size).result())


def share_with_client(number: int) -> int:
    """Use Dask's own client beside the runs of one's own."""
    with distributed.worker_client() as client:
        own: int = client.submit(increment, number, pure=False).result()
    return own + inner().submit(increment, number).result()


def flaky(path: Path) -> str:
    """Fail at first."""
    if not path.exists():
        path.touch()
        raise ValueError("no")
    return "at last"


def ask_with_retries(path: Path) -> tuple[str, list[str]]:
    """Wait for a run that has retries; return what it went through."""
    run = dispatch(inner(), flaky, path, retry=RetryPolicy(retries=1))
    return run.result(), [state.name for state in run.history]


def wait_for_a_while(ticket: Ticket) -> bool:
    """Wait in vain for a run that has the only place."""
    state = inner().submit(wait_at, ticket).wait(timeout=0.2)
    ticket.announce()
    return state is None


def test_waiting_ends_in_time_though_the_place_is_taken(runner: TaskRunner) -> None:
    """A run that has waited long enough goes on, and what it waited for keeps its place."""
    with Gate() as gate:
        parent = runner.submit(wait_for_a_while, gate.ticket)
        gate.await_arrival()
        gate.await_arrival()
        gate.open()
        assert parent.result()
    assert runner.submit(ask_twice, 1).result() == 4


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        pytest.param(ask_async, 4, id="async"),
        pytest.param(ask_twice, 4, id="several times"),
        pytest.param(ask_in_vain, 2, id="in vain"),
        pytest.param(leave_pool, 2, id="outside the pool"),
        pytest.param(share_with_client, 4, id="beside a client"),
    ],
)
def test_runs_wait_for_runs_on_a_single_thread(
    runner: TaskRunner, function: Callable[[int], int], expected: int
) -> None:
    """However a run waits, what it waits for has its place meanwhile."""
    futures = [runner.submit(function, 1) for _ in range(4)]
    assert gather(futures).result() == [expected] * 4


@pytest.mark.parametrize("ask", [ask_and_count, count_async])
def test_what_runs_wait_for_goes_first(
    pair: TaskRunner, ask: Callable[[int], tuple[int, int]]
) -> None:
    """Hundreds of parents take a few threads, since their children go before other parents."""
    futures = [pair.submit(ask, number) for number in range(500)]
    values, threads = zip(*gather(futures).result(), strict=True)
    assert list(values) == list(range(1, 501))
    assert max(threads) < 60


def test_a_run_ends_after_its_children(runner: TaskRunner, tmp_path: Path) -> None:
    """What a run has submitted and not waited for has ended when the run has."""
    with Gate() as gate:
        parent = runner.submit(leave, gate.ticket, tmp_path / "ran")
        gate.await_arrival()
        assert not parent.done()
        gate.open()
        parent.result()
    assert (tmp_path / "ran").exists()


def test_a_run_that_fails_cancels_its_children(
    pair: TaskRunner, two_workers: distributed.LocalCluster, tmp_path: Path
) -> None:
    """What has not started when its parent fails never does."""
    with Gate() as gate, Gate() as started:
        parent = pair.submit(leave_and_fail, gate.ticket, started.ticket, tmp_path / "ran")
        started.await_arrival()
        gate.await_arrival()
        started.open()
        until(lambda: not is_known(two_workers, "touch"))
        gate.open()
        with pytest.raises(ValueError, match="no"):
            parent.result()
    assert pair.submit(increment, 1).result() == 2
    assert not (tmp_path / "ran").exists()


def test_cancelling_a_run_cancels_its_children(
    pair: TaskRunner, two_workers: distributed.LocalCluster, tmp_path: Path
) -> None:
    """A function that cannot be stopped is one that has nothing executed for it any more."""
    with Gate() as gate:
        parent = pair.submit(leave_and_wait, gate.ticket, tmp_path / "ran")
        gate.await_arrival()
        gate.await_arrival()
        until(lambda: parent.state.name == "Running" and is_known(two_workers, "touch"))
        assert parent.cancel() is Cancellation.CANNOT_STOP
        until(lambda: not is_known(two_workers, "touch"))
        gate.open()
        assert isinstance(parent.wait(), Completed)
    assert not (tmp_path / "ran").exists()


def test_stopping_an_async_run_cancels_its_children(
    pair: TaskRunner, two_workers: distributed.LocalCluster, tmp_path: Path
) -> None:
    """So is what an async run has submitted, which ends itself."""
    with Gate() as gate:
        parent = pair.submit(leave_and_stay, gate.ticket, tmp_path / "ran")
        gate.await_arrival()
        gate.await_arrival()
        until(lambda: parent.state.name == "Running" and is_known(two_workers, "touch"))
        assert parent.cancel() is Cancellation.WILL_STOP
        until(lambda: not is_known(two_workers, "touch"))
        gate.open()
        assert isinstance(parent.wait(), Cancelled)
    assert pair.submit(increment, 1).result() == 2
    assert not (tmp_path / "ran").exists()


def test_a_run_out_of_time_cancels_its_children(
    pair: TaskRunner, two_workers: distributed.LocalCluster, tmp_path: Path
) -> None:
    """What a run has submitted goes no further than the run's time."""
    with Gate() as gate:
        parent = dispatch(pair, leave_and_wait, gate.ticket, tmp_path / "ran", time_limit=0.2)
        gate.await_arrival()
        gate.await_arrival()
        assert isinstance(parent.wait(), TimedOut)
        until(lambda: not is_known(two_workers, "touch"))
        gate.open()
    assert pair.submit(increment, 1).result() == 2
    assert not (tmp_path / "ran").exists()


def test_values_of_children_are_had_on_workers(pair: TaskRunner) -> None:
    """They go from run to run, or to the run that asks for them."""
    assert pair.submit(pass_on, 1_000_000).result() == 1_000_000
    assert pair.submit(fetch, 1_000_000).result() == 1_000_000


def test_a_run_hears_when_what_it_cancelled_never_begins(pair: TaskRunner, tmp_path: Path) -> None:
    """A scope on a worker can wait until all workers know, as one in the flow's process does."""
    with Gate() as gate, Gate() as started:
        parent = pair.submit(stop_those_below, gate.ticket, started.ticket, tmp_path / "ran")
        gate.await_arrival()
        started.open()
        assert parent.result()
        gate.open()
    assert pair.submit(increment, 1).result() == 2
    assert not (tmp_path / "ran").exists()


def test_values_of_children_go_with_their_futures(
    pair: TaskRunner, two_workers: distributed.LocalCluster
) -> None:
    """They are large, and no garbage collection may come for long."""
    with distributed.Client(two_workers, set_as_default=False) as client:
        client.run(gc.disable)
        try:
            assert pair.submit(pass_on, 1_000_000).result() == 1_000_000
            until(lambda: not is_known(two_workers, "make"))
        finally:
            client.run(gc.enable)


def test_a_child_has_retries_of_its_own(runner: TaskRunner, tmp_path: Path) -> None:
    """The policy of a run holds wherever it is submitted."""
    value, states = runner.submit(ask_with_retries, tmp_path / "tried").result()
    assert value == "at last"
    assert states[-4:] == ["Running", "Retrying", "Running", "Completed"]


def test_workers_leave_nothing_on_the_scheduler(
    runner: TaskRunner, cluster: distributed.LocalCluster
) -> None:
    """A run and its children are forgotten when nobody has their futures."""
    future: Future[int] | None = runner.submit(ask_twice, 1)
    assert future is not None
    assert future.result() == 4
    future = None
    scheduler = cluster.scheduler
    assert isinstance(scheduler, distributed.Scheduler)
    until(lambda: not scheduler.tasks)
