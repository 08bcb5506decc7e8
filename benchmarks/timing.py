"""Times work."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.model import Measure, Sample


def timed(work: Callable[[], object], units: int) -> Sample:
    """Return how long a unit of some work takes."""
    start = time.perf_counter()
    work()
    return since(start, units)


def since(start: float, units: int) -> Sample:
    """Return how long a unit took of what was begun at some time of `time.perf_counter`."""
    return {Measure.TIME: (time.perf_counter() - start) / units}


def mean(take: Callable[[], Sample], times: int) -> Sample:
    """Take samples in a row, and return the mean time."""
    return {Measure.TIME: sum(take()[Measure.TIME] for _ in range(times)) / times}
