"""Tasks on clusters that submit tasks, as the flow that they belong to sees it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anabranch.flows import (
    Failed,
    Future,
    RunTimedOutError,
    TaskRun,
    UpstreamFailed,
    branch,
    flow,
    lift,
    task,
    task_run,
)
from anabranch.futures import TaskRunner
from anabranch.futures.testing import Gate, Ticket
from integration.clusters import CLUSTERS, cluster

pytestmark = pytest.mark.slow

_UNSEEN = "Failed without anyone having looked at how they ended: "


@pytest.fixture(scope="module", params=CLUSTERS)
def runner(request: pytest.FixtureRequest) -> Iterator[TaskRunner]:
    """A runner on two workers."""
    with cluster(request.param) as runner:
        yield runner


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that is opened when the test is over."""
    with Gate() as gate:
        yield gate


@task
def add(x: int, y: int = 0) -> int:
    """Add two numbers."""
    return x + y


@task
def fail(message: str) -> int:
    """Raise."""
    raise LookupError(message)


@task
def name_of(_: object = None) -> str:
    """Return the name of the run."""
    return str(task_run.name)


@task
def submit_both() -> int:
    """Submit a task, and call another."""
    return add.submit(1, 1).result() + add(1, 1)


@flow
def below(number: int) -> int:
    """A subflow."""
    return add.submit(number, 1).result() + add(number, 1)


@task
def call_flow() -> int:
    """Call a flow."""
    return below(1)


@task
def submit_flow() -> int:
    """Submit a flow."""
    return below.submit(2).result()


@task
def fail_below(message: str, sees: bool) -> None:
    """Have a run fail, and look at that or not."""
    run = fail.submit(message)
    if sees:
        run.exception()


@task
def name_many(number: int) -> list[str]:
    """Have many runs say their names."""
    return [name_of(), *name_of.map(range(number)).result()]


@task
def wait_at(ticket: Ticket) -> None:
    """Wait at a gate."""
    ticket.wait()


@task
def fail_after(ticket: Ticket) -> None:
    """Raise when a gate has been opened."""
    ticket.wait()
    raise LookupError("boom")


@task
def fail_fast(ticket: Ticket) -> tuple[str, list[str]]:
    """Lose a branch by its first failure; return how its runs have ended."""
    runs: list[Future[Any]] = []
    try:
        with branch(fail_fast=True):
            first = fail_after.submit(ticket)
            runs += [first, *(add.submit(number, wait_for=[first]) for number in range(3))]
            runs.append(add.submit(lift(runs[-1])))
    except LookupError as error:
        return str(error), [run.state.name for run in runs]
    return "", []


@task
def run_out_of_time(ticket: Ticket) -> tuple[str, list[str]]:
    """Lose a branch by its time; return how its runs have ended."""
    runs: list[Future[None]] = []
    try:
        with branch("short", timeout=0.5):
            runs += wait_at.map([ticket] * 4)
    except RunTimedOutError as error:
        return str(error), [run.state.name for run in runs]
    return "", []


@task
def fail_upstream() -> tuple[str, str]:
    """Submit a run on one that fails; return how it ended."""
    state = add.submit(add.submit(fail.submit("deep"))).wait()
    assert isinstance(state, UpstreamFailed)
    return state.name, repr(state.cause)


def note_hook(_: object, run: TaskRun, state: object) -> None:
    """Write down that a hook was called, where the run's name says."""
    _, _, path = run.name.partition("@")
    with Path(path).open("a") as file:
        file.write(f"{type(state).__name__}\n")


@task(on_running=note_hook, on_completion=note_hook, task_run_name="hooked@{path}")
def hooked(path: Path) -> None:
    """Be followed by hooks."""


@task
def submit_hooked(path: Path) -> None:
    """Submit a task with hooks, and call it."""
    hooked.submit(path / "submitted").result()
    hooked(path / "called")


@task
def make_large(size: int) -> tuple[int, bytes]:
    """Make a large value."""
    return size, bytes(size)


@task
def measure(value: dict[str, list[tuple[int, bytes]]]) -> int:
    """Return the length of what is in there."""
    return sum(len(each) for _, each in value["all"])


