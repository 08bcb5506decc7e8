"""Dask's report on its performance, of the time that a runner was started."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import time
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, cast, final

from anabranch.futures import MissingDependencyError
from anabranch.futures.runner import AnyFunction, describe
from anabranch.runners.dask._native import import_sync

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from anabranch.runners.dask._native import Client

_logger = logging.getLogger("anabranch.task_runner.dask")

#: How long the scheduler may take to draw it, and if somebody is in a hurry, in seconds.
_PATIENCE: Final = 60.0
_HURRY: Final = 10.0

#: How many reports there are to be, as the scheduler knows.
_USERS: Final = "anabranch-reports"


class _ReportingScheduler(Protocol):
    def performance_report(
        self, *, start: float, last_count: int, code: str, mode: str | None
    ) -> Awaitable[str]: ...


@final
class PerformanceReport:
    """A report that begins when this is made.

    Args:
        client: The client of the cluster that it is about.
        file: Where to write it.

    Raises:
        MissingDependencyError: The scheduler lacks bokeh, which draws it.
    """

    def __init__(self, client: Client, file: Path) -> None:
        self._client: Final = client
        self._file: Final = file
        self._sync: Final = import_sync()

        async def begin() -> object:
            return await client.run_on_scheduler(_begin)

        begun = self._sync(client.loop, begin, callback_timeout=_PATIENCE)
        if begun is None:
            raise MissingDependencyError(
                "DaskTaskRunner(performance_report_path=...) needs bokeh 3.1 or newer where the "
                f"Dask scheduler runs ({client.scheduler.address}), and it is not installed there: "
                'pip install "anabranch-runners-dask[diagnostics]", or leave out the report'
            )
        self._start, self._count, self._is_counted = cast("tuple[float, int, bool]", begun)

    def write(self, *, in_a_hurry: bool) -> None:
        """Have the report drawn and write it; what goes wrong with that is logged, and no more."""
        try:
            if self._client.status != "running":
                raise ConnectionError("The connection to the Dask scheduler is lost")
            timeout = _HURRY if in_a_hurry else _PATIENCE
            page = self._sync(self._client.loop, self._draw, callback_timeout=timeout)
            self._file.write_text(cast("str", page), encoding="utf-8")
        except Exception as error:  # Whatever it is, the runs have ended as they have.
            _logger.warning(
                "The performance report could not be written to %s: %s",
                self._file,
                describe(error),
            )
        else:
            _logger.info("The performance report was written to %s", self._file)

    async def _draw(self) -> str:
        scheduler = cast("_ReportingScheduler", self._client.scheduler)
        try:
            return await scheduler.performance_report(
                start=self._start,
                last_count=self._count,
                code="# Runs of a DaskTaskRunner",
                mode=None,
            )
        finally:
            if self._is_counted:
                await self._client.run_on_scheduler(_leave)


class _Monitor(Protocol):
    count: int


class _Scheduler(Protocol):
    monitor: _Monitor
    plugins: Mapping[str, object]
    task_metadata: MutableMapping[str, int]

    def add_plugin(self, plugin: object) -> None: ...

    def remove_plugin(self, name: str) -> None: ...


class _TaskStreamPlugin(Protocol):
    name: str


def _begin(dask_scheduler: _Scheduler) -> tuple[float, int, bool] | None:
    """Begin to note what the report will show; None if there is nothing to draw it with."""
    if not _has_bokeh():
        return None
    make, name = _plugin()
    notes = dask_scheduler.task_metadata
    if name not in dask_scheduler.plugins:
        dask_scheduler.add_plugin(make(dask_scheduler))
        notes[_USERS] = 0
    is_counted = _USERS in notes
    if is_counted:
        notes[_USERS] += 1
    return time.time(), dask_scheduler.monitor.count, is_counted


def _leave(dask_scheduler: _Scheduler) -> None:
    """Take away what `_begin` has added, if no other report needs it."""
    notes = dask_scheduler.task_metadata
    left = notes.pop(_USERS, 1) - 1  # A restart of the scheduler forgets it.
    if left:
        notes[_USERS] = left
    else:
        dask_scheduler.remove_plugin(_plugin()[1])


def _plugin() -> tuple[AnyFunction[object], str]:
    module = importlib.import_module("distributed.diagnostics.task_stream")
    plugin = module.TaskStreamPlugin
    return cast("AnyFunction[object]", plugin), cast("_TaskStreamPlugin", plugin).name


def _has_bokeh() -> bool:
    return importlib.util.find_spec("bokeh") is not None
