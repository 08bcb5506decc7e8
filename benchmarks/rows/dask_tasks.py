"""Tasks on a Dask cluster."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from anabranch.flows import flow
from benchmarks.clusters import alone, dask_runner, open_dask
from benchmarks.logs import add_ours
from benchmarks.model import OURS, Row, Sample, Stage, Target
from benchmarks.noops import noop, same, same_task, submit_tasks
from benchmarks.timing import since

if TYPE_CHECKING:
    from distributed import Client

BARE_SUBMIT = "Client.submit + gather"
BARE_MAP = "Client.map + gather"
WORKERS = 2


@flow
def map_tasks(count: int) -> Sample:
    """Map a task over so many numbers, then read the results."""
    same_task.submit(0).result()
    start = time.perf_counter()
    same_task.map(range(count)).result()
    return since(start, count)


def submit_bare(client: Client, count: int) -> Sample:
    """Do the same with a client of Dask."""
    start = time.perf_counter()
    futures = [client.submit(noop, pure=False) for _ in range(count)]
    client.gather(futures)
    return since(start, count)


def map_bare(client: Client, count: int) -> Sample:
    """Do the same with a client of Dask."""
    start = time.perf_counter()
    client.gather(client.map(same, range(count), pure=False))
    return since(start, count)


def prepare_submit(stage: Stage) -> None:
    """Put up a flow and a client, on one cluster."""
    cluster, client = open_dask(stage.stack, WORKERS)
    count = stage.scaled(3_000)
    ours = submit_tasks.with_options(task_runner=dask_runner(cluster))
    add_ours(stage, partial(alone, cluster, partial(ours, count)), units=count)
    stage.add(BARE_SUBMIT, partial(alone, cluster, partial(submit_bare, client, count)))


def prepare_map(stage: Stage) -> None:
    """Put up a flow and a client, on one cluster."""
    cluster, client = open_dask(stage.stack, WORKERS)
    count = stage.scaled(10_000)
    ours = map_tasks.with_options(task_runner=dask_runner(cluster))
    add_ours(stage, partial(alone, cluster, partial(ours, count)), units=count)
    stage.add(BARE_MAP, partial(alone, cluster, partial(map_bare, client, count)))


SUBMIT_ROW = Row(
    name="dask",
    work="3,000 no-op tasks on Dask, two workers, results read",
    prepare=prepare_submit,
    targets=(Target(OURS, BARE_SUBMIT, at_most=1.1),),
    tells_log_cost=False,
)
MAP_ROW = Row(
    name="dask-map",
    work="10,000 no-op tasks by .map() on Dask, two workers, results read",
    prepare=prepare_map,
    targets=(Target(OURS, BARE_MAP, at_most=1.1),),
    tells_log_cost=False,
)