@task
def measure_below(size: int) -> int:
    """Have large values measured where they are, given at depth."""
    values = [make_large.submit(size) for _ in range(2)]
    return measure.submit({"all": [lift(each) for each in values]}).result()


def test_runs_below_are_counted(runner: TaskRunner) -> None:
    """A flow that returns nothing is the sum of all runs, at any depth and of whatever kind."""

    @flow(task_runner=runner)
    def body() -> None:
        assert submit_both.submit().result() == 4
        assert call_flow.submit().result() == 4
        assert submit_flow.submit().result() == 6
        fail_below.submit("no", True).result()

    # 1 + 2, 1 + 1 subflow, 1 + 1 subflow, 1 + 1 that fails: what is in a subflow is its own.
    state = body.run()
    assert isinstance(state, Failed)
    assert state.message == "1/9 states failed."
    assert isinstance(state.exception, LookupError)


@pytest.mark.parametrize("sees", [False, True])
def test_failures_below_that_nobody_saw_are_named(
    runner: TaskRunner, caplog: pytest.LogCaptureFixture, sees: bool
) -> None:
    """A flow that returns data warns of a failure below, unless the run's parent has seen it."""

    @flow(task_runner=runner)
    def body() -> str:
        fail_below.submit("no", sees).result()
        return "data"

    with caplog.at_level(logging.INFO):
        assert body() == "data"
    warnings = [each for each in caplog.messages if each.startswith(_UNSEEN)]
    assert len(warnings) == (0 if sees else 1)
    assert all("'fail-" in each and "fail_below" not in each for each in warnings)


def test_a_failure_cancels_the_rest_of_a_branch(runner: TaskRunner, gate: Gate) -> None:
    """A branch in a task on a worker is left by its first failure, and the others are cancelled."""

    @flow(task_runner=runner)
    def body() -> tuple[str, list[str]]:
        run = fail_fast.submit(gate.ticket)
        gate.await_arrival()
        gate.open()
        return run.result()

    message, states = body()
    assert message == "boom"
    assert states[0] == "Failed"
    assert set(states[1:]) <= {"Cancelled", "UpstreamFailed"}


def test_a_branch_on_a_worker_has_a_deadline(runner: TaskRunner, gate: Gate) -> None:
    """When its time is up, the runs of a branch in a task on a worker are over for the task."""

    @flow(task_runner=runner)
    def body() -> tuple[str, list[str]]:
        found = run_out_of_time.submit(gate.ticket).result()
        gate.open()
        return found

    message, states = body()
    assert "'short' did not end within its time limit of 0.5 s" in message
    assert states == ["Cancelled"] * 4


def test_names_of_runs_below_are_distinct(runner: TaskRunner) -> None:
    """No two runs of a flow have the same name, on whatever workers they were submitted."""

    @flow(task_runner=runner)
    def body() -> list[str]:
        futures = [name_many.submit(20) for _ in range(8)]
        return [name_of.submit().result(), *(each for run in futures for each in run.result())]

    found = body()
    assert len(set(found)) == len(found) == 1 + 8 * 21
    assert all(name.startswith("name_of-") for name in found)


def test_hooks_of_runs_below_are_called(runner: TaskRunner, tmp_path: Path) -> None:
    """Hooks of what a task submits or calls on a worker are called there."""

    @flow(task_runner=runner)
    def body() -> str:
        submit_hooked.submit(tmp_path).result()
        return "done"

    assert body() == "done"
    for name in ("submitted", "called"):
        assert (tmp_path / name).read_text().split() == ["Running", "Completed"]


def test_failures_reach_runs_behind_them(runner: TaskRunner) -> None:
    """A run below that depends on one that failed never starts, and knows the cause."""

    @flow(task_runner=runner)
    def body() -> tuple[str, str]:
        return fail_upstream.submit().result()

    assert body() == ("UpstreamFailed", "LookupError('deep')")


def test_large_values_below_stay_on_workers(runner: TaskRunner) -> None:
    """Futures of one's own children are arguments of others, at any depth, for large values."""

    @flow(task_runner=runner)
    def body() -> int:
        return measure_below.submit(5_000_000).result()

    assert body() == 10_000_000
