"""Behaviours of tasks among others: mapped, streamed, limited, in order, and inside each other."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Final

import anyio.lowlevel

from anabranch.flows._decorators import flow
from anabranch.flows._tag_limits import set_tag_limit
from anabranch.flows.testing._functions import (
    Log,
    add,
    add_async,
    branch_inside,
    fail,
    fail_inside,
    hold,
    hold_first,
    note,
    submit_inside,
)
from anabranch.futures import (
    Failed,
    Future,
    FutureList,
    NotSubmittableError,
    UpstreamFailed,
    as_completed,
    gather,
    lift,
    quote,
    unmapped,
    wait,
)
from anabranch.futures.runner import AnyFunction
from anabranch.futures.testing import (
    NOT_IN_PLACE,
    Behaviour,
    Gate,
    Subject,
    Unable,
    new_tally,
    raises,
    registrar,
    run_on_each_loop,
)

ROWS: Final[list[Behaviour]] = []
behaviour: Final = registrar(ROWS)


# ---------------------------------------------------------------------------- many at once


@behaviour("maps over iterables, futures of lists and unmapped values, all of the same length")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    def body() -> list[object]:
        first = add.map(range(3), unmapped(10))
        assert isinstance(first, FutureList)
        second = add.map(first, [1, 2, 3])
        map_any: AnyFunction[object] = add.map
        with raises(ValueError, "add.map()", "length"):
            map_any([1, 2], [1, 2, 3])
        return [first.result(), second.result(), [each.result() for each in as_completed(first)]]

    found = body()
    assert found[:2] == [[10, 11, 12], [11, 13, 15]]
    assert isinstance(found[2], list)
    assert sorted(found[2]) == [10, 11, 12]


@behaviour("waits for many: for all, for the first failure, or for their values")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    def body() -> list[object]:
        runs = [add.submit(number) for number in range(3)]
        assert wait(runs).not_done == []
        failed = fail.submit("gone")
        assert failed in wait([failed, *runs], fail_fast=True).done
        with raises(LookupError, "gone"):
            gather([*runs, failed]).result()
        return [gather(runs).result()]

    assert body() == [[0, 1, 2]]


@behaviour("starts a task when those have completed that it is to come after")
def _(subject: Subject) -> None:
    with new_tally() as tally:

        @flow(task_runner=subject.make())
        def body() -> list[int]:
            first = note.submit(tally)
            second = note.after(first).submit(tally)
            third = note.submit(tally, wait_for=[second])
            rest = note.map([tally], wait_for=[third])
            return [first.result(), second.result(), third.result(), *rest.result()]

        assert body() == [1, 2, 3, 4]

        @flow(task_runner=subject.make())
        def failing() -> str:
            state = note.after(fail.submit("gone")).submit(tally).wait()
            assert isinstance(state, UpstreamFailed)
            return "done"

        failing()
        assert len(tally) == 4


# ---------------------------------------------------------------------------- streams


def _numbers(taken: list[object]) -> Iterator[int]:
    try:
        for number in itertools.count():
            taken.append(number)
            yield number
    finally:
        taken.append("closed")


@behaviour("streams the results of an endless input in order, a few at a time, until it is left")
def _(subject: Subject) -> None:
    taken: list[object] = []

    @flow(task_runner=subject.make())
    def body() -> None:
        found: list[int] = []
        with add.imap(_numbers(taken), unmapped(10), max_pending=3) as stream:
            for value in stream:
                found.append(value)
                if len(found) == 5:
                    break
        assert found == [10, 11, 12, 13, 14]

    state = body.run()
    assert str(state) == "Completed('All states completed.')", state
    assert taken[-1] == "closed"
    assert len(taken) <= 5 + 3 + 1


@behaviour("streams results as the runs end, one behind the other or not", not_for=NOT_IN_PLACE)
def _(subject: Subject) -> None:
    with Gate() as gate:

        @flow(task_runner=subject.make())
        def body() -> list[int]:
            stream = hold_first.imap_unordered(unmapped(gate.ticket), range(3), max_pending=2)
            found = [next(stream), next(stream)]
            gate.open()
            return [*found, *stream]

        assert body() == [1, 2, 0]


@behaviour("streams in event loops, from async iterables as well")
def _(subject: Subject) -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in itertools.count():
            await anyio.lowlevel.checkpoint()
            yield number

    @flow(task_runner=subject.make())
    async def body() -> list[int]:
        found: list[int] = []
        async with add_async.imap(numbers(), max_pending=2) as stream:
            async for value in stream:
                found.append(value)
                if value == 3:
                    break
        unordered = [value async for value in add.imap_unordered(range(3))]
        return [*found, *sorted(unordered)]

    async def main() -> None:
        assert await body() == [0, 1, 2, 3, 0, 1, 2]

    run_on_each_loop(main)


@behaviour("raises a failed run's exception at its step of a stream, and goes on")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    def body() -> int:
        stream = fail.imap(["one", "two"])
        for word in ("one", "two"):
            with raises(LookupError, word):
                next(stream)
        assert list(stream) == []
        return 3

    assert body() == 3


# ---------------------------------------------------------------------------- limits


@behaviour("holds back runs with a tag whose limit is reached, and no others", not_for=NOT_IN_PLACE)
def _(subject: Subject) -> None:
    def body() -> int:
        with new_tally() as tally, Gate() as gate:
            first = hold.with_options(tags=["limited-by-a-row"]).submit(gate.ticket)
            gate.await_arrival()
            second = note.with_options(tags=["limited-by-a-row"]).submit(tally)
            assert add.submit(1).result() == 1
            assert second.state.name == "Pending"
            assert len(tally) == 0
            gate.open()
            assert first.result() == 0
            return second.result()

    assert flow(task_runner=subject.make(), tag_limits={"limited-by-a-row": 1})(body)() == 1
    set_tag_limit("limited-by-a-row", 1)
    try:
        assert flow(task_runner=subject.make())(body)() == 1
    finally:
        set_tag_limit("limited-by-a-row", None)


@behaviour("lets runs with a limited tag go one after the other, to the last")
def _(subject: Subject) -> None:
    with new_tally() as tally:

        @flow(task_runner=subject.make(), tag_limits={"limited": 1})
        def body() -> list[int]:
            limited = note.with_options(tags=["limited"])
            return limited.map([tally] * 8).result()

        assert sorted(body()) == list(range(1, 9))


# ---------------------------------------------------------------------------- inside tasks


@behaviour("lets tasks submit tasks, and wait for them")
def _(subject: Subject) -> None:
    _require_nesting(subject)

    @flow(task_runner=subject.make())
    def body() -> list[int]:
        return submit_inside.map(range(50)).result()

    assert body() == list(range(1, 51))


@behaviour("joins a branch inside a task")
def _(subject: Subject) -> None:
    _require_nesting(subject)
    with new_tally() as tally:
        body = flow(task_runner=subject.make())(lambda: branch_inside.submit(tally).result())
        assert body() == 2


def _require_nesting(subject: Subject) -> None:
    """Go on only if the tasks of a runner can submit others."""
    body = flow(task_runner=subject.make())(lambda: submit_inside.submit(1).result())
    try:
        body()
    except NotSubmittableError as error:
        told = str(error)
    else:
        return
    for words in ("'add'", "in another process", "directly"):
        assert words in told, "it tells what to do instead"
    raise Unable("its runs cannot submit others, and are told so")


@behaviour("counts and logs the runs of its tasks among those of the flow")
def _(subject: Subject) -> None:
    _require_nesting(subject)

    @flow(name="counted", task_runner=subject.make())
    def body() -> None:
        fail_inside.submit().wait()

    with Log() as log:
        state = body.run()
    assert str(state) == "Failed('2/4 states failed.')"
    assert isinstance(state, Failed)
    assert isinstance(state.exception, ExceptionGroup)
    assert {type(each) for each in state.exception.exceptions} == {LookupError, ValueError}
    ends = [each for each in log.records if each.getMessage().startswith("Finished in state")]
    names = sorted(str(getattr(each, "task_name", "")) for each in ends)
    assert names == ["", "add", "add", "fail", "fail_inside"]
    assert {vars(each)["flow_name"] for each in ends} == {"counted"}


@behaviour("takes futures of other runners, at any depth, failed ones included")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    def inner(futures: list[Future[int]], number: int) -> str:
        mapped = add.map([lift(futures[0]), number], [lift(futures[0]), 1])
        assert mapped.result() == [2, number + 1]
        state = add.submit(lift(futures[1])).wait()
        assert isinstance(state, UpstreamFailed)
        assert type(state.cause) is LookupError
        return "done"

    @flow
    def outer() -> str:
        here = [add.submit(1), fail.submit("gone")]
        inner(quote(here), 2)

        @flow(task_runner=subject.make())
        def there() -> list[Future[int]]:
            return [add.submit(1), add.submit(2)]

        assert add.submit(there()[1], 1).result() == 3
        return "done"

    assert outer() == "done"
