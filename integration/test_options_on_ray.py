"""What tasks and flows say to Ray: `remote_options` where a task is submitted, and its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import anyio
import pytest
import ray

from anabranch.flows import Failed, Future, flow, tags, task, task_run, wait
from anabranch.runners.local import ConcurrentTaskRunner
from anabranch.runners.ray import RayOptions, RayTaskRunner, remote_options

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runner() -> Iterator[RayTaskRunner]:
    """A runner like those of the flows, which share its instance."""
    with RayTaskRunner(init_kwargs={"num_cpus": 2, "resources": {"plate": 1}}) as runner:
        yield runner


@task
def cpus(_: object = None) -> float:
    """Return how many CPUs this run takes."""
    context = ray.get_runtime_context()
    assigned = cast("Callable[[], dict[str, float]]", context.get_assigned_resources)()
    return assigned.get("CPU", 0)


@task
def fail(log: Path) -> None:
    """Write down the attempt, and fail."""
    with log.open("a") as file:
        file.write(f"{task_run.attempt}\n")
    raise LookupError("gone")


def test_options_of_all_kinds_of_submissions(runner: RayTaskRunner) -> None:
    """Every way to submit a task takes along what `remote_options` says there."""

    @flow(task_runner=runner.duplicate(), tag_limits={"one": 1})
    def body() -> list[object]:
        with remote_options(num_cpus=0.5):
            single = cpus.submit()
            mapped = cpus.map([1, 2])
            behind = cpus.submit(single, wait_for=[mapped])
            with tags("one"):
                limited = [cpus.submit() for _ in range(3)]
            streamed = list(cpus.imap([1]))
        futures: list[Future[float]] = [single, *mapped, behind, *limited]
        plain = [cpus.submit(futures).result(), *cpus.map([1]).result()]
        return [[each.result() for each in futures], streamed, plain]

    assert body() == [[0.5] * 7, [0.5], [1, 1]]


def test_options_hold_in_async_code(runner: RayTaskRunner) -> None:
    """Branches of an async flow that run at the same time have blocks of their own."""

    @flow(task_runner=runner.duplicate())
    async def body() -> list[float]:
        futures: dict[float, Future[float]] = {}
        entered = [anyio.Event(), anyio.Event()]

        async def branch(number: int, amount: float) -> None:
            with remote_options(num_cpus=amount):
                entered[number].set()
                await entered[1 - number].wait()
                futures[amount] = cpus.submit()
                (futures[amount + 1],) = cpus.map([1])

        async with anyio.create_task_group() as group:
            group.start_soon(branch, 0, 0.25)
            group.start_soon(branch, 1, 0.75)
        futures[0] = cpus.submit()
        return [await futures[amount] for amount in sorted(futures)]

    assert anyio.run(body) == [1, 0.25, 0.75, 0.25, 0.75]


def test_options_of_tasks_win(runner: RayTaskRunner) -> None:
    """What a task says of itself wins over what surrounds its submission."""
    small = cpus.with_options(runner_options={"ray": RayOptions(num_cpus=0.25), "dask": {}})

    @flow(task_runner=runner.duplicate())
    def body() -> list[float]:
        with remote_options(num_cpus=0.5):
            futures = [small.submit(), *small.map([1]), cpus.submit()]
        futures.append(small.with_options(runner_options={}).submit())
        return [future.result() for future in futures]

    assert body() == [0.25, 0.25, 0.5, 1]


def test_a_flow_can_be_called_in_a_block(runner: RayTaskRunner) -> None:
    """A block around a flow is one around all that the flow submits, in the subflows as well."""

    @flow(task_runner=runner.duplicate())
    def inner() -> float:
        return cpus.submit().result()

    @flow(task_runner=runner.duplicate())
    def outer() -> list[float]:
        with remote_options(num_cpus=0.25):
            return [cpus.submit().result(), inner(), inner.submit().result()]

    with remote_options(num_cpus=0.5):
        assert outer() == [0.25, 0.25, 0.25]
        assert inner() == 0.5


def test_retries_of_all_kinds_are_one_budget(
    runner: RayTaskRunner, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The number of retries is that which is nearest to the run, and each one is in the log."""
    own = fail.with_options(retries=5)
    optioned = own.with_options(runner_options={"ray": {"max_retries": 1}})

    @flow(task_runner=runner.duplicate())
    def body() -> str:
        with remote_options(max_retries=2):
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


def test_a_wrong_option_is_told_where_the_task_is_submitted(runner: RayTaskRunner) -> None:
    """An option that Ray has none of is an error of the line that submits the task."""
    wrong = cpus.with_options(runner_options={"ray": {"priority": 1}})

    @flow(task_runner=runner.duplicate())
    def body() -> str:
        with pytest.raises(TypeError, match="Task 'cpus', for Ray: there is no option 'priority'"):
            wrong.submit()
        with pytest.raises(TypeError, match="'priority'"):
            wrong.map([1, 2])
        return "done"

    assert body() == "done"


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
