"""Runs below runs on Dask workers, when workers or the scheduler are lost, or left."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import distributed
import pytest
from dask_processes import worker_process
from dask_tasks import dispatch, increment, inner, until

from anabranch.futures import (
    Cancelled,
    Completed,
    Crashed,
    Future,
    RetryPolicy,
    RunCrashedError,
    TaskRunner,
    UpstreamFailed,
    lift,
    wait,
)
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.dask import DaskTaskRunner

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    """Three workers with one thread each, which are restarted when they die."""
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, dashboard_address=":0"
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def runner(cluster: distributed.LocalCluster) -> Iterator[TaskRunner]:
    """A started runner, to which the cluster belongs."""
    with DaskTaskRunner(cluster_class=lambda: cluster) as runner:
        yield runner


@pytest.fixture(autouse=True)
def all_workers(cluster: distributed.LocalCluster) -> None:
    """Wait for the workers that a test before has killed."""
    scheduler = scheduler_of(cluster)
    until(lambda: len(scheduler.workers) == 3)


def scheduler_of(cluster: distributed.LocalCluster) -> distributed.Scheduler:
    scheduler = cluster.scheduler
    assert isinstance(scheduler, distributed.Scheduler)
    return scheduler


def lines(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def note(log: Path, line: object) -> None:
    with log.open("a") as file:
        file.write(f"{line}\n")


def wait_at(ticket: Ticket, value: int = 0) -> int:
    """Wait at a gate."""
    ticket.wait()
    return value


def write_down(log: Path, value: object) -> None:
    """Leave a trace."""
    note(log, value)


def submit_and_die(log: Path, children: Ticket, own: Ticket) -> None:
    """Submit runs that are executed elsewhere, and others behind those; then die."""
    note(log, "parent")
    first = [inner().submit(wait_at, children) for _ in range(2)]
    for each in first:
        inner().submit(write_down, log, lift(each))
    own.wait()
    os._exit(1)


def submit_and_die_at_first(log: Path, times: int) -> int:
    """Have a number written down by a child, and die the first few times."""
    note(log, "parent")
    made = inner().submit(count_lines, log).result()
    if lines(log).count("parent") <= times:
        os._exit(1)
    return made


def count_lines(log: Path) -> int:
    """Write down that this is executed; return how often it was."""
    note(log, "child")
    return lines(log).count("child")


def die(log: Path, times: int = 1) -> int:
    """Die the first few times."""
    note(log, "died")
    if lines(log).count("died") <= times:
        os._exit(1)
    return 7


def survive(log: Path, own: Ticket) -> tuple[str, str, int]:
    """Stay on one's worker, lose a child on another, and go on; return how it ended."""
    child = inner().submit(die, log)
    behind = inner().submit(increment, lift(child))
    own.wait()  # Without leaving the place: the child goes to another worker.
    state = child.wait()
    assert isinstance(state, Crashed)
    assert isinstance(state.exception, RunCrashedError)
    assert isinstance(behind.wait(), UpstreamFailed)
    return state.name, str(state.message), inner().submit(increment, 1).result()


def survive_with_retries(log: Path, times: int, own: Ticket) -> str:
    """Have a child with a policy of its own, and lose its worker."""
    child = dispatch(inner(), die, log, times, retry=RetryPolicy(1))
    own.wait()
    state = child.wait()
    return f"{state.name} {state.message or ''}"


def ask_below(ticket: Ticket, depth: int) -> int:
    """Wait for a run below, which does so too; the last one waits at a gate."""
    if depth == 0:
        return wait_at(ticket)
    return inner().submit(ask_below, ticket, depth - 1).result()


def ask(number: int) -> int:
    """Wait for a run below."""
    return inner().submit(increment, number).result()


def no_runs_are_left(cluster: distributed.LocalCluster) -> bool:
    return not scheduler_of(cluster).tasks


def test_children_of_a_killed_worker_are_cancelled(
    runner: TaskRunner, cluster: distributed.LocalCluster, tmp_path: Path
) -> None:
    """A parent that dies has crashed, ran once, and takes what it submitted off the cluster."""
    log = tmp_path / "log"
    with Gate() as children, Gate() as own:
        parent = runner.submit(submit_and_die, log, children.ticket, own.ticket)
        own.await_arrival()
        children.await_arrival()
        children.await_arrival()
        own.open()
        state = parent.wait()
        assert isinstance(state, Crashed)
        with pytest.raises(RunCrashedError, match=r"The Dask worker tcp://\S+ died while it had"):
            parent.result()
        # The children are still at the gate: threads cannot be stopped. Nobody waits for them.
        until(lambda: no_runs_are_left(cluster))
        children.open()
    assert runner.submit(increment, 1).result() == 2
    assert lines(log) == ["parent"]


def test_a_parent_with_retries_submits_its_children_anew(
    runner: TaskRunner, cluster: distributed.LocalCluster, tmp_path: Path
) -> None:
    """A parent whose worker is lost is attempted anew, and so is each child of it, once."""
    log = tmp_path / "log"
    parent = dispatch(runner, submit_and_die_at_first, log, 2, retry=RetryPolicy(2))
    assert parent.result() == 3
    assert lines(log) == ["parent", "child"] * 3


