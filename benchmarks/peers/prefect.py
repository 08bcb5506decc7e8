"""Prefect, in a process of its own: it brings a server, and settings that last."""

from __future__ import annotations

import importlib
import os
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.model import Sample, Stage
from benchmarks.noops import noop
from benchmarks.peers.inviting import invite, is_there
from benchmarks.processes import call_in_process, redirect_output
from benchmarks.timing import since

NAME = "Prefect"
TASKS = 200


def add(stage: Stage) -> None:
    """Let Prefect take part if it can."""
    if not is_there(stage, NAME, "prefect"):
        return
    # One folder for all rounds: making Prefect's database takes longest.
    home = stage.stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-"))
    count = stage.scaled(TASKS, least=5)
    # In a new process each time, so that its server is not at work beside the others.
    invite(stage, NAME, partial(call_in_process, call_tasks, home, count))


def call_tasks(home: str, count: int) -> Sample:
    """Call so many no-op tasks in a flow, one after the other.

    Args:
        home: A folder for all that Prefect writes.
        count: How many tasks.
    """
    os.environ.update(
        PREFECT_HOME=home,
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE="true",
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="120",
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        PREFECT_LOGGING_LEVEL="CRITICAL",
        PREFECT_LOGGING_TO_API_ENABLED="false",
        DO_NOT_TRACK="1",
    )
    os.environ.pop("PREFECT_API_URL", None)
    # Its server tells at length how it ends.
    redirect_output(Path(home, "output.txt"))
    prefect = importlib.import_module("prefect")
    task = prefect.task(noop)

    def call_all() -> Sample:
        task()
        start = time.perf_counter()
        for _ in range(count):
            task()
        return since(start, count)

    sample: Sample = prefect.flow(call_all)()
    return sample
