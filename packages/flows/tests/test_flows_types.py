"""What type checkers see: `assert_type` does nothing here, and everything under mypy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from typing import Any, assert_never, assert_type

from anabranch.flows import (
    AsyncFlow,
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Flow,
    Future,
    FutureList,
    State,
    Stream,
    TimedOut,
    UpstreamFailed,
    flow,
    gather,
    lift,
    task,
    unmapped,
)


@task
def add(x: int, y: int = 0) -> int:
    """Add."""
    return x + y


@task(name="async text")
async def text(x: int) -> str:
    """Show."""
    return str(x)


@task
def total(numbers: list[int]) -> int:
    """Sum."""
    return sum(numbers)


class Scale:
    """A thing with a task for a method."""

    @task
    def weigh(self, x: int) -> str:
        """Weigh."""
        return f"{x} kg"


@flow
def body(n: int) -> list[str]:
    """Submit in every way."""
    one = assert_type(add.submit(n), Future[int])
    assert_type(add.submit(one, one), Future[int])
    assert_type(add.submit(one, y=lift(one)).result(), int)
    assert_type(add.submit(1, wait_for=[one]), Future[int])
    assert_type(add.after(one).submit(1), Future[int])
    texts = assert_type(text.map([one, 2]), FutureList[str])
    assert_type(texts[0], Future[str])
    assert_type(add.map([1, one], unmapped(2)), FutureList[int])
    assert_type(total.submit(gather([one, one])), Future[int])
    assert_type(add.imap([1, one], unmapped(2), max_pending=3), Stream[int])
    assert_type(text.imap_unordered(range(n), wait_for=[one]), Stream[str])
    assert_type(text.imap(add.imap(range(n))), Stream[str])
    for number in assert_type(add.imap_unordered(range(n)), Stream[int]):
        assert_type(number, int)
    assert_type(Scale().weigh.submit(one), Future[str])
    assert_type(Scale().weigh(1), str)
    # Each of these is an error, and mypy says so of an ignore that is not needed.
    add.submit("a")  # type: ignore[call-overload]  # Not an int.
    add.submit(texts[0])  # type: ignore[arg-type]  # A future of a str.
    total.submit([one])  # type: ignore[list-item]  # A list of futures needs gather.
    text.map(["a"])  # type: ignore[list-item]  # Not ints.
    text.imap(["a"])  # type: ignore[list-item]  # Not ints.
    text.imap([1], max_pending="a")  # type: ignore[arg-type]  # No whole number.
    return texts.result()


async def numbers() -> AsyncIterator[int]:
    """Give a number."""
    yield 1


@flow
async def async_body() -> int:
    """Await in every way."""
    assert_type(await text(1), str)
    assert_type(await text.run(1), State[str])
    async for each in assert_type(text.imap(numbers()), Stream[str]):
        assert_type(each, str)
    return assert_type(await add.submit(1), int)


def describe(state: State[int]) -> str:
    """Tell states apart, and leave none out."""
    match state:
        case Completed(value):
            return f"{assert_type(value, int)}"
        case Failed(exception):
            return repr(assert_type(exception, BaseException))
        case TimedOut() | Crashed() | Cancelled() | UpstreamFailed():
            return str(state)
        case _:
            assert_never(state)


def test_flows_are_typed_by_their_functions() -> None:
    """The decorated function keeps its parameters and its result."""
    sync_flow: Flow[[int], list[str]] = body
    async_flow: AsyncFlow[[], int] = async_body
    assert (sync_flow.name, async_flow.name) == ("body", "async-body")
    assert_type(body.run(1), State[list[str]])
    coroutine: Coroutine[Any, Any, int] = async_body()
    coroutine.close()


def test_states_are_told_apart() -> None:
    """A match over the states is exhaustive, and narrows the value."""
    assert describe(add.run(1, 2)) == "3"
    assert describe(Failed(LookupError("gone"))) == "LookupError('gone')"
    assert describe(Cancelled()) == "Cancelled()"
