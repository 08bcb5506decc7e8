"""Bad input to Ray: what cannot travel, what wants to end the worker, what is no more there."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from anabranch.futures import (
    Cancelled,
    Completed,
    Crashed,
    Failed,
    RemoteExceptionError,
    ResultUnavailableError,
    TaskRunner,
    UpstreamFailed,
    lift,
    wait,
)
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.ray import RayTaskRunner
from anabranch.runners.ray._run import RayRun

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runner() -> Iterator[TaskRunner]:
    """A started runner, and the only one of the module that has processes."""
    with RayTaskRunner(init_kwargs={"num_cpus": 1}) as runner:
        yield runner


class Stubborn(Exception):
    """Cannot be unpickled: it is not made of its args."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


class Locked(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


def explode(kind: type[BaseException]) -> None:
    """Raise when something is unpickled."""
    raise kind("exploded")


class Exploding(Exception):
    """Raises when it is unpickled."""

    def __init__(self, kind: type[BaseException]) -> None:
        super().__init__("ticking")
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return explode, (self.kind,)


class Interrupting(Exception):
    """Raises KeyboardInterrupt when it is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise KeyboardInterrupt


class Mute(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no")


@attrs.frozen
class Config:
    """Holds what may not travel."""

    content: object


def same(value: object) -> object:
    """Return the value."""
    return value


def increment(number: int) -> int:
    """Return the next number."""
    return number + 1


def wait_at(ticket: Ticket, number: int) -> int:
    """Wait at a gate, then return the number; fail if it is negative."""
    ticket.wait()
    if number < 0:
        raise ValueError("the first")
    return number


def fail_with(make: Callable[..., BaseException], *args: object) -> None:
    """Raise what is made here."""
    raise make(*args)


async def fail_async_with(make: Callable[..., BaseException], *args: object) -> None:
    """Raise what is made here, in an event loop."""
    raise make(*args)


def workers_of(runner: TaskRunner) -> int:
    """Return the process that tasks run in."""
    return runner.submit(os.getpid).result()


def test_ray_value_left_in_a_closed_instance_fails_what_takes_it(
    request: pytest.FixtureRequest,
) -> None:
    """A run on the lost value of a closed instance fails, saying how to keep such values."""
    runner = RayTaskRunner(init_kwargs={"num_cpus": 1})
    with runner:
        left, kept = runner.submit(increment, 1), runner.submit(increment, 2)
        assert kept.result() == 3
        left.wait()
    fix = r"left in Ray.*Call \.result\(\) before the runner is left, or return the future"
    with pytest.raises(ResultUnavailableError, match=f"{left.task_run.name}.*{fix}"):
        left.result()
    other = request.getfixturevalue("runner")  # Ray has one instance at a time: this comes first.
    for argument in (lift(left), [left]):
        with pytest.raises(ResultUnavailableError, match=f"{left.task_run.name}.*{fix}"):
            other.submit(same, argument).result()
    assert other.submit(increment, lift(kept)).result() == 4


def test_ray_forgets_a_run_that_cannot_be_submitted_at_all(runner: TaskRunner) -> None:
    """A run whose submission is interrupted is cancelled, and is not waited for."""
    with RayTaskRunner() as same_instance:
        with pytest.raises(KeyboardInterrupt):
            same_instance.submit(same, Interrupting())
        assert same_instance.statistics().pending == 0
    assert runner.submit(increment, 1).result() == 2


def test_ray_admits_a_run_before_it_can_start(
    runner: TaskRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is interrupted when Ray has been given a run knows of it, and stops it."""
    submitted = RayRun.submitted
    runs: list[RayRun[Any]] = []

    def interrupted(run: RayRun[Any], *args: Any) -> None:  # noqa: ANN401 - whatever it takes
        submitted(run, *args)
        runs.append(run)
        raise KeyboardInterrupt

    with Gate() as gate:
        monkeypatch.setattr(RayRun, "submitted", interrupted)
        with pytest.raises(KeyboardInterrupt):
            runner.submit(wait_at, gate.ticket, 1)
        monkeypatch.undo()
        assert isinstance(runs[0].wait(), Cancelled)
    assert runner.submit(increment, 1).result() == 2


def test_ray_names_the_part_that_cannot_be_pickled(runner: TaskRunner) -> None:
    """The part that cannot be pickled is named as Python would write it, however deep it is."""
    config = {"db": [1, Config(threading.Lock())]}
    with pytest.raises(
        TypeError,
        match=r"^Run 'same-\w+' cannot be sent to Ray: argument 'value'\['db'\]\[1\]\.content "
        r"cannot be pickled \(TypeError: .*lock.*\)\. Pass what it is made from, and make it",
    ):
        runner.submit(same, config).result()
    method = Config(threading.Lock()).__eq__
    with pytest.raises(TypeError, match=r"argument 'self'\.content cannot be pickled"):
        runner.submit(method, 1).result()
    future = runner.submit(same, 1)
    with pytest.raises(TypeError, match=r"argument 'value'\['b'\] cannot be pickled"):
        runner.submit(same, {"a": future, "b": threading.Lock()}).result()


@pytest.mark.parametrize("fail", [fail_with, fail_async_with])
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((Stubborn, "this", "that"), "Stubborn: this and that"),
        ((Locked,), "Locked: locked"),
        ((Exploding, ValueError), "Exploding: ticking"),
        ((Exploding, SystemExit), "Exploding: ticking"),
        ((Exploding, KeyboardInterrupt), "Exploding: ticking"),
        ((Interrupting,), "Interrupting"),
    ],
    ids=str,
)
def test_ray_describes_an_exception_that_does_not_travel(
    runner: TaskRunner, fail: Callable[..., Any], args: tuple[Any, ...], message: str
) -> None:
    """Whatever happens when an exception is pickled or unpickled, its run has failed with it."""
    before = workers_of(runner)
    future = runner.submit(fail, *args)
    state = future.wait()
    assert isinstance(state, Failed)
    assert state.message == message
    with pytest.raises(RemoteExceptionError, match=message):
        future.result()
    dependant = runner.submit(same, lift(future)).wait()
    assert isinstance(dependant, UpstreamFailed)
    assert isinstance(dependant.cause, RemoteExceptionError)
    assert workers_of(runner) == before


