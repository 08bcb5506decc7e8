"""Flows that do hardly anything: what a flow itself costs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import trio

from anabranch.flows import SequentialTaskRunner, flow
from benchmarks.logs import add_ours
from benchmarks.model import OURS, Row, Stage, Target
from benchmarks.noops import noop_async, noop_task
from benchmarks.timing import timed

TRIO = "trio.run"


@flow(task_runner=SequentialTaskRunner())
def call_one() -> None:
    """Call one task."""
    noop_task()


@flow
def submit_one() -> None:
    """Submit one task, and read its result."""
    noop_task.submit().result()


def repeat(work: Callable[[], object], times: int) -> None:
    """Do some work so many times."""
    for _ in range(times):
        work()


def prepare(stage: Stage, own: Callable[[], None], flows: int) -> None:
    """Put up a flow, and an event loop with an empty function in it."""
    count = stage.scaled(flows)
    add_ours(stage, partial(timed, partial(repeat, own, count), count), units=count)
    loops = stage.scaled(200)
    empty = partial(trio.run, noop_async)
    stage.add(TRIO, partial(timed, partial(repeat, empty, loops), loops))


def prepare_direct(stage: Stage) -> None:
    """Put up the flow that calls its task."""
    prepare(stage, call_one, 200)


def prepare_submit(stage: Stage) -> None:
    """Put up the flow that submits its task."""
    prepare(stage, submit_one, 50)


DIRECT_ROW = Row(
    name="start-direct",
    work="a flow of one direct call, on the sequential runner",
    prepare=prepare_direct,
    targets=(Target(OURS, TRIO, at_most=1),),
)
SUBMIT_ROW = Row(
    name="start-submit",
    work="a flow of one submitted task, on the default runner",
    prepare=prepare_submit,
    targets=(Target(OURS, TRIO, at_most=4),),
)
