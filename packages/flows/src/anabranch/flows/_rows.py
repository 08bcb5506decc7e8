"""The arguments of mapped calls, taken from the inputs one call at a time."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import AsyncExitStack, ExitStack
from typing import Final, TypeAlias, final

from anabranch.futures import Future, FutureList, Stream, unmapped

Call: TypeAlias = tuple[tuple[object, ...], dict[str, object]]

_END: Final = object()


@final
class Rows:
    """What the inputs of a map or a stream give, zipped: the arguments of one call after the other.

    Nothing is taken from an input before its turn. Async inputs can be taken from with
    `take_async` alone.

    Args:
        name: What errors call the method, such as ``"load.imap()"``.
        args: Iterables, async iterables, futures of either, and unmapped values.
        kwargs: The same by keyword.

    Raises:
        TypeError: An argument is neither iterable nor unmapped, or all are unmapped.
    """

    def __init__(self, name: str, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        self._name: Final = name
        named: dict[int | str, object] = dict(enumerate(args))
        named.update(kwargs.items())
        fixed = {key: each.value for key, each in named.items() if isinstance(each, unmapped)}
        # What every call gets, with gaps for what comes from the inputs.
        self._args: Final[list[object]] = [fixed.get(place) for place in range(len(args))]
        self._kwargs: Final[dict[str, object]] = {key: fixed.get(key) for key in kwargs}
        self._inputs: Final = {
            key: _Input(name, key, each) for key, each in named.items() if key not in fixed
        }
        if not self._inputs:
            raise TypeError(
                f"{name} has nothing to map over: give at least one argument that is not unmapped"
            )
        self._order: Final = list(self._inputs.values())
        # Kept while it grows: one who is cancelled while waiting for an item has lost none.
        self._row: list[object] = []
        self._count = 0

    def take(self) -> Call | None:
        """Return the arguments of the next call; None when the inputs have ended.

        Raises:
            ValueError: One input has ended before another.
            TypeError: An input cannot be iterated over here.
            BaseException: What an input raised.
        """
        while len(self._row) < len(self._order):
            self._row.append(self._order[len(self._row)].next())
        return self._call()

    def __iter__(self) -> Iterator[Call]:
        """Take all that are left."""
        while (call := self.take()) is not None:
            yield call

    async def take_async(self) -> Call | None:
        """`take`, without blocking the event loop where an input can be waited for."""
        while len(self._row) < len(self._order):
            self._row.append(await self._order[len(self._row)].next_async())
        return self._call()

    def close(self) -> None:
        """Close the generators and the streams among the inputs."""
        with ExitStack() as stack:
            for each in self._order:
                stack.callback(each.close)

    async def aclose(self) -> None:
        """Close the async generators, too."""
        async with AsyncExitStack() as stack:
            for each in self._order:
                stack.push_async_callback(each.aclose)

    def _call(self) -> Call | None:
        row, self._row = self._row, []
        if any(item is _END for item in row):  # An item's own `==` may do anything.
            self._check_that_all_ended(row)
            return None
        self._count += 1
        args, kwargs = self._args.copy(), self._kwargs.copy()
        for key, item in zip(self._inputs, row, strict=True):
            if isinstance(key, int):
                args[key] = item
            else:
                kwargs[key] = item
        return tuple(args), kwargs

    def _check_that_all_ended(self, row: list[object]) -> None:
        by_input = list(zip(self._order, row, strict=True))
        short = next(each for each, item in by_input if item is _END)
        longer = next((each for each, item in by_input if item is not _END), None)
        if longer is not None:
            raise ValueError(
                f"{self._name} needs iterables of one length, but {short.described} ended after "
                f"{self._count} and {longer.described} goes on; mark a value that every run is to "
                "get with unmapped()"
            )


@final
class _Input:
    """One iterable, opened when its first item is wanted."""

    def __init__(self, name: str, key: int | str, value: object) -> None:
        self._name: Final = name
        self.described: Final = (
            f"argument {key + 1}" if isinstance(key, int) else f"argument {key!r}"
        )
        self._check(value)
        self._value: object = value
        self._items: Iterator[object] | AsyncIterator[object] | None = None

    def next(self) -> object:
        """Return the next item, or the mark of the end."""
        items = self._items
        if items is None:
            value = self._value
            if isinstance(value, Future) and not isinstance(value, FutureList):
                value = self._check(value.result())
            if not isinstance(value, Iterable):
                raise self._needs_async()
            items = self._opened(iter(value))
        if not isinstance(items, Iterator):
            raise self._needs_async()
        return next(items, _END)

    async def next_async(self) -> object:
        """`next`, in an event loop."""
        items = self._items
        if items is None:
            value = self._value
            if isinstance(value, Future) and not isinstance(value, FutureList):
                value = self._check(await value)
            # A stream is both, and would block the loop as an iterable.
            if isinstance(value, AsyncIterable):
                items = self._opened(aiter(value))
            elif isinstance(value, Iterable):
                items = self._opened(iter(value))
        if isinstance(items, AsyncIterator):
            return await anext(items, _END)
        assert items is not None, "what is neither has been refused"
        return next(items, _END)

    def close(self) -> None:
        items = self._value if self._items is None else self._items
        if isinstance(items, Stream) or (
            isinstance(items, Generator) and not getattr(items, "gi_running", False)
        ):
            items.close()

    async def aclose(self) -> None:
        items = self._value if self._items is None else self._items
        if isinstance(items, AsyncGenerator | Stream):
            await items.aclose()
        else:
            self.close()

    def _opened(
        self, items: Iterator[object] | AsyncIterator[object]
    ) -> Iterator[object] | AsyncIterator[object]:
        self._items = items
        self._value = None  # An iterator over a list lets go of it at its end.
        return items

    def _check(self, value: object) -> object:
        if isinstance(value, Iterable | AsyncIterable | Future):
            return value
        raise TypeError(
            f"{self._name} got {value!r} for {self.described}, which is not iterable; "
            "mark a value that every run is to get with unmapped()"
        )

    def _needs_async(self) -> TypeError:
        return TypeError(
            f"{self._name} got an async iterable for {self.described}, which only a stream in an "
            "async function can take items from: `async for result in task.imap(...)`"
        )
