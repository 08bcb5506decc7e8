"""The functions that tasks can be made of, and how they travel."""

from __future__ import annotations

import functools
import logging
import pickle
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable
from typing import Any, assert_type

import anyio
import pytest

from anabranch.flows import (
    AsyncTask,
    ConcurrentTaskRunner,
    Future,
    FutureList,
    SequentialTaskRunner,
    State,
    Task,
    TaskRunner,
    flow,
    task,
)

RUNNERS = [SequentialTaskRunner, ConcurrentTaskRunner]


def scale(x: int, factor: int = 2) -> int:
    """Multiply."""
    return x * factor


async def scale_async(x: int, factor: int = 2) -> int:
    """Multiply, asynchronously."""
    await anyio.lowlevel.checkpoint()
    return x * factor


class Scale:
    """A callable object."""

    def __call__(self, x: int) -> int:
        """Double."""
        return 2 * x


class AsyncScale:
    """A callable object that is async."""

    async def __call__(self, x: int) -> int:
        """Double."""
        return 2 * x


def closure(factor: int) -> Callable[[int], int]:
    """Return a function that refers to another's variable."""

    def scale(x: int) -> int:
        return factor * x

    return scale


@task
def count(n: int) -> Generator[int, None, str]:
    """Yield numbers."""
    yield from range(n)
    return "not seen"


@task
async def count_async(n: int) -> AsyncGenerator[int, None]:
    """Yield numbers, asynchronously."""
    for number in range(n):
        await anyio.lowlevel.checkpoint()
        yield number


class Counter:
    """A thing that counts."""

    @task
    def count(self, n: int) -> Generator[int, None, None]:
        """Yield numbers."""
        yield from range(n)


class TestKinds:
    @pytest.mark.parametrize("runner", RUNNERS)
    @pytest.mark.parametrize(
        "function",
        [
            scale,
            lambda x: 2 * x,
            closure(2),
            Scale(),
            Scale().__call__,
            functools.partial(scale, factor=2),
            functools.partial(pow, 2),
            functools.partial(functools.partial(scale), factor=2),
            scale_async,
            AsyncScale(),
            functools.partial(scale_async, factor=2),
        ],
    )
    def test_any_callable_can_be_a_task(
        self, function: Callable[[int], Any], runner: type[TaskRunner]
    ) -> None:
        """Functions of all kinds are called, submitted and mapped."""
        made: Any = task(function)

        @flow(task_runner=runner)
        def body() -> list[object]:
            called = anyio.run(made, 2) if isinstance(made, AsyncTask) else made(2)
            return [called, made.submit(2).result(), *made.map([2]).result()]

        assert body() == [4, 4, 4]

    @pytest.mark.parametrize("runner", RUNNERS)
    def test_tasks_are_functions_to_a_bare_runner(self, runner: type[TaskRunner]) -> None:
        """A task, async or not, can be given to a runner like the function that it is made of."""
        with runner() as started:
            assert started.submit(task(scale), 2).result() == 4
            assert started.submit(task(scale_async), 2).result() == 4
            assert started.submit(count, 2).result() == [0, 1]
            assert started.submit(count_async, 2).result() == [0, 1]

    def test_a_partial_survives_as_it_is(self) -> None:
        """The task of a partial keeps its arguments and keywords when it travels."""
        cubes = task(functools.partial(scale, factor=3)).with_options(name="cubes")
        for made in (cubes, cubes.with_options(task_run_name="{x}-{factor}")):
            copy = pickle.loads(pickle.dumps(made))
            assert (copy(2), copy.name) == (6, "cubes")


