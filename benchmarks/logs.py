"""Logs: ours, off or at its default level into a file, and the bare standard library's."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from anabranch.flows import RunFormatter
from benchmarks.model import LOGGED, OURS, Measure, Sample, Stage

_logger = logging.getLogger("anabranch")

#: Writes lines with nothing of ours but their format.
bare_logger = logging.getLogger("benchmarks.bare")


def turn_off() -> None:
    """Have nothing logged in this process."""
    _logger.setLevel(logging.CRITICAL + 1)
    # Without a handler the first flow would turn on the log on standard error.
    _logger.addHandler(logging.NullHandler())
    _logger.propagate = bare_logger.propagate = False


@contextmanager
def written_to(path: Path, logger: logging.Logger = _logger) -> Iterator[None]:
    """Write what is logged at the default level to a file."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(RunFormatter())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()


def take_logged(take: Callable[[], Sample], units: int, logger: logging.Logger = _logger) -> Sample:
    """Take a sample with the log on; it tells how many records a unit of work took besides."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        path = Path(folder, "runs.log")
        with written_to(path, logger):
            sample = take()
        with path.open("rb") as file:
            records = sum(1 for _ in file)
    return {**sample, Measure.RECORDS: records / units}


def add_ours(stage: Stage, take: Callable[[], Sample], *, units: int = 1, name: str = OURS) -> None:
    """Let our own side take part twice, with the log off and with it on."""
    stage.add(name, take)
    stage.add(name + LOGGED, partial(take_logged, take, units))
