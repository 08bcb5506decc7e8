"""Work that keeps processors busy: the census of the examples, shared among worker processes."""

from __future__ import annotations

import sysconfig
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from anabranch.flows import flow
from benchmarks.clusters import alone, dask_runner, open_dask, open_ray
from benchmarks.judging import LOOP
from benchmarks.logs import add_ours
from benchmarks.model import OURS, Row, Sample, Stage, Target
from benchmarks.timing import timed
from examples.census import Module, find_modules, measure, measure_task

if TYPE_CHECKING:
    from distributed import Client

BARE_DASK = "Client.submit + gather"
BARE_RAY = ".remote() + ray.get"
#: Of the standard library's modules every so manieth, evenly spread over large and small ones.
MODULES = 400


def modules(count: int) -> tuple[str, list[str]]:
    """Return the folder of the standard library, and so many of the modules in it."""
    root = Path(sysconfig.get_path("stdlib"))
    found = find_modules(root)
    return str(root), found[:: max(1, len(found) // count)][:count]


def count_in_loop(root: str, paths: Sequence[str]) -> list[Module]:
    """Count one module after the other."""
    return [measure(root, path) for path in paths]


@flow
def count_in_tasks(root: str, paths: Sequence[str]) -> Sample:
    """Count each module in a task, then read the results, as the references do."""
    measure_task.submit(root, paths[0]).result()

    def count() -> list[Module]:
        futures = [measure_task.submit(root, path) for path in paths]
        return [future.result() for future in futures]

    return timed(count, len(paths))


def count_on_dask(client: Client, root: str, paths: Sequence[str]) -> Sample:
    """Do the same with a client of Dask."""

    def count() -> object:
        return client.gather([client.submit(measure, root, path, pure=False) for path in paths])

    return timed(count, len(paths))


def count_on_ray(root: str, paths: Sequence[str]) -> Sample:
    """Do the same with a remote function of Ray."""
    import ray  # noqa: PLC0415 - heavy, and most rows need none

    remote_measure = ray.remote(measure)
    ray.get(remote_measure.remote(root, paths[0]))

    def count() -> object:
        return ray.get([remote_measure.remote(root, path) for path in paths])

    return timed(count, len(paths))


def prepare_dask(stage: Stage, workers: int) -> None:
    """Put up a loop, a flow and a client."""
    cluster, client = open_dask(stage.stack, workers)
    root, paths = modules(stage.scaled(MODULES, least=workers))
    ours = count_in_tasks.with_options(task_runner=dask_runner(cluster))
    stage.add(LOOP, partial(timed, partial(count_in_loop, root, paths), len(paths)))
    add_ours(stage, partial(alone, cluster, partial(ours, root, paths)), units=len(paths))
    stage.add(BARE_DASK, partial(alone, cluster, partial(count_on_dask, client, root, paths)))


def prepare_ray(stage: Stage, workers: int) -> None:
    """Put up a loop, a flow and a remote function."""
    runner = open_ray(stage.stack, cpus=workers)
    root, paths = modules(stage.scaled(MODULES, least=workers))
    ours = count_in_tasks.with_options(task_runner=runner)
    stage.add(LOOP, partial(timed, partial(count_in_loop, root, paths), len(paths)))
    add_ours(stage, partial(ours, root, paths), units=len(paths))
    stage.add(BARE_RAY, partial(count_on_ray, root, paths))


def rows_of(workers: int) -> tuple[Row, Row]:
    """Return the rows for so many worker processes."""
    those = "1 worker" if workers == 1 else f"{workers} workers"
    work = f"the census of {MODULES} modules of the standard library"
    return (
        Row(
            name=f"census-dask-{workers}",
            work=f"{work} on Dask, {those}",
            prepare=partial(prepare_dask, workers=workers),
            # Of two efficiencies against the same loop this is the ratio.
            targets=(Target(BARE_DASK, OURS, at_least=0.9),),
            rounds=5,
            workers=workers,
            tells_log_cost=False,
        ),
        Row(
            name=f"census-ray-{workers}",
            work=f"{work} in Ray, {those}",
            prepare=partial(prepare_ray, workers=workers),
            targets=(Target(BARE_RAY, OURS, at_least=0.9),),
            rounds=5,
            workers=workers,
            tells_log_cost=False,
        ),
    )


ROWS = (*rows_of(1), *rows_of(2))
