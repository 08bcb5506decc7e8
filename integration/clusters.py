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
def cluster(name: str) -> Iterator[TaskRunner]:
    """Put up two workers, in processes of their own; gives a runner on them."""
    if name == "ray":
        with RayTaskRunner(init_kwargs={"num_cpus": 2}):
            yield RayTaskRunner()
        return
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0"
    ) as workers:
        yield DaskTaskRunner(workers.scheduler_address)
