"""Runs on Ray's workers that submit others: what the tables do not show."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import ray
from ray.exceptions import OutOfDiskError

from anabranch.futures import (
    Cancellation,
    Cancelled,
    Completed,
    Crashed,
    Future,
    RetryPolicy,
    TaskRun,
    TimedOut,
    UpstreamFailed,
    WorkItem,
    wait,
)
from anabranch.futures.runner import current_scope, make_item, new_run_id
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.ray import RayTaskRunner

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runner() -> Iterator[RayTaskRunner]:
    """A started runner on a single CPU, which is what everybody waits for."""
    with RayTaskRunner(init_kwargs={"num_cpus": 1}) as runner:
        yield runner


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that is opened when the test is over."""
    with Gate() as gate:
        yield gate


def submit(function: Any, *args: object, **policies: Any) -> Future[Any]:  # noqa: ANN401 - any function at all
    """Submit a function from a run on a worker."""
    scope = current_scope.get()
    assert scope is not None
    assert scope.runner is not None
    return scope.runner.dispatch(item_of(function, *args, **policies))


def item_of(function: Any, *args: object, **policies: Any) -> WorkItem[Any]:  # noqa: ANN401 - as above
    """Return an item that calls a function."""
    name = function.__name__
    return make_item(function, args, {}, TaskRun(new_run_id(), name, name), **policies)


def process() -> int:
    """Return which process this is."""
    return os.getpid()


def is_there(number: int) -> bool:
    """Whether a process has not ended."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def wait_at(ticket: Ticket) -> int:
    """Wait at a gate."""
    ticket.wait()
    return os.getpid()


def cancel_beside_a_full_store(ticket: Ticket, other: Ticket) -> str:
    """Cancel a run below while Ray stores nothing; return how it has ended."""

    def refuse(_: object) -> None:
        raise OutOfDiskError

    def cancel() -> None:
        other.wait()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ray, "put", refuse)
            run.cancel()

    run = submit(wait_at, ticket)
    canceller = threading.Thread(target=cancel)
    canceller.start()
    state = run.wait()
    canceller.join()
    return type(state).__name__


def descend(depth: int) -> list[int]:
    """Have runs below, one in the other; return all their processes."""
    if not depth:
        return [os.getpid()]
    return [os.getpid(), *submit(descend, depth - 1).result()]


async def descend_async(depth: int) -> list[int]:
    """Do the same without blocking."""
    if not depth:
        return [os.getpid()]
    return [os.getpid(), *await submit(descend_async, depth - 1)]


async def await_several(number: int) -> list[int]:
    """Await several runs at a time."""
    found: list[int] = []

    async def await_one() -> None:
        found.append(await submit(process))

    async with anyio.create_task_group() as group:
        for _ in range(number):
            group.start_soon(await_one)
    return found


def wait_for_any(number: int) -> int:
    """Wait for several runs at a time; return how many have ended."""
    runs = [submit(process) for _ in range(number)]
    return len(wait(runs).done)


def wait_for_a_while(ticket: Ticket, own_ticket: Ticket) -> tuple[object, int]:
    """Wait for a run in vain, then in earnest."""
    run = submit(wait_at, ticket)
    in_vain = run.wait(timeout=0.2)
    own_ticket.wait()
    return in_vain, run.result()


def wait_in_vain(ticket: Ticket, path: Path) -> None:
    """Wait for a run, and note what this was ended by."""
    run = submit(wait_at, ticket)
    try:
        run.wait()
    except KeyboardInterrupt:
        path.write_text("an interrupt")
        raise


async def wait_in_vain_async(ticket: Ticket, path: Path) -> None:
    """Do the same without blocking."""
    run = submit(wait_at, ticket)
    try:
        await run.wait_async()
    except BaseException as error:
        path.write_text(type(error).__name__)
        raise


def leave_behind(ticket: Ticket, path: Path) -> None:
    """Have a run wait at a gate, and take this process along."""
    run = submit(note_and_wait, ticket, path)
    while not path.exists():
        run.wait(timeout=0.01)
    os._exit(1)


def note_and_wait(ticket: Ticket, path: Path) -> None:
    """Note the process, then wait at a gate."""
    part = path.with_suffix(".part")
    part.write_text(str(os.getpid()))
    part.rename(path)
    ticket.wait()


def die_once(path: Path) -> int:
    """End this process, but for the second time."""
    if not path.exists():
        path.touch()
        os._exit(1)
    return 7


def have_die_once(path: Path, retries: int) -> tuple[str, Any]:
    """Have a run lose its process; return how it ended."""
    state = submit(die_once, path, retry=RetryPolicy(retries)).wait()
    return state.name, state.result() if isinstance(state, Completed) else None


def use_ray() -> int:
    """Use Ray itself, beside runs of one's own."""
    run = submit(process)
    ref: Any = ray.remote(process).remote()
    assert ray.get(ref) > 0
    return int(run.result())


def have_waited_for_by_threads(number: int) -> int:
    """Wait for runs in threads of one's own."""
    runs = [submit(process) for _ in range(number)]
    found: list[int] = []
    threads = [threading.Thread(target=lambda run=run: found.append(run.result())) for run in runs]
    for thread in threads:
        thread.start()
    wait(runs)
    for thread in threads:
        thread.join()
    return len(found)


