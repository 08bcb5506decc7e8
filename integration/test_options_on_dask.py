"""What tasks and flows say to Dask: annotations where a task is submitted, and its own options."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import distributed
import pytest
from dask.base import annotate

from anabranch.flows import Failed, Future, flow, tags, task, task_run, wait
from anabranch.runners.dask import DaskOptions, DaskTaskRunner

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    """A cluster in this process, so that tasks see its scheduler."""
    options = {"processes": False, "protocol": "tcp://", "dashboard_address": ":0"}
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, **options) as cluster:
        yield cluster


@pytest.fixture
def runner(cluster: distributed.LocalCluster) -> DaskTaskRunner:
    """A runner on the cluster."""
    return DaskTaskRunner(cluster.scheduler_address)


@task
def priority(_: object = None) -> object:
    """Return the priority that this run was submitted with."""
    worker = distributed.get_worker()
    run = worker.state.tasks[worker.get_current_task()]
    return (run.annotations or {}).get("priority")


@task
def fail(log: Path) -> None:
    """Write down the attempt, and fail."""
    with log.open("a") as file:
        file.write(f"{task_run.attempt}\n")
    raise LookupError("gone")


def test_annotations_of_all_kinds_of_submissions(runner: DaskTaskRunner) -> None:
    """Every way to submit a task takes along what `dask.annotate` says there."""

    @flow(task_runner=runner, tag_limits={"one": 1})
    def body() -> list[object]:
        with annotate(priority=7):
            single = priority.submit()
            mapped = priority.map([1, 2])
            behind = priority.submit(single, wait_for=[mapped])
            with tags("one"):
                limited = [priority.submit() for _ in range(3)]
            streamed = list(priority.imap([1]))
        futures: list[Future[object]] = [single, *mapped, behind, *limited]
        plain = [priority.submit(futures).result(), *priority.map([1]).result()]
        return [[each.result() for each in futures], streamed, plain]

    assert body() == [[7] * 7, [7], [None, None]]


def test_options_of_tasks_win(runner: DaskTaskRunner) -> None:
    """What a task says of itself wins over what surrounds its submission."""
    urgent = priority.with_options(runner_options={"dask": DaskOptions(priority=20), "ray": {}})

    @flow(task_runner=runner)
    def body() -> list[object]:
        with annotate(priority=7):
            futures = [urgent.submit(), *urgent.map([1]), priority.submit()]
        futures.append(urgent.with_options(runner_options={}).submit())
        return [future.result() for future in futures]

    assert body() == [20, 20, 7, None]


def test_retries_of_all_kinds_are_one_budget(
    runner: DaskTaskRunner, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The number of retries is that which is nearest to the run, and each one is in the log."""
    own = fail.with_options(retries=5)
    optioned = own.with_options(runner_options={"dask": {"retries": 1}})

    @flow(task_runner=runner)
    def body() -> str:
        with annotate(retries=2):
            runs = [fail.submit(tmp_path / "annotated"), own.submit(tmp_path / "own")]
            runs.append(optioned.submit(tmp_path / "optioned"))
        wait(runs)
        assert all(isinstance(run.state, Failed) for run in runs)
        return "done"

    with caplog.at_level(logging.WARNING, "anabranch"):
        assert body() == "done"
    made = {path.name: path.read_text().split() for path in tmp_path.iterdir()}
    assert made == {"annotated": ["1", "2", "3"], "own": ["1", "2", "3"], "optioned": ["1", "2"]}
    messages = [record.getMessage() for record in caplog.records]
    assert sum("the next one follows" in message for message in messages) == 5


def test_a_wrong_option_is_told_where_the_task_is_submitted(runner: DaskTaskRunner) -> None:
    """An option that Dask has none of is an error of the line that submits the task."""
    wrong = priority.with_options(runner_options={"dask": {"num_gpus": 1}})

    @flow(task_runner=runner)
    def body() -> str:
        with pytest.raises(TypeError, match="Task 'priority', for Dask: there is no 'num_gpus' in"):
            wrong.submit()
        with pytest.raises(TypeError, match="'num_gpus'"):
            wrong.map([1, 2])
        return "done"

    assert body() == "done"
