"""Futures among arguments: finding them, and putting their values in their place.

Only exact builtin containers (list, tuple, dict, set, frozenset), dataclasses and attrs classes
are looked into: an array or a frame is never walked, so the cost of a submission does not grow
with the size of the data in it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast, final

import attrs

from anabranch.futures._collections import FutureList
from anabranch.futures._future import Future

if TYPE_CHECKING:
    from typing import TypeGuard

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

# The values that most arguments are, told apart by one look-up.
_ATOMS = frozenset({int, str, float, bool, bytes, type(None), complex, bytearray})


@final
@attrs.frozen(eq=False)
class Quoted(Generic[R_co]):
    """A value that is handed on as it is, without being searched for futures."""

    value: R_co


@final
@attrs.frozen(eq=False)
class AllowedFailure(Generic[R_co]):
    """A future whose exception is handed on in place of a value."""

    future: Future[R_co]


def quote(value: R, /) -> R:
    """Mark an argument as free of futures, so that it is handed on without being searched.

    For a large list or dict of plain data, whose search would be for nothing. The checker sees the
    value itself, since that is what the task gets.
    """
    return cast(R, Quoted(value))


def allow_failure(future: Future[R], /) -> R | BaseException:
    """Let a task run even if the run behind this argument fails.

    The task then gets the exception in place of the value. The checker sees what the task gets.
    """
    return cast(R, AllowedFailure(future))


def lift(future: Future[R], /) -> R:
    """Return the future itself, as its result to a type checker.

    Futures are accepted as arguments at any depth. The positions where that cannot be expressed in
    types, such as keywords and containers, are what this is for.
    """
    return cast(R, future)


@final
@attrs.frozen
class Scan:
    """What a search of arguments found.

    Attributes:
        upstreams: The futures whose values are wanted, each once, in the order found.
        tolerated: Those marked with `allow_failure`.
        is_plain: Whether there was nothing to replace, neither futures nor marks.
    """

    upstreams: tuple[Future[object], ...] = ()
    tolerated: tuple[Future[object], ...] = ()
    is_plain: bool = True


_NOTHING_FOUND = Scan()


def scan_call(args: tuple[object, ...], kwargs: Mapping[str, object]) -> Scan:
    """Search the arguments of a call for futures, at any depth."""
    values = (*args, *kwargs.values()) if kwargs else args
    if not _are_flat(values):
        return scan(values)
    upstreams = dict.fromkeys([each for each in values if isinstance(each, Future)])
    return Scan(tuple(upstreams), is_plain=False) if upstreams else _NOTHING_FOUND


def _are_flat(values: Iterable[object]) -> bool:
    """Whether values are plain or futures, as most are: one look at each is enough."""
    for value in values:
        kind = type(value)
        if kind not in _ATOMS and (kind is FutureList or not isinstance(value, Future)):
            return False
    return True


def scan(values: Iterable[object]) -> Scan:
    """Search values for futures, at any depth."""
    stack: list[Iterator[object]] = [iter(values)]
    upstreams: dict[int, Future[object]] = {}
    tolerated: dict[int, Future[object]] = {}
    is_plain = True
    seen: set[int] = set()  # A container that holds itself must not be walked for ever.
    while stack:
        for value in stack[-1]:
            kind = type(value)
            if kind in _ATOMS:
                continue
            if kind is FutureList:
                is_plain = False  # Even an empty one is to become a list.
                stack.append(iter(cast("FutureList[object]", value)))
                break
            if isinstance(value, Future):
                upstreams[id(value)] = value
            elif kind is AllowedFailure:
                marked = cast("AllowedFailure[object]", value).future
                tolerated[id(marked)] = marked
            elif kind is Quoted:
                is_plain = False
            else:
                inner = children(value)
                if inner is not None and id(value) not in seen:
                    seen.add(id(value))
                    stack.append(iter(inner))
                    break
        else:
            stack.pop()
    if is_plain and not upstreams and not tolerated:
        return _NOTHING_FOUND
    return Scan(tuple(upstreams.values()), tuple(tolerated.values()), is_plain=False)


def children(value: object) -> Iterable[object] | None:
    """Return what is directly inside a container that is looked into; None for all else."""
    kind = type(value)
    if kind in _ATOMS:
        return None
    if kind is list or kind is tuple or kind is set or kind is frozenset:
        return cast("Iterable[object]", value)
    if kind is dict:
        return cast("dict[object, object]", value).values()
    if _is_record(value):
        return [getattr(value, name) for name in _field_names(value) if hasattr(value, name)]
    return None


def _is_record(value: object) -> TypeGuard[attrs.AttrsInstance]:
    kind = type(value)
    return attrs.has(kind) or dataclasses.is_dataclass(kind)


def _shallow_copy(record: object) -> object:
    try:
        return copy.copy(record)
    except AttributeError:  # A slotted class of attrs cannot copy what has an unset field.
        new_record: object = object.__new__(type(record))
        for name in _field_names(record):
            if hasattr(record, name):
                object.__setattr__(new_record, name, getattr(record, name))
        return new_record


def _field_names(value: object) -> list[str]:
    kind = type(value)
    if attrs.has(kind):
        return [field.name for field in attrs.fields(kind)]
    return [field.name for field in dataclasses.fields(cast("type", kind))]


#: What a replacement returns for a value that is not to be replaced, but searched.
LOOK_INSIDE: Final = object()


def rebuild(
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    replace: Callable[[object], object],
) -> tuple[tuple[object, ...], dict[str, object]]:
    """Return the arguments with values replaced, at any depth of the containers in them.

    Containers in which nothing is replaced are handed on as they are; the others are copied, never
    changed.

    Args:
        args: Positional arguments.
        kwargs: Keyword arguments.
        replace: Gives what replaces a value, or `LOOK_INSIDE`.
    """
    rebuilt = _Rebuilding(replace)
    return (
        tuple(rebuilt(value) for value in args),
        {name: rebuilt(value) for name, value in kwargs.items()},
    )


def substitute(
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    value_of: Callable[[Future[object]], object],
    failure_of: Callable[[Future[object]], object],
) -> tuple[tuple[object, ...], dict[str, object]]:
    """Return the arguments with every future replaced, and every mark taken off.

    Args:
        args: Positional arguments.
        kwargs: Keyword arguments.
        value_of: Gives what replaces a future.
        failure_of: Gives what replaces a future marked with `allow_failure`.
    """
    if _are_flat(args) and _are_flat(kwargs.values()):
        return (
            tuple([value_of(each) if isinstance(each, Future) else each for each in args]),
            {
                name: value_of(each) if isinstance(each, Future) else each
                for name, each in kwargs.items()
            },
        )

    def replace(value: object) -> object:
        match value:
            case FutureList():
                return [replace(each) for each in value]
            case Future():
                return value_of(value)
            case AllowedFailure():
                return failure_of(value.future)
            case Quoted():
                return value.value
            case _:
                return LOOK_INSIDE

    return rebuild(args, kwargs, replace)


class _Rebuilding:
    """Rebuilds values around what is replaced in them."""

    def __init__(self, replace: Callable[[object], object]) -> None:
        self._replace = replace
        # What was one object stays one, and what holds itself is not walked for ever.
        self._done: dict[int, object] = {}

    def __call__(self, value: object) -> object:
        if type(value) in _ATOMS:
            return value
        if id(value) in self._done:
            return self._done[id(value)]
        if (replacement := self._replace(value)) is not LOOK_INSIDE:
            return replacement
        if children(value) is None:
            return value
        self._done[id(value)] = value
        self._done[id(value)] = rebuilt = self._rebuild(value)
        return rebuilt

    def _rebuild(self, value: object) -> object:
        if _is_record(value):
            return self._rebuild_record(value)
        if isinstance(value, dict):
            replaced = {key: self(each) for key, each in value.items()}
            changed = any(replaced[key] is not each for key, each in value.items())
            return replaced if changed else value
        items = list(cast("Iterable[object]", value))
        new = [self(each) for each in items]
        if all(one is other for one, other in zip(new, items, strict=True)):
            return value
        return cast("Callable[[list[object]], object]", type(value))(new)

    def _rebuild_record(self, value: object) -> object:
        changes = {}
        for name in _field_names(value):
            if hasattr(value, name):
                old = getattr(value, name)
                new = self(old)
                if new is not old:
                    changes[name] = new
        if not changes:
            return value
        # Copied, not constructed anew: a constructor may convert, validate or compute.
        new_record = _shallow_copy(value)
        for name, new in changes.items():
            object.__setattr__(new_record, name, new)
        return new_record
