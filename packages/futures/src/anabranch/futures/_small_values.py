"""Which values are so small that they travel along with what is told of their runs."""

from __future__ import annotations

import datetime
import enum
import pathlib
import pickle
import types
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Final, cast

#: What is small by its type, or pickles quickly if it is short.
SMALL: Final[frozenset[type]] = frozenset({int, float, bool, type(None)})
SHORT: Final[frozenset[type]] = frozenset({str, bytes})

_OTHERS: Final[frozenset[type]] = frozenset(
    {
        complex,
        datetime.date,
        datetime.timedelta,
        datetime.timezone,
        pathlib.PosixPath,
        pathlib.WindowsPath,
    }
)
_MOMENTS: Final[frozenset[type]] = frozenset({datetime.datetime, datetime.time})
_CONTAINERS: Final[frozenset[type]] = frozenset({tuple, list, set, frozenset})

#: The names of the methods that attrs and dataclasses write for classes with slots.
_GENERATED: Final = frozenset({"slots_getstate", "_dataclass_getstate"})

#: What counts as small, in bytes and in parts.
_MAX_LENGTH: Final = 500
_MAX_PARTS: Final = 50


def pickled_if_small(value: object) -> bytes | None:
    """Return a value pickled, if it is so small that it can be sent along with the run's end.

    It is brought over with no request of its own then, however many there are to be had. None for
    all that might be large, or take long to pickle: the parts of small values are numbers, short
    texts, dates, paths, members of enumerations, and small containers and records of them. Records
    are instances of classes that do not say how they are pickled: dataclasses, classes of attrs,
    named tuples and others.
    """
    try:
        if type(value) not in SMALL and not _is_small(value):
            return None
        pickled = pickle.dumps(value)
    # A class may have come along with the function, and cannot be found by its name. Or there is
    # foreign code all the same; then bringing the value over fails too, and says so to who asks.
    except (Exception, SystemExit):
        return None
    return pickled if len(pickled) <= _MAX_LENGTH else None  # There are long numbers, too.


def _is_small(value: object) -> bool:
    """Whether there is little in a value, as far as can be told without pickling it."""
    values, left = [value], _MAX_PARTS
    while values:
        value = values.pop()
        kind = type(value)
        if kind in SMALL or kind in _OTHERS:
            continue
        if kind in SHORT:
            if len(cast("str | bytes", value)) > _MAX_LENGTH:
                return False
            continue
        inside = _inside(value)
        if inside is None:
            return False
        left -= len(inside)
        if left < 0:
            return False
        values.extend(inside)
    return True


def _inside(value: object) -> Collection[object] | None:
    """Return what is pickled as a part of a value; None if that cannot be said."""
    kind = type(value)  # Asked alone: `isinstance` would ask the value too, which is foreign code.
    if kind is dict:
        mapping = cast("dict[object, object]", value)
        is_large = len(mapping) > _MAX_PARTS  # Then its keys are too many already.
        return mapping if is_large else (*mapping, *mapping.values())
    if kind in _CONTAINERS:
        return cast("Collection[object]", value)
    if kind in _MOMENTS:
        return (cast("datetime.datetime | datetime.time", value).tzinfo,)
    if issubclass(kind, enum.Enum):
        has_own_way = kind.__reduce_ex__ not in (enum.Enum.__reduce_ex__, enum.Flag.__reduce_ex__)
        return None if has_own_way else (cast("enum.Enum", value)._value_,)
    if not _is_record(kind):
        return None
    inside = list(_attributes(value))
    if issubclass(kind, tuple):
        inside += cast("tuple[object, ...]", value)
    return inside


def _is_record(kind: type) -> bool:
    """Whether pickle takes the instances of a class apart by itself, attribute by attribute."""
    if issubclass(kind, list | dict | set | frozenset | str | bytes | int | float | type):
        return False  # There is more to them than attributes.
    as_usual = ["__reduce__", "__reduce_ex__", "__getattribute__"]
    base: type = object
    if issubclass(kind, tuple):
        base = tuple
        as_usual.append("__iter__")
    own_state = kind.__getstate__ is not object.__getstate__
    return (
        all(getattr(kind, name) is getattr(base, name) for name in as_usual)
        and not (own_state and kind.__getstate__.__name__ not in _GENERATED)
        and not hasattr(kind, "__getattr__")
    )


def _attributes(record: object) -> Iterator[object]:
    """Yield the values of a record's attributes, those in slots included."""
    yield from getattr(record, "__dict__", {}).values()
    for kind in type(record).__mro__:
        for slot in vars(kind).values():
            if type(slot) is types.MemberDescriptorType:
                with suppress(AttributeError):  # It may not be set.
                    yield slot.__get__(record)
