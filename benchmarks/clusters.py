"""Dask and Ray, as the rows use them: one cluster for all contestants of a row."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from anabranch.runners.dask import DaskTaskRunner
from anabranch.runners.ray import RayTaskRunner
from benchmarks.model import Sample
from benchmarks.noops import noop

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

#: How many seconds a scheduler has to forget the work of whoever was at it before.
PATIENCE = 30.0


def open_dask(stack: ExitStack, workers: int) -> tuple[LocalCluster, Client]:
    """Start a cluster of worker processes, and connect a client to it."""
    # On a busy machine client and scheduler, in one process, may not get to their connections for
    # longer than the half minute after which these would be given up. Set before Dask reads it.
    os.environ["DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP"] = "600s"
    import distributed  # noqa: PLC0415 - heavy, and most rows need none

    cluster = stack.enter_context(
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
        )
    )
    client = stack.enter_context(distributed.Client(cluster))
    client.wait_for_workers(workers)
    return cluster, client


def dask_runner(cluster: LocalCluster) -> DaskTaskRunner:
    """Return a runner on a cluster."""
    return DaskTaskRunner(address=cluster.scheduler_address)


def alone(cluster: LocalCluster, take: Callable[[], Sample]) -> Sample:
    """Take a sample when the scheduler has forgotten what others had it do."""
    assert cluster.scheduler is not None, "the cluster is open"
    tasks = cluster.scheduler.tasks
    end = time.monotonic() + PATIENCE
    while tasks:
        if time.monotonic() > end:
            raise TimeoutError(f"The scheduler still holds {len(tasks)} tasks of others")
        time.sleep(0.01)
    return take()


def open_ray(stack: ExitStack, cpus: int, store_bytes: int | None = None) -> RayTaskRunner:
    """Start Ray in this process, and return a runner that uses it."""
    os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
    import ray  # noqa: PLC0415 - heavy, and most rows need none

    ray.init(
        num_cpus=cpus,
        include_dashboard=False,
        object_store_memory=store_bytes,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    stack.callback(ray.shutdown)
    # Its worker processes are started by the first tasks.
    remote_noop = ray.remote(noop)
    ray.get([remote_noop.remote() for _ in range(100)])
    return RayTaskRunner()
