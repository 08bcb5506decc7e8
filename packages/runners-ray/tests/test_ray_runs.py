"""Runs in Ray: what they give back, how they fail, how they are stopped."""

from __future__ import annotations

import functools
import gc
import os
import select
import signal
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from anabranch.futures import (
    Backend,
    Cancellation,
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Future,
    RemoteExceptionError,
    RunCancelledError,
    RunCrashedError,
    TaskRun,
    UpstreamFailed,
    allow_failure,
    lift,
    quote,
    wait,
)
from anabranch.futures.runner import make_item, new_run_id, running_loop
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.ray import RayTaskRunner
from anabranch.runners.ray._functions import ExportedFunctions
from anabranch.runners.ray._worker import run_parcel

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runner() -> Iterator[RayTaskRunner]:
    """A started runner on two CPUs, and the instance for all runners of the module."""
    with RayTaskRunner(init_kwargs={"num_cpus": 2}) as runner:
        yield runner


def add(x: int, y: int = 0) -> int:
    """Return the sum."""
    return x + y


def same(value: object) -> object:
    """Return the value."""
    return value


def kind_of(value: object) -> str:
    """Return the name of the value's type."""
    return type(value).__name__


def zeros(count: int) -> bytes:
    """Return many bytes."""
    return bytes(count)


def fail(message: str) -> int:
    """Raise a LookupError."""
    raise LookupError(message)


@attrs.frozen
class Point:
    """What a task returns, small or not."""

    x: object
    y: object


class StubbornError(Exception):
    """Does not survive pickling: it cannot be made of its args."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def fail_stubbornly() -> int:
    """Raise an exception that does not survive pickling."""
    raise StubbornError("this", "that")


def make_lock() -> object:
    """Return what cannot be pickled."""
    return threading.Lock()


def wait_noted(ticket: Ticket, notes: str) -> int:
    """Note this process, then wait at a gate in C code, where Ctrl-C does not reach."""
    with Path(notes).open("a") as file:
        file.write(f"{os.getpid()}\n")
    while True:
        try:
            ticket.wait()
        except KeyboardInterrupt:
            continue  # It came just before the wait.
        return 1


def wait_cleaning_up(ticket: Ticket, notes: str) -> None:
    """Wait at a gate, in Python, and note that this was cleaned up."""
    try:
        ticket.wait()
        while True:
            threading.Event().wait(0.01)
    finally:
        Path(notes).write_text("cleaned up")


async def which_loop() -> str:
    """Return the kind of event loop that this runs in."""
    loop = running_loop()
    assert loop is not None
    return loop.backend


class Counter:
    """Something whose methods depend on its state."""

    def __init__(self) -> None:
        self.count = 0

    def read(self) -> int:
        """Return the count."""
        return self.count


# ---------------------------------------------------------------------------- values


def test_ray_values_stay_until_they_are_asked_for(runner: RayTaskRunner) -> None:
    """Neither the end of a run nor its dependants bring its value over; asking for it does."""
    made = runner.submit(zeros, 1_000_000)
    length = runner.submit(len, lift(made))
    assert length.result() == 1_000_000
    assert isinstance(made.state, Completed)
    assert not made.state.is_local
    assert len(made.result()) == 1_000_000
    assert made.state.is_local


def test_ray_runs_in_other_processes(runner: RayTaskRunner) -> None:
    """A task does not run in the process that submits it."""
    assert runner.submit(os.getpid).result() != os.getpid()


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_ray_brings_the_wanted_event_loop(runner: RayTaskRunner, backend: Backend) -> None:
    """An async task runs in an event loop of the kind that it asks for."""
    run = TaskRun(new_run_id(), "which", "which_loop")
    item = make_item(which_loop, (), {}, task_run=run, backend=backend)
    assert runner.dispatch(item).result() == backend


def test_ray_gets_a_method_with_its_object_as_it_is(runner: RayTaskRunner) -> None:
    """The method of an object that has changed is run on the changed object."""
    counter = Counter()
    assert runner.submit(counter.read).result() == 0
    counter.count = 5
    assert runner.submit(counter.read).result() == 5


def test_ray_gets_a_closure_with_its_variables_as_they_are(runner: RayTaskRunner) -> None:
    """A closure whose variable refers to something else now is run with that."""
    offset = 1

    def shifted(x: int) -> int:
        return x + offset

    assert runner.submit(shifted, 1).result() == 2
    offset = 5
    assert runner.submit(shifted, 1).result() == 6


def test_ray_keeps_nothing_of_a_finished_run(runner: RayTaskRunner) -> None:
    """A finished run whose future is dropped is forgotten, by the runner and by Ray."""
    future = runner.submit(zeros, 10)
    future.result()
    forgotten = weakref.ref(future)
    runner.submit(same, 1).result()  # Whatever still held the first when it ended is past it.
    del future
    gc.collect()
    assert forgotten() is None


# ---------------------------------------------------------------------------- failures


def test_ray_failures_come_back_with_their_traceback(runner: RayTaskRunner) -> None:
    """A task's exception is of its own type, and carries the traceback on the worker as a note."""
    error = runner.submit(fail, "gone").exception()
    assert type(error) is LookupError
    assert "in fail" in error.__notes__[0]
    assert "LookupError: gone" in error.__notes__[0]


