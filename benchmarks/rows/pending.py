"""The memory that futures take while their tasks wait for their turn."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from anabranch.flows import ConcurrentTaskRunner, flow, task
from benchmarks import logs, memory, threads
from benchmarks.model import OURS, Measure, Row, Sample, Stage, Target
from benchmarks.noops import noop, noop_task
from benchmarks.processes import call_in_process

FUTURES = 100_000


def growth(submit: Callable[[], object], count: int) -> Sample:
    """Return by how many bytes memory grows for each of so many pending futures."""
    first = [submit() for _ in range(100)]
    before = memory.resident()
    futures = [submit() for _ in range(count)]
    after = memory.resident()
    del first, futures
    return {Measure.MEMORY: (after - before) / count}


def submit_to_flow(count: int) -> Sample:
    """Submit so many tasks in a flow whose threads are all busy."""
    logs.turn_off()
    gate = threading.Event()
    wait_task = task(gate.wait)

    @flow(task_runner=ConcurrentTaskRunner(max_workers=threads.WORKERS))
    def wait_for_threads() -> Sample:
        try:
            for _ in range(threads.WORKERS):
                wait_task.submit()
            return growth(noop_task.submit, count)
        finally:
            gate.set()

    return wait_for_threads()


def submit_to_pool(count: int) -> Sample:
    """Submit so many calls to a thread pool whose threads are all busy."""
    gate = threading.Event()
    with ThreadPoolExecutor(threads.WORKERS) as pool:
        try:
            for _ in range(threads.WORKERS):
                pool.submit(gate.wait)
            return growth(partial(pool.submit, noop), count)
        finally:
            gate.set()


def prepare(stage: Stage) -> None:
    """Put up a flow and a thread pool, each in new processes, whose memory is untouched."""
    count = stage.scaled(FUTURES, least=1_000)
    stage.add(OURS, partial(call_in_process, submit_to_flow, count))
    stage.add(threads.NAME, partial(call_in_process, submit_to_pool, count))


ROW = Row(
    name="memory",
    work="100,000 pending futures, for each of them",
    prepare=prepare,
    targets=(
        Target(OURS, measure=Measure.MEMORY, at_most=1_000),
        Target(OURS, threads.NAME, measure=Measure.MEMORY),
    ),
    rounds=3,
)
