"""`task` and `flow`: with and without options, on every kind of function."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from typing import Any, assert_type

from anabranch.flows import (
    AsyncFlow,
    AsyncTask,
    Flow,
    FlowDecorator,
    FlowOptions,
    Future,
    RetryCondition,
    RetryDelay,
    Runnable,
    State,
    Sync,
    Task,
    TaskDecorator,
    TaskOptions,
    exponential_backoff,
    flow,
    task,
)
from typing_tests.functions import (
    acount_to,
    add,
    aflow,
    aone,
    aplain,
    count_to,
    main_flow,
    one,
    plain,
)

preset = task(retries=3)
flow_preset = flow(retries=3)


@preset
def p1(x: int) -> int:
    return x


@preset(name="p2")
async def p2(x: int) -> int:
    return x


@flow_preset
def f1(x: int) -> int:
    return x


@flow_preset(name="f2")
async def f2(x: int) -> int:
    return x


@Task
def loose(x: int) -> Any:  # noqa: ANN401 - what such a function is typed as
    return x


def doubled(function: Callable[[int], int]) -> Callable[[int], int]:
    """Decorate before `task` does."""
    return lambda x: 2 * function(x)


@task
@doubled
def decorated(x: int) -> int:
    return x


def without_options() -> None:
    """A function becomes a task of its own parameters and its own return type."""
    made: Task[[int], str] = one
    assert_type(made(1), str)
    assert_type(task(plain)(1, "a"), float)
    assert_type(task(plain).submit(1), Future[float])
    assert_type(task(aplain).submit(1), Future[bytes])
    assert_type(decorated(1), int)
    assert_type(loose(1), Any)
    assert_type(loose.submit(1), Future[Any])


def with_options() -> None:
    """Options change nothing of the types, and a decorator of options can be kept."""
    assert_type(task, TaskDecorator)
    assert_type(preset, TaskDecorator)
    assert_type(task(retries=1)(plain).submit(1), Future[float])
    assert_type(task(retries=1, timeout=None)(aplain).submit(1), Future[bytes])
    assert_type(preset(name="p3"), TaskDecorator)
    assert_type(p1(1), int)
    assert_type(p1.submit(1), Future[int])
    assert_type(p2.submit(1), Future[int])
    assert_type(Task(plain, retries=1).submit(1), Future[float])
    assert_type(AsyncTask(aplain, name="bytes").submit(1), Future[bytes])
    options: TaskOptions = {"retries": 1, "tags": ["a", "b"]}
    assert_type(task(**options)(plain)(1), float)
    assert_type(options.get("retries"), int | None)


def options_for_runners() -> None:
    """Options for runners are mappings by the runners' names, whatever is in them."""
    assert_type(task(runner_options={"dask": {"priority": 10}, "ray": {}})(plain)(1), float)
    kept = {"dask": {"resources": {"GPU": 1}}}
    assert_type(add.with_options(runner_options=kept).submit(1), Future[int])
    options: TaskOptions = {"runner_options": {"dask": {"priority": 10, "workers": "first"}}}
    assert_type(task(**options)(plain)(1), float)
    assert_type(options.get("runner_options"), Mapping[str, Mapping[str, object]] | None)


def changed_options() -> None:
    """`with_options` gives the same kind of task or flow."""
    assert_type(add.with_options(retries=5).submit(1), Future[int])
    assert_type(aone.with_options(name="x").submit(1), Future[str])
    assert_type(main_flow.with_options(name="z")(1), int)
    assert_type(main_flow.with_options(name="z").run(1), State[int])


def flows() -> None:
    """The decorator of flows does the same."""
    assert_type(flow, FlowDecorator)
    assert_type(flow_preset, FlowDecorator)
    made: Flow[[int], int] = f1
    assert_type(made(1), int)
    assert_type(flow(plain)(1), float)
    assert_type(Flow(plain, retries=1)(1, "a"), float)
    options: FlowOptions = {"retries": 1, "validate_parameters": False}
    assert_type(flow(**options)(plain)(1), float)
    assert_type(options.get("name"), str | None)


async def async_flows() -> None:
    """Coroutine functions become async flows."""
    made: AsyncFlow[[int], str] = aflow
    assert_type(await made(1), str)
    assert_type(await f2(1), int)
    assert_type(await AsyncFlow(aplain, retries=1)(1), bytes)


def generators() -> None:
    """The task of a generator returns the list of what it yields."""
    assert_type(count_to(2), list[int])
    assert_type(count_to.submit(2), Future[list[int]])
    assert_type(acount_to.submit(2), Future[list[int]])


async def async_generators() -> None:
    """That of an async generator is an async task."""
    assert_type(await acount_to(2), list[int])

    @task
    async def letters() -> AsyncIterator[str]:
        yield "a"

    @task
    def numbers() -> Generator[int, None, None]:
        yield 1

    assert_type(await letters(), list[str])
    assert_type(numbers.submit(), Future[list[int]])


def iterators() -> None:
    """A function that returns an iterator returns just that."""

    def made() -> Iterator[int]:
        return iter([1])

    assert_type(task(made)(), Iterator[int])


def retries() -> None:
    """How to retry is a number, numbers or a function; whether is a function of the state."""
    delay: RetryDelay = assert_type(exponential_backoff(2, maximum=60), Callable[[int], float])
    condition: RetryCondition = is_worth_it
    made = task(retries=3, retry_delay=delay, retry_condition=condition)(plain)
    assert_type(made(1), float)
    assert_type(task(retry_delay=[1, 2.5])(plain)(1), float)


def is_worth_it(state: State[object]) -> bool:
    """Say whether to try again."""
    return state.is_crashed()


def kinds() -> None:
    """What takes a task can say which kind it needs."""

    def takes(t: Task[[int], object], a: AsyncTask[[int], object]) -> None:
        assert_type(t(1), object)
        assert_type(a.submit(1), Future[object])

    def takes_any(r: Runnable[..., object], s: Sync[..., object]) -> None:
        assert_type(r.submit(1), Future[object])
        assert_type(s(1), object)

    takes(p1, aone)
    takes_any(p2, f1)
