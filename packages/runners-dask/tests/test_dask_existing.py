"""Clusters and clients that are there already: they are used, and left as they were."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Iterator
from typing import Any

import distributed
import pytest
from dask_tasks import increment, until

from anabranch.futures import ConcurrencyType, Future, ResultUnavailableError, lift, wait
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.dask import DaskTaskRunner

pytestmark = pytest.mark.slow

#: A scheduler and a worker in this process, on real sockets.
_LIGHT: dict[str, Any] = {
    "n_workers": 1,
    "threads_per_worker": 2,
    "processes": False,
    "protocol": "tcp://",
    "dashboard_address": ":0",
}

_INPROC: dict[str, Any] = {**_LIGHT, "protocol": "inproc://"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    with distributed.LocalCluster(**_LIGHT) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: distributed.LocalCluster) -> Iterator[distributed.Client]:
    with distributed.Client(cluster, set_as_default=False) as client:
        yield client


def wait_at(ticket: Ticket, value: int) -> int:
    ticket.wait()
    return value


def what_is_left(cluster: distributed.LocalCluster) -> dict[str, object]:
    """Return what a runner might leave on a scheduler."""
    scheduler = cluster.scheduler
    assert isinstance(scheduler, distributed.Scheduler)
    ours = [*scheduler.task_metadata, *scheduler._broker._topics]
    return {
        "tasks": dict(scheduler.tasks),
        "plugins": set(scheduler.plugins),
        "allowed failures": scheduler.allowed_failures,
        "notes": [name for name in ours if "anabranch" in str(name)],
        "workers": set(scheduler.workers),
        "adaptive": cluster._adaptive,
        "status": cluster.status.name,
    }


def test_a_cluster_object_is_used_and_left_as_it_was(
    cluster: distributed.LocalCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """A cluster object is connected to, and nothing stays behind when the runner ends."""
    caplog.set_level(logging.INFO, logger="anabranch")
    before = what_is_left(cluster)
    with DaskTaskRunner(cluster=cluster) as runner:
        first = runner.submit(increment, 1)
        assert runner.submit(increment, lift(first)).result() == 3
    assert what_is_left(cluster) == before
    assert f"Connecting to an existing Dask cluster at {cluster.scheduler_address}" in caplog.text
    with DaskTaskRunner(cluster=cluster) as again:
        assert again.submit(increment, 1).result() == 2


def test_a_client_is_used_and_left_as_it_was(
    cluster: distributed.LocalCluster,
    client: distributed.Client,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The runner uses the very client that it is given, which goes on to work after it."""
    caplog.set_level(logging.INFO, logger="anabranch")
    before, handlers = what_is_left(cluster), dict(client._event_handlers)
    scheduler = cluster.scheduler
    assert isinstance(scheduler, distributed.Scheduler)
    clients = set(scheduler.clients)
    with DaskTaskRunner(client=client) as runner:
        kept = runner.submit(increment, 1)
        assert runner.submit(increment, lift(kept)).result() == 3
        assert set(scheduler.clients) == clients
    until(lambda: not scheduler.tasks)  # Though a future is held of one.
    assert what_is_left(cluster) == before
    until(lambda: client._event_handlers == handlers)
    assert f"Connecting to an existing Dask cluster at {cluster.scheduler_address}" in caplog.text
    assert client.submit(increment, 1).result() == 2
    with pytest.raises(ResultUnavailableError, match="left on a Dask cluster"):
        kept.result()


def test_a_client_serves_several_runners_at_once(client: distributed.Client) -> None:
    """Runners with the same client hear of their own runs only, and one may end before others."""
    seen: list[Future[int]] = []
    with Gate() as gate, DaskTaskRunner(client=client) as longer:
        with DaskTaskRunner(client=client) as shorter:
            waiting = longer.submit(wait_at, gate.ticket, 7)
            gate.await_arrival()
            until(waiting.is_running)
            seen = [shorter.submit(increment, number) for number in range(20)]
            wait(seen)
            assert [each.result() for each in seen] == list(range(1, 21))
        gate.open()
        assert waiting.result() == 7
        assert longer.submit(increment, 7).result() == 8


def test_the_client_of_a_cluster_in_this_process_may_be_used() -> None:
    """Addresses that only this process can reach do as well, for both kinds of objects."""
    with distributed.Client(set_as_default=False, **_INPROC) as client:
        assert client.scheduler is not None
        assert client.scheduler.address.startswith("inproc://")
        for runner in (DaskTaskRunner(client=client), DaskTaskRunner(cluster=client.cluster)):
            with runner:
                assert runner.submit(increment, 1).result() == 2
        assert client.submit(increment, 2).result() == 3


def test_an_asynchronous_cluster_is_used_from_its_own_loop() -> None:
    """A cluster object that lives in the event loop of the caller is used, and left open."""

    async def main() -> int:
        async with distributed.LocalCluster(asynchronous=True, **_LIGHT) as cluster:
            async with DaskTaskRunner(cluster=cluster).start() as runner:
                found = await runner.submit(increment, 1)
            assert cluster.status.name == "running"
            return found

    assert asyncio.run(main()) == 2


