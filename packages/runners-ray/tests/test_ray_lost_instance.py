"""What becomes of runs, runners and this process when the instance of Ray is killed.

Each test is a script in a process of its own, for Ray might end it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from ray_scripts import run_script

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]

_HEAD = """
import faulthandler, psutil
from anabranch.futures.runner import NO_RETRIES, make_item, new_run_id
from anabranch.futures.testing import Gate

def wait_at(ticket, number=0):
    ticket.wait()

def large():
    return b"x" * 10_000_000

def process(name, parent=None):
    return next(each for each in psutil.Process(parent).children(recursive=True)
        if each.name() == name or name in each.cmdline())

def start(runner, function, *args, retries):
    run_id = new_run_id()
    run = TaskRun(run_id, f"{function.__name__}-{run_id[-8:]}", function.__name__)
    return runner.dispatch(
        make_item(function, args, {}, task_run=run, retry=RetryPolicy(retries)))

def kill(victim):
    "End a process; what follows must be over within seconds."
    faulthandler.dump_traceback_later(25, exit=True)
    victim.kill()

def recovered():
    faulthandler.cancel_dump_traceback_later()
"""


@pytest.mark.parametrize(
    ("name", "lost"),
    [("gcs_server", "control service (gcs_server)"), ("raylet", "node manager (raylet)")],
)
def test_ray_runs_crash_with_their_instance(tmp_path: Path, name: str, lost: str) -> None:
    """Runs end within seconds as Crashed when their instance is killed, and a new one can start."""
    printed, _ = run_script(
        _HEAD
        + f"""
with RayTaskRunner(init_kwargs={{"num_cpus": 2}}) as runner, Gate() as gate, Gate() as other:
    small, big = runner.submit(same, 5), runner.submit(large)
    small.wait(), big.wait()
    runs = [runner.submit(wait_at, gate.ticket, number) for number in range(6)]
    tried = start(runner, wait_at, other.ticket, retries=5)
    behind = runner.submit(same, lift(runs[0]))
    behind_retried = runner.submit(same, lift(tried))
    gate.await_arrival()
    gate.await_arrival()
    victim = process({name!r})
    kill(victim)
    for each in (*runs, tried):
        state = each.wait(20)
        assert isinstance(state, Crashed), state
        assert isinstance(state.exception, RunCrashedError)
        assert each.task_run.name in str(state.exception), state.exception
        assert "The Ray instance at" in state.message, state.message
        assert {lost!r} in state.message, state.message
    assert isinstance(behind.wait(20), UpstreamFailed), behind
    assert isinstance(behind_retried.wait(20), UpstreamFailed), behind_retried
    late = runner.submit(same, 6)
    assert isinstance(late.wait(20), Crashed), late
    assert late.cancel() is Cancellation.CANNOT_STOP
    assert isinstance(runner.submit(same, lift(late)).wait(20), UpstreamFailed)
    assert small.result() == 5, "it came along with the end of its run"
    with raises(ResultUnavailableError, "run 'large-", "is lost"):
        big.result()
    assert isinstance(runner.submit(len, lift(big)).wait(20), Failed | Crashed)
recovered()
assert leftovers() == [], leftovers()
assert psutil.Process().children(recursive=True) == []
with raises(ResultUnavailableError, "run 'large-"):
    big.result()
with RayTaskRunner(init_kwargs={{"num_cpus": 1}}) as runner:
    assert runner.submit(same, 7).result() == 7
assert leftovers() == [], leftovers()
""",
        tmp_path,
    )
    errors = [line for line in printed if line.startswith("ERROR")]
    assert len(errors) == 1
    assert "The Ray instance at" in errors[0]
    assert f"is lost: its {lost} at " in errors[0]


def test_ray_runner_that_comes_while_another_has_lost_its_instance(tmp_path: Path) -> None:
    """Before a runner whose instance is lost has been left, others start a new instance."""
    run_script(
        _HEAD
        + """
with RayTaskRunner(init_kwargs={"num_cpus": 1}) as runner, Gate() as gate:
    run = runner.submit(wait_at, gate.ticket)
    gate.await_arrival()
    kill(process("raylet"))
    assert isinstance(run.wait(20), Crashed)
    with RayTaskRunner(init_kwargs={"num_cpus": 1}) as other:
        assert other.submit(same, 5).result() == 5
        assert isinstance(runner.submit(same, 5).wait(20), Crashed)
recovered()
assert leftovers() == [], leftovers()
assert psutil.Process().children(recursive=True) == []
""",
        tmp_path,
    )


def test_ray_instance_of_the_user_that_is_lost(tmp_path: Path) -> None:
    """A lost instance of the user's own is left to the user, and refused until it is shut down."""
    run_script(
        _HEAD
        + """
import ray

ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="ERROR")
with RayTaskRunner() as runner, Gate() as gate:
    run = runner.submit(wait_at, gate.ticket)
    gate.await_arrival()
    kill(process("raylet"))
    assert isinstance(run.wait(20), Crashed)
recovered()
assert leftovers() == [], leftovers()
assert ray.is_initialized()
with raises(RuntimeError, "that this process is connected to is gone", "Call ray.shutdown"):
    RayTaskRunner().__enter__()
assert leftovers() == [], leftovers()
ray.shutdown()
with RayTaskRunner(init_kwargs={"num_cpus": 1}) as runner:
    assert runner.submit(same, 7).result() == 7
""",
        tmp_path,
    )


@pytest.mark.parametrize(
    "name",
    [
        "gcs_server",
        "raylet",
        pytest.param(
            "ray.util.client.server",
            marks=pytest.mark.skipif(
                importlib.util.find_spec("grpc") is None, reason="ray[client] is not installed"
            ),
        ),
    ],
)
def test_ray_instance_elsewhere_that_is_lost(tmp_path: Path, name: str) -> None:
    """Runs crash with an instance elsewhere, too; its control service has time to come back."""
    run_script(
        _HEAD
        + f"""
from anabranch.runners.ray import _connection
from ray_scripts import head_node

_connection._PATIENCE_ELSEWHERE = 1.0
with head_node(serves_clients={"client" in name}) as head:
    with RayTaskRunner(head.client_address or head.address) as runner, Gate() as gate:
        runs = [runner.submit(wait_at, gate.ticket, number) for number in range(3)]
        gate.await_arrival()
        kill(process({name!r}, head.pid))
        for each in runs:
            state = each.wait(20)
            assert isinstance(state, Crashed), state
            assert f"The Ray instance at {{head.address}} is lost" in state.message
    recovered()
assert leftovers() == [], leftovers()
with RayTaskRunner(init_kwargs={{"num_cpus": 1}}) as runner:
    assert runner.submit(same, 7).result() == 7
""",
        tmp_path,
        RAY_AUTH_MODE="disabled",
    )
