"""Sync tasks that are submitted to the default runner."""

from __future__ import annotations

import time
from functools import partial

import anyio.to_thread
import trio

from benchmarks import threads
from benchmarks.logs import add_ours, bare_logger, take_logged
from benchmarks.model import LOGGED, OURS, Measure, Row, Sample, Stage, Target
from benchmarks.noops import noop, submit_tasks
from benchmarks.peers import parsl
from benchmarks.timing import since

NURSERY = "nursery + to_thread"


async def start_in_nursery(count: int) -> Sample:
    """Give each no-op a child of a nursery, which calls it in a thread."""
    limiter = anyio.CapacityLimiter(threads.WORKERS)

    async def call_in_thread() -> None:
        await anyio.to_thread.run_sync(noop, limiter=limiter)

    await call_in_thread()
    start = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(call_in_thread)
    return since(start, count)


def submit_and_log(count: int) -> Sample:
    """Submit no-ops to a thread pool, and log as many lines for each as ours does for a task."""

    def noop_and_log() -> None:
        noop()
        bare_logger.info("Finished in state %s", "Completed()")

    with threads.opened_pool() as pool:
        futures = []
        start = time.perf_counter()
        for number in range(count):
            bare_logger.info("Created task run %r for task %r", number, "noop")
            bare_logger.info("Submitted task run %r for execution.", number)
            futures.append(pool.submit(noop_and_log))
        for future in futures:
            future.result()
        return since(start, count)


def prepare(stage: Stage) -> None:
    """Put up a flow, a thread pool, a nursery with threads, and Parsl."""
    count = stage.scaled(20_000)
    add_ours(stage, partial(submit_tasks, count), units=count)
    stage.add(threads.NAME, partial(threads.submit_all, count))
    logged = partial(take_logged, partial(submit_and_log, count), count, bare_logger)
    stage.add(threads.NAME + LOGGED, logged)
    stage.add(NURSERY, partial(trio.run, start_in_nursery, stage.scaled(2_000)))
    parsl.add(stage)


ROW = Row(
    name="concurrent-sync",
    work="20,000 no-op sync tasks, submitted, results read",
    prepare=prepare,
    targets=(
        Target(OURS, threads.NAME, at_most=0.8),
        Target(OURS, NURSERY, at_most=0.1),
        Target(parsl.NAME, OURS, at_least=4),
        Target(OURS + LOGGED, threads.NAME + LOGGED, measure=Measure.RECORD_TIME),
    ),
)
