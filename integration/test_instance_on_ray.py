"""One instance of Ray for all flows of a process: at a time, inside each other, and in turn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

_HEAD = """
import logging, os, sys, threading
import psutil
from concurrent.futures import ThreadPoolExecutor
from anabranch.flows import *
from anabranch.runners.ray import RayTaskRunner

logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)

def runner():
    return RayTaskRunner(init_kwargs={"num_cpus": 2})

def instance():
    return tuple(each.pid for each in psutil.Process().children() if each.name() == "gcs_server")

@task
def increment(number):
    return number + 1

def nothing_left():
    assert psutil.Process().children(recursive=True) == []
    ours = [each.name for each in threading.enumerate() if "anabranch-ray" in each.name]
    assert ours == [], ours
"""


def _run(script: str, folder: Path) -> list[str]:
    path = folder / "script.py"
    path.write_text(_HEAD + script)
    run = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=160, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout.splitlines()


def test_flows_share_one_instance_of_ray(tmp_path: Path) -> None:
    """Flows at a time and subflows use one instance, which ends with the last of them."""
    printed = _run(
        """
both = threading.Barrier(2)

@flow(task_runner=runner())
def inner(number):
    return increment.submit(number).result(), instance()

@flow(task_runner=runner())
def outer(number):
    first = increment.submit(number)
    both.wait(60)
    value, same = inner(first.result())
    both.wait(60)
    future = increment.submit(value)
    return future.result(), same, instance()

for _ in range(2):
    with ThreadPoolExecutor() as pool:
        ends = list(pool.map(outer, [1, 2]))
    assert [value for value, _, _ in ends] == [4, 5]
    assert len({each for _, *seen in ends for each in seen}) == 1, ends
    assert len(ends[0][1]) == 1, ends
    nothing_left()
""",
        tmp_path,
    )
    assert printed.count("Creating a local Ray instance") == 2


def test_flow_that_is_idle_finds_its_instance_of_ray_alive(tmp_path: Path) -> None:
    """An instance that has had nothing to do for half a minute is still there."""
    _run(
        """
@flow(task_runner=runner())
def idle():
    first = increment.submit(1).result(), instance()
    threading.Event().wait(30)
    return first, (increment.submit(1).result(), instance())

first, second = idle()
assert first == second
nothing_left()
""",
        tmp_path,
    )