def test_a_parent_is_lost_no_more_often_than_its_policy_says(
    runner: TaskRunner, cluster: distributed.LocalCluster, tmp_path: Path
) -> None:
    """The attempts of a parent are counted whatever it has submitted, and nothing is left of it."""
    log = tmp_path / "log"
    parent = dispatch(runner, submit_and_die_at_first, log, 9, retry=RetryPolicy(1))
    assert isinstance(parent.wait(), Crashed)
    assert lines(log) == ["parent", "child"] * 2
    until(lambda: no_runs_are_left(cluster))


def test_a_retried_run_keeps_its_key(
    runner: TaskRunner, cluster: distributed.LocalCluster, tmp_path: Path
) -> None:
    """Dask knows all attempts of a run by one name, whoever looks for it there."""
    scheduler = scheduler_of(cluster)
    seen: list[str] = []

    class Keys(distributed.SchedulerPlugin):
        """Keeps the keys of runs."""

        name = "keys"

        def update_graph(self, *_: Any, **graph: Any) -> None:  # noqa: ANN401 - as Dask has it
            """Take note of a graph."""
            seen.extend(str(key) for key in graph["keys"] if str(key).startswith("die"))

    scheduler.add_plugin(Keys())
    try:
        run = dispatch(runner, die, tmp_path / "log", retry=RetryPolicy(1))
        assert run.result() == 7
        assert seen == [f"{run.task_run.name}-{run.task_run.id}"] * 2
        assert runner.submit(increment, lift(run)).result() == 8
    finally:
        scheduler.remove_plugin(Keys.name)


def test_the_worker_of_a_child_is_killed(runner: TaskRunner, tmp_path: Path) -> None:
    """To its parent a child has crashed with its worker, which is named; the parent goes on."""
    log = tmp_path / "log"
    with Gate() as own:
        parent = runner.submit(survive, log, own.ticket)
        own.await_arrival()
        until(lambda: lines(log) == ["died"])
        own.open()
        name, message, value = parent.result()
    assert (name, value) == ("Crashed", 2)
    assert "The Dask worker tcp://127.0.0.1:" in message
    assert "died while it had the run" in message
    assert lines(log) == ["died"]


@pytest.mark.parametrize(("times", "end"), [(1, "Completed"), (9, "Crashed")])
def test_a_child_is_retried_by_its_own_policy(
    runner: TaskRunner, tmp_path: Path, times: int, end: str
) -> None:
    """A worker that submitted a run makes up for the loss of that, within the run's budget."""
    log = tmp_path / "log"
    with Gate() as own:
        parent = runner.submit(survive_with_retries, log, times, own.ticket)
        own.await_arrival()
        until(lambda: len(lines(log)) == 2)
        own.open()
        assert parent.result().split()[0] == end
    assert lines(log) == ["died", "died"]


def test_a_run_is_told_that_what_it_depends_on_is_lost(
    runner: TaskRunner, cluster: distributed.LocalCluster
) -> None:
    """A key that Dask has forgotten ends what is submitted on it, with the reason."""
    scheduler = scheduler_of(cluster)
    first = runner.submit(increment, 1)
    wait([first])
    key = f"{first.task_run.name}-{first.task_run.id}"
    wanted_by = scheduler.tasks[key].who_wants
    assert wanted_by is not None
    (client,) = wanted_by
    scheduler.client_releases_keys([key], client=client.client_key)
    state = runner.submit(increment, lift(first)).wait()
    assert isinstance(state, Crashed)
    assert "lost" in str(state)


