"""Clusters of Dask and Ray for tests, by the names of their runners."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import distributed

from anabranch.futures import TaskRunner
from anabranch.runners.dask import DaskTaskRunner
from anabranch.runners.ray import RayTaskRunner

CLUSTERS = ("dask", "ray")


@contextmanager
def cluster(name: str, *, dask_workers: int = 2) -> Iterator[TaskRunner]:
    """Put up a cluster that executes two runs at a time; gives a runner on it.

    Args:
        name: Which kind.
        dask_workers: How many processes those of Dask are; those of Ray are as many as it takes.
    """
    if name == "ray":
        with RayTaskRunner(init_kwargs={"num_cpus": 2}):
            yield RayTaskRunner()
        return
    with distributed.LocalCluster(
        n_workers=dask_workers, threads_per_worker=2 // dask_workers, dashboard_address=":0"
    ) as workers:
        yield DaskTaskRunner(workers.scheduler_address)
