"""Scripts in processes of their own, to which signals are really sent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import final

import attrs

#: What every script begins with. `say("x")` prints a line at once, in one write.
HEAD = """
import os, sys, threading, time
import anyio
from anabranch.flows import ConcurrentTaskRunner, SequentialTaskRunner, flow, task

def say(text):
    # Not by sys.stdout: an abandoned thread would keep its lock, and the interpreter ends badly.
    os.write(1, (text + "\\n").encode())

@task
def block():
    say("started")
    threading.Event().wait()

@task
async def block_async():
    say("started")
    await anyio.sleep_forever()

@task
async def block_the_loop():
    say("started")
    threading.Event().wait()
"""

#: How long a process may take to end, in seconds; reached by failing tests only.
_PATIENCE = 40


@final
@attrs.frozen
class Ended:
    """How a script has ended.

    Attributes:
        code: Its exit code; negative for the signal that ended it.
        output: What it wrote to standard output after its first line.
        log: What it wrote to standard error.
    """

    code: int
    output: str
    log: str


def run_and_signal(script: str, number: signal.Signals, *, ignores_ctrl_c: bool = False) -> Ended:
    """Run a script, send it a signal once it has said "started", and wait for its end.

    Args:
        script: What to run behind `HEAD`.
        number: The signal.
        ignores_ctrl_c: Whether the process begins as shells begin those in the background.
    """
    command = [sys.executable, "-c", HEAD + script]
    if ignores_ctrl_c:
        command = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *command]
    with subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            process.send_signal(number)
            output, log = process.communicate(timeout=_PATIENCE)
        finally:
            process.kill()
    return Ended(process.returncode, output, log)
