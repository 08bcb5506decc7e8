"""What flows and tasks do on each of the four runners."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any

import attrs
import pytest

from anabranch.flows import (
    ConcurrentTaskRunner,
    Failed,
    FutureList,
    SequentialTaskRunner,
    TaskRunner,
    UpstreamFailed,
    allow_failure,
    flow,
    flow_run,
    get_run_logger,
    lift,
    tags,
    task,
    task_run,
    unmapped,
)
from anabranch.futures import NotSubmittableError
from anabranch.runners.dask import DaskTaskRunner
from anabranch.runners.ray import RayTaskRunner


@pytest.fixture(params=["sequential", "concurrent", "dask", "ray"], scope="module")
def runner(request: pytest.FixtureRequest) -> Iterator[TaskRunner]:
    """A runner for the flows of this module; a cluster is started once for all of them."""
    match request.param:
        case "sequential":
            yield SequentialTaskRunner()
        case "concurrent":
            yield ConcurrentTaskRunner()
        case "dask":
            import distributed  # noqa: PLC0415 - only for this runner

            with distributed.LocalCluster(
                n_workers=1, threads_per_worker=2, dashboard_address=":0"
            ) as cluster:
                yield DaskTaskRunner(address=cluster.scheduler_address)
        case _:
            with RayTaskRunner(init_kwargs={"num_cpus": 2}):
                yield RayTaskRunner(init_kwargs={"num_cpus": 2})


@task
def add(x: int, y: int = 0) -> int:
    """Add."""
    return x + y


@task
async def add_async(x: int, y: int = 0) -> int:
    """Add, asynchronously."""
    return x + y


@task
def fail(message: str) -> int:
    """Raise."""
    raise LookupError(message)


@task
def total(numbers: list[int]) -> int:
    """Sum a list."""
    return sum(numbers)


@task
def kind(value: object) -> str:
    """Name a type."""
    return type(value).__name__


@task
def submit_inside() -> int:
    """Submit a task from inside a task."""
    return add.submit(1).result()


@task
def process() -> int:
    """Tell the process."""
    return os.getpid()


@attrs.frozen
class Order:
    """A record with a number somewhere inside."""

    amounts: dict[str, list[int]]


@task
def amount(order: Order) -> int:
    """Sum an order."""
    return sum(sum(each) for each in order.amounts.values())


class Scale:
    """A thing with a task for a method."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    @task
    def weigh(self, x: int) -> int:
        """Weigh."""
        return self.factor * x


@task
def count(n: int) -> Generator[int, None, None]:
    """Yield numbers."""
    yield from range(n)


@task
async def count_async(n: int) -> AsyncGenerator[int, None]:
    """Yield numbers, asynchronously."""
    for number in range(n):
        yield number


class Double:
    """A callable object."""

    def __call__(self, x: int) -> int:
        """Double."""
        return 2 * x

    @task
    @classmethod
    def named(cls, x: int) -> str:
        """Name the class."""
        return f"{cls.__name__} {x}"

    @task
    @staticmethod
    def count(n: int) -> Generator[int, None, None]:
        """Yield numbers."""
        yield from range(n)


@task(tags=["own"], task_run_name="seen-{x}")
def see(x: int, *more: int, y: str = "z") -> dict[str, object]:
    """Tell what a run sees of itself."""
    get_run_logger().info("It works everywhere")
    return {
        "names": (task_run.task_name, task_run.name, flow_run.flow_name, flow_run.name),
        "ids": (task_run.id, flow_run.id),
        "parameters": dict(task_run.parameters),
        "tags": task_run.tags,
        "attempts": (task_run.attempt, flow_run.attempt),
    }


@task
async def see_async(x: int) -> object:
    """Tell the parameters of a run."""
    return dict(task_run.parameters)


@task(task_run_name="wrong")
def forget_to_await() -> object:
    """Return a coroutine by mistake."""
    return count_async(1)


