"""What Ray is told of runs: by `remote_options`, and by the options for this runner."""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias, cast

import pytest
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from anabranch.futures import (
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Future,
    RetryPolicy,
    TaskRun,
    lift,
    wait,
)
from anabranch.futures.runner import make_item, new_run_id
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.ray import RayOptions, RayTaskRunner, remote_options

pytestmark = pytest.mark.slow

#: Submits a call of which Ray is told something.
Submit: TypeAlias = Callable[..., Future[Any]]


@pytest.fixture(scope="module")
def runner() -> Iterator[RayTaskRunner]:
    """A started runner, and the only one of the module; its GPU is one in name."""
    settings = {"num_cpus": 2, "num_gpus": 1, "resources": {"plate": 1}}
    with RayTaskRunner(init_kwargs=settings) as runner:
        yield runner


def dispatch(
    runner: RayTaskRunner,
    function: Callable[..., Any],
    *args: object,
    **options: Any,  # noqa: ANN401 - those of make_item
) -> Future[Any]:
    """Submit a call with options of `make_item`."""
    run_id = new_run_id()
    run = TaskRun(run_id, f"{function.__name__}-{run_id[-8:]}", function.__name__)
    return runner.dispatch(make_item(function, args, {}, task_run=run, **options))


def surrounded(
    told: RayOptions, runner: RayTaskRunner, function: Callable[..., Any], *args: object
) -> Future[Any]:
    """Submit a call where `remote_options` says something."""
    with remote_options(**told):
        return dispatch(runner, function, *args)


def optioned(
    told: RayOptions, runner: RayTaskRunner, function: Callable[..., Any], *args: object
) -> Future[Any]:
    """Submit a call with options for the runner."""
    return dispatch(runner, function, *args, runner_options={"ray": told})


both_ways = pytest.mark.parametrize("submit", [surrounded, optioned])


def taken(_: object = None) -> dict[str, float]:
    """Return what Ray says that this run takes."""
    context = ray.get_runtime_context()
    return dict(cast("Callable[[], dict[str, float]]", context.get_assigned_resources)())


def node() -> str:
    """Return the node that this is executed on."""
    return str(ray.get_runtime_context().get_node_id())


def gpus() -> tuple[list[str], str | None]:
    """Return the GPUs that this run has by Ray's account, and those that libraries see."""
    ids = ray.get_runtime_context().get_accelerator_ids()["GPU"]
    return list(ids), os.environ.get("CUDA_VISIBLE_DEVICES")


def variable(name: str) -> str | None:
    """Return an environment variable of the worker."""
    return os.environ.get(name)


def wait_at(ticket: Ticket) -> None:
    """Wait at a gate."""
    ticket.wait()


def use_alone(lock: Path, ticket: Ticket) -> None:
    """Fail if this is being executed already; wait at a gate meanwhile."""
    os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
    ticket.wait()
    lock.unlink()


def play(log: Path, script: str) -> dict[str, float]:
    """Do at each attempt what its letter says: fail, die, or tell what the run takes."""
    with log.open("a") as file:
        file.write("x")
    match script[log.stat().st_size - 1]:
        case "f":
            raise ValueError("no")
        case "d":
            os._exit(1)
    return taken()


# ---------------------------------------------------------------------------- what Ray does


@both_ways
def test_ray_shares_resources_out(runner: RayTaskRunner, tmp_path: Path, submit: Submit) -> None:
    """Runs that need all of a resource are executed one at a time, and others beside them."""
    told: RayOptions = {"resources": {"plate": 1}, "num_cpus": 0.5}
    with Gate() as gate:
        runs = [submit(told, runner, use_alone, tmp_path / "lock", gate.ticket)]
        gate.await_arrival()
        runs += [submit(told, runner, use_alone, tmp_path / "lock", gate.ticket) for _ in range(2)]
        # There are CPUs for all of them, and this one comes to Ray after them.
        assert submit({"num_cpus": 0.5}, runner, taken).result() == {"CPU": 0.5}
        assert [run.done() for run in runs] == [False] * 3
        gate.open()
        assert all(isinstance(run.wait(), Completed) for run in runs)


def test_ray_runs_together_what_needs_less_than_a_cpu(runner: RayTaskRunner) -> None:
    """More runs than there are CPUs are executed at a time, if each takes a part of one."""
    with Gate() as gate, remote_options(num_cpus=0.25):
        runs = [runner.submit(wait_at, gate.ticket) for _ in range(3)]
        for _ in runs:
            gate.await_arrival()
        gate.open()
        wait(runs)


