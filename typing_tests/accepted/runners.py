"""Task runners: used without flows, and written by others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from pathlib import Path
from typing import TypeVar, assert_type

from distributed import Client, LocalCluster
from distributed.security import Security
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from anabranch.flows import task
from anabranch.futures import (
    Backend,
    Clock,
    ConcurrencyType,
    Future,
    RetryPolicy,
    RunContext,
    RunnerStatistics,
    SystemClock,
    TaskRun,
    TaskRunner,
    WorkItem,
    lift,
)
from anabranch.runners.dask import DaskOptions, DaskTaskRunner
from anabranch.runners.local import ConcurrentTaskRunner, SequentialTaskRunner
from anabranch.runners.ray import RayOptions, RayTaskRunner, remote_options
from typing_tests.functions import add, aone, aplain, plain

R = TypeVar("R")


class EagerTaskRunner(TaskRunner):
    """What a runner of one's own looks like."""

    def __init__(self, workers: int = 4) -> None:
        super().__init__()
        self._workers = workers

    @property
    def concurrency_type(self) -> ConcurrencyType:
        """One after the other."""
        return ConcurrencyType.SEQUENTIAL

    async def _start(self, exit_stack: AsyncExitStack) -> None:
        exit_stack.callback(print)

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        assert_type(item.function(*item.args, **item.kwargs), object)
        return Future(item.task_run)

    def _settings(self) -> Mapping[str, object]:
        return {"workers": self._workers}


def submissions() -> None:
    """A runner submits functions, coroutine functions and tasks."""
    with ConcurrentTaskRunner() as runner:
        assert_type(runner, ConcurrentTaskRunner)
        assert_type(runner.submit(plain, 1, y=""), Future[float])
        assert_type(runner.submit(aplain, 1), Future[bytes])
        assert_type(runner.submit(add, 1, y=2), Future[int])
        assert_type(runner.submit(aone, 1), Future[str])
        assert_type(runner.submit(lambda: 1), Future[int])
        assert_type(runner.submit(len, "four").result(), int)
        number = runner.submit(plain, 1)
        assert_type(runner.submit(round, lift(number)), Future[int])


async def async_use() -> None:
    """Started in an event loop, a runner is what it is."""
    async with SequentialTaskRunner().start() as runner:
        assert_type(runner, SequentialTaskRunner)
        assert_type(await runner.submit(aplain, 1), bytes)


def settings() -> None:
    """Runners differ in their settings, and no more."""
    runners: list[TaskRunner] = [
        assert_type(SequentialTaskRunner(), SequentialTaskRunner),
        assert_type(ConcurrentTaskRunner(max_workers=8), ConcurrentTaskRunner),
        assert_type(EagerTaskRunner(2), EagerTaskRunner),
        assert_type(DaskTaskRunner(cluster_kwargs={"n_workers": 2}), DaskTaskRunner),
        assert_type(RayTaskRunner(init_kwargs={"num_cpus": 2}), RayTaskRunner),
    ]
    for runner in runners:
        assert_type(runner.concurrency_type, ConcurrencyType)
        assert_type(runner.duplicate(), TaskRunner)
        assert_type(runner.name, str)
        assert_type(runner.backend, Backend | None)
        assert_type(runner.statistics(), RunnerStatistics)
        assert_type(runner.statistics().pending, int)
    assert_type(EagerTaskRunner().duplicate(), EagerTaskRunner)
    made: list[Callable[[], TaskRunner]] = [EagerTaskRunner]
    assert_type(made[0](), TaskRunner)


def existing(cluster: LocalCluster, client: Client) -> None:
    """A runner on Dask takes objects of Dask for what is there already, and the path of a file."""
    assert_type(DaskTaskRunner(cluster=cluster), DaskTaskRunner)
    assert_type(DaskTaskRunner(client=client), DaskTaskRunner)
    assert_type(DaskTaskRunner(performance_report_path="report.html"), DaskTaskRunner)
    assert_type(DaskTaskRunner(performance_report_path=Path("report.html")), DaskTaskRunner)
    security = Security(require_encryption=True)
    assert_type(DaskTaskRunner("tls://there:1", client_kwargs={"security": security}).name, str)


def items() -> None:
    """A unit of work is typed by what its function returns."""
    run = TaskRun("id", "plain-0", "plain")
    item: WorkItem[float] = WorkItem(plain, (1,), {}, run)
    assert_type(item.retry, RetryPolicy)
    assert_type(RetryPolicy(retries=2, delay=[1, 2]).retries, int)
    assert_type(RunContext(task_run=run).task_run, TaskRun | None)
    backend: Backend = "trio"
    assert_type(WorkItem(plain, (1,), {}, run, backend=backend).function(1), object)
    assert_type(item.runner_options, Mapping[str, Mapping[str, object]])
    told: WorkItem[float] = WorkItem(plain, (1,), {}, run, runner_options={"dask": {"retries": 1}})
    assert_type(told.runner_options.get("dask"), Mapping[str, object] | None)


def options() -> None:
    """The options of a runner can be checked, and are a mapping as others are."""
    options = DaskOptions(priority=2.5, resources={"GPU": 1}, workers=["first"], retries=2)
    assert_type(options, DaskOptions)
    assert_type(options.get("workers"), str | Sequence[str] | None)
    assert_type(DaskOptions(workers="first", allow_other_workers=True), DaskOptions)
    assert_type(add.with_options(runner_options={"dask": options}).submit(1), Future[int])
    assert_type(task(runner_options={"dask": DaskOptions(priority=10), "ray": {}})(plain)(1), float)
    ray = RayOptions(num_cpus=0.5, resources={"plate": 1}, runtime_env={"env_vars": {"A": "b"}})
    assert_type(ray, RayOptions)
    assert_type(ray.get("num_gpus"), float | None)
    assert_type(add.with_options(runner_options={"ray": ray}).submit(1), Future[int])
    with remote_options(num_gpus=1, max_retries=3, scheduling_strategy="SPREAD") as nothing:
        assert_type(nothing, None)
        assert_type(add.submit(1), Future[int])
    assert_type(remote_options(**ray), AbstractContextManager[None])


def placed_options(strategy: NodeAffinitySchedulingStrategy) -> RayOptions:
    """The strategies of Ray are objects of its own, and what is said in a block is no end of it."""
    with remote_options(scheduling_strategy=strategy):
        assert_type(RayOptions(scheduling_strategy=strategy), RayOptions)
        return RayOptions(scheduling_strategy=strategy, memory=1e9)


def clocks() -> None:
    """The time is a protocol, which a test may implement."""
    clock: Clock = SystemClock()
    assert_type(clock.now(), float)
    assert_type(clock.call_later(1000, print)(), None)
