"""What Dask is told of runs: by `dask.annotate`, and by the options for this runner."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import dask
import distributed
import pytest
from dask.base import annotate
from dask_tasks import dispatch, increment, until

from anabranch.futures import (
    Completed,
    Crashed,
    Failed,
    Future,
    RetryPolicy,
    TaskRun,
    TaskRunner,
    lift,
    wait,
)
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.dask import DaskOptions, DaskTaskRunner

pytestmark = pytest.mark.slow

#: Submits a call of which Dask is told something.
Submit: TypeAlias = Callable[..., Future[Any]]

_RESOURCES: dict[str, Any] = {"GPU": 1, "process": 1}


@attrs.frozen
class Started:
    """A started runner, and its cluster."""

    runner: TaskRunner
    cluster: distributed.SpecCluster

    @property
    def scheduler(self) -> distributed.Scheduler:
        """The cluster's scheduler, which is in this process."""
        scheduler = self.cluster.scheduler
        assert isinstance(scheduler, distributed.Scheduler)
        return scheduler

    def told_of(self, run: Future[Any]) -> dict[str, object]:
        """Return the annotations that a run has on the scheduler, once it is there."""
        key = key_of(run)
        until(lambda: key in self.scheduler.tasks)
        return dict(self.scheduler.tasks[key].annotations or {})


def key_of(run: Future[Any]) -> str:
    """Return the run's key on Dask."""
    return f"{run.task_run.name}-{run.task_run.id}"


def started(cluster: distributed.SpecCluster) -> Iterator[Started]:
    """Start a runner on a cluster."""
    with cluster, DaskTaskRunner(cluster_class=lambda: cluster) as runner:
        yield Started(runner, cluster)


@pytest.fixture(scope="module")
def one() -> Iterator[Started]:
    """One thread in this process, whose worker is sent all runs at once, and chooses."""
    options: dict[str, Any] = {"processes": False, "protocol": "tcp://", "dashboard_address": ":0"}
    with dask.config.set({"distributed.scheduler.worker-saturation": "inf"}):
        cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, **options)
    yield from started(cluster)


@pytest.fixture(scope="module")
def four() -> Iterator[Started]:
    """Four threads in a process that has resources, as in the example of the documentation."""
    options: dict[str, Any] = {"resources": _RESOURCES, "dashboard_address": ":0"}
    yield from started(distributed.LocalCluster(n_workers=1, threads_per_worker=4, **options))


@pytest.fixture(scope="module")
def named() -> Iterator[Started]:
    """Two workers with names, in this process."""
    worker = {"cls": distributed.Worker, "options": {"nthreads": 1}}
    scheduler = {"cls": distributed.Scheduler, "options": {"dashboard_address": ":0"}}
    workers = {"first": worker, "second": worker}
    yield from started(distributed.SpecCluster(workers=workers, scheduler=scheduler))


def annotated(
    told: dict[str, Any], runner: TaskRunner, function: Callable[..., Any], *args: object
) -> Future[Any]:
    """Submit a call where `dask.annotate` says something."""
    with annotate(**told):
        return dispatch(runner, function, *args)


def optioned(
    told: dict[str, Any], runner: TaskRunner, function: Callable[..., Any], *args: object
) -> Future[Any]:
    """Submit a call with options for the runner."""
    return dispatch(runner, function, *args, runner_options={"dask": told})


both_ways = pytest.mark.parametrize("submit", [annotated, optioned])


def wait_at(ticket: Ticket, value: int = 0) -> int:
    """Wait at a gate."""
    ticket.wait()
    return value


def note(log: Path, line: object) -> None:
    """Write down that this is executed."""
    with log.open("a") as file:
        file.write(f"{line}\n")


def lines(log: Path) -> list[str]:
    """Return what was written down."""
    return log.read_text().split() if log.exists() else []


def use_alone(lock: Path, ticket: Ticket | None = None) -> None:
    """Fail if this is being executed already."""
    os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
    if ticket is not None:
        ticket.wait()
    lock.unlink()


def worker_name() -> object:
    """Return the name of the worker that executes this."""
    return distributed.get_worker().name


def play(log: Path, script: str) -> str:
    """Do at each attempt what its letter says: fail, die, or return."""
    note(log, "attempt")
    match script[len(lines(log)) - 1]:
        case "f":
            raise ValueError("no")
        case "d":
            os._exit(1)
    return script