def test_an_asynchronous_client_is_refused() -> None:
    """A client whose own event loop is not free while the runner waits is refused, with the fix."""

    async def main() -> None:
        async with (
            distributed.LocalCluster(asynchronous=True, **_LIGHT) as cluster,
            distributed.Client(cluster, asynchronous=True, set_as_default=False) as client,
        ):
            with pytest.raises(
                ValueError, match=r"asynchronous client.*address=client\.scheduler\.address"
            ):
                DaskTaskRunner(client=client)
            with pytest.raises(ValueError, match="asynchronous client"):
                await asyncio.to_thread(DaskTaskRunner, client=client)

    asyncio.run(main())


def test_what_is_closed_is_refused_at_the_start(cluster: distributed.LocalCluster) -> None:
    """A client or a cluster that is closed is an error that says which it is."""
    with distributed.Client(cluster, set_as_default=False) as client:
        runner = DaskTaskRunner(client=client)
    with pytest.raises(ConnectionError, match=r"Dask client given.*status is 'closed'.*is open"):
        runner.__enter__()
    with distributed.LocalCluster(**_LIGHT) as other:
        runner = DaskTaskRunner(cluster=other)
    with pytest.raises(ConnectionError, match=r"Dask cluster given.*status is 'closed'.*is open"):
        runner.__enter__()


def test_objects_are_shared_by_duplicates_and_travel_as_addresses(
    cluster: distributed.LocalCluster, client: distributed.Client
) -> None:
    """A duplicate has the same cluster or client; a pickled copy connects to its address."""
    for runner in (DaskTaskRunner(cluster=cluster), DaskTaskRunner(client=client)):
        assert runner.duplicate() == runner
        assert runner.duplicate()._settings() == runner._settings()
        copy = pickle.loads(pickle.dumps(runner))
        assert copy == DaskTaskRunner(cluster.scheduler_address)
        assert runner != copy
        with copy:
            assert copy.submit(increment, 1).result() == 2
    assert DaskTaskRunner(cluster=cluster) != DaskTaskRunner(client=client)
    assert f"cluster={cluster!r}" in repr(DaskTaskRunner(cluster=cluster))
    assert f"client={client!r}" in repr(DaskTaskRunner(client=client))


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"worker_class": distributed.Worker}, ConcurrencyType.CONCURRENT),
        ({"worker_class": distributed.Worker, "processes": True}, ConcurrencyType.CONCURRENT),
        ({"worker_class": distributed.Nanny, "processes": False}, ConcurrencyType.PARALLEL),
        ({"worker_class": "distributed.Nanny"}, ConcurrencyType.PARALLEL),
    ],
)
def test_the_class_of_the_workers_decides(
    kwargs: dict[str, object], expected: ConcurrencyType
) -> None:
    """A class for the workers decides whether they are processes, as it does for Dask."""
    assert DaskTaskRunner(cluster_kwargs=kwargs).concurrency_type is expected


def test_a_started_runner_knows_where_its_workers_are(
    cluster: distributed.LocalCluster, client: distributed.Client
) -> None:
    """Workers that are threads of this process are found out at the start, however given."""
    assert DaskTaskRunner(cluster=cluster).concurrency_type is ConcurrencyType.CONCURRENT
    assert DaskTaskRunner(client=client).concurrency_type is ConcurrencyType.CONCURRENT
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as stranger:
        _assert_found_out(DaskTaskRunner(client=stranger))
    for runner in (
        DaskTaskRunner(cluster.scheduler_address),
        DaskTaskRunner(cluster_class=_make_light),
        DaskTaskRunner(cluster_class=_make_light, cluster_kwargs={"n_workers": 0}),
    ):
        _assert_found_out(runner)
    with distributed.LocalCluster(**_INPROC) as inproc:
        assert DaskTaskRunner(cluster=inproc).concurrency_type is ConcurrencyType.CONCURRENT


def _assert_found_out(runner: DaskTaskRunner) -> None:
    known = [runner.concurrency_type]
    with runner:
        known.append(runner.concurrency_type)
    assert known == [ConcurrencyType.PARALLEL, ConcurrencyType.CONCURRENT]


def test_a_cluster_of_processes_is_parallel() -> None:
    """Workers in processes of their own work in parallel, as every way to find out says."""
    kwargs: dict[str, Any] = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(**kwargs) as cluster:
        assert DaskTaskRunner(cluster=cluster).concurrency_type is ConcurrencyType.PARALLEL
        for runner in (DaskTaskRunner(cluster=cluster), DaskTaskRunner(cluster.scheduler_address)):
            with runner:
                assert runner.concurrency_type is ConcurrencyType.PARALLEL


def _make_light(**kwargs: Any) -> distributed.LocalCluster:  # noqa: ANN401 - whatever it takes
    return distributed.LocalCluster(**{**_LIGHT, **kwargs})