def test_ray_failures_that_do_not_pickle_are_described(runner: RayTaskRunner) -> None:
    """An exception that does not survive pickling comes back as a description of it."""
    future = runner.submit(fail_stubbornly)
    with pytest.raises(RemoteExceptionError, match="StubbornError: this and that"):
        future.result()
    state = runner.submit(same, [lift(future)]).wait()
    assert isinstance(state, UpstreamFailed)
    assert isinstance(state.cause, RemoteExceptionError)


def test_ray_names_the_argument_that_does_not_pickle(runner: RayTaskRunner) -> None:
    """An argument that cannot be sent fails its run with an error that names it."""
    with pytest.raises(
        TypeError, match=r"Run 'same-\w+' cannot be sent to Ray: argument 'value' c"
    ):
        runner.submit(same, threading.Lock()).result()
    with pytest.raises(TypeError, match="argument 'value' cannot be pickled"):
        runner.submit(same, value=threading.Lock()).result()
    lock = threading.Lock()
    with pytest.raises(TypeError, match="its function, which refers to 'lock', cannot be pickled"):
        runner.submit(lambda: lock).result()


def test_ray_reports_a_value_that_does_not_pickle(runner: RayTaskRunner) -> None:
    """A value that cannot be stored fails its run, and its dependants with it."""
    future = runner.submit(make_lock)
    state = future.wait()
    assert isinstance(state, Failed)
    assert isinstance(state.exception, TypeError)
    assert "could not store the value that run 'make_lock-" in state.exception.__notes__[0]
    dependant = runner.submit(same, lift(future)).wait()
    assert isinstance(dependant, UpstreamFailed)
    assert isinstance(dependant.cause, TypeError)


def test_ray_reports_a_dead_worker_and_runs_nothing_twice(
    runner: RayTaskRunner, tmp_path: Path
) -> None:
    """A run whose worker is killed has crashed, after one execution; so for its dependants."""
    notes = tmp_path / "notes"
    with Gate() as gate:
        future = runner.submit(wait_noted, gate.ticket, str(notes))
        dependant = runner.submit(same, [lift(future)])
        gate.await_arrival()
        os.kill(int(notes.read_text()), signal.SIGKILL)
        state = future.wait()
    assert isinstance(state, Crashed)
    assert state.message is not None
    assert "worker died" in state.message
    with pytest.raises(RunCrashedError, match=r"Run 'wait_noted-\w+' crashed: The worker died"):
        future.result()
    following = dependant.wait()
    assert isinstance(following, UpstreamFailed)
    assert isinstance(following.cause, RunCrashedError)
    assert len(notes.read_text().splitlines()) == 1


# ---------------------------------------------------------------------------- dependencies


def test_ray_runs_behind_a_run_that_waits_for_another_runner(runner: RayTaskRunner) -> None:
    """A run may depend on one that is not in Ray yet, because it waits for a foreign future."""
    foreign: Future[int] = Future(TaskRun("0" * 32, "foreign", "foreign"))
    first = runner.submit(add, lift(foreign), 1)
    second = runner.submit(add, lift(first), 1)
    foreign.set_final(Completed(1))
    assert second.result() == 3


def test_ray_cancels_a_run_that_waits_for_another_runner(runner: RayTaskRunner) -> None:
    """A run that waits for a foreign future is over when it is cancelled, and never runs."""
    foreign: Future[int] = Future(TaskRun("0" * 32, "foreign", "foreign"))
    future = runner.submit(add, lift(foreign))
    assert future.cancel() is Cancellation.CANCELLED
    assert isinstance(future.state, Cancelled)
    foreign.set_final(Completed(1))
    with pytest.raises(RunCancelledError):
        future.result()


def test_ray_gets_allowed_failures_of_any_kind(runner: RayTaskRunner) -> None:
    """A run that allows the failure of another gets its exception, or else its value."""
    assert runner.submit(kind_of, allow_failure(runner.submit(fail, "gone"))).result() == (
        "LookupError"
    )
    assert runner.submit(kind_of, allow_failure(runner.submit(zeros, 3))).result() == "bytes"