def die_then_wait(log: Path, ticket: Ticket) -> None:
    """End the process at the first attempt, and wait at a gate at the second."""
    play(log, "d.")
    ticket.wait()


# ---------------------------------------------------------------------------- what Dask does


@both_ways
def test_dask_executes_higher_priorities_first(
    one: Started, tmp_path: Path, submit: Submit
) -> None:
    """Of runs that wait for the only thread, those of a higher priority go first."""
    log = tmp_path / "log"
    with Gate() as gate:
        first = one.runner.submit(wait_at, gate.ticket)
        gate.await_arrival()
        runs = [
            submit({"priority": priority}, one.runner, note, log, priority)
            for priority in (-10, 10, -10, 10)
        ]
        (worker,) = one.cluster.workers.values()
        until(lambda: {key_of(run) for run in runs} <= worker.state.tasks.keys())
        gate.open()
        wait([first, *runs])
    assert lines(log) == ["10", "10", "-10", "-10"]


@both_ways
@pytest.mark.parametrize("resource", ["GPU", "process"])
def test_dask_shares_resources_out(
    four: Started, tmp_path: Path, submit: Submit, resource: str
) -> None:
    """Runs that need all of a resource are executed one at a time, and others beside them."""
    told = {"resources": {resource: 1}}
    other = {"resources": {name: 1 for name in _RESOURCES if name != resource}}
    with Gate() as gate:
        lock = tmp_path / "lock"
        runs = [submit(told, four.runner, use_alone, lock, gate.ticket)]
        gate.await_arrival()
        assert submit(other, four.runner, increment, 1).result() == 2
        runs += [submit(told, four.runner, use_alone, lock, gate.ticket) for _ in range(2)]
        # There are threads for all of them, and this one comes to the worker after them.
        assert four.runner.submit(increment, 2).result() == 3
        assert [run.done() for run in runs] == [False] * 3
        gate.open()
        assert all(isinstance(run.wait(), Completed) for run in runs)


@both_ways
def test_dask_executes_runs_on_the_workers_that_are_named(named: Started, submit: Submit) -> None:
    """A run goes to the worker that is named, though another one has nothing to do."""
    for workers in ("first", ["second"], "second", ["first"]):
        run = submit({"workers": workers}, named.runner, worker_name)
        assert [run.result()] == ([workers] if isinstance(workers, str) else workers)
    with Gate() as gate:
        held = submit({"workers": "second"}, named.runner, wait_at, gate.ticket)
        gate.await_arrival()
        run = submit({"workers": ["first", "second"]}, named.runner, worker_name)
        assert run.result() == "first"
        gate.open()
        held.wait()


@both_ways
def test_dask_executes_runs_elsewhere_if_it_may(named: Started, submit: Submit) -> None:
    """A run whose worker is not there is executed by another one, if that is allowed."""
    address = "tcp://127.0.0.1:1"
    told = {"workers": [address, "nobody.invalid"], "allow_other_workers": True}
    assert submit(told, named.runner, worker_name).result() in {"first", "second"}
    waiting = submit({"workers": address}, named.runner, worker_name)
    assert named.told_of(waiting) == {"workers": [address]}
    assert submit(told, named.runner, worker_name).result() in {"first", "second"}
    assert not waiting.done()
    waiting.cancel()


# ---------------------------------------------------------------------------- where they are from


def test_what_is_said_nowhere_is_not_told(one: Started) -> None:
    """A run that nobody has said anything about has no annotations."""
    with Gate() as gate:
        run = one.runner.submit(wait_at, gate.ticket)
        assert one.told_of(run) == {}


def test_options_win_over_annotations(one: Started) -> None:
    """What the run's own options say wins, each for itself; what only Dask knows is passed on."""
    options: DaskOptions = {"priority": 5, "workers": ("127.0.0.1",)}
    with Gate() as gate:
        with annotate(priority=1, resources={}, mine="x"):
            run = dispatch(one.runner, wait_at, gate.ticket, runner_options={"dask": options})
            plain = one.runner.submit(wait_at, gate.ticket)
        told = {"priority": 5, "workers": ["127.0.0.1"], "resources": {}, "mine": "x"}
        assert one.told_of(run) == told
        assert one.told_of(plain) == {"priority": 1, "resources": {}, "mine": "x"}