@both_ways
@pytest.mark.parametrize(
    ("told", "amounts"),
    [
        ({"num_cpus": 2}, {"CPU": 2}),
        ({"num_cpus": 0}, {}),
        ({"memory": 1e6}, {"CPU": 1, "memory": 1e6}),
        ({"num_gpus": 0.5, "resources": {"plate": 0.25}}, {"CPU": 1, "GPU": 0.5, "plate": 0.25}),
    ],
)
def test_ray_gives_runs_what_they_take(
    runner: RayTaskRunner, submit: Submit, told: RayOptions, amounts: dict[str, float]
) -> None:
    """What is said of a run is what Ray counts for it; the rest is as ever."""
    assert submit(told, runner, taken).result() == amounts


def test_ray_gives_runs_gpus(runner: RayTaskRunner) -> None:
    """A run that takes a GPU is told which one is its own, and a library in it sees no other."""
    with remote_options(num_gpus=1):
        assert runner.submit(gpus).result() == (["0"], "0")
    assert runner.submit(gpus).result()[0] == []


@both_ways
def test_ray_sets_up_a_runs_environment(runner: RayTaskRunner, submit: Submit) -> None:
    """The worker of a run has the environment that was asked for, and others have not."""
    told: RayOptions = {"runtime_env": {"env_vars": {"FROM_OPTIONS": "yes"}}, "num_cpus": 0.5}
    assert submit(told, runner, variable, "FROM_OPTIONS").result() == "yes"
    assert runner.submit(variable, "FROM_OPTIONS").result() is None


@both_ways
def test_ray_is_told_where_to_run(runner: RayTaskRunner, submit: Submit) -> None:
    """Strategies reach Ray, by their names and as objects."""
    here = str(ray.get_runtime_context().get_node_id())
    pinned = NodeAffinitySchedulingStrategy(here, soft=False)
    assert submit({"scheduling_strategy": "SPREAD"}, runner, node).result() == here
    assert submit({"scheduling_strategy": pinned}, runner, node).result() == here
    elsewhere = NodeAffinitySchedulingStrategy("a" * len(here), soft=False)
    run = submit({"scheduling_strategy": elsewhere}, runner, node)
    state = run.wait()
    assert isinstance(state, Crashed)
    assert "NodeAffinitySchedulingStrategy" in str(state.message)
    assert [each.name for each in run.history] == ["Pending", "Crashed"]


