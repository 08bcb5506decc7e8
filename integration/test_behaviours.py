"""Flows and tasks show every behaviour of their table on each of the four runners."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anabranch.flows.testing import FLOW_BEHAVIOURS
from anabranch.futures.testing import Behaviour, Subject, judge
from anabranch.runners.dask import DaskTaskRunner
from anabranch.runners.local import ConcurrentTaskRunner, SequentialTaskRunner
from anabranch.runners.ray import RayTaskRunner

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]


@pytest.fixture(params=["sequential", "concurrent", "dask", "ray"], scope="module")
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """Makers of runners; a cluster is started once for all of a runner's flows."""
    match request.param:
        case "sequential":
            yield Subject(SequentialTaskRunner)
        case "concurrent":
            yield Subject(ConcurrentTaskRunner)
        case "dask":
            import distributed  # noqa: PLC0415 - only for this runner

            with distributed.LocalCluster(
                n_workers=1, threads_per_worker=2, dashboard_address=":0"
            ) as cluster:
                yield Subject(lambda: DaskTaskRunner(address=cluster.scheduler_address))
        case _:
            with RayTaskRunner(init_kwargs={"num_cpus": 2}):
                yield Subject(lambda: RayTaskRunner(init_kwargs={"num_cpus": 2}))


@pytest.mark.parametrize("behaviour", FLOW_BEHAVIOURS, ids=str)
def test_behaviour(subject: Subject, behaviour: Behaviour) -> None:
    """The runner shows the behaviour, or cannot for the reason given."""
    verdict = judge(behaviour, subject)
    if verdict.outcome == "-":
        pytest.skip(verdict.details)
    assert verdict.outcome == "yes", verdict.details