def make_many(size: int) -> int:
    """Have large values made, and given to others; return their size."""
    values = [submit(bytes, size) for _ in range(3)]
    return sum(submit(length_of, {"in": [value]}).result() for value in values)


def length_of(value: dict[str, list[bytes]]) -> int:
    """Return the length of what is in there."""
    return len(value["in"][0])


@pytest.mark.parametrize("function", [descend, descend_async])
def test_whoever_waits_leaves_the_cpu_to_others(
    runner: RayTaskRunner, function: Callable[..., Any]
) -> None:
    """On a single CPU a run waits for one that waits for another, four deep, each elsewhere."""
    processes = runner.submit(function, 4).result()
    assert len(processes) == len(set(processes)) == 5


def test_processes_that_waited_end_when_they_are_idle(runner: RayTaskRunner) -> None:
    """Of the processes that it took while runs waited, Ray keeps no more than it has CPUs for."""
    own = runner.dispatch(item_of(descend, 3)).result()
    assert len(own) == 4
    while sum(map(is_there, own)) > 1:
        time.sleep(0.05)  # Ray looks every so often.


@pytest.mark.parametrize("function", [await_several, wait_for_any, have_waited_for_by_threads])
def test_several_are_waited_for_at_a_time(
    runner: RayTaskRunner, function: Callable[..., Any]
) -> None:
    """A run on a single CPU may wait for several at a time, in whatever way."""
    found = runner.submit(function, 5).result()
    assert (len(found) if isinstance(found, list) else found) == 5


def test_a_wait_that_is_over_leaves_the_run_alone(runner: RayTaskRunner, gate: Gate) -> None:
    """A run that ceases to wait goes on beside the one that it has waited for."""
    with Gate() as own_gate:
        parent = runner.submit(wait_for_a_while, gate.ticket, own_gate.ticket)
        own_gate.await_arrival()
    gate.await_arrival()
    gate.open()
    first, second = parent.result()
    assert first is None
    assert second


@pytest.mark.parametrize("function", [wait_in_vain, wait_in_vain_async])
def test_a_cancelled_run_takes_those_below_it_along(
    runner: RayTaskRunner,
    gate: Gate,
    tmp_path: Path,
    function: Callable[..., Any],
) -> None:
    """A run that is cancelled while it waits for another is interrupted, and so is that one."""
    parent = runner.submit(function, gate.ticket, tmp_path / "ended by")
    gate.await_arrival()
    assert parent.cancel() is Cancellation.WILL_STOP
    assert isinstance(parent.wait(), Cancelled)
    gate.await_departure()
    assert runner.submit(process).result()


def test_a_time_limit_interrupts_the_wait_for_a_run(
    runner: RayTaskRunner, gate: Gate, tmp_path: Path
) -> None:
    """A run that waits for another is interrupted at its time limit, and so is that one."""
    path = tmp_path / "ended by"
    parent = runner.dispatch(item_of(wait_in_vain, gate.ticket, path, time_limit=2.0))
    gate.await_arrival()
    assert isinstance(parent.wait(), TimedOut)
    assert path.read_text() == "an interrupt"
    gate.await_departure()


def test_a_lost_run_takes_those_below_it_along(
    runner: RayTaskRunner, gate: Gate, tmp_path: Path
) -> None:
    """When the process of a run is lost, those of the runs below it end too."""
    path = tmp_path / "process"
    parent = runner.submit(leave_behind, gate.ticket, path)
    gate.await_arrival()
    assert isinstance(parent.wait(), Crashed)
    gate.await_departure()


@pytest.mark.parametrize(("retries", "expected"), [(0, ("Crashed", None)), (1, ("Completed", 7))])
def test_a_run_below_may_lose_its_process(
    runner: RayTaskRunner, tmp_path: Path, retries: int, expected: tuple[str, Any]
) -> None:
    """The run that has submitted it goes on with what its retries have made of that."""
    assert runner.submit(have_die_once, tmp_path / "died", retries).result() == expected


def test_a_full_store_does_not_keep_a_run_from_being_stopped(
    runner: RayTaskRunner, gate: Gate
) -> None:
    """What cancelling puts into Ray may not fit there: the run hears of it all the same."""
    with Gate() as other:
        parent = runner.dispatch(item_of(cancel_beside_a_full_store, gate.ticket, other.ticket))
        gate.await_arrival()
        other.open()
        assert parent.result() == "Cancelled"


def test_runs_use_ray_itself(runner: RayTaskRunner) -> None:
    """A run may call remote functions of its own, and submit runs."""
    assert runner.submit(use_ray).result()


def test_large_values_below_stay_in_ray(runner: RayTaskRunner) -> None:
    """Values of runs below are arguments of others, at depth, from process to process."""
    assert runner.submit(make_many, 1_000_000).result() == 3_000_000


def test_failures_below_reach_those_behind(runner: RayTaskRunner) -> None:
    """A run below that depends on one that failed never starts."""
    assert runner.submit(fail_below).result() == "UpstreamFailed"


def fail_below() -> str:
    """Submit a run behind one that fails; return how it ended."""
    behind = submit(length_of, {"in": [submit(int, "no number")]})
    state = behind.wait()
    assert isinstance(state, UpstreamFailed)
    return state.name
