"""Calls, runs and submissions: the function's own signature, and futures in its place."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar, assert_type

from anabranch.flows import (
    Async,
    AsyncTask,
    Future,
    FutureList,
    Runnable,
    State,
    Sync,
    Task,
    allow_failure,
    gather,
    lift,
    quote,
)
from typing_tests.functions import (
    Point,
    aadd,
    aboom,
    add,
    aone,
    apair,
    boom,
    cb,
    eight,
    konly,
    kws,
    lit,
    none,
    one,
    opt,
    pair,
    posonly,
    robust,
    show,
    td,
    ten,
    total,
    union,
    var,
)

R = TypeVar("R")


def helper(t: Runnable[[int], R], x: int | Future[int]) -> Future[R]:
    """Submit whatever takes an int."""
    return t.submit(x)


def called(t: Sync[[int], R]) -> R:
    """Call whatever takes an int."""
    return t(1)


async def awaited(t: Async[[int], R]) -> R:
    """Await whatever takes an int."""
    return assert_type(await t(1), R)


def calls() -> None:
    """A call is what a call of the function is."""
    assert_type(add(1), int)
    assert_type(add(1, y=2), int)
    assert_type(one(1), str)
    assert_type(pair(1), list[int])
    assert_type(called(one), str)
    assert_type(add.run(1, 2), State[int])
    assert_type(add.run(1, y=2), State[int])


async def async_calls() -> None:
    """A call of an async task is a coroutine."""
    called: Coroutine[Any, Any, str] = aone(1)
    assert_type(await called, str)
    assert_type(await assert_type(aone.run(1), Coroutine[Any, Any, State[str]]), State[str])
    assert_type(await aadd(1, y=2), int)
    assert_type(await awaited(aone), str)
    assert_type(await apair(1), list[int])


def own_arguments() -> None:
    """Arguments that are no futures are exactly the function's."""
    assert_type(none.submit(), Future[int])
    assert_type(one.submit(1), Future[str])
    assert_type(add.submit(1), Future[int])
    assert_type(add.submit(1, 2), Future[int])
    assert_type(add.submit(x=1, y=2), Future[int])
    assert_type(aone.submit(1), Future[str])
    assert_type(aone.submit(x=1), Future[str])
    assert_type(var.submit(), Future[int])
    assert_type(var.submit(1, 2, 3, k=""), Future[int])
    assert_type(kws.submit("a", b=1), Future[int])
    assert_type(konly.submit(1, k=""), Future[int])
    assert_type(posonly.submit(1, b=""), Future[int])
    assert_type(opt.submit(None), Future[int])
    assert_type(lit.submit("a"), Future[int])
    assert_type(td.submit({"x": 1}), Future[Point])
    assert_type(cb.submit(lambda x: x + 1, [1.0]), Future[int])
    assert_type(eight.submit(1, "", 1, "", 1, "", 1, ""), Future[bytes])
    assert_type(pair.submit(1), Future[list[int]])
    assert_type(apair.submit(1), Future[list[int]])
    assert_type(aboom.submit(1), Future[NoReturn])
    boom.submit(1)


def futures() -> None:
    """A future fits where its value does, in the first eight positions."""
    fi = none.submit()
    fs = one.submit(1)
    assert_type(add.submit(fi), Future[int])
    assert_type(add.submit(fi, 2), Future[int])
    assert_type(add.submit(1, fi), Future[int])
    assert_type(add.submit(fi, fi), Future[int])
    assert_type(add.submit(fi, y=2), Future[int])
    assert_type(aone.submit(fi), Future[str])
    assert_type(aadd.submit(fi, y=2), Future[int])
    assert_type(var.submit(2, fi, fi), Future[int])
    assert_type(var.submit(fi, 2, 3, k=""), Future[int])
    assert_type(kws.submit(fs, b=1), Future[int])
    assert_type(konly.submit(fi, k=""), Future[int])
    assert_type(posonly.submit(fi, b=""), Future[int])
    assert_type(union.submit(fi), Future[int])
    assert_type(union.submit(fs), Future[int])
    assert_type(opt.submit(fi), Future[int])
    assert_type(show.submit(fi), Future[None])
    assert_type(lit.submit("a", fi), Future[int])
    assert_type(cb.submit(lambda x: x + 1, gather([fi])), Future[int])
    assert_type(eight.submit(fi, fs, fi, fs, fi, fs, fi, fs), Future[bytes])
    assert_type(eight.submit(1, fs, 1, fs, 1, "", fi, ""), Future[bytes])
    assert_type(eight.submit(fi, "", 1, "", e=1, f="", g=1, h=""), Future[bytes])
    assert_type(ten.submit(fi, 2, fi, 4, 5, 6, 7, fi, 9), Future[int])
    assert_type(ten.submit(fi, 2, fi, 4, 5, 6, 7, fi, 9, j=""), Future[int])
    assert_type(Task[[int], list[int]](pair).submit(fi), Future[list[int]])
    assert_type(AsyncTask[[int], str](aone).submit(fi), Future[str])
    assert_type(total.submit(gather([fi, fi])), Future[int])


def either() -> None:
    """A parameter of a helper may be a value or a future."""

    def submit(x: int | Future[int]) -> None:
        assert_type(add.submit(x, x), Future[int])

    submit(1)
    assert_type(helper(one, 1), Future[str])
    assert_type(helper(aone, none.submit()), Future[str])


def lifted() -> None:
    """Elsewhere `lift` says what a future stands for."""
    fi = none.submit()
    fs = one.submit(1)
    assert_type(lift(fi), int)
    assert_type(add.submit(fi, y=lift(fi)), Future[int])
    assert_type(add.submit(x=lift(fi)), Future[int])
    assert_type(konly.submit(fi, k=lift(fs)), Future[int])
    assert_type(pair.submit(lift(fi)), Future[list[int]])
    assert_type(total.submit([lift(fi), 2]), Future[int])
    assert_type(td.submit(td.submit({"x": lift(fi)})), Future[Point])
    assert_type(ten.submit(1, 2, 3, 4, 5, 6, 7, 8, lift(fi)), Future[int])


def marked() -> None:
    """`allow_failure` adds the exception; `quote` changes nothing."""
    fi = none.submit()
    assert_type(allow_failure(fi), int | BaseException)
    assert_type(robust.submit(allow_failure(fi)), Future[int])
    assert_type(quote([1]), list[int])
    assert_type(total.submit(quote([1, 2])), Future[int])


def waiting_for_others() -> None:
    """`wait_for` beside positional arguments; `after` beside any."""
    fi = none.submit()
    fs = one.submit(1)
    assert_type(none.submit(wait_for=[fi, fs]), Future[int])
    assert_type(add.submit(1, wait_for=[fs]), Future[int])
    assert_type(add.submit(fi, 2, wait_for=[fs]), Future[int])
    assert_type(aone.submit(fi, wait_for=[fs]), Future[str])
    assert_type(lit.submit("a", fi, wait_for=[fs]), Future[int])
    assert_type(td.submit({"x": 1}, wait_for=[fi]), Future[Point])
    assert_type(eight.submit(fi, fs, 1, "", 1, "", 1, fs, wait_for=[fi]), Future[bytes])
    assert_type(add.after(fi, fs).submit(x=1, y=2), Future[int])
    assert_type(add.after(fi).submit(fi, y=2), Future[int])
    assert_type(add.after(fi).run(1, y=2), State[int])
    assert_type(add.after(fi)(1, y=2), int)
    assert_type(aone.after(fi).map([1]), FutureList[str])
