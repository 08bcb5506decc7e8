"""Bad input to Ray: what cannot travel, what wants to end the worker, what is no more there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from anabranch.futures import (
    Cancelled,
    Completed,
    Crashed,
    Failed,
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


def test_ray_worker_outlives_whatever_its_runs_raise(runner: TaskRunner) -> None:
    """Neither what a task raises ends the worker, nor what that does when it is pickled."""
    before = workers_of(runner)
    for kind in (SystemExit, KeyboardInterrupt, GeneratorExit):
        assert isinstance(runner.submit(fail_with, kind, "out").wait(), Crashed)
        assert isinstance(runner.submit(fail_with, Exploding, kind).wait(), Failed)
    assert isinstance(runner.submit(fail_with, Interrupting).wait(), Failed)
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