def test_a_run_that_takes_too_much_is_warned_of_once(
    runner: RayTaskRunner, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that waits for ever since there is not so much can be cancelled, and is in the log."""
    with (
        caplog.at_level(logging.WARNING, "anabranch.task_runner.ray"),
        remote_options(resources={"plate": 1.5}, num_cpus=2, num_gpus=3),
    ):
        runs = [runner.submit(taken) for _ in range(2)]
    assert runner.submit(taken).result() == {"CPU": 1}
    for run in runs:
        run.cancel()
        assert isinstance(run.wait(), Cancelled)
    told = [message for message in caplog.messages if "'taken' takes" in message]
    assert [message.split(":")[0] for message in told] == [
        "Task 'taken' takes 3 of 'GPU', and this Ray instance has 1",
        "Task 'taken' takes 1.5 of 'plate', and this Ray instance has 1",
    ]


# ---------------------------------------------------------------------------- where they are from


def test_inner_blocks_add_to_outer_ones_and_win(runner: RayTaskRunner) -> None:
    """Each option is from the innermost block that says it, and the task's own wins over all."""
    with remote_options(num_cpus=2, resources={"plate": 0.5}):
        with remote_options(num_cpus=1.5, num_gpus=0.5):
            inner = runner.submit(taken)
            own = dispatch(runner, taken, runner_options={"ray": {"num_cpus": 0.5}, "dask": {}})
        outer = runner.submit(taken)
    assert inner.result() == {"CPU": 1.5, "GPU": 0.5, "plate": 0.5}
    assert own.result() == {"CPU": 0.5, "GPU": 0.5, "plate": 0.5}
    assert outer.result() == {"CPU": 2, "plate": 0.5}
    assert runner.submit(taken).result() == {"CPU": 1}


def test_a_block_that_is_left_by_an_exception_is_over(runner: RayTaskRunner) -> None:
    """What raises in a block takes nothing of what was said there along."""
    with pytest.raises(LookupError), remote_options(num_cpus=2):
        raise LookupError
    assert runner.submit(taken).result() == {"CPU": 1}


def test_other_threads_do_not_notice(runner: RayTaskRunner) -> None:
    """A block is for the code in it, and not for what other threads submit meanwhile."""
    found: list[dict[str, float]] = []
    thread = threading.Thread(target=lambda: found.append(runner.submit(taken).result()))
    with remote_options(num_cpus=2):
        thread.start()
        thread.join()
    assert found == [{"CPU": 1}]


def test_a_run_that_is_handed_over_later_has_its_own_options(runner: RayTaskRunner) -> None:
    """What is said where an upstream ends, in whatever thread, is not said of what waits for it."""
    foreign: Future[int] = Future(TaskRun("0" * 32, "foreign", "foreign"))
    runs = [
        surrounded({"num_cpus": 2}, runner, taken, lift(foreign)),
        optioned({"num_cpus": 0.5}, runner, taken, lift(foreign)),
        runner.submit(taken, lift(foreign)),
    ]
    behind = surrounded({"num_cpus": 1.5}, runner, taken, lift(runs[0]))
    with remote_options(num_cpus=0.25, max_retries=5):
        foreign.set_final(Completed(3))
    assert [run.result()["CPU"] for run in (*runs, behind)] == [2, 0.5, 1, 1.5]


def test_what_was_given_may_change_afterwards(runner: RayTaskRunner) -> None:
    """A run has the options of its submission, and the next one those of its own."""
    foreign: Future[int] = Future(TaskRun("0" * 32, "foreign", "foreign"))
    variables = {"FROM_OPTIONS": "first"}
    amounts: dict[str, float] = {"plate": 0.25}
    told: RayOptions = {"resources": amounts, "runtime_env": {"env_vars": variables}}
    runs = [optioned(told, runner, taken_and_set, lift(foreign))]
    with remote_options(**told):
        amounts["plate"], variables["FROM_OPTIONS"] = 0.5, "second"
        runs.append(runner.submit(taken_and_set))
    foreign.set_final(Completed(3))
    assert [run.result() for run in runs] == [(0.25, "first")] * 2
    assert optioned(told, runner, taken_and_set).result() == (0.5, "second")


def taken_and_set(_: object = None) -> tuple[float, str | None]:
    """Return how much of the plate this run takes, and a variable of its worker."""
    return taken()["plate"], variable("FROM_OPTIONS")


def test_options_of_other_runners_are_ignored(runner: RayTaskRunner) -> None:
    """What is said to other runners is not looked at."""
    options = {"dask": {"priority": 1}, "sequential": {"what": 1}}
    assert dispatch(runner, taken, runner_options=options).result() == {"CPU": 1}


def test_a_function_is_shipped_once_for_all_options(runner: RayTaskRunner) -> None:
    """However many sets of options a function is called with, it is pickled once."""
    shipped: list[object] = []

    class Noted:
        def __reduce__(self) -> tuple[object, ...]:
            shipped.append(self)
            return int, (3,)

    noted = Noted()

    def use() -> object:
        return noted

    told: list[RayOptions] = [{}, {"num_cpus": 0.5}, {"resources": {"plate": 0.5}}]
    runs = [optioned(each, runner, use) for each in told * 3]
    assert [run.result() for run in runs] == [3] * 9
    assert len(shipped) == 1


# ---------------------------------------------------------------------------- retries


@both_ways
def test_ray_makes_no_attempts_of_its_own(
    runner: RayTaskRunner, tmp_path: Path, submit: Submit, caplog: pytest.LogCaptureFixture
) -> None:
    """Failures and lost workers draw on one budget, and each retry is told of."""
    with caplog.at_level(logging.WARNING, "anabranch.task_runner.ray"):
        run = submit({"max_retries": 2}, runner, play, tmp_path / "log", "fdf.")
        assert isinstance(run.wait(), Failed)
    assert (tmp_path / "log").read_text() == "xxx"
    assert [message.split(":")[0] for message in caplog.messages] == [
        f"Run {run.task_run.name!r}"
    ] * 2
    run = submit({"max_retries": 1}, runner, play, tmp_path / "other", "dd.")
    assert isinstance(run.wait(), Crashed)
    assert (tmp_path / "other").read_text() == "xx"


@both_ways
def test_a_run_that_is_submitted_anew_keeps_its_options(
    runner: RayTaskRunner, tmp_path: Path, submit: Submit
) -> None:
    """What was said of a run holds for the attempts after its worker was lost as well."""
    told: RayOptions = {"max_retries": 1, "num_cpus": 1.5, "resources": {"plate": 0.5}}
    run = submit(told, runner, play, tmp_path / "log", "d.")
    assert run.result() == {"CPU": 1.5, "plate": 0.5}


def test_the_number_alone_is_replaced(runner: RayTaskRunner, tmp_path: Path) -> None:
    """The delays and the condition of a run with a policy of its own stay as they are."""
    never = RetryPolicy(5, condition=_never)
    with remote_options(max_retries=2):
        run = dispatch(runner, play, tmp_path / "log", "fff", retry=never)
    assert isinstance(run.wait(), Failed)
    assert (tmp_path / "log").read_text() == "x"
    options = {"ray": {"max_retries": 0}}
    arguments = tmp_path / "other", "fff"
    run = dispatch(runner, play, *arguments, retry=RetryPolicy(5), runner_options=options)
    assert isinstance(run.wait(), Failed)
    assert (tmp_path / "other").read_text() == "x"


def _never(_: object) -> bool:
    return False


# ---------------------------------------------------------------------------- mistakes

#: It cannot be pickled.
print_here = functools.partial(print, file=sys.stdout)

mistakes = pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_cpu": 1}, TypeError, "no option 'num_cpu'; Ray takes max_retries, memory, num_cpus"),
        ({"num_cpus": "2"}, TypeError, "num_cpus='2': give a number, such as 1"),
        ({"num_gpus": True}, TypeError, "num_gpus=True: give a number"),
        ({"num_cpus": -1}, ValueError, "num_cpus=-1: give a number of 0 or more"),
        ({"memory": float("nan")}, ValueError, "memory=nan: give a number of 0 or more"),
        ({"resources": "plate"}, TypeError, r"give a number for each name, as in \{\"licence\": 1"),
        ({"resources": {1: 1}}, TypeError, "give a number for each name"),
        ({"resources": {"plate": "1"}}, TypeError, "give a number for each name"),
        ({"resources": {"plate": -1}}, ValueError, "give a number of 0 or more"),
        ({"resources": {"CPU": 2}}, ValueError, "'CPU' is an option of its own: give num_cpus=2"),
        ({"resources": {"GPU": 1}}, ValueError, "'GPU' is an option of its own: give num_gpus=1"),
        ({"resources": {"memory": 9}}, ValueError, "'memory' is an .* its own: give memory=9"),
        ({"max_retries": 1.5}, TypeError, "max_retries=1.5: give a whole number"),
        ({"max_retries": True}, TypeError, "max_retries=True: give a whole number"),
        ({"max_retries": -1}, ValueError, "max_retries=-1: it cannot be negative; give 0"),
        ({"runtime_env": "env"}, TypeError, "runtime_env='env': give a dict, as in .*env_vars"),
        ({"runtime_env": {"a": print_here}}, TypeError, "it cannot be sent to Ray .*plain data"),
        ({"scheduling_strategy": "SPRED"}, ValueError, 'give "DEFAULT", "SPREAD" or an object of'),
        ({"scheduling_strategy": ["SPREAD"]}, TypeError, 'give "DEFAULT", "SPREAD" or an object'),
    ],
)


