"""Futures among arguments: found at any depth, and replaced exactly where they are."""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict, UserList, defaultdict
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.futures import (
    Completed,
    Failed,
    Future,
    FutureList,
    TaskRun,
    WorkItem,
    allow_failure,
    gather,
    lift,
    quote,
)
from anabranch.futures.runner import LOOK_INSIDE, make_item, rebuild, resolve_arguments, scan

BOOM = LookupError("boom")


def completed(value: object) -> Future[object]:
    """Make a future that has completed with a value."""
    future: Future[object] = Future(TaskRun("a", "a", "a"))
    future.set_final(Completed(value))
    return future


def failed() -> Future[object]:
    """Make a future that has failed."""
    future: Future[object] = Future(TaskRun("a", "a", "a"))
    future.set_final(Failed(BOOM))
    return future


def item_of(*args: object, **kwargs: object) -> WorkItem[object]:
    """Make the item of a call with these arguments."""
    return make_item(print, args, kwargs, task_run=TaskRun("a", "a", "a"))


def resolved(value: object) -> object:
    """Return what a task would get for an argument."""
    args, _ = resolve_arguments(item_of(value))
    return args[0]


@dataclasses.dataclass
class Plain:
    """A dataclass."""

    content: object
    other: object = None


@dataclasses.dataclass(frozen=True)
class FrozenPlain:
    """A frozen dataclass."""

    content: object
    other: object = None


@dataclasses.dataclass(frozen=True, slots=True)
class SlottedPlain:
    """A frozen dataclass with slots."""

    content: object
    other: object = None


@attrs.define(slots=False)
class Attrs:
    """An attrs class."""

    content: object
    other: object = None


@attrs.frozen
class FrozenAttrs:
    """A frozen attrs class with slots."""

    content: object
    other: object = None


@attrs.frozen(slots=False)
class FrozenDictAttrs:
    """A frozen attrs class without slots."""

    content: object
    other: object = None


Record = Plain | FrozenPlain | SlottedPlain | Attrs | FrozenAttrs | FrozenDictAttrs
RECORDS: list[Callable[..., Record]] = [
    Plain,
    FrozenPlain,
    SlottedPlain,
    Attrs,
    FrozenAttrs,
    FrozenDictAttrs,
]


# ------------------------------------------------------------------------- properties

# A blueprint is plain data; building it twice, with futures and with their values, gives what a
# submitter writes and what the task must get.


@attrs.frozen
class FutureOf:
    """Stands in a blueprint for a future of this value."""

    value: int


@attrs.frozen
class Tolerated:
    """Stands in a blueprint for a future whose failure is allowed."""


@attrs.frozen
class RecordOf:
    """Stands in a blueprint for a record."""

    kind: Callable[..., Record]
    content: object


@attrs.frozen
class SetOf:
    """Stands in a blueprint for a set with futures in it."""

    kind: Callable[[list[object]], object]
    values: tuple[FutureOf | int, ...]


ATOMS = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.binary(max_size=3)
LEAVES = ATOMS | st.integers().map(FutureOf) | st.just(Tolerated())
SETS = st.builds(
    SetOf,
    st.sampled_from([set, frozenset]),
    st.lists(st.integers(), unique=True, max_size=4).map(
        lambda numbers: tuple(FutureOf(each) if each % 2 else each for each in numbers)
    ),
)


def _containers(children: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return (
        st.lists(children, max_size=3)
        | st.lists(children, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2), children, max_size=3)
        | st.builds(RecordOf, st.sampled_from(RECORDS), children)
    )


#: The same examples each time, so that a failure is everybody's.
EXAMPLES = settings(max_examples=25, derandomize=True, deadline=None)

BLUEPRINTS: st.SearchStrategy[object] = st.recursive(LEAVES | SETS, _containers, max_leaves=12)


def build(blueprint: object, leaf: Callable[[FutureOf | Tolerated], object]) -> object:
    """Build what a blueprint describes."""
    match blueprint:
        case FutureOf() | Tolerated():
            return leaf(blueprint)
        case RecordOf(kind, content):
            return kind(build(content, leaf))
        case SetOf(kind, values):
            return kind([build(each, leaf) for each in values])
        case list():
            return [build(each, leaf) for each in blueprint]
        case tuple():
            return tuple(build(each, leaf) for each in blueprint)
        case dict():
            return {name: build(each, leaf) for name, each in blueprint.items()}
        case _:
            return blueprint


def _as_future(leaf: FutureOf | Tolerated) -> object:
    if isinstance(leaf, FutureOf):
        return completed(leaf.value)
    return allow_failure(failed())


