"""Parsl, on threads of its own."""

from __future__ import annotations

import importlib
import tempfile
import time
from functools import partial

from benchmarks import threads
from benchmarks.model import Sample, Stage
from benchmarks.noops import noop
from benchmarks.peers.inviting import invite, is_there
from benchmarks.timing import since

NAME = "Parsl"
TASKS = 2_000


def add(stage: Stage) -> None:
    """Let Parsl take part if it can."""
    if is_there(stage, NAME, "parsl"):
        invite(stage, NAME, partial(submit_all, stage.scaled(TASKS, least=10)))


def submit_all(count: int) -> Sample:
    """Submit so many no-ops, then read the results."""
    parsl = importlib.import_module("parsl")
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        executor = parsl.executors.ThreadPoolExecutor(max_threads=threads.WORKERS)
        config = parsl.Config(
            executors=[executor], run_dir=folder, usage_tracking=0, initialize_logging=False
        )
        kernel = parsl.load(config)
        try:
            app = parsl.python_app(noop)
            app().result()
            start = time.perf_counter()
            futures = [app() for _ in range(count)]
            for future in futures:
                future.result()
            return since(start, count)
        finally:
            kernel.cleanup()
            parsl.clear()
