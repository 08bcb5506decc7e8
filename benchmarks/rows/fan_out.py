"""Many tasks at once, whose results come back as they end."""

from __future__ import annotations

import time
from functools import partial

from anabranch.flows import flow
from benchmarks import logs, memory
from benchmarks.model import OURS, Measure, Row, Sample, Stage, Target
from benchmarks.noops import noop_task, same_task
from benchmarks.processes import call_in_process
from benchmarks.timing import mean, since

MAX_PENDING = 10_000
#: The most; it is done once, in a process of its own.
TASKS = 1_000_000
FEWER = (1_000, 10_000, 100_000)
#: Fewer are done several times in a row, until so many have run.
SAMPLE_TASKS = 20_000


@flow
def fan_out(count: int) -> Sample:
    """Run a task for each of so many numbers, and take the results as they come."""
    noop_task.submit().result()
    start = time.perf_counter()
    for _ in same_task.imap_unordered(range(count), max_pending=MAX_PENDING):
        pass
    return since(start, count)


def fan_out_alone(count: int) -> Sample:
    """Do so in a process that has nothing else to do, and tell how far its memory has grown."""
    logs.turn_off()
    fan_out(10)
    before = memory.resident()
    sample = fan_out(count)
    return {**sample, Measure.MEMORY: memory.peak() - before}


def name(count: int) -> str:
    """Return what the tables call a flow of so many tasks."""
    return f"{OURS}, {count:,} tasks"


def prepare(stage: Stage) -> None:
    """Put up flows of different size."""
    for size in FEWER[:-1]:
        take = partial(fan_out, stage.scaled(size))
        stage.add(name(size), partial(mean, take, SAMPLE_TASKS // size))
    count = stage.scaled(FEWER[-1])
    logs.add_ours(stage, partial(fan_out, count), units=count, name=name(FEWER[-1]))
    most = partial(call_in_process, fan_out_alone, stage.scaled(TASKS))
    stage.add(name(TASKS), most, rounds=1)


ROW = Row(
    name="fan-out",
    work="1,000,000 no-op tasks through imap_unordered, under max_pending=10,000",
    prepare=prepare,
    targets=(
        Target(name(10_000), name(1_000)),
        Target(name(100_000), name(1_000)),
        Target(name(TASKS), name(1_000), at_most=1.25),
        Target(name(TASKS), measure=Measure.MEMORY, at_most=100e6),
    ),
    rounds=3,
)
