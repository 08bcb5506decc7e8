"""Tasks of which each depends on the one before."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from anabranch import flows
from anabranch.flows import flow
from benchmarks import threads
from benchmarks.logs import add_ours
from benchmarks.model import OURS, Row, Sample, Stage, Target
from benchmarks.noops import same, same_task
from benchmarks.timing import mean, since

#: Shorter chains are measured several times in a row, until so many tasks have run.
TASKS = 10_000
SHORTER = (100, 1_000)
CALLBACKS = f"{threads.NAME}, callbacks"
ONE_AT_A_TIME = f"{threads.NAME}, one submitted at a time"


@flow
def chain_tasks(count: int) -> Sample:
    """Submit a chain of so many tasks, then read the last result."""
    same_task.submit(0).result()
    start = time.perf_counter()
    future: flows.Future[int] = same_task.submit(0)
    for _ in range(count - 1):
        future = same_task.submit(future)
    future.result()
    return since(start, count)


def submit_after(pool: ThreadPoolExecutor, upstream: Future[int]) -> Future[int]:
    """Return a future of the call on an upstream's value; it is submitted when that is there."""
    downstream: Future[int] = Future()

    def call() -> None:
        downstream.set_result(same(upstream.result()))

    upstream.add_done_callback(lambda _: pool.submit(call))
    return downstream


def chain_futures(count: int) -> Sample:
    """Chain so many calls in a thread pool, each with a future of its own from the start."""
    with threads.opened_pool() as pool:
        start = time.perf_counter()
        future = pool.submit(same, 0)
        for _ in range(count - 1):
            future = submit_after(pool, future)
        future.result()
        return since(start, count)


def chain_calls(count: int) -> Sample:
    """Chain so many calls in a thread pool, none of them known before the one before has ended."""
    done: Future[int] = Future()

    def call(value: int, left: int) -> None:
        value = same(value)
        if left:
            pool.submit(call, value, left - 1)
        else:
            done.set_result(value)

    with threads.opened_pool() as pool:
        start = time.perf_counter()
        pool.submit(call, 0, count - 1)
        done.result()
        return since(start, count)


def prepare(stage: Stage) -> None:
    """Put up chains of tasks, and of calls in a thread pool."""
    count = stage.scaled(TASKS)
    add_ours(stage, partial(chain_tasks, count), units=count)
    for size in SHORTER:
        shorter = stage.scaled(size)
        take = partial(mean, partial(chain_tasks, shorter), TASKS // size)
        stage.add(f"{OURS}, {size:,} tasks", take)
    stage.add(CALLBACKS, partial(chain_futures, count))
    stage.add(ONE_AT_A_TIME, partial(chain_calls, count))


ROW = Row(
    name="chain",
    work="10,000 tasks, each on the one before",
    prepare=prepare,
    targets=(
        Target(OURS, CALLBACKS, at_most=2),
        Target(OURS, ONE_AT_A_TIME),
        Target(OURS, f"{OURS}, 100 tasks", at_most=1.25),
        Target(OURS, f"{OURS}, 1,000 tasks"),
    ),
)
