"""Tasks on Dask workers that use Dask themselves, beside tasks that they submit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask.bag
import distributed
import pytest
from dask.delayed import delayed

from anabranch.flows import Task, flow, task
from anabranch.runners.dask import DaskTaskRunner

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    """Two workers with one thread each, in processes of their own."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0"
    ) as cluster:
        yield cluster


@pytest.fixture
def runner(cluster: distributed.LocalCluster) -> DaskTaskRunner:
    """A runner on the cluster."""
    return DaskTaskRunner(cluster.scheduler_address)


@task
def add(x: int, y: int = 0) -> int:
    """Add two numbers."""
    return x + y


@task
def map_many(number: int) -> int:
    """Map over many numbers."""
    return sum(add.map(range(number)).result())


def three() -> Any:  # noqa: ANN401 - a bag
    """Return a collection of three numbers."""
    return dask.bag.from_sequence([1, 2, 3], npartitions=2)  # type: ignore[no-untyped-call]  # So it is.


@task
def make_bag() -> Any:  # noqa: ANN401 - a bag
    """Return a collection of Dask's that is not computed yet."""
    return three().map(lambda each: each * 10)


@task
def make_delayed() -> Any:  # noqa: ANN401 - a `Delayed`
    """Return a call that is not made yet."""
    return delayed(sum)([1, 2, add.submit(1, 2).result()])


@task
def make_array() -> Any:  # noqa: ANN401 - a dask.array.Array, where there is numpy
    """Return an array that is not computed yet."""
    import dask.array  # noqa: PLC0415 - it needs numpy

    return dask.array.ones((100, 100), chunks=(50, 50)).sum()


@task
def compute_there() -> int:
    """Compute a collection with a client of Dask's, beside runs of one's own."""
    first = add.submit(1, 1)
    with distributed.worker_client() as client:
        total = client.compute(three().sum()).result()
    return int(total) + first.result() + add.submit(1, 2).result()


@task
def get_there() -> int:
    """Use the client that Dask gives, beside runs of one's own."""
    client = distributed.get_client()
    first = add.submit(1, 1)
    own = client.submit(sum, [1, 2, 3], pure=False)
    distributed.secede()
    return int(own.result()) + first.result() + add.submit(1, 2).result()


@task
def persist_there() -> Any:  # noqa: ANN401 - a bag
    """Return a collection whose parts the workers hold."""
    with distributed.worker_client() as client:
        bag = client.persist(three())
        distributed.wait(bag)
    return bag


class Graphs(distributed.SchedulerPlugin):
    """Keeps how many keys there are in each graph."""

    name = "graphs"

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def update_graph(self, *_: Any, **graph: Any) -> None:  # noqa: ANN401 - as Dask has it
        """Take note of a graph."""
        self.sizes.append(len(graph["keys"]))


def test_a_map_below_is_one_graph(
    runner: DaskTaskRunner, cluster: distributed.LocalCluster
) -> None:
    """What a task on a worker maps goes to the scheduler in one message."""
    scheduler = cluster.scheduler
    assert isinstance(scheduler, distributed.Scheduler)
    graphs = Graphs()

    @flow(task_runner=runner)
    def body() -> int:
        return map_many.submit(500).result()

    scheduler.add_plugin(graphs)
    try:
        assert body() == sum(range(500))
    finally:
        scheduler.remove_plugin(graphs.name)
    assert graphs.sizes == [1, 500]


def test_collections_are_values(runner: DaskTaskRunner, cluster: distributed.LocalCluster) -> None:
    """A task may return a collection of Dask's, for the flow to compute with its own client."""

    @flow(task_runner=runner)
    def body() -> list[object]:
        bag, call = make_bag.submit().result(), make_delayed.submit().result()
        with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
            return [client.compute(each, sync=True) for each in (bag, call)]

    assert body() == [[10, 20, 30], 6]


def test_arrays_are_values(runner: DaskTaskRunner, cluster: distributed.LocalCluster) -> None:
    """So may it return an array, where there is numpy."""
    pytest.importorskip("numpy")

    @flow(task_runner=runner)
    def body() -> float:
        total = make_array.submit().result()
        with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
            return float(client.compute(total, sync=True))

    assert body() == 10_000


@pytest.mark.parametrize("limit", [None, 50], ids=["unlimited", "within a time limit"])
@pytest.mark.parametrize(
    ("function", "expected"),
    [pytest.param(compute_there, 11, id="worker_client"), pytest.param(get_there, 11, id="get")],
)
def test_clients_of_dask_are_used_beside_runs_below(
    runner: DaskTaskRunner, function: Task[[], int], expected: int, limit: float | None
) -> None:
    """A task may use Dask's own clients and submit tasks, with a time limit or without."""

    @flow(task_runner=runner)
    def body() -> list[int]:
        limited = function.with_options(timeout=limit)
        futures = [limited.submit() for _ in range(3)]
        return [future.result() for future in futures]

    assert body() == [expected] * 3


def test_a_persisted_collection_is_a_value(
    runner: DaskTaskRunner, cluster: distributed.LocalCluster
) -> None:
    """What a task has persisted on the cluster is there for the flow that it is returned to."""

    @flow(task_runner=runner)
    def body() -> object:
        # The parts are there for as long as the future of the task is.
        persisted = persist_there.submit()
        address = cluster.scheduler_address
        with distributed.Client(address, set_as_default=False) as client, client.as_current():
            return client.compute(persisted.result(), sync=True)

    assert body() == [1, 2, 3]
