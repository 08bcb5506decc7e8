"""Runs that wait for others under the limits of tags: they lend their places."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias

import anyio
import pytest
import tagged_tasks as shared
from tagged_tasks import RUNNERS, AtWork, async_child, child, untagged

from anabranch.flows import (
    AsyncTask,
    ConcurrentTaskRunner,
    SequentialTaskRunner,
    Task,
    TaskRunner,
    flow,
    gather,
    set_tag_limit,
    task,
)
from anabranch.flows._places import Limit, PlaceRequest, Places, Rank
from anabranch.futures import TaskRun

no_limit_is_left = shared.no_limit_is_left


@task(tags=["db"])
def parent(at_work: AtWork) -> int:
    """Submit a run with the same tag, and wait for it."""
    with at_work:
        pass
    result = child.submit(at_work).result()
    with at_work:
        return result + 1


@task(tags=["db"])
async def async_parent(at_work: AtWork) -> int:
    """Submit an async run with the same tag, and wait for it."""
    with at_work:
        await anyio.lowlevel.checkpoint()
    result = await async_child.submit(at_work)
    with at_work:
        await anyio.lowlevel.checkpoint()
    return result + 1


@task(tags=["db"])
def leaving_parent(at_work: AtWork) -> None:
    """Submit a run with the same tag, and leave it to the run's end."""
    with at_work:
        pass
    child.submit(at_work)


@task(tags=["db"])
def calling_parent(at_work: AtWork) -> int:
    """Call a task with the same tag."""
    with at_work:
        pass
    result = child(at_work)
    with at_work:
        return result + 1


@task(tags=["db"])
async def calling_async_parent(at_work: AtWork) -> int:
    """Call an async task with the same tag, twice at a time."""
    results = []

    async def call() -> None:
        results.append(await async_child(at_work))

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        group.start_soon(call)
    with at_work:
        return sum(results)


AnyTask: TypeAlias = Task[[AtWork], int | None] | AsyncTask[[AtWork], int]

PARENTS: list[AnyTask] = [
    parent,
    async_parent,
    leaving_parent,
    calling_parent,
    calling_async_parent,
]


def places(*limits: Limit) -> Places:
    """Return the places of some run."""
    return Places(TaskRun("1", "run-1", "run"), frozenset(limits))


def asked(wanted: Places, rank: Rank = Rank.NEW) -> PlaceRequest:
    """Ask for places that cannot be had at once."""
    request = PlaceRequest(wanted)
    assert not wanted.ask(request, rank)
    return request


def holding(*limits: Limit) -> Places:
    """Return places that a run has."""
    held = places(*limits)
    assert held.ask(PlaceRequest(held), Rank.NEW)
    return held


class TestPlaces:
    """Who is given a place, step by step."""

    def test_the_order(self) -> None:
        """Who goes on is served before children, children before new runs, each in their order."""
        limit = Limit("db", 1)
        lender, at_work = holding(limit), places(limit)
        lender.lend()
        assert at_work.ask(PlaceRequest(at_work), Rank.NEW)
        others = [places(limit) for _ in range(4)]
        new = [asked(others[0]), asked(others[1])]
        nested = [asked(each, Rank.NESTED) for each in others[2:]]
        back = lender.take_back()
        assert back is not None
        order = [back, *nested, *new]
        for count, each in enumerate([at_work, lender, others[2], others[3], others[0]]):
            each.close()
            assert [request.done() for request in order] == [True] * (count + 1) + [False] * (
                4 - count
            )
        others[1].close()

    def test_parts_of_a_run(self) -> None:
        """A run has its places back when no part of it waits any longer."""
        limit = Limit("db", 1)
        run = holding(limit)
        run.lend()
        run.lend()
        other = holding(limit)
        assert run.take_back() is None
        other.close()
        assert limit.has_room()
        assert run.take_back() is None
        assert not limit.has_room()
        run.close()

    def test_a_part_that_waits_anew(self) -> None:
        """A part that waits to go on goes on when another begins to wait, which may be for it."""
        limit = Limit("db", 1)
        run = holding(limit)
        run.lend()
        other = holding(limit)
        back = run.take_back()
        assert back is not None
        run.lend()
        assert back.done()
        other.close()
        assert limit.has_room()
        assert run.take_back() is None
        run.close()
        assert limit.has_room()

    def test_a_run_that_has_ended(self) -> None:
        """What an abandoned thread of a run that has ended does changes nothing."""
        limit = Limit("db", 1)
        run = holding(limit)
        run.close()
        run.lend()
        assert run.take_back() is None
        assert limit.has_room()
        run.close()
        late = PlaceRequest(run)
        assert not run.ask(late, Rank.NEW)
        assert limit.has_room()

    def test_an_end_while_a_part_waits_to_go_on(self) -> None:
        """When the run has ended, nothing waits for its places, and nobody is given them."""
        limit = Limit("db", 1)
        run = holding(limit)
        run.lend()
        other = holding(limit)
        back = run.take_back()
        assert back is not None
        run.close()
        assert back.done()
        other.close()
        assert limit.has_room()


