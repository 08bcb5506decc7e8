"""Tasks in Ray."""

from __future__ import annotations

import time
from functools import partial

from benchmarks.clusters import open_ray
from benchmarks.logs import add_ours
from benchmarks.model import OURS, Row, Sample, Stage, Target
from benchmarks.noops import noop, submit_tasks
from benchmarks.timing import since

BARE = ".remote() + ray.get"


def submit_bare(count: int) -> Sample:
    """Do the same with a remote function of Ray."""
    import ray  # noqa: PLC0415 - heavy, and most rows need none

    remote_noop = ray.remote(noop)
    ray.get(remote_noop.remote())
    start = time.perf_counter()
    ray.get([remote_noop.remote() for _ in range(count)])
    return since(start, count)


def prepare(stage: Stage) -> None:
    """Put up a flow and a remote function, in one instance."""
    runner = open_ray(stage.stack, cpus=2)
    count = stage.scaled(5_000)
    ours = submit_tasks.with_options(task_runner=runner)
    add_ours(stage, partial(ours, count), units=count)
    stage.add(BARE, partial(submit_bare, count))


ROW = Row(
    name="ray",
    work="5,000 no-op tasks in Ray on two processors, results read",
    prepare=prepare,
    targets=(Target(OURS, BARE, at_most=1.1),),
    tells_log_cost=False,
)