def _as_value(leaf: FutureOf | Tolerated) -> object:
    return leaf.value if isinstance(leaf, FutureOf) else BOOM


def count_leaves(blueprint: object) -> tuple[int, int]:
    """Return how many futures and how many tolerated ones a blueprint has."""
    found: list[FutureOf | Tolerated] = []

    def count(leaf: FutureOf | Tolerated) -> object:
        found.append(leaf)
        return len(found)

    build(blueprint, count)
    wanted = sum(isinstance(leaf, FutureOf) for leaf in found)
    return wanted, len(found) - wanted


@EXAMPLES
@given(BLUEPRINTS)
def test_values_take_the_place_of_futures_everywhere(blueprint: object) -> None:
    """A task gets the arguments as written, with values exactly where futures were."""
    assert resolved(build(blueprint, _as_future)) == build(blueprint, _as_value)


@EXAMPLES
@given(BLUEPRINTS)
def test_every_future_is_found(blueprint: object) -> None:
    """The search finds every future and every tolerated one, and says if there are none."""
    found = scan([build(blueprint, _as_future)])
    assert (len(found.upstreams), len(found.tolerated)) == count_leaves(blueprint)
    assert found.is_plain == (count_leaves(blueprint) == (0, 0))


@EXAMPLES
@given(BLUEPRINTS)
def test_containers_without_futures_are_handed_on_themselves(blueprint: object) -> None:
    """An argument without futures reaches the task as the same object, beside one with them."""
    plain = build(blueprint, _as_value)
    args, kwargs = resolve_arguments(item_of(plain, completed(1), key=plain))
    assert args[0] is plain
    assert args[1] == 1
    assert kwargs["key"] is plain


@EXAMPLES
@given(BLUEPRINTS)
def test_the_submitters_containers_are_never_changed(blueprint: object) -> None:
    """Putting values in the place of futures leaves the originals as they were."""
    value = build(blueprint, _as_future)
    before = scan([value])
    shown = repr(value)
    resolved(value)
    assert repr(value) == shown
    assert scan([value]).upstreams == before.upstreams


@EXAMPLES
@given(BLUEPRINTS)
def test_parts_without_futures_stay_themselves(blueprint: object) -> None:
    """Inside a container that has to be copied, parts without futures are the same objects."""
    part = build(blueprint, _as_value)
    new = resolved([part, completed(1)])
    assert isinstance(new, list)
    assert new[0] is part


# ------------------------------------------------------------------------- finding


def test_plain_arguments_are_told_apart() -> None:
    """Arguments with neither futures nor marks are handed on as they are."""
    item = item_of([1, {"a": (2,)}], key={3})
    assert item.is_plain
    assert item.upstreams == ()
    args, kwargs = resolve_arguments(item)
    assert args is item.args
    assert kwargs is item.kwargs


def test_each_future_is_found_once_in_order() -> None:
    """A future that appears several times is one upstream; they come in the order found."""
    one, two = completed(1), completed(2)
    found = scan([[one, two], {"a": one}, two])
    assert found.upstreams == (one, two)


def test_a_tolerated_future_is_not_an_upstream() -> None:
    """A future marked with allow_failure is waited for, but need not complete."""
    future = failed()
    found = scan([allow_failure(future)])
    assert found.upstreams == ()
    assert found.tolerated == (future,)
    assert resolved([allow_failure(future)]) == [BOOM]
    assert resolved(allow_failure(completed(1))) == 1


def test_lists_of_futures_are_looked_into() -> None:
    """The futures of a list are the upstreams, and the task gets the list of values."""
    one, two = completed(1), completed(2)
    futures = gather([one, two])
    assert scan([{"a": futures}]).upstreams == (one, two)
    assert resolved({"a": futures}) == {"a": [1, 2]}
    assert type(resolved(futures)) is list


def test_an_empty_list_of_futures_becomes_an_empty_list() -> None:
    """A task that takes a list gets a list, even if there were no futures in it."""
    nothing: FutureList[object] = gather([])
    assert type(resolved(nothing)) is list
    assert resolved({"a": nothing}) == {"a": []}


def test_nested_lists_of_futures_become_nested_lists() -> None:
    """A list of lists of futures reaches the task as lists of values, at any depth."""
    nested = gather([gather([completed(1)]), gather([completed(2), completed(3)])])
    assert resolved(nested) == [[1], [2, 3]]


