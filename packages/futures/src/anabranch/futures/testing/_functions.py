"""What the behaviours run; importable, so that other processes find it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import anyio.lowlevel
import attrs

from anabranch.futures.testing._gate import Ticket


def add(x: int, y: int = 0) -> int:
    """Return the sum."""
    return x + y


async def add_async(x: int, y: int = 0) -> int:
    """Return the sum, after letting the loop turn once."""
    await anyio.lowlevel.checkpoint()
    return x + y


def same(value: object) -> object:
    """Return the value."""
    return value


def fail(message: str) -> int:
    """Raise a LookupError."""
    raise LookupError(message, 42)


async def fail_async(message: str) -> int:
    """Raise a LookupError, after letting the loop turn once."""
    await anyio.lowlevel.checkpoint()
    raise LookupError(message, 42)


def total(numbers: list[int]) -> int:
    """Return the sum of a list."""
    return sum(numbers)


def kind_of(value: object) -> str:
    """Return the name of a value's type."""
    return type(value).__name__


def wait_at(ticket: Ticket, value: int = 0) -> int:
    """Wait at a gate, then return the value."""
    ticket.wait()
    return value


@dataclasses.dataclass(frozen=True)
class Box:
    """A dataclass with something in it."""

    content: object
    label: str = "box"


@attrs.frozen
class Case:
    """An attrs class with something in it."""

    content: object


def unpack(value: object) -> list[int]:
    """Return the numbers in nested containers."""
    match value:
        case int():
            return [value]
        case Box() | Case():
            return unpack(value.content)
        case Mapping():
            return [number for each in value.values() for number in unpack(each)]
        case list() | tuple():
            return [number for each in value for number in unpack(each)]
        case set() | frozenset():
            return sorted(number for each in value for number in unpack(each))
        case _:
            raise TypeError(f"{value!r} holds no numbers")


class StubbornError(Exception):
    """An exception that does not survive pickling: it cannot be constructed from its args."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def fail_stubbornly() -> int:
    """Raise an exception that does not pickle."""
    raise StubbornError("this", "that")
