"""Which values are sent along with the end of their run."""

from __future__ import annotations

import datetime
import enum
import functools
import pickle
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import pytest

from anabranch.futures.runner import pickled_if_small


class Color(enum.Enum):
    """A member of it travels by name."""

    RED = 1


class Pair(NamedTuple):
    """A tuple with names."""

    one: object
    other: object


@dataclass
class Data:
    """A dataclass, which may have other attributes besides."""

    value: object
    others: list[object] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SlottedData:
    """A dataclass with slots."""

    value: object


@attrs.frozen
class Frozen:
    """A class of attrs with slots."""

    value: object


class Private:
    """A class with slots alone, one of them with a mangled name."""

    __slots__ = ("__hidden", "unset")

    def __init__(self, hidden: object) -> None:
        self.__hidden = hidden

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Private) and other.__hidden == self.__hidden

    __hash__ = None  # type: ignore[assignment]  # It is compared only.


class Slotted:
    """A class with a slot."""

    __slots__ = "value"

    def __init__(self, value: object) -> None:
        self.value = value


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -1,
        0.5,
        1j,
        10**400,
        "text",
        "\ud800",
        b"x" * 400,
        (),
        [1, (2, {3}), frozenset()],
        {"a": [1], "b": {}},
        datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        datetime.timedelta(1),
        Path("some", "file"),
        Color.RED,
        Pair(1, Frozen([2])),
        Data(1),
        SlottedData({"a": 1}),
        Frozen(Data("x")),
        Private(1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_small_values_are_sent_along(value: object) -> None:
    """A small value of plain types, or a record of such values, is pickled for the way back."""
    pickled = pickled_if_small(value)
    assert pickled is not None
    assert pickle.loads(pickled) == value


class CalledError(BaseException):
    """Foreign code was called."""


class Number(int):
    """A number that says how it is pickled."""

    def __reduce__(self) -> str:
        raise CalledError


class Reduced:
    """Says how it is pickled."""

    def __reduce__(self) -> str:
        raise CalledError


class State:
    """Says what of it is pickled."""

    def __getstate__(self) -> object:
        raise CalledError


@attrs.frozen
class StateRecord:
    """A record that says what of it is pickled."""

    def __getstate__(self) -> object:
        raise CalledError


class Attribute:
    """Says what attributes that it has not got are."""

    __slots__ = ("unset",)

    def __getattr__(self, name: str) -> object:
        raise CalledError


class Attributes:
    """Says what its attributes are."""

    def __getattribute__(self, name: str) -> object:
        raise CalledError


class Overridden(Slotted):
    """Computes what its base keeps in a slot."""

    __slots__ = ()

    @property
    def value(self) -> object:
        raise CalledError

    @value.setter
    def value(self, value: object) -> None:
        vars(Slotted)["value"].__set__(self, value)


class Endless(NamedTuple):
    """A tuple that is iterated in its own way."""

    first: int

    def __iter__(self) -> Iterator[Any]:
        raise CalledError


class Zone(datetime.tzinfo):
    """A time zone of the user's."""

    def utcoffset(self, _: object) -> datetime.timedelta:
        return datetime.timedelta(0)

    dst = utcoffset

    def tzname(self, _: object) -> str:
        return "own"

    def __reduce__(self) -> str:
        raise CalledError


class Kind(enum.Enum):
    """A member of it may hold anything."""

    LARGE = "x" * 10_000
    OTHER = Reduced()


class OwnKind(enum.Enum):
    """Says how its members are pickled."""

    ONE = 1

    def __reduce_ex__(self, _: object) -> tuple[Any, ...]:
        raise CalledError


class Meta(type):
    """Says what attributes a class has that it has not got."""

    def __getattr__(cls, name: str) -> object:
        raise KeyError(name)


class OfMeta(metaclass=Meta):
    """A class that is asked for nothing in vain."""


class Unpicklable:
    """Fails to be pickled, and would end a worker."""

    def __getnewargs__(self) -> tuple[object, ...]:
        raise SystemExit


class Texts(list[str]):
    """A list of another type."""


class Text(str):
    """A text of another type."""

    __slots__ = ()


class Table(dict[str, int]):
    """A dictionary of another type."""


class Kinds(set[int]):
    """A set of another type."""


def with_attribute(value: object) -> Data:
    """Return a record that holds a value besides its fields."""
    record = Data(1)
    vars(record)["cached"] = value
    return record


_LARGE = "x" * 10_000


@pytest.mark.parametrize(
    "value",
    [
        10**2000,
        _LARGE,
        list(range(1_000)),
        dict.fromkeys(range(1_000)),
        [[1] * 20] * 20,
        ["x" * 300, "y" * 300],
        Data(_LARGE),
        SlottedData([_LARGE]),
        Frozen(Pair(_LARGE, 1)),
        Private(_LARGE),
        Slotted(_LARGE),
        with_attribute(_LARGE),
        Number(1),
        Reduced(),
        Data([Reduced()]),
        State(),
        StateRecord(),
        Overridden(_LARGE),
        Endless(1),
        Kind.LARGE,
        Kind.OTHER,
        OwnKind.ONE,
        datetime.datetime(2026, 1, 2, tzinfo=Zone()),
        Unpicklable(),
        OfMeta(),
        Texts(),
        Text(),
        Table(),
        Kinds(),
        Frozen,
        sys,
        ValueError("no"),
        threading.Lock(),
        lambda: None,
        functools.partial(print),
    ],
    ids=lambda value: object.__repr__(value)[1:30],
)
def test_other_values_stay_where_they_are(value: object) -> None:
    """What is long is not pickled, nor what says itself how it is."""
    assert pickled_if_small(value) is None


def test_foreign_attributes_are_not_asked_for() -> None:
    """A value that says what its attributes are stays where it is, unasked."""
    assert pickled_if_small(Attributes()) is None
    assert pickled_if_small(Attribute()) is None


def test_what_refers_to_itself_stays_where_it_is() -> None:
    """A search in a circle comes to an end."""
    circle = Data(1)
    circle.others.append(circle)
    assert pickled_if_small(circle) is None
