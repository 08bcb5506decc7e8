"""Async tasks that are submitted to the default runner."""

from __future__ import annotations

import time
from functools import partial

import anyio
import trio

from anabranch.flows import flow
from benchmarks.logs import add_ours
from benchmarks.model import OURS, Row, Sample, Stage, Target
from benchmarks.noops import noop_async, noop_async_task
from benchmarks.timing import since

TASK_GROUP = "anyio task group"
NURSERY = "trio nursery"


@flow
async def submit_tasks(count: int) -> Sample:
    """Submit so many async tasks, then read the results."""
    await noop_async_task.submit()
    start = time.perf_counter()
    futures = [noop_async_task.submit() for _ in range(count)]
    for future in futures:
        await future
    return since(start, count)


async def start_in_task_group(count: int) -> Sample:
    """Make each no-op a child of a task group."""
    start = time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(noop_async)
    return since(start, count)


async def start_in_nursery(count: int) -> Sample:
    """Make each no-op a child of a nursery."""
    start = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(noop_async)
    return since(start, count)


def prepare(stage: Stage) -> None:
    """Put up a flow, a task group and a nursery, all on trio."""
    count = stage.scaled(20_000)
    add_ours(stage, partial(trio.run, submit_tasks, count), units=count)
    stage.add(TASK_GROUP, partial(trio.run, start_in_task_group, count))
    stage.add(NURSERY, partial(trio.run, start_in_nursery, count))


ROW = Row(
    name="concurrent-async",
    work="20,000 no-op async tasks, submitted in an async flow on trio, results read",
    prepare=prepare,
    targets=(
        Target(OURS, TASK_GROUP, at_most=2),
        Target(OURS, NURSERY),
    ),
)
