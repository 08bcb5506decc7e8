"""Which part of a call cannot be pickled: found however deep it is, and named as Python would."""

from __future__ import annotations

import collections
import dataclasses
import functools
import io
import marshal
import pickle
import threading
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.futures import Failed, TaskRun
from anabranch.futures.runner import RunError, find_unpicklable, unpicklable_error

LOCK = threading.Lock()


class ByValue(pickle.Pickler):
    """Pickles functions that cannot be imported with all that they refer to."""

    def reducer_override(self, thing: object) -> Any:  # noqa: ANN401 - it is pickle's
        if isinstance(thing, FunctionType) and "<l" in thing.__qualname__:
            code = thing.__code__
            cells = [each.cell_contents for each in thing.__closure__ or ()]
            used = {name: thing.__globals__.get(name) for name in _names_in(code)}
            return _never_called, (marshal.dumps(code), cells, used, thing.__defaults__)
        return NotImplemented


def _names_in(code: CodeType) -> set[str]:
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*map(_names_in, inner))


def _never_called(*_: object) -> None:
    """Stands in for what would make a function again."""


def dumps(value: object) -> bytes:
    """Pickle a value, functions that cannot be imported included."""
    buffer = io.BytesIO()
    ByValue(buffer).dump(value)
    return buffer.getvalue()


def take(value: object) -> None:
    """Take one argument."""


def take_all(first: object, *rows: object, flag: object = None, **options: object) -> None:
    """Take arguments of every kind."""


def path_of(value: object) -> str:
    """Return the path of what cannot be pickled in a value, without its beginning."""
    found = find_unpicklable(take, (value,), {}, dumps)
    assert found is not None
    return found.path.replace("argument 'value'", "value")


@dataclasses.dataclass
class Record:
    content: object


@dataclasses.dataclass(slots=True)
class Slotted:
    content: object


@attrs.frozen
class Case:
    content: object


class Plain:
    def __init__(self, content: object) -> None:
        self.content = content

    def method(self, value: object = None) -> None:
        """Do nothing."""


class WithSlots:
    __slots__ = ("content", "unset")

    def __init__(self, content: object) -> None:
        self.content = content


class Made:
    """Is made anew from what it was made from."""

    def __init__(self, content: object) -> None:
        self.content = content

    def __reduce__(self) -> tuple[object, ...]:
        return Made, (self.content,)


class Careful:
    """Leaves its lock behind when it is pickled."""

    def __init__(self, content: object) -> None:
        self.lock = threading.Lock()
        self.content = content

    def __getstate__(self) -> dict[str, object]:
        return {"content": self.content}


class Packing:
    """Has a state of its own kind."""

    def __init__(self, content: object) -> None:
        self.content = content

    def __getstate__(self) -> object:
        return [1, self.content]

    def __setstate__(self, state: object) -> None:
        """Never called."""


class Pair(NamedTuple):
    one: object
    other: object


class Rows(list[object]):
    """A list with a name."""


class Refusing:
    """Cannot be pickled, and its own code says so."""

    def __init__(self) -> None:
        self.lock = LOCK

    def __reduce__(self) -> tuple[object, ...]:
        raise RuntimeError("not me")