def test_futures_waited_for_are_found_in_containers() -> None:
    """What a run waits for besides its arguments may be nested as well."""
    one, two, tolerated = completed(1), completed(2), failed()
    item = make_item(
        print,
        (one,),
        {},
        task_run=TaskRun("a", "a", "a"),
        wait_for=([two], allow_failure(tolerated)),
    )
    assert item.upstreams == (one, two)
    assert item.tolerated == (tolerated,)


def test_waiting_alone_leaves_the_arguments_plain() -> None:
    """A run that only waits for others gets its arguments as they are."""
    item = make_item(print, ([1],), {}, task_run=TaskRun("a", "a", "a"), wait_for=(completed(1),))
    assert item.is_plain
    assert len(item.upstreams) == 1


class NotExactlyAList(list[object]):
    """A subclass of a container."""


class NotExactlyADict(dict[str, object]):
    """A subclass of a container."""


class Pair(NamedTuple):
    """A tuple with names."""

    one: object
    two: object


class Opaque:
    """A class of the user's own."""

    def __init__(self, content: object) -> None:
        self.content = content


@pytest.mark.parametrize(
    "wrap",
    [
        lambda future: NotExactlyAList([future]),
        lambda future: NotExactlyADict(a=future),
        lambda future: OrderedDict(a=future),
        lambda future: defaultdict(list, a=future),
        lambda future: Pair(future, 1),
        lambda future: UserList([future]),
        lambda future: Opaque(future),
        lambda future: iter([future]),
        lambda future: {future: 1},
        lambda future: Plain,
    ],
    ids=[
        "list subclass",
        "dict subclass",
        "OrderedDict",
        "defaultdict",
        "named tuple",
        "UserList",
        "own class",
        "iterator",
        "dict key",
        "a record class itself",
    ],
)
def test_only_exact_containers_are_searched(wrap: Callable[[Future[object]], object]) -> None:
    """Subclassed containers and other objects are handed on without being searched."""
    value = wrap(completed(1))
    assert scan([value]).is_plain
    assert resolved(value) is value


# ------------------------------------------------------------------------- quote


def test_what_is_quoted_is_not_searched() -> None:
    """A quoted container is handed on as it is, futures and all."""
    inside = [completed(1)]
    quoted = quote(inside)
    found = scan([quoted])
    assert found.upstreams == ()
    assert not found.is_plain
    assert resolved(quoted) is inside
    assert resolved({"a": [quoted]}) == {"a": [inside]}


def test_lift_changes_nothing() -> None:
    """Lift is for the type checker: it returns the future itself."""
    future = completed(1)
    assert lift(future) is future


# ------------------------------------------------------------------------- cycles and sharing


def test_a_container_that_holds_itself_is_walked_once() -> None:
    """Neither the search nor the replacement goes round in circles."""
    future = completed(1)
    circle: list[object] = [future]
    circle.append(circle)
    assert scan([circle]).upstreams == (future,)
    new = resolved(circle)
    assert isinstance(new, list)
    assert new[0] == 1


def test_a_cycle_without_futures_is_handed_on_itself() -> None:
    """A cyclic structure beside a future stays the same object."""
    circle: list[object] = [1]
    circle.append({"back": circle})
    args, _ = resolve_arguments(item_of(circle, completed(1)))
    assert args[0] is circle


def test_deep_nesting_is_searched() -> None:
    """The search does not recurse, so depth does not matter to it."""
    future = completed(1)
    value: object = future
    for _ in range(10_000):
        value = [value]
    assert scan([value]).upstreams == (future,)


def test_a_container_named_twice_is_rebuilt_once() -> None:
    """What was one object to the submitter is one object to the task."""
    shared = [completed(1)]
    new = resolved([shared, shared])
    assert isinstance(new, list)
    assert new == [[1], [1]]
    assert new[0] is new[1]


def test_shared_parts_are_visited_once() -> None:
    """The cost of a replacement grows with the size of the data, not with the paths through it."""
    diamond: object = [1]
    for _ in range(12):
        diamond = [diamond, diamond]
    looks = 0

    def look(_: object) -> object:
        nonlocal looks
        looks += 1
        return LOOK_INSIDE

    args, _ = rebuild((diamond,), {}, look)
    assert args[0] is diamond
    assert looks <= 40


# ------------------------------------------------------------------------- records


