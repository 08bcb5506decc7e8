"""`map`, `imap` and `imap_unordered`: one run for each item, each typed as a run is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TypeVar, assert_type

from anabranch.flows import AsyncTask, Future, FutureList, Stream, Task, gather, lift, unmapped
from typing_tests.functions import (
    Point,
    add,
    aone,
    cb,
    eight,
    lit,
    none,
    one,
    opt,
    pair,
    td,
    total,
)

R = TypeVar("R")


def map_any(t: Task[[int], R] | AsyncTask[[int], R], numbers: Iterable[int]) -> FutureList[R]:
    """Map whatever takes an int."""
    return t.map(numbers)


def maps_of_any() -> None:
    """What takes tasks of both kinds says so."""
    assert_type(map_any(one, [1, 2]), FutureList[str])
    assert_type(map_any(aone, range(2)), FutureList[str])


def maps() -> None:
    """Each argument is an iterable of values or futures, the future of one, or unmapped."""
    fi = none.submit()
    fs = one.submit(1)
    m = assert_type(add.map([1, 2]), FutureList[int])
    assert_type(add.map([1, 2], [3, 4]), FutureList[int])
    assert_type(add.map([1, 2], unmapped(3)), FutureList[int])
    assert_type(add.map(unmapped(3), [1]), FutureList[int])
    assert_type(add.map(range(2), m), FutureList[int])
    assert_type(add.map([fi, fi]), FutureList[int])
    assert_type(add.map([fi, 1]), FutureList[int])
    assert_type(add.map(i for i in range(3)), FutureList[int])
    assert_type(add.map([1, 2], wait_for=[fs]), FutureList[int])
    assert_type(aone.map(m), FutureList[str])
    assert_type(lit.map(["a", "b"]), FutureList[int])
    assert_type(lit.map(["a", "b"], unmapped(1)), FutureList[int])
    assert_type(td.map([{"x": 1}]), FutureList[Point])
    assert_type(cb.map(unmapped(lambda x: x), [[1.0]]), FutureList[int])
    assert_type(opt.map([None, 1, fi]), FutureList[int])
    assert_type(Task[[int], list[int]](pair).map([fi]), FutureList[list[int]])
    assert_type(eight.map([1], ["a"], [1], unmapped("a"), [1], ["a"], [1], [fs]), FutureList[bytes])
    assert_type(unmapped(3).value, int)
    xs: Future[list[int]] = pair.submit(1)
    assert_type(add.map(xs), FutureList[int])
    assert_type(add.map(m), FutureList[int])


def lists() -> None:
    """A list of futures is their sequence, and the future of the list of their values."""
    fi = none.submit()
    m = add.map([1, 2])
    assert_type(m[0], Future[int])
    assert_type(m[:2], FutureList[int])
    assert_type(len(m), int)
    assert_type(m.result(), list[int])
    assert_type([f.result() for f in m], list[int])
    assert_type(total.submit(m), Future[int])
    assert_type(total.submit(lift(m)), Future[int])
    assert_type(total.submit(pair.submit(1)), Future[int])
    assert_type(gather(f for f in m).result(), list[int])
    assert_type(gather([fi, *m]), FutureList[int])
    names: Iterable[str] = one.map([1]).result()
    assert_type(sorted(names), list[str])


def streams() -> None:
    """A stream gives results, and takes what `map` takes, streams included."""
    assert_type(add.imap([1, 2]), Stream[int])
    assert_type(add.imap([1, 2], [3, 4], max_pending=10), Stream[int])
    assert_type(add.imap([1, 2], unmapped(2)), Stream[int])
    assert_type(aone.imap(add.imap(range(3))), Stream[str])
    assert_type(add.imap_unordered([1, 2], max_pending=2), Stream[int])
    assert_type(one.imap_unordered([1, 2], wait_for=[none.submit()]), Stream[str])
    in_turn: Iterator[int] = add.imap([1])
    assert_type(next(in_turn), int)
    for v in add.imap([1, 2]):
        assert_type(v, int)
    with add.imap(range(9)) as opened:
        assert_type(opened, Stream[int])


async def async_streams() -> None:
    """The same streams serve `async for`, and take async iterables."""

    async def numbers() -> AsyncIterator[int]:
        yield 1

    in_turn: AsyncIterator[str] = aone.imap(range(9))
    assert_type(await anext(in_turn), str)
    async for w in aone.imap([1]):
        assert_type(w, str)
    async for number in add.imap(numbers(), unmapped(1)):
        assert_type(number, int)
    async with add.imap_unordered(range(9)) as opened:
        assert_type(opened, Stream[int])
    assert_type(await add.map([1, 2]), list[int])