def test_a_run_behind_others_has_its_own_annotations(one: Started) -> None:
    """A run whose upstream is on Dask goes there at once, with what was said where it was made."""
    with Gate() as gate:
        upstream = annotated({"priority": 3}, one.runner, wait_at, gate.ticket)
        run = annotated({"priority": 7}, one.runner, increment, lift(upstream))
        plain = one.runner.submit(increment, lift(upstream))
        assert [one.told_of(each) for each in (run, plain)] == [{"priority": 7}, {}]


def test_a_run_that_is_handed_over_later_has_its_own_annotations(one: Started) -> None:
    """What is said where an upstream ends, in whatever thread, is not said of what waits for it."""
    foreign: Future[int] = Future(TaskRun("0" * 32, "foreign", "foreign"))
    with Gate() as gate, Gate() as other:
        runs = [
            annotated({"priority": 7}, one.runner, wait_at, gate.ticket, lift(foreign)),
            optioned({"priority": 8}, one.runner, wait_at, gate.ticket, lift(foreign)),
            one.runner.submit(wait_at, gate.ticket, lift(foreign)),
        ]
        behind = annotated({"priority": 9}, one.runner, wait_at, other.ticket, lift(runs[0]))
        with annotate(priority=-99, resources={"nowhere": 1}):
            foreign.set_final(Completed(3))
        assert [one.told_of(each) for each in runs] == [{"priority": 7}, {"priority": 8}, {}]
        with annotate(priority=-99):
            gate.open()
        assert one.told_of(behind) == {"priority": 9}
        other.open()
        assert [each.result() for each in (*runs, behind)] == [3, 3, 3, 3]


def test_a_run_behind_one_with_retries_has_its_own_annotations(
    one: Started, tmp_path: Path
) -> None:
    """A run that is handed over when another has completed keeps what was said of it."""
    with Gate() as gate, Gate() as other:
        policy = RetryPolicy(1)
        upstream = dispatch(one.runner, wait_at, gate.ticket, retry=policy)
        run = annotated({"priority": 7}, one.runner, wait_at, other.ticket, lift(upstream))
        gate.open()
        assert one.told_of(run) == {"priority": 7}


def test_what_the_runner_submits_itself_has_no_annotations(named: Started) -> None:
    """The key through which a run waits for another takes none of what is said of the run."""
    with Gate() as gate:
        first = annotated({"priority": 3}, named.runner, wait_at, gate.ticket)
        with annotate(resources={"nowhere": 1}, priority=-7):
            run = dispatch(named.runner, increment, 1, wait_for=(first,))
        assert named.told_of(run) == {"resources": {"nowhere": 1}, "priority": -7}
        (key,) = [key for key in named.scheduler.tasks if str(key).startswith("wait_for")]
        assert named.scheduler.tasks[key].annotations == {"priority": 1_000}
        with annotate(resources={"nowhere": 1}):
            run.cancel()
        until(lambda: key_of(run) not in named.scheduler.tasks)


# ---------------------------------------------------------------------------- retries


@both_ways
def test_dask_makes_no_attempts_of_its_own(
    four: Started, tmp_path: Path, submit: Submit, caplog: pytest.LogCaptureFixture
) -> None:
    """Two retries are three attempts in all, and the client hears of each."""
    log = tmp_path / "log"
    with caplog.at_level(logging.WARNING, "anabranch.task_runner.dask"):
        run = submit({"retries": 2}, four.runner, play, log, "ffff")
        assert isinstance(run.wait(), Failed)
    assert len(lines(log)) == 3
    names = [state.name for state in run.history if state.name != "Pending"]
    assert names == ["Running", "Retrying", "Running", "Retrying", "Running", "Failed"]
    assert [each.message.split(":")[0] for each in caplog.records if "anabranch" in each.name] == [
        f"Run {run.task_run.name!r}"
    ] * 2
    with Gate() as gate:
        run = submit({"retries": 2, "priority": 1}, four.runner, wait_at, gate.ticket)
        assert four.told_of(run) == {"priority": 1}


