"""Branches whose runs execute in the processes of Dask and Ray."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import anyio
import anyio.to_thread
import pytest

from anabranch.flows import (
    Future,
    RunTimedOutError,
    TaskRunner,
    branch,
    flow,
    task,
)
from anabranch.futures.testing import Gate, Ticket
from integration.clusters import CLUSTERS, cluster

pytestmark = pytest.mark.slow

#: How many sync runs a cluster of these tests executes at a time.
PLACES = 2


@pytest.fixture(params=CLUSTERS, scope="module")
def runner(request: pytest.FixtureRequest) -> Iterator[TaskRunner]:
    """A runner on a cluster with two places, started once for all tests."""
    with cluster(request.param, dask_workers=1) as runner:
        yield runner


@task
def add(x: int, y: int = 0) -> int:
    """Add two numbers."""
    return x + y


@task
def fail(message: str) -> int:
    """Raise."""
    raise LookupError(message)


@task
async def fail_after(ticket: Ticket) -> int:
    """Raise when a gate has been opened."""
    await anyio.to_thread.run_sync(ticket.wait)
    raise LookupError("boom")


@task
def hold(ticket: Ticket) -> str:
    """Hold a place until a gate is opened."""
    ticket.wait()
    return "released"


@task
async def listen(ticket: Ticket, ended: Ticket) -> None:
    """Announce oneself and wait for ever; announce the end."""
    try:  # From here on: it may be cancelled before it has seen that the gate is open.
        await anyio.to_thread.run_sync(ticket.wait, abandon_on_cancel=True)
        await anyio.sleep_forever()
    finally:
        ended.wait()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that is opened when the test is over."""
    with Gate() as gate:
        yield gate


@pytest.fixture
def start() -> Iterator[Gate]:
    """A gate at which the run waits that is to fail."""
    with Gate() as gate:
        yield gate


@pytest.fixture
def ended() -> Iterator[Gate]:
    """A gate at which async runs announce their end."""
    with Gate() as gate:
        yield gate


def all_places_are_free(runner: TaskRunner) -> None:
    """Fill every place of the cluster: nothing that was cancelled is still at work there."""
    with Gate() as gate, runner.duplicate() as fresh:
        holders = [fresh.submit(hold.function, gate.ticket) for _ in range(PLACES)]
        for _ in holders:
            gate.await_arrival()
        gate.open()
        assert [each.result(20) for each in holders] == ["released"] * PLACES


def names(futures: list[Future[object]]) -> list[str]:
    """Return the names of the states of runs."""
    return [each.state.name for each in futures]


def test_it_joins(runner: TaskRunner) -> None:
    """Every run has ended where the branch ends; a failure is its future's."""

    @flow(task_runner=runner)
    def body() -> list[str]:
        with branch():
            one = add.submit(1)
            futures: list[Future[object]] = [one, add.submit(one, 1), fail.submit("boom")]
        assert all(each.done() for each in futures)
        return names(futures)

    assert body() == ["Completed", "Completed", "Failed"]


def test_fail_fast_cancels_what_is_pending(runner: TaskRunner, gate: Gate, start: Gate) -> None:
    """Runs that wait for others, and for a place, never start; Dask's threads are waited for."""
    is_known_to_run = threading.Event()
    hold_and_tell = hold.with_options(on_running=lambda *_: is_known_to_run.set())

    @flow(task_runner=runner)
    def body() -> list[str]:
        futures: list[Future[object]] = []
        with pytest.raises(LookupError, match="boom"), branch(fail_fast=True):  # noqa: PT012 - the body of the branch
            failing = fail_after.submit(start.ticket)
            start.await_arrival()
            futures.extend(hold_and_tell.map([gate.ticket] * 4))
            gate.await_arrival()  # There is a place for one of them, and soon for another.
            behind = add.submit(1, wait_for=[failing])
            if runner.name == "dask":
                assert is_known_to_run.wait(20)  # What is not known to run is cancelled at once.
                behind.add_done_callback(lambda _: gate.open())
            start.open()
        assert isinstance(failing.exception(), LookupError)
        assert behind.state.name in ("Cancelled", "UpstreamFailed")
        return names(futures)

    ends = body()
    if runner.name == "dask":  # The failed run's place may have been taken by one more.
        assert ends.count("Cancelled") in (2, 3)
        assert ends.count("Completed") == len(ends) - ends.count("Cancelled")
    else:
        assert ends == ["Cancelled"] * 4
    gate.open()
    all_places_are_free(runner)