def test_values_flow_through_tasks(runner: TaskRunner) -> None:
    """Values go from task to task: sync and async, mapped, nested, and methods."""

    @flow(task_runner=runner)
    def body() -> dict[str, object]:
        one = add.submit(1)
        mapped = add_async.map([one, 2, 3], unmapped(10))
        return {
            "chain": add.submit(add_async.submit(one, 1), lift(one)).result(),
            "mapped": mapped.result(),
            "again": add.map(mapped).result(),
            "total": total.submit(mapped).result(),
            "nested": amount.submit(Order({"a": [lift(one), 2], "b": [lift(mapped[0])]})).result(),
            "method": Scale(3).weigh.submit(one).result(),
            "lambda": task(lambda x: -x).submit(4).result(),
        }

    assert body() == {
        "chain": 3,
        "mapped": [11, 12, 13],
        "again": [11, 12, 13],
        "total": 36,
        "nested": 14,
        "method": 3,
        "lambda": -4,
    }


def test_functions_of_all_kinds(runner: TaskRunner) -> None:
    """Callables of all kinds are submitted and mapped, and generators become lists."""
    factor = 3
    kinds: list[Callable[[int], object]] = [
        lambda x: x * factor,
        Double(),
        Double().__call__,
        functools.partial(pow, 2),
        functools.partial(pow, exp=2),
        functools.partial(add.function, y=1),
    ]

    @flow(task_runner=runner)
    def body() -> list[object]:
        tasks = [task(each) for each in kinds]
        found: list[object] = [[each.submit(4).result(), *each.map([5])] for each in tasks]
        generators = [count.submit(2), count_async.submit(2), Double.count.submit(2)]
        return [found, [each.result() for each in generators], Double.named.submit(1).result()]

    found, generated, named = body()
    values: Any = found
    assert [[first, second.result()] for first, second in values] == [
        [12, 15],
        [8, 10],
        [8, 10],
        [16, 32],
        [16, 25],
        [5, 6],
    ]
    assert (generated, named) == ([[0, 1]] * 3, "Double 1")


def test_a_coroutine_by_mistake(runner: TaskRunner) -> None:
    """A sync task that returns a coroutine fails, and is told what to do."""
    state = flow(task_runner=runner)(lambda: forget_to_await.submit().wait()).run()
    with pytest.raises(TypeError, match=r"Task 'forget_to_await' returned a coroutine.*Decorate"):
        state.result()


def test_a_run_sees_itself(runner: TaskRunner) -> None:
    """A task sees its run, its flow run and its parameters, in whatever process it runs."""

    @flow(name="watched", flow_run_name="my-run", task_runner=runner)
    def body() -> tuple[object, ...]:
        with tags("around"):
            future = see.submit(lift(add.submit(1)), 2)
        run, seen = future.task_run, future.result()
        return run.name, run.id, flow_run.id, seen, see_async.submit(5).result()

    name, run_id, flow_run_id, seen, seen_async = body()
    assert seen == {
        "names": ("see", name, "watched", "my-run"),
        "ids": (run_id, flow_run_id),
        "parameters": {"x": 1, "more": (2,), "y": "z"},
        "tags": {"own", "around"},
        "attempts": (1, 1),
    }
    assert seen_async == {"x": 5}


def test_hooks_are_called_here(runner: TaskRunner) -> None:
    """Hooks of a run are called in the process that submitted it, before its flow ends."""
    calls: list[tuple[str, str, int]] = []

    def note(made: Any, run: object, state: Any) -> None:  # noqa: ANN401 - any state
        calls.append((made.name, state.name, os.getpid()))

    failing = fail.with_options(on_failure=note)
    adding = add.with_options(on_completion=note)

    @flow(task_runner=runner)
    def body() -> str:
        adding.submit(1).wait()
        failing.submit("gone").wait()
        return "done"

    body()
    assert sorted(calls) == [
        ("add", "Completed", os.getpid()),
        ("fail", "Failed", os.getpid()),
    ]


def test_a_returned_future_can_be_read_after_the_flow(runner: TaskRunner) -> None:
    """What a flow returns is brought over before its runner ends."""

    @flow(task_runner=runner)
    def body() -> FutureList[int]:
        return add.map([1, 2], unmapped(1))

    futures = body()
    assert futures.result() == [2, 3]
    assert [future.result() for future in futures] == [2, 3]


