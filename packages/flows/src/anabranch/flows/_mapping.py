"""From the arguments of `.map()` to those of the single calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from anabranch.futures import Future, FutureList, unmapped


def mapped_calls(
    name: str, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> Iterator[tuple[tuple[object, ...], dict[str, object]]]:
    """Return the arguments of each call.

    Args:
        name: What errors call the task.
        args: Iterables, futures of iterables, and unmapped values.
        kwargs: The same by keyword.

    Raises:
        ValueError: The iterables differ in length.
        TypeError: An argument is neither iterable nor unmapped, or all are unmapped.
    """
    named = {**{str(place): value for place, value in enumerate(args)}, **kwargs}
    fixed = {key: value.value for key, value in named.items() if isinstance(value, unmapped)}
    columns = {key: _items(name, key, value) for key, value in named.items() if key not in fixed}
    lengths = {described(key): len(items) for key, items in columns.items()}
    if not lengths:
        raise TypeError(
            f"{name}.map() has nothing to map over: give at least one argument that is not unmapped"
        )
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise ValueError(
            f"{name}.map() needs iterables of one length, but {told}; "
            "mark a value that every run is to get with unmapped()"
        )
    for row in zip(*columns.values(), strict=True):
        values = fixed | dict(zip(columns, row, strict=True))
        yield (
            tuple(values[str(place)] for place in range(len(args))),
            {key: values[key] for key in kwargs},
        )


def _items(name: str, key: str, value: object) -> list[object]:
    if isinstance(value, Future) and not isinstance(value, FutureList):
        value = value.result()
    if not isinstance(value, Iterable):
        raise TypeError(
            f"{name}.map() got {value!r} for {described(key)}, which is not iterable; "
            "mark a value that every run is to get with unmapped()"
        )
    return list(value)


def described(key: str) -> str:
    """Return what errors call an argument, given its place or its name."""
    return f"argument {int(key) + 1}" if key.isdigit() else f"argument {key!r}"
