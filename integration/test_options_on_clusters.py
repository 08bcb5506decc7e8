"""What tasks and flows say to Dask and Ray: where a task is submitted, and on the task itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, cast

import anyio
import attrs
import distributed
import pytest
import ray
from dask.base import annotate

from anabranch.flows import Failed, Future, Task, flow, tags, task, task_run, wait
from anabranch.futures import TaskRunner
from anabranch.runners.dask import DaskOptions, DaskTaskRunner
from anabranch.runners.local import ConcurrentTaskRunner
from anabranch.runners.ray import RayOptions, RayTaskRunner, remote_options

pytestmark = pytest.mark.slow


@task
def cpus(_: float) -> float:
    """Return how many of Ray's CPUs this run takes."""
    context = ray.get_runtime_context()
    assigned = cast("Callable[[], dict[str, float]]", context.get_assigned_resources)()
    return assigned.get("CPU", 0)


@task
def priority(_: float) -> float:
    """Return the priority that this run was submitted with to Dask; 0 without."""
    worker = distributed.get_worker()
    run = worker.state.tasks[worker.get_current_task()]
    return cast("float", (run.annotations or {}).get("priority", 0))


@task
def fail(log: Path) -> None:
    """Write down the attempt, and fail."""
    with log.open("a") as file:
        file.write(f"{task_run.attempt}\n")
    raise LookupError("gone")


class Around(Protocol):
    """Gives a block around submissions."""

    def __call__(self, **options: float) -> AbstractContextManager[object]: ...


@attrs.frozen
class Case:
    """What to say to a kind of cluster, and how to look whether it has heard.

    Attributes:
        name: What options call the kind.
        option: The name of an option.
        retries: The name of that for retries.
        read: A task that tells what the option is.
        plain: What it is if nobody says anything.
        around: What says it around submissions.
        own: What says on a task that it is 0.25.
        wrong: An option that there is none of, with what an error says of it.
    """

    name: str
    option: str
    retries: str
    read: Task[[float], float]
    plain: float
    around: Around
    own: Mapping[str, Mapping[str, object]]
    wrong: tuple[str, str]


RAY = Case(
    "ray",
    "num_cpus",
    "max_retries",
    cpus,
    1,
    cast("Around", remote_options),
    {"ray": RayOptions(num_cpus=0.25), "dask": {}},
    ("priority", "Task 'cpus', for Ray: there is no option 'priority'"),
)
DASK = Case(
    "dask",
    "priority",
    "retries",
    priority,
    0,
    cast("Around", annotate),
    {"dask": DaskOptions(priority=0.25), "ray": {}},
    ("num_gpus", "Task 'priority', for Dask: there is no 'num_gpus' in"),
)


@contextmanager
def ray_runner() -> Iterator[TaskRunner]:
    """Put up an instance; gives a runner that shares it."""
    with RayTaskRunner(init_kwargs={"num_cpus": 2}):
        yield RayTaskRunner()


@contextmanager
def dask_runner() -> Iterator[TaskRunner]:
    """Put up a cluster in this process, so that tasks see its scheduler; gives a runner on it."""
    options = {"processes": False, "protocol": "tcp://", "dashboard_address": ":0"}
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, **options) as cluster:
        yield DaskTaskRunner(cluster.scheduler_address)


@pytest.fixture(scope="module", params=[DASK, RAY], ids=lambda case: str(case.name))
def case(request: pytest.FixtureRequest) -> Case:
    """A kind of cluster."""
    return cast("Case", request.param)


@pytest.fixture(scope="module")
def runner(case: Case) -> Iterator[TaskRunner]:
    """A runner on a cluster of that kind."""
    with ray_runner() if case is RAY else dask_runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def runner_on_ray() -> Iterator[TaskRunner]:
    """A runner on Ray."""
    with ray_runner() as runner:
        yield runner


def test_options_of_all_kinds_of_submissions(case: Case, runner: TaskRunner) -> None:
    """Every way to submit a task takes along what is said around it."""
    read = case.read

    @flow(task_runner=runner, tag_limits={"one": 1})
    def body() -> list[object]:
        with case.around(**{case.option: 0.5}):
            single = read.submit(0)
            mapped = read.map([1, 2])
            behind = read.submit(single, wait_for=[mapped])
            with tags("one"):
                limited = [read.submit(0) for _ in range(3)]
            streamed = list(read.imap([1]))
        futures: list[Future[float]] = [single, *mapped, behind, *limited]
        plain = [read.submit(0, wait_for=futures).result(), *read.map([1]).result()]
        return [[each.result() for each in futures], streamed, plain]

    assert body() == [[0.5] * 7, [0.5], [case.plain] * 2]


