"""What Dask logs that runs report themselves, and how it is kept from the terminal."""

from __future__ import annotations

import asyncio
import importlib
import logging
import re
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Final, cast

_DEAD_WORKERS: Final = (
    "Task %s marked as failed",
    "Restarting worker",
    "Worker process still alive after",
    "Closed comm",
)


#: How the warning begins.
_MISMATCH: Final = "Mismatched versions found"


class _FailedRuns(logging.Filter):
    """Drops what a worker logs of runs that failed, or were given up."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = str(record.msg)
        if message.startswith("Compute Failed"):
            args = record.args if isinstance(record.args, tuple) else ()
            return not any(str(arg).startswith("RemoteFailure(") for arg in args)
        return not message.startswith("Async instruction for")


class _DeadWorkers(logging.Filter):
    """Drops what is logged of a dead worker: the runs that it took with it tell of that."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(_DEAD_WORKERS)


class _GivenUp(logging.Filter):
    """Drops what a client logs of a connection attempt that is not wanted any more."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


@lru_cache(maxsize=1)
def mute_failed_runs() -> None:
    """Keep the workers in this process from printing what clients report."""
    for name in ("distributed.worker", "distributed.worker.state_machine"):
        logging.getLogger(name).addFilter(_FailedRuns())


@contextmanager
def quiet_about_dead_workers() -> Generator[None]:
    """Keep the schedulers and nannies in this process from printing what runs report."""
    with _filtered(_DeadWorkers(), "distributed.scheduler", "distributed.nanny"):
        yield


@contextmanager
def quiet_about_giving_up() -> Generator[None]:
    """Keep a client that is being closed from printing that it was."""
    with _filtered(_GivenUp(), "distributed.client"):
        yield


@contextmanager
def quiet_about_versions() -> Generator[None]:
    """Keep a client that connects from warning of other versions, which the runner does itself.

    `warnings.catch_warnings` would take back what other threads do about warnings meanwhile.
    """
    module = importlib.import_module("distributed.versions")
    category = cast("type[Warning]", module.VersionMismatchWarning)
    warnings.filterwarnings("ignore", message=_MISMATCH, category=category)
    ours = ("ignore", re.compile(_MISMATCH, re.IGNORECASE), category, None, 0)
    try:
        yield
    finally:
        with suppress(ValueError):  # Somebody else has taken all of them away.
            cast("list[object]", warnings.filters).remove(ours)


@contextmanager
def _filtered(dropped: logging.Filter, *names: str) -> Generator[None]:
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addFilter(dropped)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(dropped)