class Unprintable:
    """Has no repr."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (LOCK, "value"),
        ({"db": Record(LOCK)}, "value['db'].content"),
        ([0, 1, (2, LOCK)], "value[2][1]"),
        (Slotted([LOCK]), "value.content[0]"),
        (Case({1: LOCK}), "value.content[1]"),
        (Plain(WithSlots(LOCK)), "value.content.content"),
        (Made([LOCK]), "value.content[0]"),
        (Careful([LOCK]), "value.content[0]"),
        (Packing(LOCK), "value.__getstate__()[1]"),
        (Pair(1, [LOCK]), "value.other[0]"),
        (Rows([1, LOCK]), "value[1]"),
        (collections.deque([1, LOCK]), "value[1]"),
        (collections.OrderedDict(a=LOCK), "value['a']"),
        (collections.defaultdict(LOCK.acquire), "value.default_factory.__self__"),
        (functools.partial(take, LOCK), "value.args[0]"),
        (functools.partial(take, value=LOCK), "value.keywords['value']"),
        (ValueError("no", LOCK), "value.args[1]"),
        (Plain(LOCK).method, "value.__self__.content"),
        ({1, LOCK}, "an item of value"),
        (frozenset({Case(LOCK)}), "(an item of value).content"),
        ([{LOCK: 1}], "a key of value[0]"),
        ({(1, "a"): LOCK}, "value[(1, 'a')]"),
        ({"k" * 100: LOCK}, f"value['{'k' * 59}...]"),
        ({Unprintable(): LOCK}, "value[<Unprintable>]"),
        ([Refusing()], "value[0]"),
        ((x for x in "abc"), "value"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_the_part_is_named_as_python_would_write_it(value: object, path: str) -> None:
    """The smallest part that cannot be pickled is found in all that picklers look into."""
    assert path_of(value) == path


def _plant(value: object, step: tuple[str, int]) -> object:
    kind, before = step
    match kind:
        case "list":
            return [*range(before), value, "after"]
        case "tuple":
            return (*range(before), value)
        case "dict":
            return {**{f"k{number}": number for number in range(before)}, "it": value, "z": 1}
        case "record":
            return Record(value)
        case _:
            return Case(value)


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.sampled_from(["list", "tuple", "dict", "record", "case"]), st.integers(0, 9)),
        max_size=12,
    )
)
def test_the_path_leads_to_the_part(steps: list[tuple[str, int]]) -> None:
    """Python, given the path, finds what cannot be pickled, wherever that was put."""
    lock = threading.Lock()
    value: object = lock
    for step in steps:
        value = _plant(value, step)
    assert eval(path_of(value), {"value": value}) is lock


def test_the_first_part_of_many_is_found_without_trying_each() -> None:
    """Among a hundred thousand items the one to blame is found in some forty tries."""
    tries = 0

    def counting(value: object) -> bytes:
        nonlocal tries
        tries += 1
        return dumps(value)

    found = find_unpicklable(take, ([*range(70_000), LOCK, *range(30_000)],), {}, counting)
    assert found is not None
    assert found.path == "argument 'value'[70000]"
    assert tries < 40


def test_cycles_are_walked_once() -> None:
    """A value that holds itself is searched all the same, for what else it holds."""
    holder: list[object] = []
    holder += [holder, {"me": holder, "lock": LOCK}]
    assert path_of(holder) == "value[1]['lock']"
    back: list[object] = []
    holder = [back, LOCK]
    back.append(holder)
    assert path_of(holder) == "value[1]"
    refusing = Refusing()
    refusing.me = refusing  # type: ignore[attr-defined]  # Not known to the class.
    assert path_of([refusing]) == "value[0]"


def test_what_is_too_deep_to_pickle_is_named_as_a_whole() -> None:
    """For a value that nests too deeply no place in it is to blame."""
    value: object = None
    for _ in range(100_000):
        value = [value]
    found = find_unpicklable(take, (value,), {}, dumps)
    assert found is not None
    assert found.path == "argument 'value'"
    assert isinstance(found.error, RecursionError)


def test_the_search_is_given_up_when_it_takes_too_long() -> None:
    """A search is bounded, names how far it came, and shows both ends of a long path."""
    tries = 0

    def never(_: object) -> bytes:
        nonlocal tries
        tries += 1
        raise RuntimeError("never")

    value: object = None
    for _ in range(10_000):
        value = [value]
    error = RuntimeError("never")
    failure = unpicklable_error("take-0", "the moon", take, (value,), {}, never, error)
    assert 100 < tries < 1_100
    assert len(str(failure)) < 600
    assert "argument 'value'[0][0]" in str(failure)
    assert " ... " in str(failure)


# ---------------------------------------------------------------------------- names of arguments


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "path"),
    [
        (take_all, (LOCK,), {}, "argument 'first'"),
        (take_all, (1, 2, [LOCK]), {}, "argument 'rows'[1][0]"),
        (take_all, (1,), {"flag": LOCK}, "argument 'flag'"),
        (take_all, (1,), {"other": {"a": LOCK}}, "argument 'other'['a']"),
        (functools.partial(take_all, 1), (LOCK,), {}, "argument 'rows'[0]"),
        (functools.partial(take_all, LOCK), (), {}, "argument 'first'"),
        (functools.partial(take_all, 1, flag=[LOCK]), (), {}, "argument 'flag'[0]"),
        (functools.partial(Plain.method, Plain(LOCK)), (1,), {}, "argument 'self'.content"),
        (Plain(LOCK).method, (1,), {}, "argument 'self'.content"),
        (dict.update, ({}, LOCK), {}, "argument 2"),
        (dict, (), {"a": LOCK}, "argument 'a'"),
        (take, (1, LOCK), {}, "argument 2"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_arguments_go_by_the_names_of_parameters(
    function: Callable[..., object],
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    path: str,
) -> None:
    """Arguments are named by the function's parameters, if it tells them, else by number."""
    found = find_unpicklable(function, args, kwargs, dumps)
    assert found is not None
    assert found.path == path
    assert not found.is_function


# ---------------------------------------------------------------------------- functions


def test_a_function_is_blamed_for_what_it_refers_to() -> None:
    """Closure variables, globals and defaults of a function that is sent by value are named."""
    connection = {"lock": LOCK}

    def by_closure() -> object:
        return connection

    def by_default(value: object = LOCK) -> object:
        return value

    def by_another() -> object:
        return by_closure()

    paths = []
    for function in (by_closure, by_default, by_another, functools.partial(by_closure)):
        found = find_unpicklable(function, (), {}, dumps)
        assert found is not None
        assert found.is_function
        paths.append(found.path)
    assert paths == [
        "its function, which refers to 'connection'['lock']",
        "its function, which refers to 'value'",
        "its function, which refers to 'by_closure', which refers to 'connection'['lock']",
        "its function, which refers to 'connection'['lock']",
    ]
    assert path_of([by_another]).startswith("value[0], which refers to 'by_closure', which")