class TestWaiting:
    """A run that waits for another gives its places back."""

    @pytest.mark.parametrize("each", PARENTS, ids=lambda each: each.name)
    @pytest.mark.parametrize("runner", RUNNERS)
    def test_a_parent_waits_for_its_child(self, runner: TaskRunner, each: AnyTask) -> None:
        """Parents and children share one place, and never are two of them at work."""
        set_tag_limit("db", 1)
        at_work = AtWork()

        @flow(task_runner=runner)
        def work() -> None:
            gather([each.submit(at_work) for _ in range(8)]).result()

        work()
        assert at_work.most == 1

    @pytest.mark.parametrize("each", PARENTS, ids=lambda each: each.name)
    @pytest.mark.parametrize("runner", RUNNERS)
    @pytest.mark.anyio
    async def test_in_an_async_flow(self, runner: TaskRunner, each: AnyTask) -> None:
        """Parents and children share one place in async flows, too."""
        set_tag_limit("db", 1)
        at_work = AtWork()

        @flow(task_runner=runner)
        async def work() -> None:
            await gather([each.submit(at_work) for _ in range(8)])

        await work()
        assert at_work.most == 1

    def test_parents_do_not_pile_up(self) -> None:
        """Of many parents, few have started at a time: children go before new parents."""
        set_tag_limit("db", 1)
        started, at_work = AtWork(), AtWork()

        @task(tags=["db"])
        def count_and_wait() -> None:
            with started:
                child.submit(at_work).result()

        @flow(task_runner=ConcurrentTaskRunner(max_workers=2))
        def work() -> None:
            for _ in range(100):
                count_and_wait.submit()

        work()
        assert started.most <= 8

    def test_through_a_run_without_tags(self) -> None:
        """A run also lends its place for runs that those it waits for have submitted."""
        set_tag_limit("db", 1)
        at_work = AtWork()

        @task
        def between() -> int:
            return child.submit(at_work).result()

        @task(tags=["db"])
        def top() -> int:
            return between.submit().result()

        for runner in (ConcurrentTaskRunner(max_workers=1), SequentialTaskRunner()):
            assert flow(task_runner=runner)(lambda: top.submit().result())() == 1

    @pytest.mark.parametrize("runner", RUNNERS)
    @pytest.mark.anyio
    async def test_sync_calls_in_a_loop(self, runner: TaskRunner) -> None:
        """An async run calls a sync task with its place: nobody else could go on meanwhile."""
        set_tag_limit("db", 1)
        at_work = AtWork()

        @task(tags=["db"])
        async def calling() -> int:
            return child(at_work)

        @flow(task_runner=runner)
        async def work() -> list[int]:
            return await gather([calling.submit() for _ in range(10)])

        assert await work() == [1] * 10
        assert at_work.most == 1

    @pytest.mark.parametrize("runner", RUNNERS)
    def test_async_runs_beside_a_sync_flow(self, runner: TaskRunner) -> None:
        """An async run that submits sync ones does not block its loop to have its place back."""
        set_tag_limit("db", 1)
        at_work = AtWork()

        @task(tags=["db"])
        async def submitting() -> int:
            return await child.submit(at_work)

        @task(tags=["db"])
        async def top() -> list[int]:
            free = untagged.submit()
            return [await submitting.submit(), await submitting.submit(), len(await free)]

        @flow(task_runner=runner)
        def work() -> list[list[int]]:
            return gather([top.submit() for _ in range(10)]).result()

        assert work() == [[1, 1, 4]] * 10
        assert at_work.most == 1

    def test_calls_under_other_limits(self) -> None:
        """Two runs that call what needs the place of the other both get on."""
        set_tag_limit("a", 1)
        set_tag_limit("b", 1)
        both_at_work = threading.Barrier(2, timeout=20)
        inner_a, inner_b = (untagged.with_options(tags=[tag]) for tag in "ab")

        def call(inner: Callable[[], str]) -> str:
            both_at_work.wait()
            return inner()

        @flow
        def work() -> list[str]:
            first = task(tags=["a"])(call).submit(inner_b)
            second = task(tags=["b"])(call).submit(inner_a)
            return [first.result(), second.result()]

        assert work() == ["free", "free"]

    def test_a_timeout_of_the_wait(self) -> None:
        """A wait that is given up takes the place back as well."""
        set_tag_limit("db", 1)
        at_work = AtWork()

        @task(tags=["db"])
        def impatient() -> str:
            stop = threading.Event()
            blocked = task(stop.wait).submit()
            assert blocked.wait(timeout=0) is None
            with at_work:
                stop.set()
            return "went on"

        @flow
        def work() -> list[str]:
            return gather([impatient.submit() for _ in range(5)]).result()

        assert work() == ["went on"] * 5
        assert at_work.most == 1

    @pytest.mark.anyio
    async def test_sequential_turns(self) -> None:
        """On a sequential runner, one that has a place but no turn gets the turn of who waits."""
        set_tag_limit("db", 1)
        at_work = AtWork()

        @task
        async def first(ready: anyio.Event, go: anyio.Event) -> int:
            ready.set()
            await go.wait()
            return await async_child.submit(at_work) + await async_child(at_work)

        @flow(task_runner=SequentialTaskRunner())
        async def work() -> list[int]:
            ready, go = anyio.Event(), anyio.Event()
            head = first.submit(ready, go)
            await ready.wait()
            # It has the place from now on, and no turn, which is the first one's.
            rest = async_child.map([at_work] * 3)
            go.set()
            return [await head, *await rest]

        assert await work() == [2, 1, 1, 1]

    @pytest.mark.parametrize("own_tags", [[], ["db"]])
    @pytest.mark.anyio
    async def test_sequential_turns_and_calls(self, own_tags: list[str]) -> None:
        """What a run has called directly lets go what it waits for, as the run itself would."""
        set_tag_limit("db", 1)
        at_work = AtWork()

        @task(tags=own_tags)
        async def called() -> int:
            return await async_child.submit(at_work) + await child.submit(at_work)

        @task
        async def calling() -> int:
            return await called()

        @flow(task_runner=SequentialTaskRunner())
        async def work() -> int:
            return await calling.submit()

        assert await work() == 2

    @pytest.mark.anyio
    async def test_sequential_turns_and_two_limits(self) -> None:
        """That also holds for those who get their places while another waits to go on."""
        set_tag_limit("a", 1)
        set_tag_limit("b", 1)

        @task
        async def step(log: list[str], name: str) -> None:
            await anyio.lowlevel.checkpoint()
            log.append(name)

        @task(tags=["a", "b"])
        async def first(ready: anyio.Event, go: anyio.Event, log: list[str]) -> None:
            ready.set()
            await go.wait()
            await step.submit(log, "child")
            log.append("first")

        @flow(task_runner=SequentialTaskRunner())
        async def work() -> list[str]:
            ready, go, log = anyio.Event(), anyio.Event(), list[str]()
            first.submit(ready, go, log)
            await ready.wait()
            for name in "abab":
                step.with_options(tags=[name]).submit(log, name)
            go.set()
            return log

        log = await work()
        assert sorted(log) == ["a", "a", "b", "b", "child", "first"]
