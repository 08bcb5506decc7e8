"""Work that travels to another process, and outcomes that travel back."""

from __future__ import annotations

import gc
import pickle
import threading
import weakref
from collections.abc import Callable

import anyio.lowlevel
import attrs
import pytest

from anabranch.futures import (
    Cancelled,
    Completed,
    Crashed,
    Failed,
    FlowRun,
    Future,
    RemoteExceptionError,
    RetryPolicy,
    RunContext,
    State,
    TaskRun,
    TimedOut,
    UpstreamFailed,
    WorkItem,
    allow_failure,
    gather,
    quote,
)
from anabranch.futures.runner import (
    NO_RETRIES,
    Packed,
    RunError,
    Shipment,
    current_scope,
    make_item,
    pack,
    run_shipment,
)

RUN = TaskRun("1", "run-0", "run")
OTHER = TaskRun("9", "other-0", "other")
FLOW = FlowRun("2", "humongous-mink", "flow")


def make(name: str = "a") -> Future[object]:
    """Make a pending future of a run of this name."""
    return Future(TaskRun(name, name, name))


def completed(value: object) -> Future[object]:
    """Make a future that has completed."""
    future = make()
    future.set_final(Completed(value))
    return future


def item_of(function: Callable[..., object], *args: object, **kwargs: object) -> WorkItem[object]:
    """Make the item of a call."""
    return make_item(function, args, kwargs, task_run=RUN, flow_run=FLOW)


def there(_: Future[object]) -> bool:
    """Say that every value lies on the other side."""
    return True


def not_there(_: Future[object]) -> bool:
    """Say that no value lies on the other side."""
    return False


def travelled(packed: Packed) -> Shipment:
    """Return what arrives of a shipment."""
    shipment: Shipment = pickle.loads(pickle.dumps(packed.shipment))
    return shipment


def collect(*args: object, **kwargs: object) -> tuple[object, ...]:
    """Return what it was called with."""
    return (*args, kwargs)


def run_over_there(item: WorkItem[object], values: tuple[object, ...] = ()) -> object:
    """Pack, ship and run an item whose futures are all on the other side."""
    return run_shipment(item.function, travelled(pack(item, there)), values)


# ------------------------------------------------------------------------- packing


def test_plain_arguments_travel_as_they_are() -> None:
    """Without futures there is nothing to pack, and nothing to fill in."""
    item = item_of(collect, 1, key=[2])
    packed = pack(item, there)
    assert packed.slots == []
    assert packed.shipment.args is item.args
    assert run_over_there(item) == (1, {"key": [2]})


def test_values_that_are_there_go_into_slots() -> None:
    """A future whose value lies on the other side leaves a slot, however deep, which is filled."""
    one, two = make("one"), make("two")
    item = item_of(collect, one, {"a": [two, 3]}, key=(one,))
    assert pack(item, there).slots == [one, two]
    assert run_over_there(item, (10, 20)) == (10, {"a": [20, 3]}, {"key": (10,)})


def test_a_future_that_appears_twice_has_one_slot() -> None:
    """The backend brings each value once."""
    one = make("one")
    item = item_of(collect, one, [one, one])
    assert pack(item, there).slots == [one]
    assert run_over_there(item, (7,)) == (7, [7, 7], {})


def test_values_that_are_here_travel_along() -> None:
    """A future of elsewhere, which has ended, is replaced by its value before the journey."""
    item = item_of(collect, completed([1]), [completed(2)])
    packed = pack(item, not_there)
    assert packed.slots == []
    assert run_shipment(collect, travelled(packed)) == ([1], [2], {})


def test_some_values_are_here_and_others_there() -> None:
    """Each future is asked for by itself."""
    here, far = completed(1), make("far")
    packed = pack(item_of(collect, here, far), lambda future: future is far)
    assert packed.slots == [far]
    assert run_shipment(collect, travelled(packed), [2]) == (1, 2, {})


def test_packing_keeps_no_future() -> None:
    """A value on the other side goes with the last future of it, without a collection."""
    gc.collect()
    gc.disable()
    try:
        far = make("far")
        packed = pack(item_of(collect, [far]), there)
        assert packed.slots == [far]
        gone = weakref.ref(far)
        del far, packed
        assert gone() is None
    finally:
        gc.enable()


def test_lists_of_futures_are_packed_as_lists() -> None:
    """Each future of a list is packed by itself, and a list arrives."""
    one, two = make("one"), completed(2)
    packed = pack(item_of(collect, gather([one, two])), lambda future: future is one)
    assert packed.slots == [one]
    assert run_shipment(collect, travelled(packed), [1]) == ([1, 2], {})


