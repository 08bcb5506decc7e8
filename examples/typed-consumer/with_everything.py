"""What a project does that has all of it: one flow, and a choice of runners.

python with_everything.py sequential concurrent dask ray
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Final, assert_type

from anabranch.flows import (
    ConcurrentTaskRunner,
    Flow,
    FlowRun,
    Future,
    FutureList,
    SequentialTaskRunner,
    State,
    TaskRunner,
    branch,
    flow,
    get_run_logger,
    task,
    unmapped,
)
from anabranch.runners.dask import DaskTaskRunner
from anabranch.runners.ray import RayTaskRunner

RUNNERS: Final[Mapping[str, Callable[[], TaskRunner]]] = {
    "sequential": SequentialTaskRunner,
    "concurrent": ConcurrentTaskRunner,
    "dask": lambda: DaskTaskRunner(cluster_kwargs={"n_workers": 1, "dashboard_address": None}),
    "ray": lambda: RayTaskRunner(init_kwargs={"num_cpus": 1}),
}


@task(retries=2, retry_delay=[0.1, 1])
def scaled(number: int, factor: float = 2.0) -> float:
    """Scale a number."""
    return number * factor


class Scale:
    """Weighs numbers."""

    @task
    async def weigh(self, numbers: list[float]) -> str:
        """Return the weight of numbers."""
        return f"{sum(numbers):g} kg"


def tell(of: Flow[[int], str], run: FlowRun, state: State[str]) -> None:
    """Log how a flow ended."""
    get_run_logger().info("%s: %s", run.flow_name, state)


@flow(on_completion=tell)
def weighing(count: int) -> str:
    """Scale numbers, and weigh them."""
    with branch("scaling", timeout=300):
        numbers = assert_type(scaled.map(range(count), unmapped(0.5)), FutureList[float])
    weight = assert_type(Scale().weigh.submit(numbers), Future[str])
    return weight.result()


def main(names: list[str]) -> None:
    """Run the flow on each of these runners."""
    for name in names:
        made = weighing.with_options(task_runner=RUNNERS[name])
        print(name, assert_type(made(5), str))


if __name__ == "__main__":
    main(sys.argv[1:] or list(RUNNERS))
