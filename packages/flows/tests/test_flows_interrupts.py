"""Ctrl-C: real processes, really interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

HEAD = """
import sys, threading
import anyio
from anabranch.flows import ConcurrentTaskRunner, SequentialTaskRunner, flow, task

def say_started():
    sys.stdout.write("started\\n")
    sys.stdout.flush()

@task
def block():
    say_started()
    threading.Event().wait()

@task
async def block_async():
    say_started()
    await anyio.sleep_forever()

@task
async def block_the_loop():
    say_started()
    threading.Event().wait()
"""

SCRIPTS = {
    "threads": """
@flow
def main():
    [block.submit() for _ in range(20)]
main()
""",
    "async tasks": """
@flow
def main():
    [block_async.submit() for _ in range(20)]
main()
""",
    "a task in place": """
@flow(task_runner=SequentialTaskRunner())
def main():
    block.submit()
main()
""",
    "an async task in sequence": """
@flow(task_runner=SequentialTaskRunner())
def main():
    block_async.submit()
main()
""",
    "a task that blocks its loop": """
@flow
def main():
    block_the_loop.submit()
main()
""",
    "a submitted subflow": """
@flow
def inner():
    block.submit()
@flow
def main():
    inner.submit()
main()
""",
    "an async flow on trio": """
@flow
async def main():
    block.submit()
    await block_async()
anyio.run(main, backend="trio")
""",
    "an async flow on asyncio": """
@flow
async def main():
    block.submit()
    await block_async()
anyio.run(main, backend="asyncio")
""",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_ctrl_c_ends_the_program(name: str) -> None:
    """One Ctrl-C ends a flow whatever blocks it, as cancelled, and the process with it."""
    with subprocess.Popen(
        [sys.executable, "-c", HEAD + SCRIPTS[name]],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            process.send_signal(signal.SIGINT)
            _, log = process.communicate(timeout=40)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGINT, log
    assert "Finished in state Cancelled" in log
    assert "KeyboardInterrupt" in log