@mistakes
def test_options_are_checked(
    runner: RayTaskRunner, options: RayOptions, error: type[Exception], message: str
) -> None:
    """An option that there is none of, or a value that it does not take, is named, with a fix."""
    with pytest.raises(error, match=f"Task 'taken', for Ray: .*{message}"):
        optioned(options, runner, taken)
    assert runner.submit(taken).result() == {"CPU": 1}


@mistakes
def test_options_are_checked_before_their_block(
    options: RayOptions, error: type[Exception], message: str
) -> None:
    """Where it is written what runs are to take, mistakes are found, and not later."""
    with pytest.raises(error, match=f"remote_options: .*{message}"):
        remote_options(**options)


@both_ways
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_cpus": 0.00001}, "cannot go beyond 0.0001"),
        ({"scheduling_strategy": 5}, "TypeError: The type of keyword 'scheduling_strategy'"),
        ({"runtime_env": {"working_dir": "/nowhere"}}, "/nowhere is not a valid path"),
        ({"runtime_env": {"env_vars": {"A": 1}}}, "must be of type"),
    ],
)
def test_what_ray_refuses_is_told_where_the_run_is_submitted(
    runner: RayTaskRunner, submit: Submit, options: RayOptions, message: str
) -> None:
    """Ray's own checks are made at once, and what they say is told with the name of the task."""
    refused = f"Task 'taken', for Ray: Ray refuses its options: .*{message}"
    with pytest.raises(ValueError, match=refused):
        submit(options, runner, taken)
    assert runner.submit(taken).result() == {"CPU": 1}


@both_ways
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_gpus": 1.5}, "The specified quantity 1.5 is invalid"),
        ({"resources": {"object_store_memory": 1}}, "must not contain .* 'object_store_memory'"),
        ({"resources": {"é": 1}}, "'ascii' codec"),
    ],
)
def test_what_ray_refuses_later_fails_the_run(
    runner: RayTaskRunner, submit: Submit, options: RayOptions, message: str
) -> None:
    """What Ray refuses when it is given the run ends it, and is not taken for a bad argument."""
    run = submit(options, runner, taken)
    refused = f"Task 'taken', for Ray: Ray refuses its options: .*{message}"
    with pytest.raises(ValueError, match=refused):
        run.result()
    run = submit(options, runner, taken, threading.Lock())
    with pytest.raises(TypeError, match="argument '_' cannot be pickled"):
        run.result()