def test_options_of_tasks_win(case: Case, runner: TaskRunner) -> None:
    """What a task says of itself wins over what surrounds its submission."""
    own = case.read.with_options(runner_options=case.own)

    @flow(task_runner=runner)
    def body() -> list[float]:
        with case.around(**{case.option: 0.5}):
            futures = [own.submit(0), *own.map([1]), case.read.submit(0)]
        futures.append(own.with_options(runner_options={}).submit(0))
        return [future.result() for future in futures]

    assert body() == [0.25, 0.25, 0.5, case.plain]


def test_retries_of_all_kinds_are_one_budget(
    case: Case, runner: TaskRunner, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The number of retries is that which is nearest to the run, and each one is in the log."""
    own = fail.with_options(retries=5)
    optioned = own.with_options(runner_options={case.name: {case.retries: 1}})

    @flow(task_runner=runner)
    def body() -> str:
        with case.around(**{case.retries: 2}):
            runs = [fail.submit(tmp_path / "surrounded"), own.submit(tmp_path / "own")]
            runs.append(optioned.submit(tmp_path / "optioned"))
        wait(runs)
        assert all(isinstance(run.state, Failed) for run in runs)
        return "done"

    with caplog.at_level(logging.WARNING, "anabranch"):
        assert body() == "done"
    made = {path.name: path.read_text().split() for path in tmp_path.iterdir()}
    assert made == {"surrounded": ["1", "2", "3"], "own": ["1", "2", "3"], "optioned": ["1", "2"]}
    assert sum("the next one follows" in message for message in caplog.messages) == 5


def test_a_wrong_option_is_told_where_the_task_is_submitted(case: Case, runner: TaskRunner) -> None:
    """An option that the cluster has none of is an error of the line that submits the task."""
    option, words = case.wrong
    wrong = case.read.with_options(runner_options={case.name: {option: 1}})

    @flow(task_runner=runner)
    def body() -> str:
        with pytest.raises(TypeError, match=words):
            wrong.submit(0)
        with pytest.raises(TypeError, match=f"'{option}'"):
            wrong.map([1, 2])
        return "done"

    assert body() == "done"


def test_options_hold_in_async_code(runner_on_ray: TaskRunner) -> None:
    """Branches of an async flow that run at the same time have blocks of their own."""

    @flow(task_runner=runner_on_ray)
    async def body() -> list[float]:
        futures: dict[float, Future[float]] = {}
        entered = [anyio.Event(), anyio.Event()]

        async def branch(number: int, amount: float) -> None:
            with remote_options(num_cpus=amount):
                entered[number].set()
                await entered[1 - number].wait()
                futures[amount] = cpus.submit(0)
                (futures[amount + 1],) = cpus.map([1])

        async with anyio.create_task_group() as group:
            group.start_soon(branch, 0, 0.25)
            group.start_soon(branch, 1, 0.75)
        futures[0] = cpus.submit(0)
        return [await futures[amount] for amount in sorted(futures)]

    assert anyio.run(body) == [1, 0.25, 0.75, 0.25, 0.75]


def test_a_flow_can_be_called_in_a_block(runner_on_ray: TaskRunner) -> None:
    """A block around a flow is one around all that the flow submits, in the subflows as well."""

    @flow(task_runner=runner_on_ray)
    def inner() -> float:
        return cpus.submit(0).result()

    @flow(task_runner=runner_on_ray)
    def outer() -> list[float]:
        with remote_options(num_cpus=0.25):
            return [cpus.submit(0).result(), inner(), inner.submit().result()]

    with remote_options(num_cpus=0.5):
        assert outer() == [0.25, 0.25, 0.25]
        assert inner() == 0.5


def test_other_runners_ignore_them() -> None:
    """What is said to Ray is nothing to a runner in this process, whatever it is."""

    @task(runner_options={"ray": {"unheard_of": 1}})
    def negative(number: int) -> int:
        return -number

    @flow(task_runner=ConcurrentTaskRunner())
    def body() -> list[int]:
        with remote_options(num_gpus=8, max_retries=3):
            return [negative.submit(-1).result(), *negative.map([-2]).result()]

    assert body() == [1, 2]
