"""Flows whose instance of Ray is killed, and those that follow in the same process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

_SCRIPT = """
import anyio, faulthandler, psutil, threading
from anabranch.flows import *
from anabranch.futures.testing import Gate
from anabranch.runners.ray import RayTaskRunner

@task
def wait_at(ticket):
    ticket.wait()
    return 1

@task(retries=3)
def wait_and_retry(ticket):
    ticket.wait()

@task
def increment(number):
    return number + 1

def kill(name):
    "What follows must be over within seconds."
    [found] = [each for each in psutil.Process().children(recursive=True) if each.name() == name]
    faulthandler.dump_traceback_later(25, exit=True)
    found.kill()

def check(futures):
    states = [each.state for each in futures]
    names = [type(each).__name__ for each in states]
    assert names == ["Crashed", "Crashed", "UpstreamFailed"], states
    assert "is lost" in states[0].message, states

def submit(ticket):
    waiting = wait_at.submit(ticket)
    return [waiting, wait_and_retry.submit(ticket), increment.submit(waiting)]

@flow(task_runner=RayTaskRunner(init_kwargs={"num_cpus": 1}))
def lose(name):
    with Gate() as gate:
        futures = submit(gate.ticket)
        gate.await_arrival()
        kill(name)
        for each in futures:
            each.wait(20)
        check(futures)
    return 5

@flow(task_runner=RayTaskRunner(init_kwargs={"num_cpus": 1}))
async def lose_async(name):
    with Gate() as gate:
        futures = submit(gate.ticket)
        await anyio.to_thread.run_sync(gate.await_arrival)
        kill(name)
        for each in futures:
            await each.wait_async(20)
        check(futures)
    return 6

@flow(task_runner=RayTaskRunner(init_kwargs={"num_cpus": 1}))
def unaware(name):
    with Gate() as gate:
        future = wait_at.submit(gate.ticket)
        gate.await_arrival()
        kill(name)
        return increment.submit(future)

@flow(task_runner=RayTaskRunner(init_kwargs={"num_cpus": 1}))
def goes_well():
    return increment.submit(increment.submit(1)).result()

def over():
    faulthandler.cancel_dump_traceback_later()
    ours = {each.name for each in threading.enumerate() if "anabranch-ray" in each.name}
    # What Ray was asked the moment that it was killed it never answers: that thread is given up.
    assert ours <= {"anabranch-ray-asker"}, ours
    assert psutil.Process().children(recursive=True) == []

if __name__ == "__main__":
    lose.run("gcs_server")
    over()
    anyio.run(lose_async.run, "raylet", backend="asyncio")
    over()
    anyio.run(lose_async.run, "gcs_server", backend="trio")
    over()
    state = unaware.run("raylet")
    over()
    assert not isinstance(state, Completed), state
    assert goes_well() == 3
    over()
"""


def test_flows_outlive_the_instance_of_ray_that_they_lose(tmp_path: Path) -> None:
    """A flow whose instance is killed goes on, sync and async; the next one has a new instance."""
    path = tmp_path / "script.py"
    path.write_text(_SCRIPT)
    run = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=220, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr.count("is lost: its control service") >= 2
    assert run.stderr.count("is lost: its node manager") >= 2