@pytest.mark.parametrize("kind", RECORDS)
def test_records_are_copied_with_values_in_place(kind: Callable[..., Record]) -> None:
    """Dataclasses and attrs classes are searched, frozen or slotted, and copied if need be."""
    other = [1]
    record = kind([completed(5)], other)
    new = resolved(record)
    assert new == kind([5], other)
    assert type(new) is type(record)
    assert isinstance(
        new, Plain | FrozenPlain | SlottedPlain | Attrs | FrozenAttrs | FrozenDictAttrs
    )
    assert new.other is other
    assert isinstance(record.content, list)
    assert isinstance(record.content[0], Future), "the original is left alone"


@pytest.mark.parametrize("kind", RECORDS)
def test_records_without_futures_are_handed_on_themselves(kind: Callable[..., Record]) -> None:
    """A record in which nothing is replaced is not copied."""
    record = kind([1])
    args, _ = resolve_arguments(item_of(record, completed(1)))
    assert args[0] is record


@dataclasses.dataclass
class Counting:
    """Counts how often one of it is constructed."""

    constructed: dataclasses.InitVar[list[object]]
    content: object

    def __post_init__(self, constructed: list[object]) -> None:
        constructed.append(self.content)


def _note(value: object) -> object:
    CountingAttrs.log.append(value)
    return value


@attrs.define
class CountingAttrs:
    """Converts what it is given, and counts."""

    log: ClassVar[list[object]] = []
    content: object = attrs.field(converter=_note)

    def __attrs_post_init__(self) -> None:
        self.log.append("constructed")


def test_records_are_not_constructed_anew() -> None:
    """The copy of a record is made without running its constructor again."""
    log: list[object] = []
    future = completed(1)
    new = resolved(Counting(log, future))
    assert isinstance(new, Counting)
    assert new.content == 1
    assert log == [future]


def test_attrs_records_are_not_constructed_anew() -> None:
    """Neither converters nor ``__attrs_post_init__`` run again."""
    future = completed(1)
    record = CountingAttrs(future)
    before = list(CountingAttrs.log)
    new = resolved(record)
    assert isinstance(new, CountingAttrs)
    assert new.content == 1
    assert CountingAttrs.log == before


@attrs.define(slots=False)
class WithPrivate:
    """Has a private field, whose argument has another name, and one that is not set."""

    _hidden: object
    unset: int = attrs.field(init=False)


def test_private_and_unset_fields_are_no_hindrance() -> None:
    """Fields are found by their own names, and those without a value are passed over."""
    new = resolved(WithPrivate(completed(3)))
    assert isinstance(new, WithPrivate)
    assert new._hidden == 3
    assert not hasattr(new, "unset")


# ------------------------------------------------------------------------- rebuild


def test_rebuild_replaces_what_it_is_told_to() -> None:
    """What replaces a value is up to the caller, and None and the like can replace."""

    class Mark:
        """What is to be replaced."""

    def replace(value: object) -> object:
        return None if isinstance(value, Mark) else LOOK_INSIDE

    kept, opaque = (1, [2]), Opaque(Mark())
    args, kwargs = rebuild((kept, [Mark(), 3], opaque), {"key": {"a": Mark()}}, replace)
    assert args == (kept, [None, 3], opaque)
    assert args[0] is kept
    assert kwargs == {"key": {"a": None}}


def test_rebuild_keeps_the_kinds_of_containers() -> None:
    """Lists stay lists, tuples tuples, sets sets, and dicts keep their keys and their order."""
    one = completed(1)
    kinds: list[tuple[object, object]] = [
        ([one], [1]),
        ((one,), (1,)),
        ({one}, {1}),
        (frozenset({one}), frozenset({1})),
    ]
    for before, after in kinds:
        new = resolved(before)
        assert type(new) is type(before)
        assert new == after
    new = resolved({"b": one, "a": 2, 3: [one]})
    assert isinstance(new, dict)
    assert list(new.items()) == [("b", 1), ("a", 2), (3, [1])]


def test_a_value_that_is_no_key_cannot_take_its_place_in_a_set() -> None:
    """A future in a set whose value cannot be in one fails where the arguments are resolved."""
    with pytest.raises(TypeError, match="unhashable"):
        resolved({completed([1])})


def test_values_are_not_searched_in_turn() -> None:
    """What a run returned is handed on as it is, even if there are futures in it."""
    returned = [completed(1)]
    assert resolved([completed(returned)]) == [returned]
    new = resolved([completed(returned)])
    assert isinstance(new, list)
    assert new[0] is returned


def test_arguments_can_be_copied_before() -> None:
    """A shallow copy of a record with futures still shows them to the search."""
    record = copy.copy(FrozenAttrs(completed(1)))
    assert resolved(record) == FrozenAttrs(1)
