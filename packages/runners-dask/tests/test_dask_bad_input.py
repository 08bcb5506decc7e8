"""Bad input to Dask: what cannot travel, what wants to end the worker, what is no more there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from anabranch.futures import (
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
from anabranch.runners.dask import DaskTaskRunner
from anabranch.runners.dask._run import DaskRun

pytestmark = pytest.mark.slow

#: A cluster in this process.
_LIGHT = {
    "processes": False,
    "n_workers": 1,
    "threads_per_worker": 1,
    "dashboard_address": ":0",
}


@pytest.fixture(scope="module")
def runner() -> Iterator[TaskRunner]:
    """A started runner, and the only one of the module that has processes."""
    with DaskTaskRunner(
        cluster_kwargs={"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
    ) as runner:
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
    """Return the process of the only worker."""
    return runner.submit(os.getpid).result()


def test_dask_worker_outlives_whatever_its_runs_raise(runner: TaskRunner) -> None:
    """Neither what a task raises ends the worker, nor what that does when it is pickled."""
    before = workers_of(runner)
    for kind in (SystemExit, KeyboardInterrupt, GeneratorExit):
        assert isinstance(runner.submit(fail_with, kind, "out").wait(), Crashed)
        assert isinstance(runner.submit(fail_with, Exploding, kind).wait(), Failed)
    assert isinstance(runner.submit(fail_with, Interrupting).wait(), Failed)
    assert workers_of(runner) == before


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_dask_reports_an_argument_that_explodes(
    runner: TaskRunner, kind: type[BaseException]
) -> None:
    """A run whose argument raises when it is unpickled has crashed, and its worker goes on."""
    before = workers_of(runner)
    state = runner.submit(same, Exploding(kind)).wait()
    assert isinstance(state, Crashed)
    assert state.message is not None
    assert "could not be unpacked on the Dask worker tcp://" in state.message
    assert state.message.endswith(f"{kind.__name__}: exploded")
    assert workers_of(runner) == before


def make_exploding(kind: type[BaseException]) -> Exploding:
    """Return what raises when it is unpickled."""
    return Exploding(kind)


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_dask_reports_a_value_that_explodes(runner: TaskRunner, kind: type[BaseException]) -> None:
    """A value that raises when it is unpickled cannot be had, and the runner goes on."""
    future = runner.submit(make_exploding, kind)
    assert isinstance(future.wait(), Completed)
    with pytest.raises(ResultUnavailableError, match=f"brought over.*: {kind.__name__}: exploded"):
        future.result()
    assert runner.submit(increment, 1).result() == 2


class Detonation(BaseException):
    """Is no exception like others."""


def test_dask_outlives_what_it_fetches_for_another_run(
    runner: TaskRunner, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a value from elsewhere raises, the run on it crashes, and others fare better."""
    with DaskTaskRunner(cluster_kwargs=_LIGHT) as other:
        exploding = runner.submit(make_exploding, Detonation)
        fine = runner.submit(increment, 1)
        wait([exploding, fine])
        state = other.submit(same, exploding).wait()
        assert isinstance(state, Crashed)
        assert "Detonation: exploded" in str(state)
        assert other.submit(increment, lift(fine)).result() == 3
    assert "could not be brought to its end" in caplog.text


def test_dask_forgets_a_run_that_cannot_be_submitted_at_all() -> None:
    """A run whose submission is interrupted is cancelled, and is not waited for."""
    with DaskTaskRunner(cluster_kwargs=_LIGHT) as runner:
        with pytest.raises(KeyboardInterrupt):
            runner.submit(same, Interrupting())
        assert runner.statistics().pending == 0


def test_dask_lets_go_of_a_run_whose_callback_is_interrupted(runner: TaskRunner) -> None:
    """Ctrl-C in a callback of a run that ends comes out, and its key is given back all the same."""

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with Gate() as gate:
        holding = runner.submit(wait_at, gate.ticket, 1)
        gate.await_arrival()
        waiting = runner.submit(same, lift(holding))
        waiting.add_done_callback(interrupt)
        with pytest.raises(KeyboardInterrupt):
            waiting.cancel()
        assert isinstance(waiting, DaskRun)
        assert waiting.native_in(waiting._connection) is None
        gate.open()
        assert holding.result() == 1


def make_bytes(size: int) -> bytes:
    """Return many bytes that can be compressed, and some that cannot."""
    return b"x" * size + os.urandom(1_000)


@pytest.mark.parametrize("size", [1, 100_000, 70_000_000])
def test_dask_brings_values_of_any_size_over(runner: TaskRunner, size: int) -> None:
    """Small values come over as they are, and so do those that Dask compresses or cuts up."""
    found = runner.submit(make_bytes, size).result()
    assert len(found) == size + 1_000
    assert found.startswith(b"x" * size)


def test_dask_value_left_on_a_closed_cluster_fails_what_takes_it(runner: TaskRunner) -> None:
    """A run on the lost value of a closed runner fails, saying how to keep such values."""
    with DaskTaskRunner(cluster_kwargs=_LIGHT) as closed:
        left, kept = closed.submit(increment, 1), closed.submit(increment, 2)
        failed = closed.submit(fail_with, ValueError, "no")
        assert kept.result() == 3
        wait([left, failed])
    fix = "left on a Dask cluster .*return it from the flow, or call future.result"
    with pytest.raises(ResultUnavailableError, match=f"{left.task_run.name}.*{fix}"):
        left.result()
    for argument in (lift(left), [left]):
        with pytest.raises(ResultUnavailableError, match=f"{left.task_run.name}.*{fix}"):
            runner.submit(same, argument).result()
    assert runner.submit(increment, lift(kept)).result() == 4
    state = runner.submit(same, lift(failed)).wait()
    assert isinstance(state, UpstreamFailed)
    assert isinstance(state.cause, ValueError)


@pytest.mark.parametrize("first", [0, -1])
def test_dask_chain_of_a_thousand_ends(runner: TaskRunner, first: int) -> None:
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
