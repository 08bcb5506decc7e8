"""Which values are so small that they travel along with what is told of their runs."""

from __future__ import annotations

import datetime
import enum
import pathlib
import pickle
from collections.abc import Collection, Iterator
from typing import Final, cast

#: What is small by its type, or pickles quickly if it is short.
SMALL: Final[frozenset[type]] = frozenset({int, float, bool, type(None)})
SHORT: Final[frozenset[type]] = frozenset({str, bytes})

_OTHERS: Final[frozenset[type]] = frozenset(
    {
        complex,
        datetime.date,
        datetime.datetime,
        datetime.time,
        datetime.timedelta,
        pathlib.PosixPath,
        pathlib.WindowsPath,
    }
)
_CONTAINERS: Final[frozenset[type]] = frozenset({tuple, list, set, frozenset})

#: What counts as small, in bytes and in objects.
_MAX_LENGTH: Final = 500
_MAX_OBJECTS: Final = 50


def pickled_if_small(value: object) -> bytes | None:
    """Return a value pickled, if it is so small that it can be sent along with the run's end.

    It is brought over with no request of its own then, however many there are to be had. None for
    all that might be large, or take long to pickle: the parts of small values are numbers, short
    texts, dates, paths, members of enumerations, and small containers and records of them. Records
    are instances of classes that do not say how they are pickled: dataclasses, classes of attrs,
    named tuples and others.
    """
    if type(value) not in SMALL and not _is_small(value):
        return None
    try:
        pickled = pickle.dumps(value)
    except Exception:  # It would fail to be brought over, too, and say so to who asks for it.
        return None
    return pickled if len(pickled) <= _MAX_LENGTH else None  # There are long numbers, too.


def _is_small(value: object) -> bool:
    """Whether there is little in a value; what it would be looked for in is not pickled yet."""
    values, left = [value], _MAX_OBJECTS
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
        return mapping if len(mapping) > _MAX_OBJECTS else (*mapping, *mapping.values())
    if kind in _CONTAINERS:
        return cast("Collection[object]", value)
    if issubclass(kind, enum.Enum):
        return ()  # They travel by name.
    if not _is_record(kind):
        return None
    inside = list(_attributes(value))
    if issubclass(kind, tuple):
        inside += cast("tuple[object, ...]", value)
    return inside


def _is_record(kind: type) -> bool:
    if issubclass(kind, list | dict | set | frozenset | str | bytes | int | float | type):
        return False
    base = tuple if issubclass(kind, tuple) else object
    is_plain = all(
        getattr(kind, name) is getattr(base, name)
        for name in ("__reduce__", "__reduce_ex__", "__getattribute__")
    )
    # Both attrs and dataclasses write this method for classes with slots.
    is_generated = hasattr(kind, "__attrs_attrs__") or hasattr(kind, "__dataclass_fields__")
    return is_plain and (is_generated or kind.__getstate__ is object.__getstate__)


def _attributes(record: object) -> Iterator[object]:
    """Yield the values of a record's attributes, those in slots included."""
    yield from getattr(record, "__dict__", {}).values()
    for kind in type(record).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name.startswith("__") and not name.endswith("__"):
                name = f"_{kind.__name__.lstrip('_')}{name}"
            if name not in ("__dict__", "__weakref__"):
                yield getattr(record, name, None)