def test_nested_lists_of_futures_are_packed_as_nested_lists() -> None:
    """The futures of lists in lists have slots as well: the lists themselves are nowhere."""
    one, two = make("one"), make("two")
    packed = pack(item_of(collect, gather([gather([one]), gather([two])])), {one, two}.__contains__)
    assert packed.slots == [one, two]
    assert run_shipment(collect, travelled(packed), [1, 2]) == ([[1], [2]], {})


def test_tolerated_failures_travel_as_values() -> None:
    """The exception of a future marked with allow_failure arrives as an argument."""
    failed = make()
    failed.set_final(Failed(LookupError("gone")))
    item = item_of(collect, allow_failure(failed), allow_failure(completed(2)))
    arrived = run_shipment(collect, travelled(pack(item, not_there)))
    assert repr(arrived) == "(LookupError('gone'), 2, {})"


def test_what_is_quoted_is_not_searched_on_either_side() -> None:
    """A quoted argument arrives without its mark."""
    assert run_over_there(item_of(collect, quote([1, 2]), make()), (3,)) == ([1, 2], 3, {})


# ------------------------------------------------------------------------- running


def where() -> RunContext:
    """Return who is running."""
    scope = current_scope.get()
    assert scope is not None
    return scope.context


def test_shipped_work_knows_where_it_is() -> None:
    """The ids and names of run and flow travel along."""
    assert run_over_there(item_of(where)) == RunContext(FLOW, RUN, attempt=1)


async def double(number: int) -> int:
    """Return twice the number, after letting the loop turn once."""
    await anyio.lowlevel.checkpoint()
    return 2 * number


def test_shipped_coroutines_run_in_a_loop_of_their_own() -> None:
    """Async work is run to its end where it arrives."""
    assert run_over_there(item_of(double, make()), (4,)) == 8


def fail(message: str) -> None:
    """Raise a LookupError with a cause."""
    try:
        raise KeyError("the cause")
    except KeyError as error:
        raise LookupError(message, 42) from error


def leave() -> None:
    """Raise SystemExit."""
    raise SystemExit(3)


def caught(function: Callable[..., object], *args: object) -> RunError:
    """Run shipped work that fails, and return the error as it arrives back here."""
    item = item_of(function, *args)
    with pytest.raises(RunError) as raised:
        run_shipment(function, travelled(pack(item, there)))
    error: RunError = pickle.loads(pickle.dumps(raised.value))
    return error


def test_a_failure_is_a_native_error() -> None:
    """A run that fails raises an error that names it in a line, and holds the remote traceback."""
    error = caught(fail, "gone")
    assert (error.run_id, error.run_name, error.kind) == ("1", "run-0", "Failed")
    assert error.message == "LookupError: ('gone', 42)"
    assert str(error) == "Run 'run-0' ended in state Failed(\"LookupError: ('gone', 42)\")"
    assert "in fail" in error.report


def test_the_runs_own_failure_comes_back_as_it_was_raised() -> None:
    """Here the error gives the run's exception, noting the remote traceback and its causes."""
    state = caught(fail, "gone").state_of(RUN)
    assert isinstance(state, Failed)
    assert state.message == "LookupError: ('gone', 42)"
    with pytest.raises(LookupError, match="gone") as raised:
        state.result()
    assert type(raised.value) is LookupError
    assert raised.value.args == ("gone", 42)
    (note,) = raised.value.__notes__
    assert note.startswith("It was raised in another process:\n\nTraceback (most recent call last)")
    assert "KeyError: 'the cause'" in note
    assert "in fail" in note


def test_a_crash_comes_back_as_one() -> None:
    """What was not meant for the engine crashes the run over there as well."""
    state = caught(leave).state_of(RUN)
    assert isinstance(state, Crashed)
    assert isinstance(state.exception, SystemExit)
    assert state.exception.code == 3


def test_the_error_of_another_run_is_an_upstream_failure() -> None:
    """If the backend hands down an error of another run, this one never started."""
    state = caught(fail, "gone").state_of(OTHER)
    assert isinstance(state, UpstreamFailed)
    assert isinstance(state.cause, LookupError)
    assert state.message == (
        "Run 'run-0' upstream ended in state Failed(\"LookupError: ('gone', 42)\")"
    )


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (Failed(KeyError("k"), message="m"), Failed),
        (TimedOut(message="m"), TimedOut),
        (Cancelled(message="m"), Cancelled),
        (Crashed(message="m"), Crashed),
    ],
)
def test_every_unsuccessful_state_travels(state: State[object], kind: type) -> None:
    """A state that has been described and pickled is the same state, with the same exception."""
    error: RunError = pickle.loads(pickle.dumps(RunError.of(RUN, state)))
    copy = error.state()
    assert type(copy) is kind
    assert copy.message == "m"
    original = state.result(raise_on_failure=False)
    assert repr(copy.result(raise_on_failure=False)) == repr(original)