def test_a_lost_scheduler_ends_parents_and_children(tmp_path: Path) -> None:
    """Runs that wait for runs, at any depth, end as crashed when the scheduler is gone."""
    with ExitStack() as stack:
        scheduler = subprocess.Popen(
            [
                *(sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0"),
                *("--host", "127.0.0.1", "--no-dashboard", "--no-show"),
                *("--scheduler-file", str(tmp_path / "scheduler.json")),
            ],
            stderr=subprocess.DEVNULL,
            cwd=tmp_path,
        )
        stack.callback(scheduler.wait)
        stack.callback(scheduler.kill)
        until((tmp_path / "scheduler.json").exists)
        file = str(tmp_path / "scheduler.json")
        with distributed.Client(scheduler_file=file, set_as_default=False) as client:
            assert client.scheduler is not None
            address = client.scheduler.address
        for _ in range(2):
            stack.enter_context(worker_process(address, tmp_path))
        settings = {"timeout": "300ms"}
        with DaskTaskRunner(address, client_kwargs=settings) as runner, Gate() as gate:
            parents = [runner.submit(ask_below, gate.ticket, 3) for _ in range(2)]
            behind = runner.submit(increment, lift(parents[0]))
            gate.await_arrival()
            gate.await_arrival()
            scheduler.kill()
            for parent in parents:
                state = parent.wait(timeout=20)
                assert isinstance(state, Crashed)
                assert "Dask lost the run" in str(state)
            assert isinstance(behind.wait(timeout=20), UpstreamFailed)
            late = runner.submit(ask, 1).wait(timeout=20)
            assert isinstance(late, Crashed)


def what_is_left(cluster: distributed.LocalCluster) -> dict[str, object]:
    """Return what runners and the runs below runs might leave on a cluster."""
    scheduler = scheduler_of(cluster)
    topics = [str(topic) for topic in scheduler._broker._topics]
    return {
        "tasks": set(scheduler.tasks),
        "clients": {name for name in scheduler.clients if "anabranch" in name},
        "metadata": [name for name in scheduler.task_metadata if "anabranch" in str(name)],
        "topics": [name for name in topics if name.startswith("anabranch")],
    }


_NOTHING: dict[str, object] = {"tasks": set(), "clients": set(), "metadata": [], "topics": []}


def until_nothing_is_left(cluster: distributed.LocalCluster) -> None:
    """Wait until nothing of ours is on a cluster; say what is, if that takes too long."""
    try:
        until(lambda: what_is_left(cluster) == _NOTHING)
    except AssertionError:
        assert what_is_left(cluster) == _NOTHING
        raise


@pytest.fixture
def existing() -> Iterator[distributed.LocalCluster]:
    """A cluster that belongs to nobody here."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, dashboard_address=":0"
    ) as cluster:
        yield cluster


def threads_there() -> list[str]:
    """Return the names of the threads of a worker that are ours."""
    return [each.name for each in threading.enumerate() if each.name.startswith("anabranch")]


def test_nothing_is_left_of_runs_below_runs(existing: distributed.LocalCluster) -> None:
    """Runners of a cluster leave nothing there, one after the other and at the same time."""
    size = 1_000

    def ask_for(text: str, padding: bytes = b"x" * size) -> int:
        return len(padding) + inner().submit(lambda: len(padding) + len(text)).result()

    for _ in range(2):
        with DaskTaskRunner(cluster=existing) as runner:
            futures = [runner.submit(ask_for, "abc") for _ in range(6)]
            assert [each.result() for each in futures] == [2 * size + 3] * 6
            assert what_is_left(existing)["clients"]
        until_nothing_is_left(existing)
    with DaskTaskRunner(cluster=existing) as one:
        with DaskTaskRunner(existing.scheduler_address) as other:
            both: list[Future[int]] = []
            for number in range(20):
                both += [one.submit(ask, number), other.submit(ask, number)]
            assert [each.result() for each in both] == [n + 1 for n in range(20) for _ in "ab"]
        assert one.submit(ask, 1).result() == 2
    until_nothing_is_left(existing)
    with distributed.Client(existing, set_as_default=False) as client:
        until(lambda: set(map(tuple, client.run(threads_there).values())) == {()})


def test_a_runner_that_leaves_later_leaves_nothing_either(
    existing: distributed.LocalCluster,
) -> None:
    """What runs below runs need on a worker goes when the last runs there do that found it."""
    with Gate() as gate, DaskTaskRunner(cluster=existing) as longer:
        with DaskTaskRunner(cluster=existing) as shorter:
            assert [shorter.submit(ask, number).result() for number in range(4)] == [1, 2, 3, 4]
            held = [longer.submit(wait_at, gate.ticket) for _ in range(3)]  # On both workers.
            for _ in held:
                gate.await_arrival()
        gate.open()
        assert all(isinstance(each.wait(), Completed) for each in held)
        held.clear()
    until_nothing_is_left(existing)


def test_what_a_run_says_too_late_leaves_nothing(existing: distributed.LocalCluster) -> None:
    """What a worker says of a runner that has been left is not kept on the scheduler."""

    def hear(dask_scheduler: distributed.Scheduler) -> bool:
        dask_scheduler.log_event(topic, "too late")
        return topic in dask_scheduler._broker._topics

    with DaskTaskRunner(cluster=existing) as runner:
        assert runner.submit(increment, 1).result() == 2
        (topic,) = cast("list[str]", what_is_left(existing)["topics"])
    assert what_is_left(existing)["topics"] == []
    with distributed.Client(existing, set_as_default=False) as client:
        assert client.run_on_scheduler(hear)
    until_nothing_is_left(existing)


def test_a_run_that_is_cancelled_leaves_nothing_below(existing: distributed.LocalCluster) -> None:
    """Leaving a runner by an error takes away what its runs have submitted, too."""
    futures: list[Future[Any]] = []

    def leave_by_error(gate: Gate) -> None:
        with DaskTaskRunner(cluster=existing) as runner:
            futures.extend(runner.submit(ask_below, gate.ticket, 2) for _ in range(20))
            gate.await_arrival()
            futures[-1].add_done_callback(lambda _: gate.open())
            raise KeyError

    with Gate() as gate, pytest.raises(KeyError):
        leave_by_error(gate)
    assert any(isinstance(each.state, Cancelled) for each in futures)
    futures.clear()
    until_nothing_is_left(existing)
