"""What a pickler finds inside a value, and how Python would write the way to it."""

from __future__ import annotations

import copyreg
import functools
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from types import CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Final, cast, final

import attrs

#: What a function's path goes on with, before the name that it refers to.
FUNCTION: Final = ", which refers to "

_PROTOCOL: Final = pickle.DEFAULT_PROTOCOL

#: How many items of a container are looked at.
_BREADTH: Final = 1_000_000

#: How many characters of a key are shown.
_KEY_LENGTH: Final = 60

_ATOMS: Final = frozenset(
    {int, str, float, bool, bytes, type(None), complex, bytearray, type(Ellipsis)}
)
_CONTAINERS: Final = (list, tuple, dict, set, frozenset)

# What every class has and no pickler sends.
_CLASS_MATTERS: Final = frozenset(
    {"__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "__slots__", "_abc_impl"}
)


@final
@attrs.frozen(eq=False)
class Group:
    """Parts of one value that are of one kind.

    Attributes:
        values: The parts.
        path: Gives the path of a part from that of the whole and the part's number.
        is_loose: Whether the whole may be pickled without them, so that a part that cannot be
            pickled is to blame only if the whole fails in the same way.
    """

    values: Sequence[object]
    path: Callable[[str, int], str]
    is_loose: bool = False


def children_of(value: object) -> Iterator[object]:
    """Yield all that is directly inside a value."""
    for group in groups_of(value):
        yield from group.values


def groups_of(value: object) -> Iterator[Group]:
    """Yield what is directly inside a value, in the order in which picklers come to it."""
    try:
        yield from _groups(value)
    except Exception:  # Looking into a value may run foreign code, and is not worth an error.
        return


def _groups(value: object) -> Iterator[Group]:
    kind = type(value)
    if kind in _ATOMS:
        return
    if isinstance(value, FunctionType):
        yield _references(value)
    elif isinstance(value, type):
        yield _class_contents(value)
    else:
        yield from _items(value)
        if kind not in _CONTAINERS:
            yield from _reduced(value)


# ------------------------------------------------------------------ containers


def _items(value: object) -> Iterator[Group]:
    if isinstance(value, dict):
        keys = list(islice(dict.keys(value), _BREADTH))
        yield Group(keys, lambda path, _: f"a key of {path}")
        values = list(islice(dict.values(value), _BREADTH))
        yield Group(values, lambda path, index: f"{_whole(path)}[{_shown(keys[index])}]")
    elif isinstance(value, tuple):
        names = getattr(type(value), "_fields", None)
        if isinstance(names, tuple) and len(names) == len(value):
            yield _attributes(dict(zip(names, value, strict=True)))
        else:
            yield _indexed(value)
    elif isinstance(value, list):
        yield _indexed(list(islice(list.__iter__(value), _BREADTH)))
    elif isinstance(value, set | frozenset):
        yield Group(list(islice(iter(value), _BREADTH)), lambda path, _: f"an item of {path}")


def _indexed(values: Sequence[object], suffix: str = "") -> Group:
    return Group(values, lambda path, index: f"{_whole(path)}{suffix}[{index}]")


def _attributes(found: Mapping[str, object], *, is_loose: bool = False) -> Group:
    names = list(found)
    return Group(
        list(found.values()),
        lambda path, index: f"{_whole(path)}.{names[index]}",
        is_loose=is_loose,
    )


def _whole(path: str) -> str:
    return f"({path})" if path.startswith(("a key of ", "an item of ")) else path


def _shown(key: object) -> str:
    try:
        text = repr(key)
    except Exception:  # It is foreign code.
        return f"<{type(key).__name__}>"
    return text if len(text) <= _KEY_LENGTH else f"{text[:_KEY_LENGTH]}..."


# ------------------------------------------------------------------ objects


def _reduced(value: object) -> Iterator[Group]:
    """Yield what a pickler would make of an object: its class, what it is made of, its state."""
    kind = type(value)
    try:
        reduce = copyreg.dispatch_table.get(kind)
        reduced = reduce(value) if reduce is not None else value.__reduce_ex__(_PROTOCOL)
    except Exception:  # It is foreign code, and the one to blame.
        return
    if not isinstance(reduced, tuple) or not 2 <= len(reduced) <= 6:
        return
    make, args, state, items, pairs, *_ = (*reduced, None, None, None, None)
    if isinstance(value, functools.partial):
        yield _attributes({"args": value.args, "keywords": value.keywords, "func": value.func})
    elif isinstance(args, tuple):
        yield _made_of(value, args)
    yield from _state(value, state)
    if not isinstance(value, _CONTAINERS):
        if items is not None:
            yield _indexed(list(islice(cast("Iterator[object]", items), _BREADTH)))
        if pairs is not None:
            given = dict(islice(cast("Iterator[tuple[object, object]]", pairs), _BREADTH))
            yield from _items(given)
    yield _attributes({"__class__": kind}, is_loose=True)
    if not isinstance(make, type):
        yield Group([make], lambda path, _: f"{_whole(path)}.__reduce__()[0]", is_loose=True)


def _made_of(value: object, args: tuple[object, ...]) -> Group:
    """Return what an object is made anew from, by the names of the attributes that hold it."""
    names = _names_of(value)
    of_all = names.get(id(args))

    def path(whole: str, index: int) -> str:
        whole = _whole(whole)
        if (name := names.get(id(args[index]))) is not None:
            return f"{whole}.{name}"
        return (
            f"{whole}.__reduce__()[1][{index}]" if of_all is None else f"{whole}.{of_all}[{index}]"
        )

    return Group(args, path)


def _state(value: object, state: object) -> Iterator[Group]:
    parts = state if type(state) is tuple and len(state) == 2 else (state,)
    if all(each is None or _is_attributes(each) for each in parts):
        for each in parts:  # The object's own, and those in slots.
            if each is not None:
                yield _attributes(cast("dict[str, object]", each))
    elif state is not None:
        yield Group([state], lambda path, _: f"{_whole(path)}.__getstate__()")


def _is_attributes(state: object) -> bool:
    return isinstance(state, dict) and all(isinstance(name, str) for name in state)


def _names_of(value: object) -> dict[int, str]:
    """Return the names of an object's attributes, by the ids of what they hold."""
    found: dict[int, str] = {}
    for kind in type(value).__mro__:
        for name, descriptor in vars(kind).items():
            # Attributes of other kinds run foreign code when they are read.
            if isinstance(descriptor, MemberDescriptorType | GetSetDescriptorType):
                try:
                    found.setdefault(id(getattr(value, name)), name)
                except Exception:  # Not set.
                    continue
    found.update((id(each), name) for name, each in getattr(value, "__dict__", {}).items())
    return found


# ------------------------------------------------------------------ code


def _references(function: FunctionType) -> Group:
    """Return what a function refers to, all of which travels with one that is sent by value."""
    found: dict[str, object] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # Not assigned yet.
            continue
    for name in _global_names(function.__code__):
        if name in function.__globals__:
            found.setdefault(name, function.__globals__[name])
    parameters = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = function.__defaults__ or ()
    found.update(zip(parameters[len(parameters) - len(defaults) :], defaults, strict=True))
    found.update(function.__kwdefaults__ or {})
    found.update(vars(function))
    names = list(found)
    return Group(
        list(found.values()), lambda path, index: f"{path}{FUNCTION}{names[index]!r}", is_loose=True
    )


def _global_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):  # A function or a comprehension inside.
            yield from _global_names(constant)


def _class_contents(kind: type) -> Group:
    found: dict[str, object] = {}
    for name, each in vars(kind).items():
        if name in _CLASS_MATTERS or isinstance(each, MemberDescriptorType | GetSetDescriptorType):
            continue
        found[name] = each.__func__ if isinstance(each, classmethod | staticmethod) else each
        if isinstance(each, property):
            found[name] = each.fget
    return _attributes(found, is_loose=True)