class CannotBeMadeAgainError(Exception):
    """An exception whose constructor does not take its args."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


class HoldsALockError(Exception):
    """An exception that cannot be pickled at all."""

    def __init__(self) -> None:
        super().__init__("held")
        self.lock = threading.Lock()


class ChangesItsTypeError(Exception):
    """An exception that comes back from a pickle as something else."""

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, ("not an exception",)


class RaisesOddlyError(Exception):
    """An exception whose pickling raises something of its own."""

    def __reduce__(self) -> str:
        raise ZeroDivisionError("odd")


def raise_unpicklable(number: int) -> None:
    """Raise an exception that does not travel."""
    errors: list[Exception] = [
        CannotBeMadeAgainError("this", "that"),
        HoldsALockError(),
        ChangesItsTypeError("changed"),
        RaisesOddlyError("oddly"),
    ]
    raise errors[number]


@pytest.mark.parametrize(
    ("number", "described"),
    [
        (0, "CannotBeMadeAgainError: this and that"),
        (1, "HoldsALockError: held"),
        (2, "ChangesItsTypeError: changed"),
        (3, "RaisesOddlyError: oddly"),
    ],
)
def test_an_exception_that_does_not_travel_is_described(number: int, described: str) -> None:
    """In its place comes an error with its type, its message and its traceback."""
    error = caught(raise_unpicklable, number)
    assert error.pickled is None
    state = error.state_of(RUN)
    assert isinstance(state, Failed)
    with pytest.raises(RemoteExceptionError, match=rf"^{described}\n\nTraceback") as raised:
        state.result()
    assert "in raise_unpicklable" in str(raised.value)


def test_an_exception_that_cannot_be_unpacked_here_is_described() -> None:
    """Bytes that this process cannot make sense of are no hindrance to telling what happened."""
    error = RunError("1", "run-0", "Failed", "LookupError: gone", "the report", b"nonsense")
    with pytest.raises(RemoteExceptionError, match=r"^LookupError: gone\n\nthe report$"):
        error.state_of(RUN).result()


def test_exceptions_are_pickled_with_what_the_runner_gives() -> None:
    """A runner may bring its backend's own serialiser for exceptions."""
    dumped: list[object] = []

    def dumps(value: object) -> bytes:
        dumped.append(value)
        return pickle.dumps(value)

    item = item_of(fail, "gone")
    with pytest.raises(RunError, match="LookupError"):
        run_shipment(fail, pack(item, there).shipment, (), dumps)
    assert [type(each) for each in dumped] == [LookupError]


def test_unpacking_twice_notes_once() -> None:
    """Each unpacked exception is a new one with one note."""
    error = caught(fail, "gone")
    assert [len(error.exception().__notes__) for _ in range(2)] == [1, 1]


def test_error_carries_a_history() -> None:
    """A failure travels with what the run went through before, if its runner adds that."""
    error = RunError.of(RUN, Failed(LookupError("gone"), message="LookupError: gone"))
    assert error.history == ()
    told: RunError = pickle.loads(pickle.dumps(error.with_history(("first", "second"))))
    assert told.history == ("first", "second")
    assert str(told) == str(error)
    assert type(told.exception()) is LookupError


# ---------------------------------------------------------------------------- small things


@pytest.mark.parametrize(
    "shipment",
    [
        Shipment((1, "two"), {"three": None}, True, RUN, FLOW, False, None),
        Shipment(([1],), {}, False, OTHER, None, True, "asyncio", RetryPolicy(2), 1.5, 3),
    ],
)
def test_a_shipment_arrives_as_it_was(shipment: Shipment) -> None:
    """Pickling a shipment leaves nothing out."""
    assert attrs.asdict(pickle.loads(pickle.dumps(shipment))) == attrs.asdict(shipment)


def test_a_shipment_is_simple_if_any_pickler_will_do() -> None:
    """What a script defines needs a pickler of another kind, and long texts gain nothing."""

    def shipment(*args: object, retry: RetryPolicy = NO_RETRIES, plain: bool = True) -> Shipment:
        return Shipment(args, {}, plain, RUN, FLOW, False, None, retry)

    assert shipment(1, 0.5, None, True, "text", b"bytes").is_simple()
    assert shipment(1, retry=RetryPolicy(2, delay=(1, 2))).is_simple()
    assert not shipment([1]).is_simple()
    assert not shipment("x" * 100_000).is_simple()
    assert not shipment(1, plain=False).is_simple()
    assert not shipment(1, retry=RetryPolicy(2, condition=lambda _: True)).is_simple()