class TestGenerators:
    @pytest.mark.parametrize("runner", RUNNERS)
    def test_a_generator_gives_a_list(self, runner: type[TaskRunner]) -> None:
        """What a generator yields is the list that its task returns, async or not."""
        assert (type(count), type(count_async)) == (Task, AsyncTask)

        @flow(task_runner=runner)
        def body() -> list[object]:
            return [
                count(2),
                count.submit(2).result(),
                count.map([1, 2]).result(),
                count_async.submit(3).result(),
                Counter().count.submit(2).result(),
                task(lambda: (each for each in "ab")).submit().result(),
            ]

        assert body() == [[0, 1], [0, 1], [[0], [0, 1]], [0, 1, 2], [0, 1], ["a", "b"]]

    @pytest.mark.anyio
    async def test_an_async_generator_is_awaited(self) -> None:
        """The task of an async generator is an async task."""
        assert await count_async(3) == [0, 1, 2]
        assert (await count_async.run(2)).result() == [0, 1]

    def test_its_body_runs_in_the_run(self) -> None:
        """What a generator raises is the failure of its run."""

        @task
        def broken() -> Generator[int, None, None]:
            yield 1
            raise LookupError("gone")

        assert str(broken.run()) == "Failed('LookupError: gone')"
        assert str(flow(lambda: broken.submit().wait()).run()).startswith("Failed")

    def test_an_iterator_stays_one(self) -> None:
        """Only generators are consumed: other iterators are values."""
        found: Any = task(lambda: iter([1]))()
        assert next(found) == 1

    @pytest.mark.anyio
    async def test_callable_objects_may_be_generators(self) -> None:
        """A callable object whose call is an async generator makes an async task."""

        class Numbers:
            async def __call__(self, n: int) -> AsyncIterator[int]:
                for number in range(n):
                    yield number

        assert await task(Numbers())(2) == [0, 1]

    def test_they_are_typed_as_lists(self) -> None:
        """Type checkers see the lists, and which tasks are async."""

        class Numbers:
            @task
            def count(self, n: int) -> Generator[int, None, None]:
                yield n

        @task(name="by iterator")
        async def count_by_iterator(n: int) -> AsyncIterator[int]:
            yield n

        assert_type(count(1), list[int])
        assert_type(count.run(1), State[list[int]])
        sync: Task[[int], list[int]] = count
        asynchronous: list[AsyncTask[[int], list[int]]] = [count_async, count_by_iterator]

        @flow
        def body() -> None:
            assert_type(count.submit(1), Future[list[int]])
            assert_type(count_async.map([1]), FutureList[list[int]])
            assert_type(Numbers().count.submit(1), Future[list[int]])
            assert_type(task(words).submit(), Future[Iterable[str]])

        body()
        assert [type(each) for each in (sync, *asynchronous)] == [Task, AsyncTask, AsyncTask]


class TestMistakes:
    @pytest.mark.parametrize("runner", RUNNERS)
    def test_a_coroutine_by_mistake_is_an_error(self, runner: type[TaskRunner]) -> None:
        """A sync task that returns a coroutine fails, names the fix, and leaves no coroutine."""
        wrong: Any = task(name="wrong")(lambda: scale_async(1))
        message = r"Task 'wrong' returned a coroutine, .*Decorate the async function itself, or wr"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for call in (wrong.run, lambda: flow(task_runner=runner)(wrong.submit).run()):
                with pytest.raises(TypeError, match=message):
                    call().result()

    def test_an_async_generator_by_mistake_is_an_error(self) -> None:
        """A sync task that returns an async generator is told to be async."""
        wrong: Any = task(name="wrong")(lambda: count_async.function(1))
        with pytest.raises(TypeError, match=r"'wrong' returned an async generator.*and `yield`"):
            wrong.run().result()


class TestTravelling:
    def test_settings_travel(self, caplog: pytest.LogCaptureFixture) -> None:
        """The setting for prints goes along with a function that is shipped by name."""
        caplog.set_level(logging.INFO, logger="anabranch")
        shipped = count.with_options(log_prints=True)._shipped
        travelled = pickle.loads(pickle.dumps(shipped))
        assert (travelled.log_prints, travelled(2)) == (True, [0, 1])
        bound = pickle.loads(pickle.dumps(Counter().count._shipped))
        assert bound(2) == [0, 1]
        assert bound.original()(1).__next__() == 0

    def test_what_is_inherited_travels(self) -> None:
        """In a flow that logs its prints, the functions of its tasks are shipped to do so."""
        own = count.with_options(log_prints=False)
        body = flow(log_prints=True)(
            lambda: [each._function_to_ship().log_prints for each in (count, own)]
        )
        assert body() == [True, False]
        assert count._function_to_ship() is count._shipped

    def test_a_plain_function_travels_as_its_name(self) -> None:
        """What has no settings is as small as ever."""
        assert len(pickle.dumps(count._shipped)) < 120


def words() -> Iterable[str]:
    """Return an iterable that is no generator."""
    return ["a"]


def test_other_iterables_are_untouched() -> None:
    """A function that returns a list returns that list."""
    assert task(words)() == ["a"]
