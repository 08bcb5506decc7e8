"""Values that are too large to be sent to and fro."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from anabranch import flows
from anabranch.flows import flow, task
from benchmarks.clusters import alone, dask_runner, open_dask, open_ray
from benchmarks.counting import count_from_sockets, count_from_store
from benchmarks.logs import add_ours
from benchmarks.model import OURS, Measure, Row, Sample, Stage, Target
from benchmarks.timing import since

if TYPE_CHECKING:
    import numpy
    from distributed import Client
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[numpy.float64]

BARE_DASK = "Client.submit"
BARE_RAY = ".remote()"
#: Shows that the bytes of a value are counted when it does come over.
FETCHED = "one value, fetched"
STEPS = 5
#: Numbers in a value, of 8 bytes each.
NUMBERS = 25_000_000
#: Bytes of Ray's store: room for the values of one chain, and of the one before.
STORE_BYTES = 3_000_000_000


def make(numbers: int) -> Array:
    """Return so many ones."""
    import numpy  # noqa: PLC0415 - heavy, and most rows need none

    return numpy.ones(numbers)


def add_one(values: Array) -> Array:
    """Return each value plus one."""
    return values + 1


make_task = task(make)
add_one_task = task(add_one)


@flow
def chain_tasks(numbers: int, received: Callable[[], int]) -> Sample:
    """Make a large value, add to it step by step, and wait until that is done."""
    make_task.submit(1).wait()
    before, start = received(), time.perf_counter()
    future: flows.Future[Array] = make_task.submit(numbers)
    for _ in range(STEPS - 1):
        future = add_one_task.submit(future)
    future.wait()
    return {**since(start, 1), Measure.CLIENT_BYTES: received() - before}


def chain_on_dask(client: Client, numbers: int, received: Callable[[], int]) -> Sample:
    """Do the same with a client of Dask."""
    import distributed  # noqa: PLC0415 - heavy, and most rows need none

    before, start = received(), time.perf_counter()
    future = client.submit(make, numbers, pure=False)
    for _ in range(STEPS - 1):
        future = client.submit(add_one, future, pure=False)
    distributed.wait(future)
    return {**since(start, 1), Measure.CLIENT_BYTES: received() - before}


def fetch_from_dask(client: Client, numbers: int, received: Callable[[], int]) -> Sample:
    """Make a large value, and read it."""
    before, start = received(), time.perf_counter()
    client.submit(make, numbers, pure=False).result()
    return {**since(start, 1), Measure.CLIENT_BYTES: received() - before}


def chain_on_ray(numbers: int, received: Callable[[], int]) -> Sample:
    """Do the same with remote functions of Ray."""
    import ray  # noqa: PLC0415 - heavy, and most rows need none

    remote_make, remote_add_one = ray.remote(make), ray.remote(add_one)
    ray.wait([remote_make.remote(1)], fetch_local=False)
    before, start = received(), time.perf_counter()
    ref = remote_make.remote(numbers)
    for _ in range(STEPS - 1):
        ref = remote_add_one.remote(ref)
    ray.wait([ref], fetch_local=False)
    return {**since(start, 1), Measure.CLIENT_BYTES: received() - before}


def fetch_from_ray(numbers: int, received: Callable[[], int]) -> Sample:
    """Make a large value, and read it."""
    import ray  # noqa: PLC0415 - heavy, and most rows need none

    before, start = received(), time.perf_counter()
    ray.get(ray.remote(make).remote(numbers))
    return {**since(start, 1), Measure.CLIENT_BYTES: received() - before}


def prepare_dask(stage: Stage) -> None:
    """Put up a flow and a client, on one cluster."""
    cluster, client = open_dask(stage.stack, workers=2)
    numbers, received = stage.scaled(NUMBERS), count_from_sockets()
    ours = chain_tasks.with_options(task_runner=dask_runner(cluster))
    add_ours(stage, partial(alone, cluster, partial(ours, numbers, received)), units=STEPS)
    for name, take, rounds in ((BARE_DASK, chain_on_dask, None), (FETCHED, fetch_from_dask, 1)):
        work = partial(alone, cluster, partial(take, client, numbers, received))
        stage.add(name, work, rounds=rounds)


def prepare_ray(stage: Stage) -> None:
    """Put up a flow and remote functions, in one instance."""
    runner = open_ray(stage.stack, cpus=2, store_bytes=STORE_BYTES)
    numbers, received = stage.scaled(NUMBERS), count_from_store()
    ours = chain_tasks.with_options(task_runner=runner)
    add_ours(stage, partial(ours, numbers, received), units=STEPS)
    stage.add(BARE_RAY, partial(chain_on_ray, numbers, received))
    stage.add(FETCHED, partial(fetch_from_ray, numbers, received), rounds=1)


def row(name: str, where: str, prepare: Callable[[Stage], None], bare: str) -> Row:
    """Return the row for one kind of cluster."""
    return Row(
        name=name,
        work=f"a chain of 5 tasks over 200 MB {where}, the value not read",
        prepare=prepare,
        targets=(
            Target(OURS, bare, at_most=1.1),
            Target(OURS, measure=Measure.CLIENT_BYTES, at_most=1e6),
        ),
        tells_log_cost=False,
    )


DASK_ROW = row("big-values-dask", "on Dask", prepare_dask, BARE_DASK)
RAY_ROW = row("big-values-ray", "in Ray", prepare_ray, BARE_RAY)