def test_ray_gets_quoted_arguments_whole(runner: RayTaskRunner) -> None:
    """What is quoted arrives as it is."""
    assert runner.submit(same, quote({"a": [1, 2]})).result() == {"a": [1, 2]}


# ---------------------------------------------------------------------------- cancelling


def test_ray_interrupts_a_running_run_so_that_it_cleans_up(
    runner: RayTaskRunner, tmp_path: Path
) -> None:
    """A cancelled run gets a chance to clean up."""
    notes = tmp_path / "notes"
    with Gate() as gate:
        future = runner.submit(wait_cleaning_up, gate.ticket, str(notes))
        gate.await_arrival()
    assert future.cancel() is Cancellation.WILL_STOP
    assert isinstance(future.wait(), Cancelled)
    assert future.cancel() is Cancellation.CANCELLED
    assert notes.read_text() == "cleaned up"


def test_ray_kills_a_run_that_cannot_be_interrupted(runner: RayTaskRunner, tmp_path: Path) -> None:
    """A cancelled run that sits in foreign code is stopped all the same."""
    with Gate() as gate:
        future = runner.submit(wait_noted, gate.ticket, str(tmp_path / "notes"))
        dependant = runner.submit(same, lift(future))
        gate.await_arrival()
        assert future.cancel() is Cancellation.WILL_STOP
        assert isinstance(future.wait(), Cancelled)
        state = dependant.wait()
    assert isinstance(state, UpstreamFailed)
    assert isinstance(state.cause, RunCancelledError)


def test_ray_stops_a_run_that_the_client_has_ended(runner: RayTaskRunner, tmp_path: Path) -> None:
    """A run that is declared ended here does not go on there, nor does what depends on it."""
    notes = tmp_path / "notes"
    with Gate() as gate:
        future = runner.submit(wait_noted, gate.ticket, str(notes))
        gate.await_arrival()
        worker = os.pidfd_open(int(notes.read_text()))
        future.set_final(Cancelled())
        state = runner.submit(same, lift(future)).wait()
        assert isinstance(state, UpstreamFailed)
        assert select.select([worker], [], [], 30)[0], "the worker has ended"
        os.close(worker)


def test_ray_cancels_one_run_and_leaves_the_others(runner: RayTaskRunner) -> None:
    """Cancelling runs, at whatever moment, harms neither other runs nor this process."""
    for _ in range(20):
        futures = [runner.submit(add, number) for number in range(12)]
        for future in futures[::3]:
            future.cancel()
        wait(futures)
        for number, future in enumerate(futures):
            state = future.state
            if number % 3:
                assert isinstance(state, Completed), state
            else:
                assert isinstance(state, Completed | Cancelled), state


def test_ray_cancels_everything_when_left_by_an_exception(
    runner: RayTaskRunner, tmp_path: Path
) -> None:
    """Leaving the runner by an exception stops what runs, and drops what waits."""
    del runner  # It keeps the instance going.
    futures: list[Future[int]] = []

    def leave(gate: Gate) -> None:
        with RayTaskRunner() as hurried:
            futures.append(hurried.submit(wait_noted, gate.ticket, str(tmp_path / "notes")))
            gate.await_arrival()
            futures.append(hurried.submit(add, lift(futures[0])))
            raise KeyError("the body's own")

    with Gate() as gate:
        with pytest.raises(KeyError, match="the body's own"):
            leave(gate)
        assert all(isinstance(future.state, Cancelled) for future in futures)


# ---------------------------------------------------------------------------- what travels


def test_the_function_of_a_task_is_shipped_once() -> None:
    """So is one in a partial that binds nothing, as a task has it; what is bound may change."""
    functions = ExportedFunctions(run_parcel)
    of_task, bound = functools.partial(add), functools.partial(add, 1)
    exported, before = functions.get(of_task, "add")
    assert before == ()
    assert functions.get(of_task, "add") == (exported, ())
    assert functions.get(bound, "add")[1] == (bound,)


@pytest.mark.parametrize(
    "value",
    [
        None,
        10**400,
        10**2000,
        0.5,
        "text",
        "x" * 10_000,
        b"x",
        [1],
        Point(1, 2),
        Point("x" * 10_000, 2),
    ],
)
def test_small_values_come_as_they_are(runner: RayTaskRunner, value: object) -> None:
    """Small values come along with the end of a run, others are fetched; all arrive whole."""
    future = runner.submit(same, value)
    assert future.result() == value
    assert runner.submit(same, future).result() == value
