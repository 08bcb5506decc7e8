"""Functions and tasks that do nothing, or next to nothing; workers import them from here."""

from __future__ import annotations

import time

from anabranch.flows import flow, task
from benchmarks.model import Sample
from benchmarks.timing import since


def noop() -> None:
    """Do nothing."""


async def noop_async() -> None:
    """Do nothing."""


def same(value: int) -> int:
    """Return the value."""
    return value


noop_task = task(noop)
noop_async_task = task(noop_async)
same_task = task(same)


@flow
def submit_tasks(count: int) -> Sample:
    """Submit so many tasks, then read the results."""
    noop_task.submit().result()
    start = time.perf_counter()
    futures = [noop_task.submit() for _ in range(count)]
    for future in futures:
        future.result()
    return since(start, count)
