"""Tasks that are called directly."""

from __future__ import annotations

import time
from functools import partial

from anabranch.flows import flow
from benchmarks import threads
from benchmarks.logs import add_ours
from benchmarks.model import OURS, Row, Sample, Stage, Target
from benchmarks.noops import noop_task
from benchmarks.peers import prefect
from benchmarks.timing import since


@flow
def call_tasks(count: int) -> Sample:
    """Call so many tasks, one after the other."""
    start = time.perf_counter()
    for _ in range(count):
        noop_task()
    return since(start, count)


def prepare(stage: Stage) -> None:
    """Put up a flow, a thread pool and Prefect."""
    count = stage.scaled(20_000)
    add_ours(stage, partial(call_tasks, count), units=count)
    stage.add(threads.NAME, partial(threads.submit_all, count))
    stage.add(f"{threads.NAME}, one by one", partial(threads.submit_one_by_one, count))
    prefect.add(stage)


ROW = Row(
    name="direct",
    work="20,000 no-op sync tasks, called directly in a flow",
    prepare=prepare,
    targets=(
        Target(OURS, threads.NAME, at_most=0.5),
        Target(OURS, f"{threads.NAME}, one by one"),
        Target(prefect.NAME, OURS, at_least=500),
    ),
)