def test_failures_are_told_alike(runner: TaskRunner) -> None:
    """A failure, what is behind it, and what tolerates it, end in the same states everywhere."""

    @flow(task_runner=runner)
    def body() -> list[str]:
        failed = fail.submit("gone")
        behind = add.submit(add.submit(failed))
        waiting = add.submit(1, wait_for=[failed])
        tolerant = kind.submit(allow_failure(failed))
        assert isinstance(failed.wait(), Failed)
        assert type(failed.exception()) is LookupError
        state = behind.wait()
        assert isinstance(state, UpstreamFailed)
        assert type(state.cause) is LookupError
        assert isinstance(waiting.wait(), UpstreamFailed)
        return [tolerant.result(), str(failed.state)]

    assert body() == ["LookupError", "Failed('LookupError: gone')"]


def test_the_final_state_is_the_sum_of_the_runs(runner: TaskRunner) -> None:
    """A flow that returns None fails with the exception of the one run that failed."""

    @flow(task_runner=runner)
    def body() -> None:
        add.submit(1)
        add.submit(fail.submit("gone"))

    state = body.run()
    assert str(state) == "Failed('2/3 states failed.')"
    with pytest.raises(LookupError, match="gone"):
        state.result()


@pytest.mark.anyio
async def test_async_flows_run_on_it(runner: TaskRunner) -> None:
    """An async flow runs its tasks on the runner without blocking the event loop."""

    @flow(task_runner=runner)
    async def body() -> int:
        one = add.submit(1)
        return await add_async.submit(one, await add.submit(one, 1))

    assert await body() == 3


def test_a_direct_call_runs_in_place(runner: TaskRunner) -> None:
    """Calling a task directly runs it in this process, under any runner."""
    assert flow(task_runner=runner)(lambda: process())() == os.getpid()


def test_parallel_runners_use_other_processes(runner: TaskRunner) -> None:
    """A submitted task runs in this process exactly where the runner is not parallel."""
    elsewhere = flow(task_runner=runner)(lambda: process.submit().result())() != os.getpid()
    assert elsewhere == (runner.name in ("dask", "ray"))


def test_submitting_inside_a_task(runner: TaskRunner) -> None:
    """A task in this process may submit tasks; one elsewhere is told that it cannot, and why."""
    body = flow(task_runner=runner)(lambda: submit_inside.submit().result())
    if runner.name in ("dask", "ray"):
        with pytest.raises(NotSubmittableError, match=r"'add'.*in another process.*directly"):
            body()
    else:
        assert body() == 1


def test_a_mixed_flow(runner: TaskRunner) -> None:
    """A concurrent flow calls a subflow on another runner, and passes futures both ways."""

    @flow(task_runner=runner)
    def inner(x: int) -> FutureList[int]:
        return add.map([x, x + 1])

    @flow
    def outer() -> int:
        first = add.submit(1)
        return total.submit(inner(first.result())).result()

    assert outer() == 3


def test_futures_go_from_runner_to_runner(runner: TaskRunner) -> None:
    """A future of one runner is an argument on another, at any depth, failed ones included."""
    with ConcurrentTaskRunner() as local, runner.duplicate() as other:
        one, two = local.submit(add, 1), other.submit(add, 2)
        assert other.submit(total, [lift(one), lift(two), 3]).result() == 6
        assert local.submit(total, [lift(one), lift(two), 3]).result() == 6
        for here, there in ((local, other), (other, local)):
            state = there.submit(add, lift(here.submit(fail, "gone"))).wait()
            assert isinstance(state, UpstreamFailed)
            assert isinstance(state.cause, LookupError)


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The messages logged so far."""
    caplog.set_level(logging.INFO, logger="anabranch")
    return lambda: [record.getMessage() for record in caplog.records]


def test_every_run_is_logged(runner: TaskRunner, messages: Callable[[], list[str]]) -> None:
    """Each run is logged from its creation to its end, on every runner."""

    @flow(name="logged", task_runner=runner)
    def body() -> None:
        add.submit(1)
        fail.submit("gone")

    body.run()
    log = messages()
    concurrency = runner.concurrency_type.value
    assert f"Starting {str(runner)!r}; submitted tasks will be run {concurrency}..." in log
    assert f"Created task run 'add-{add.key}-0' for task 'add'" in log
    assert "Finished in state Completed()" in log
    assert "Finished in state Failed('LookupError: gone')" in log
    assert log[-1] == "Finished in state Failed('1/2 states failed.')"