def test_a_global_of_a_function_is_named() -> None:
    """A global is to blame if a function that is sent with it uses it, anywhere inside."""

    def by_global() -> object:
        return lambda: LOCK

    found = find_unpicklable(by_global, (), {}, dumps)
    assert found is not None
    assert found.path == "its function, which refers to 'LOCK'"


def test_what_stays_behind_is_not_blamed() -> None:
    """A function that fails for another reason than what it refers to is named by itself."""
    found = find_unpicklable(lambda: LOCK, (), {}, pickle.dumps)
    assert found is not None
    assert found.path == "its function"
    assert "lambda" in str(found.error)


# ---------------------------------------------------------------------------- the error


def test_the_error_names_run_place_and_part_and_says_what_to_do() -> None:
    """The error says which run, where to, which part, why, and the way out."""
    original = TypeError("cannot pickle '_thread.lock' object")
    error = unpicklable_error(
        "take-811087cd-0", "the moon", take, ({"db": LOCK},), {}, dumps, original
    )
    assert type(error) is TypeError
    assert error.__cause__ is original
    assert str(error) == (
        "Run 'take-811087cd-0' cannot be sent to the moon: argument 'value'['db'] cannot be "
        "pickled (TypeError: cannot pickle '_thread.lock' object). Pass what it is made from, and "
        "make it in the task"
    )


def test_the_error_for_a_function_says_what_to_do() -> None:
    """For a function the way out is another one."""
    lock = LOCK
    original = TypeError("cannot pickle")
    error = unpicklable_error("f-0", "the moon", lambda: lock, (), {}, dumps, original)
    assert "its function, which refers to 'lock', cannot be pickled (TypeError: " in str(error)
    assert str(error).endswith("Pass what it refers to as an argument, or make it in the task")
    error = unpicklable_error("f-0", "the moon", lambda: lock, (), {}, pickle.dumps, original)
    assert ": its function cannot be pickled (" in str(error)


def test_the_error_blames_all_arguments_if_each_by_itself_is_all_right() -> None:
    """If nothing is found, the error still says what the pickler said."""
    original = MemoryError("too much")
    error = unpicklable_error("f-0", "the moon", take, (1,), {}, dumps, original)
    assert "its arguments cannot be pickled (MemoryError: too much)" in str(error)


def test_the_error_keeps_no_arguments_alive() -> None:
    """The cause of the error has no traceback, whose frames would hold what was pickled."""
    try:
        dumps([LOCK])
    except TypeError as raised:
        error = unpicklable_error("f-0", "the moon", take, ([LOCK],), {}, dumps, raised)
    assert error.__cause__ is not None
    assert error.__cause__.__traceback__ is None


class Failing(Exception):
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no")


class RefusingWith:
    """Cannot be pickled, and says so by an exception without a text."""

    def __reduce__(self) -> tuple[object, ...]:
        raise Failing


def test_foreign_code_that_fails_does_not_spoil_the_error() -> None:
    """What fails while the part is searched for is passed over."""
    error = unpicklable_error("f-0", "the moon", take, ([RefusingWith()],), {}, dumps, Failing())
    assert "argument 'value'[0] cannot be pickled (Failing: <exception str() failed>)" in str(error)


# ---------------------------------------------------------------------------- exceptions


def explode(kind: type[BaseException]) -> None:
    """Raise when something is unpickled."""
    raise kind("exploded")


class Exploding(Exception):
    """Raises when it is unpickled, or when it is pickled."""

    def __init__(self, kind: type[BaseException], *, at_once: bool) -> None:
        super().__init__("ticking")
        self.kind = kind
        self.at_once = at_once

    def __reduce__(self) -> tuple[Any, ...]:
        if self.at_once:
            explode(self.kind)
        return explode, (self.kind,)


@pytest.mark.parametrize("at_once", [True, False], ids=["pickled", "unpickled"])
@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_an_exception_that_explodes_is_described(kind: type[BaseException], at_once: bool) -> None:
    """An exception that raises when it is pickled or unpickled ends no worker, and is described."""
    run = TaskRun("0" * 32, "work-811087cd-0", "work")
    error = RunError.of(run, Failed(Exploding(kind, at_once=at_once), message="Exploding: ticking"))
    assert error.pickled is None
    assert "Exploding: ticking" in str(error.exception())


def test_an_exception_that_explodes_on_this_side_is_described() -> None:
    """What unpickles where it was raised may not do so here, and ends this process no more."""
    pickled = pickle.dumps(Exploding(SystemExit, at_once=False))
    error = RunError("0" * 32, "work-0", "Failed", "Exploding: ticking", "as printed", pickled)
    assert str(error.exception()) == "Exploding: ticking\n\nas printed"
