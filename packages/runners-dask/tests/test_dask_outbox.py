"""Handing runs over to Dask: what becomes of what is refused, or not wanted any more."""

from __future__ import annotations

from collections.abc import Iterator

import distributed
import numpy
import pytest
from dask.base import annotate
from dask_tasks import increment, until

from anabranch.futures import Cancellation, Crashed, TaskRunner, UpstreamFailed, gather, lift, wait
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.dask import DaskTaskRunner

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    """One worker with one thread."""
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def runner(cluster: distributed.LocalCluster) -> Iterator[TaskRunner]:
    """A started runner."""
    with DaskTaskRunner(cluster_class=lambda: cluster) as runner:
        yield runner


def wait_at(ticket: Ticket) -> None:
    """Wait at a gate."""
    ticket.wait()


def test_nobody_watches_runs_that_were_cancelled(runner: TaskRunner) -> None:
    """Dask never tells how they end; what is submitted later would be held up by them."""
    with Gate() as gate:
        holder = runner.submit(wait_at, gate.ticket)
        gate.await_arrival()
        unwanted = [runner.submit(increment, number) for number in range(20)]
        assert {run.cancel() for run in unwanted} == {Cancellation.CANCELLED}
        gate.open()
        holder.result()
    assert isinstance(runner, DaskTaskRunner)
    assert runner._connection is not None
    outbox = runner._connection._outbox
    until(lambda: not outbox._watches)


def test_what_depends_on_refused_runs_is_not_lost(
    runner: TaskRunner, cluster: distributed.LocalCluster
) -> None:
    """Of a graph that is refused, and of those behind it, only what depends on the key ends."""
    first = [runner.submit(increment, number) for number in range(3)]
    wait(first)
    scheduler = cluster.scheduler
    assert isinstance(scheduler, distributed.Scheduler)
    lost = f"{first[0].task_run.name}-{first[0].task_run.id}"
    wanted_by = scheduler.tasks[lost].who_wants
    assert wanted_by is not None
    (client,) = wanted_by
    # Behind the client's back, which submits what depends on it all the same.
    scheduler.client_releases_keys([lost], client=client.client_key)
    with runner.together():
        second = [runner.submit(increment, lift(run)) for run in first]
        third = [runner.submit(increment, lift(run)) for run in second]
    last = runner.submit(increment, lift(third[2]))
    assert [run.result() for run in (*second[1:], *third[1:], last)] == [3, 4, 4, 5, 6]
    assert isinstance(second[0].wait(), Crashed)
    assert isinstance(third[0].wait(), UpstreamFailed)


def test_annotations_may_be_anything(runner: TaskRunner) -> None:
    """What cannot be compared goes in a graph of its own."""
    runs = []
    with runner.together():
        for number in range(3):
            with annotate(note=numpy.array([1, 2])):
                runs.append(runner.submit(increment, number))
    assert gather(runs).result() == [1, 2, 3]
