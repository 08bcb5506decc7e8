"""Clusters whose workers come and go, and event loops that go on beside their coming and going."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable
from typing import Any

import anyio
import anyio.from_thread
import distributed
import pytest
from dask_tasks import increment, until

from anabranch.futures import Completed, Future, lift, wait
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.dask import DaskTaskRunner

pytestmark = pytest.mark.slow

#: A scheduler and a worker in this process, on real sockets.
_LIGHT: dict[str, Any] = {
    "n_workers": 1,
    "threads_per_worker": 1,
    "processes": False,
    "protocol": "tcp://",
    "dashboard_address": ":0",
}

_ADAPT: dict[str, Any] = {
    "minimum": 1,
    "maximum": 3,
    "interval": "20ms",
    "wait_count": 2,
    "target_duration": "10ms",
}


def wait_at(ticket: Ticket, value: int) -> int:
    ticket.wait()
    return value


def make_large(number: int) -> bytes:
    return bytes([number]) * 100_000


def length(value: bytes) -> int:
    return len(value)


def scheduler_of(cluster: distributed.LocalCluster) -> distributed.Scheduler:
    assert isinstance(cluster.scheduler, distributed.Scheduler)
    return cluster.scheduler


@pytest.mark.parametrize("processes", [False, True])
def test_an_adaptive_cluster_grows_under_load_and_shrinks_again(*, processes: bool) -> None:
    """As many workers come as the load needs, up to the maximum, and go when it is over.

    Values that lie on workers which go are kept.
    """
    made: list[distributed.LocalCluster] = []

    def make(**kwargs: Any) -> distributed.LocalCluster:  # noqa: ANN401 - whatever it takes
        made.append(distributed.LocalCluster(**kwargs))
        return made[0]

    runner = DaskTaskRunner(
        cluster_class=make,
        cluster_kwargs={**_LIGHT, "processes": processes},
        adapt_kwargs=_ADAPT,
    )
    with runner, Gate() as gate:
        (cluster,) = made
        scheduler = scheduler_of(cluster)
        assert len(scheduler.workers) == 1
        futures = [runner.submit(wait_at, gate.ticket, number) for number in range(6)]
        for _ in range(3):  # Each worker has one thread, so these are on three workers.
            gate.await_arrival()
        assert len(scheduler.workers) == 3
        large = [runner.submit(make_large, number) for number in range(6)]
        gate.open()
        wait([*futures, *large])
        until(lambda: len(scheduler.workers) == 1)
        assert [future.result() for future in futures] == list(range(6))
        lengths = [runner.submit(length, lift(future)) for future in large]
        assert [future.result() for future in lengths] == [100_000] * 6
        if processes:
            assert runner.submit(os.getpid).result() != os.getpid()


def test_a_run_survives_the_retirement_of_its_worker() -> None:
    """A run that is on a worker which is retired, or waits there, is executed on another one."""
    made: list[distributed.LocalCluster] = []

    def make() -> distributed.LocalCluster:
        made.append(distributed.LocalCluster(**{**_LIGHT, "n_workers": 2}))
        return made[0]

    with DaskTaskRunner(cluster_class=make) as runner, Gate() as gate:
        (cluster,) = made
        scheduler = scheduler_of(cluster)
        futures = [runner.submit(wait_at, gate.ticket, number) for number in range(2)]
        for future in futures:
            gate.await_arrival()
            until(future.is_running)
        waiting: list[Future[int]] = [runner.submit(increment, number) for number in range(4)]
        retired, kept = scheduler.workers
        cluster.sync(scheduler.retire_workers, workers=[retired])
        until(lambda: list(scheduler.workers) == [kept])
        gate.open()
        wait([*futures, *waiting])
        assert {type(future.state) for future in [*futures, *waiting]} == {Completed}
        assert [future.result() for future in futures] == [0, 1]
        assert [future.result() for future in waiting] == [1, 2, 3, 4]


@pytest.mark.anyio
async def test_the_event_loop_goes_on_while_a_cluster_is_made_and_ended() -> None:
    """A task beside the runner gets its turns while a cluster is made, and while it is closed."""
    asked = {phase: anyio.Event() for phase in ("made", "closed")}
    answered = {phase: threading.Event() for phase in asked}
    seen: list[str] = []

    def meet(phase: str) -> None:
        """Block this thread until another task of the event loop has answered."""
        anyio.from_thread.run_sync(asked[phase].set)
        assert answered[phase].wait(20), f"the event loop stood still while it was {phase}"
        seen.append(phase)

    class Cluster(distributed.LocalCluster):
        def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - whatever it takes
            meet("made")
            super().__init__(**kwargs)  # type: ignore[no-untyped-call]  # Dask's own.

        def close(self, timeout: float | None = None) -> Awaitable[None] | None:
            if "closed" not in seen:
                meet("closed")
            return super().close(timeout)

    async def answer() -> None:
        for phase, event in asked.items():
            await event.wait()
            answered[phase].set()

    async with anyio.create_task_group() as group:
        group.start_soon(answer)
        runner = DaskTaskRunner(cluster_class=Cluster, cluster_kwargs=_LIGHT)
        async with runner.start():
            assert seen == ["made"]
            assert await runner.submit(increment, 1) == 2
        assert seen == ["made", "closed"]
