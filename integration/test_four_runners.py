"""Runners beside each other, outside any flow; the rest is in test_behaviours.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anabranch.flows import ConcurrentTaskRunner, SequentialTaskRunner, TaskRunner, lift
from anabranch.futures import UpstreamFailed
from anabranch.runners.dask import DaskTaskRunner
from anabranch.runners.ray import RayTaskRunner


@pytest.fixture(params=["sequential", "concurrent", "dask", "ray"], scope="module")
def runner(request: pytest.FixtureRequest) -> Iterator[TaskRunner]:
    """A runner for the flows of this module; a cluster is started once for all of them."""
    match request.param:
        case "sequential":
            yield SequentialTaskRunner()
        case "concurrent":
            yield ConcurrentTaskRunner()
        case "dask":
            import distributed  # noqa: PLC0415 - only for this runner

            with distributed.LocalCluster(
                n_workers=1, threads_per_worker=2, dashboard_address=":0"
            ) as cluster:
                yield DaskTaskRunner(address=cluster.scheduler_address)
        case _:
            with RayTaskRunner(init_kwargs={"num_cpus": 2}):
                yield RayTaskRunner(init_kwargs={"num_cpus": 2})


def add(x: int, y: int = 0) -> int:
    """Add."""
    return x + y


def fail(message: str) -> int:
    """Raise."""
    raise LookupError(message)


def total(numbers: list[int]) -> int:
    """Sum a list."""
    return sum(numbers)


def test_futures_go_from_runner_to_runner(runner: TaskRunner) -> None:
    """A future of one runner is an argument on another, at any depth, failed ones included."""
    with ConcurrentTaskRunner() as local, runner.duplicate() as other:
        one, two = local.submit(add, 1), other.submit(add, 2)
        assert other.submit(total, [lift(one), lift(two), 3]).result() == 6
        assert local.submit(total, [lift(one), lift(two), 3]).result() == 6
        for here, there in ((local, other), (other, local)):
            state = there.submit(add, lift(here.submit(fail, "gone"))).wait()
            assert isinstance(state, UpstreamFailed)
            assert isinstance(state.cause, LookupError)
