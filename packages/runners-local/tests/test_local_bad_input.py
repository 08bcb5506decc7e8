"""Bad input to the local runners: what wants to end the process, what lies open, what is deep."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from anabranch.futures import Completed, Crashed, Failed, TaskRunner, UpstreamFailed, lift
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.local import ConcurrentTaskRunner, SequentialTaskRunner

RUNNERS = [ConcurrentTaskRunner, SequentialTaskRunner]

#: How long chains of runs are.
DEPTHS = [1_000, pytest.param(10_000, marks=pytest.mark.slow)]


class Locked(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


class Mute(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def increment(number: int) -> int:
    return number + 1


async def increment_async(number: int) -> int:
    return number + 1


def begin(number: int) -> int:
    if number < 0:
        raise ValueError("the first")
    return number


async def begin_async(number: int) -> int:
    return begin(number)


def fail_with(error: BaseException) -> None:
    raise error


async def fail_async_with(error: BaseException) -> None:
    raise error


def wait_at(ticket: Ticket, number: int) -> int:
    ticket.wait()
    return begin(number)


@pytest.mark.parametrize("fail", [fail_with, fail_async_with])
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_threads_and_loop_outlive_a_run_that_wants_to_end_them(
    fail: Callable[..., Any], kind: type[BaseException]
) -> None:
    """A task that raises SystemExit or the like has crashed, and its thread or loop goes on."""
    with ConcurrentTaskRunner(max_workers=1) as runner:
        future = runner.submit(fail, kind("out"))
        state = future.wait()
        assert isinstance(state, Crashed)
        assert state.message == f"The run was ended by {kind.__name__}: out"
        dependant = runner.submit(increment, lift(future)).wait()
        assert isinstance(dependant, UpstreamFailed)
        assert type(dependant.cause) is kind
        assert runner.submit(increment, 1).result() == 2
        assert runner.submit(increment_async, 1).result() == 2


@pytest.mark.parametrize("make", RUNNERS)
@pytest.mark.parametrize("error", [Locked(), Mute()], ids=["locked", "mute"])
def test_exceptions_of_any_kind_come_back(make: type[TaskRunner], error: Exception) -> None:
    """An exception that cannot be pickled or printed comes back as it was raised."""
    with make() as runner:
        state = runner.submit(fail_with, error).wait()
    assert isinstance(state, Failed)
    assert state.exception is error


@pytest.mark.parametrize("make", RUNNERS)
def test_futures_of_a_closed_runner_are_good_for_another(make: type[TaskRunner]) -> None:
    """What a closed runner's runs gave is there for the runs of another, failures included."""
    with ConcurrentTaskRunner() as closed:
        done, failed = closed.submit(increment, 1), closed.submit(fail_with, Locked())
        failed.wait()
    with make() as runner:
        assert runner.submit(increment, lift(done)).result() == 3
        state = runner.submit(str, lift(failed)).wait()
    assert isinstance(state, UpstreamFailed)
    assert isinstance(state.cause, Locked)


@pytest.mark.parametrize("make", RUNNERS)
@pytest.mark.parametrize(
    ("begins", "goes_on"),
    [(begin, increment), (begin_async, increment_async)],
    ids=["sync", "async"],
)
@pytest.mark.parametrize("first", [0, -1])
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_long_chain_ends(
    make: type[TaskRunner],
    begins: Callable[..., Any],
    goes_on: Callable[..., Any],
    depth: int,
    first: int,
) -> None:
    """Runs, each on the one before, end alike, whether the first completes or fails."""
    with make() as runner:
        last = root = runner.submit(begins, first)
        for _ in range(depth):
            last = runner.submit(goes_on, lift(last))
        _check_end(last.wait(), first, depth, root.task_run.name)


@pytest.mark.parametrize("first", [0, -1])
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_long_chain_that_waits_ends(depth: int, first: int) -> None:
    """So does a chain that is complete before its first run has ended."""
    with ConcurrentTaskRunner() as runner, Gate() as gate:
        last = root = runner.submit(wait_at, gate.ticket, first)
        for _ in range(depth):
            last = runner.submit(increment, lift(last))
        gate.open()
        _check_end(last.wait(), first, depth, root.task_run.name)


def _check_end(state: object, first: int, depth: int, root: str) -> None:
    if first == 0:
        assert isinstance(state, Completed)
        assert state.value == depth
    else:
        assert isinstance(state, UpstreamFailed)
        assert isinstance(state.cause, ValueError)
        assert state.message is not None
        assert root in state.message