def test_ray_describes_an_exception_without_a_text(runner: TaskRunner) -> None:
    """An exception whose ``str()`` fails is that of its run all the same."""
    state = runner.submit(fail_with, Mute).wait()
    assert isinstance(state, Failed)
    assert type(state.exception) is Mute
    assert state.message == "Mute: <exception str() failed>"


@pytest.mark.parametrize("fail", [fail_with, fail_async_with])
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_ray_outlives_a_run_that_wants_to_end_it(
    runner: TaskRunner, fail: Callable[..., Any], kind: type[BaseException]
) -> None:
    """A task that raises SystemExit or the like has crashed, and its worker goes on."""
    before = workers_of(runner)
    future = runner.submit(fail, kind, "out")
    state = future.wait()
    assert isinstance(state, Crashed)
    assert state.message == f"The run was ended by {kind.__name__}: out"
    assert type(state.exception) is kind
    dependant = runner.submit(same, lift(future)).wait()
    assert isinstance(dependant, UpstreamFailed)
    assert type(dependant.cause) is kind
    assert workers_of(runner) == before


def test_ray_failures_of_any_size_harm_nothing(runner: TaskRunner) -> None:
    """Failures too large for Ray's messages come back, though nothing waits for them in Ray.

    Ray aborts a process that drops what it is just looking up.
    """
    for _ in range(5):
        futures = [runner.submit(fail_with, ValueError, "x" * 300_000) for _ in range(10)]
        dependants = [runner.submit(same, lift(each)) for each in futures]
        wait(dependants)
        assert all(isinstance(each.state, UpstreamFailed) for each in dependants)
        del futures, dependants
    assert runner.submit(increment, 1).result() == 2


@pytest.mark.parametrize("first", [0, -1])
def test_ray_chain_of_a_thousand_ends(runner: TaskRunner, first: int) -> None:
    """A thousand runs, each on the one before, end alike, whether the first completes or fails."""
    with Gate() as gate:
        chain = [runner.submit(wait_at, gate.ticket, first)]
        gate.await_arrival()
        for _ in range(1_000):
            chain.append(runner.submit(increment, lift(chain[-1])))
        gate.open()
        state = chain[-1].wait()
    if first == 0:
        assert isinstance(state, Completed)
        assert chain[-1].result() == 1_000
    else:
        assert isinstance(state, UpstreamFailed)
        assert isinstance(state.cause, ValueError)
        assert state.message is not None
        assert chain[0].task_run.name in state.message
    wait(chain)
    kind = Completed if first == 0 else UpstreamFailed
    assert all(isinstance(each.state, kind) for each in chain[1:])
    assert runner.submit(increment, 1).result() == 2