@both_ways
def test_lost_workers_and_failures_have_one_budget(
    four: Started, tmp_path: Path, submit: Submit
) -> None:
    """A worker that dies under a run has cost it one of its attempts."""
    log = tmp_path / "log"
    assert isinstance(submit({"retries": 2}, four.runner, play, log, "fdf.").wait(), Failed)
    assert len(lines(log)) == 3
    log = tmp_path / "other log"
    assert isinstance(submit({"retries": 1}, four.runner, play, log, "dd.").wait(), Crashed)
    assert len(lines(log)) == 2


def test_a_run_that_is_submitted_anew_keeps_its_annotations(four: Started, tmp_path: Path) -> None:
    """What was said of a run holds for the attempts after its worker was lost as well."""
    told = {"resources": {"GPU": 1}, "priority": 7}
    with Gate() as gate:
        ticket = gate.ticket
        run = annotated(
            {**told, "retries": 1}, four.runner, die_then_wait, tmp_path / "log", ticket
        )
        gate.await_arrival()
        assert four.scheduler.tasks[key_of(run)].annotations == told
        gate.open()
        assert isinstance(run.wait(), Completed)


def test_the_number_alone_is_replaced(four: Started, tmp_path: Path) -> None:
    """The delays and the condition of a run with a policy of its own stay as they are."""
    log = tmp_path / "log"
    never = RetryPolicy(5, condition=_never)
    with annotate(retries=2):
        assert isinstance(dispatch(four.runner, play, log, "fff", retry=never).wait(), Failed)
    assert len(lines(log)) == 1
    log = tmp_path / "other log"
    options = {"dask": {"retries": 0}}
    run = dispatch(four.runner, play, log, "ff", retry=RetryPolicy(5), runner_options=options)
    assert isinstance(run.wait(), Failed)
    assert len(lines(log)) == 1


def _never(_: object) -> bool:
    return False


# ---------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prioritty": 1}, TypeError, "no 'prioritty' in .*; it takes allow_other_.*, priority, "),
        ({"priority": "high"}, TypeError, "priority='high': give a number, such as 10"),
        ({"priority": True}, TypeError, "priority=True: give a number"),
        ({"priority": float("nan")}, ValueError, "priority=nan: .*neither infinite nor undefined"),
        ({"resources": "GPU"}, TypeError, r"resources='GPU': give a number for .*\{\"GPU\": 1\}"),
        ({"resources": {1: 1}}, TypeError, "give a number for each name"),
        ({"resources": {"GPU": "1"}}, TypeError, "give a number for each name"),
        ({"resources": {"GPU": -1}}, ValueError, "it cannot take less than nothing"),
        ({"workers": 1}, TypeError, r"workers=1: give the name .* as in \[\"first\"\]"),
        ({"workers": []}, ValueError, r"workers=\[\]: name at least one worker, or leave it out"),
        ({"retries": -1}, ValueError, "retries=-1: it cannot be negative; leave it out"),
        ({"retries": 1.5}, TypeError, "retries=1.5: it is a whole number, such as 3"),
        ({"allow_other_workers": 1}, TypeError, "allow_other_workers=1: give True or False"),
    ],
)
def test_options_are_checked(
    one: Started, options: dict[str, object], error: type[Exception], message: str
) -> None:
    """An option that Dask has none of, or a value that it does not take, is named, with a fix."""
    with pytest.raises(error, match=f"Task 'increment', for Dask: .*{message}"):
        optioned(options, one.runner, increment, 1)
    assert one.runner.submit(increment, 1).result() == 2


@pytest.mark.parametrize("retries", [1.5, len])
def test_annotations_are_checked_if_the_runner_needs_them(one: Started, retries: object) -> None:
    """Dask would take some numbers of retries that are none here."""
    block: AbstractContextManager[None] = annotate(retries=retries)
    with block, pytest.raises(TypeError, match=r"'increment', for Dask: retries=.*whole num"):
        one.runner.submit(increment, 1)


def test_options_of_other_runners_are_ignored(one: Started) -> None:
    """What is said to other runners is not looked at."""
    options = {"ray": {"num_gpus": 1}, "sequential": {"what": 1}}
    with Gate() as gate:
        run = dispatch(one.runner, wait_at, gate.ticket, 3, runner_options=options)
        assert one.told_of(run) == {}
        gate.open()
        assert run.result() == 3
