"""How long an import takes in a new process."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial

from benchmarks.model import OURS, Measure, Row, Sample, Stage, Target

TRIO = "import trio"
#: What an import must not bring along.
HEAVY = ("dask", "distributed", "numpy", "pandas", "ray")
PROCESSES = 5


def start_python(code: str) -> float:
    """Return how many seconds a new process takes to run some code."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - start


def import_module(module: str, processes: int) -> Sample:
    """Return how long an import takes beyond what a process takes that does nothing."""
    times = [start_python(f"import {module}") - start_python("pass") for _ in range(processes)]
    return {Measure.TIME: sum(times) / processes}


def import_ours(processes: int) -> Sample:
    """Return how long our import takes, and how many heavy modules it brings along."""
    code = f"import sys, anabranch.flows; print(len({set(HEAVY)} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
    heavy = float(found.stdout)
    return {**import_module("anabranch.flows", processes), Measure.HEAVY_MODULES: heavy}


def prepare(stage: Stage) -> None:
    """Put up both imports."""
    processes = stage.scaled(PROCESSES)
    stage.add(OURS, partial(import_ours, processes))
    stage.add(TRIO, partial(import_module, "trio", processes))


ROW = Row(
    name="import",
    work="import anabranch.flows, in a new process",
    prepare=prepare,
    targets=(
        Target(OURS, TRIO, at_most=1.6),
        Target(OURS, measure=Measure.HEAVY_MODULES, at_most=0),
    ),
)
