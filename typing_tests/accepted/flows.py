"""Flows, and what code inside them can use."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import assert_type

import anyio

from anabranch.flows import (
    AsyncFlow,
    Branch,
    ConcurrentTaskRunner,
    CurrentFlowRun,
    CurrentTaskRun,
    Flow,
    FlowHook,
    FlowRun,
    FlowRunningHook,
    Future,
    ParameterError,
    RunFormatter,
    RunLogger,
    RunName,
    Running,
    SequentialTaskRunner,
    State,
    Task,
    TaskHook,
    TaskRun,
    TaskRunner,
    TaskRunningHook,
    branch,
    flow,
    flow_run,
    get_run_logger,
    set_tag_limit,
    tags,
    task,
    task_run,
)
from typing_tests.functions import aadd, add, aflow, aone, main_flow, none, plain


@flow(task_runner=ConcurrentTaskRunner)
async def on_a_class(n: int) -> str:
    return str(n)


@flow(task_runner=ConcurrentTaskRunner(2))
def on_an_instance() -> None:
    return None


def calls() -> None:
    """A flow is called, run and submitted as a task is."""
    fi = none.submit()
    assert_type(main_flow(1), int)
    assert_type(main_flow.run(1, tag="x"), State[int])
    assert_type(main_flow.submit(1), Future[int])
    assert_type(main_flow.submit(fi, tag=""), Future[int])
    assert_type(main_flow.submit(1, wait_for=[fi]), Future[int])
    assert_type(aflow.submit(1), Future[str])
    assert_type(aflow.with_options(retries=1).submit(1), Future[str])
    assert_type(on_an_instance.run(), State[None])


async def async_calls() -> None:
    """An async flow is awaited."""
    assert_type(await aflow(1), str)
    assert_type(await aflow.run(1), State[str])
    assert_type(await on_a_class(1), str)


def started() -> None:
    """An async flow is what event loops are started with."""
    assert_type(asyncio.run(aflow(1)), str)
    assert_type(anyio.run(aflow, 1), str)
    assert_type(anyio.run(aflow.run, 1, backend="trio"), State[str])


async def gathered(loop: asyncio.AbstractEventLoop) -> None:
    """Coroutines are gathered, each with its own type."""
    assert_type(await asyncio.gather(aone(1), aflow(1), aadd(1)), tuple[str, str, int])
    assert_type(await loop.create_task(aone(1)), str)


def runners() -> None:
    """A flow's runner is an instance, a class, or any callable that makes one."""
    changed = main_flow.with_options(task_runner=SequentialTaskRunner)
    assert_type(changed.task_runner, TaskRunner)
    changed.task_runner = ConcurrentTaskRunner
    changed.task_runner = ConcurrentTaskRunner(8)
    changed.task_runner = lambda: ConcurrentTaskRunner(8)
    assert_type(changed(1), int)


def branches() -> None:
    """What a branch's body assigns is there after it, and a branch may be returned from."""
    with branch() as opened:
        future = add.submit(1)
    assert_type(opened, Branch)
    assert_type(future, Future[int])
    assert_type(opened.name, str)
    assert_type(opened.cancel(), None)
    assert_type(returned_from(), int)


def returned_from() -> int:
    """Return inside a branch, and nowhere else."""
    with branch("inner", fail_fast=True, timeout=60):
        return add.submit(1).result()


async def async_branches() -> None:
    """The same in async code."""
    async with branch("outer") as opened:
        future = add.submit(1)
    assert_type(opened, Branch)
    assert_type(await future, int)


def labels() -> None:
    """Tags are given to blocks and limited by name."""
    assert_type(tags("io"), AbstractContextManager[frozenset[str]])
    with tags("io", "nightly") as all_of_them:
        future = add.submit(1)
    assert_type(all_of_them, frozenset[str])
    assert_type(future, Future[int])
    assert_type(set_tag_limit("typing", 2), None)
    assert_type(set_tag_limit("typing", None), None)


def context() -> None:
    """The run that is calling is known by name."""
    assert_type(flow_run, CurrentFlowRun)
    assert_type(flow_run.name, str | None)
    assert_type(flow_run.attempt, int)
    assert_type(flow_run.parameters, Mapping[str, object])
    assert_type(task_run, CurrentTaskRun)
    assert_type(task_run.task_name, str | None)
    assert_type(task_run.tags, frozenset[str])


def logs() -> None:
    """The logger of a run is one of the standard library."""
    assert_type(get_run_logger(), RunLogger)
    adapter: logging.LoggerAdapter[logging.Logger] = get_run_logger()
    assert_type(adapter.isEnabledFor(logging.INFO), bool)
    formatter: logging.Formatter = RunFormatter()
    assert_type(formatter.usesTime(), bool)


def names() -> None:
    """Runs are named by a template or a function."""

    def named(parameters: Mapping[str, object]) -> str:
        return f"add {parameters['x']}"

    for name in ("{x}", named, lambda: "always"):
        given: RunName = name
        assert_type(add.with_options(task_run_name=given)(1), int)
    assert_type(main_flow.with_options(flow_run_name="{n}")(1), int)


def hooks() -> None:
    """Hooks may say exactly what they are called with, and may be async."""

    def task_ended(t: Task[[int, int], int], run: TaskRun, state: State[int]) -> None:
        assert_type(state.result(raise_on_failure=False), int | BaseException)

    async def task_ended_async(t: Task[..., object], run: TaskRun, state: State[object]) -> None:
        assert_type(run.task_name, str)

    def task_starts(t: Task[..., object], run: TaskRun, state: Running) -> None:
        assert_type(run.name, str)

    def flow_ended(f: Flow[..., object], run: FlowRun, state: State[object]) -> None:
        assert_type(run.flow_name, str)

    def flow_starts(f: AsyncFlow[..., object], run: FlowRun, state: Running) -> None:
        assert_type(state.message, str | None)

    task_hook: TaskHook = task_ended
    task_running_hook: TaskRunningHook = task_starts
    flow_hook: FlowHook = flow_ended
    flow_running_hook: FlowRunningHook = flow_starts
    told = task(on_completion=[task_hook, task_ended_async], on_running=task_running_hook)(plain)
    assert_type(told(1), float)
    of_flow = flow(on_failure=flow_hook, on_running=[flow_running_hook])(plain)
    assert_type(of_flow(1), float)


def parameters() -> None:
    """Arguments that do not fit are a ValueError."""
    errors: list[ValueError] = [assert_type(ParameterError("no"), ParameterError)]
    assert_type(errors[0], ValueError)


def dispatch(make: Callable[[], TaskRunner]) -> None:
    """A runner may come from anywhere."""
    assert_type(flow(task_runner=make)(plain)(1), float)