def test_fail_fast_cancels_what_is_running(
    runner: TaskRunner, gate: Gate, start: Gate, ended: Gate
) -> None:
    """An async run is stopped where it executes, and cleans up there."""

    @flow(task_runner=runner)
    def body() -> list[str]:
        futures: list[Future[object]] = []
        with pytest.raises(LookupError, match="boom"), branch(fail_fast=True):  # noqa: PT012 - the body of the branch
            futures.append(listen.submit(gate.ticket, ended.ticket))
            gate.await_arrival()
            gate.open()
            fail_after.submit(start.ticket)
            start.await_arrival()
            start.open()
            ended.await_arrival()
            ended.open()
        return names(futures)

    assert body() == ["Cancelled"]
    all_places_are_free(runner)


def test_a_deadline(runner: TaskRunner, gate: Gate) -> None:
    """When the time is up, running and pending runs are over, whatever executes them."""

    @flow(task_runner=runner)
    def body() -> list[str]:
        futures: list[Future[object]] = []
        with pytest.raises(RunTimedOutError, match="'short'"), branch("short", timeout=0.5):
            futures.extend(hold.map([gate.ticket] * 5))
        statuses = names(futures)
        gate.open()  # Dask's threads go on until then; Ray's processes are stopped.
        return statuses

    assert body() == ["Cancelled"] * 5
    all_places_are_free(runner)


def test_cancelled_by_hand(runner: TaskRunner, gate: Gate) -> None:
    """What is submitted in a cancelled branch is not even sent."""

    @flow(task_runner=runner)
    def body() -> list[str]:
        with branch() as opened:
            opened.cancel()
            futures = [*hold.map([gate.ticket] * 2)]
            assert all(each.done() for each in futures)
        return [each.state.name for each in futures]

    assert body() == ["Cancelled"] * 2


@pytest.mark.anyio
async def test_a_cancel_scope_reaches_async_runs(
    runner: TaskRunner, gate: Gate, ended: Gate
) -> None:
    """Cancelling what surrounds a branch stops async runs in their processes, and pending ones."""

    @flow(task_runner=runner)
    async def body() -> list[str]:
        futures: list[Future[object]] = []
        with anyio.CancelScope() as scope:
            async with branch():
                futures.append(listen.submit(gate.ticket, ended.ticket))
                await _in_thread(gate.await_arrival)
                gate.open()
                futures.append(add.submit(1, wait_for=futures))
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        return names(futures)

    async with anyio.create_task_group() as group:
        group.start_soon(_open_when_reached, ended)
        assert await body() == ["Cancelled", "Cancelled"]
    await _in_thread(lambda: all_places_are_free(runner))


@pytest.mark.anyio
async def test_a_deadline_around_it_reaches_sync_runs(runner: TaskRunner, gate: Gate) -> None:
    """An anyio deadline ends running sync runs: Ray stops them, on Dask they are given up."""

    @flow(task_runner=runner)
    async def body() -> list[str]:
        futures: list[Future[object]] = []
        with anyio.CancelScope() as scope:
            async with branch():
                futures.extend(hold.map([gate.ticket] * 4))
                await _in_thread(gate.await_arrival)
                await _in_thread(gate.await_arrival)
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        return names(futures)

    assert await body() == ["Cancelled"] * 4
    if runner.name == "dask":
        gate.open()  # Its threads go on until then.
    await _in_thread(lambda: all_places_are_free(runner))


async def _in_thread(function: Callable[[], None]) -> None:
    await anyio.to_thread.run_sync(function)


async def _open_when_reached(gate: Gate) -> None:
    await _in_thread(gate.await_arrival)
    gate.open()
