"""Log lines about runs, through the standard library's logging."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any, Final, TextIO, final

from anabranch.flows._records import emit
from anabranch.futures import FlowRun, TaskRun
from anabranch.futures.runner import current_scope

engine_logger: Final = logging.getLogger("anabranch.engine")
flow_runs_logger: Final = logging.getLogger("anabranch.flow_runs")
task_runs_logger: Final = logging.getLogger("anabranch.task_runs")

_root: Final = logging.getLogger("anabranch")
_installing: Final = threading.Lock()


def log_flow_run(run: FlowRun, message: str, *args: object, level: int = logging.INFO) -> None:
    """Log a line about a flow run."""
    if flow_runs_logger.isEnabledFor(level):
        emit(flow_runs_logger, level, message, args, _flow_fields(run))


def log_task_run(
    run: TaskRun,
    flow_run: FlowRun | None,
    message: str,
    *args: object,
    level: int = logging.INFO,
) -> None:
    """Log a line about a task run."""
    if task_runs_logger.isEnabledFor(level):
        emit(task_runs_logger, level, message, args, fields_of(run, flow_run))


def log_run(
    run: TaskRun | FlowRun,
    message: str,
    *args: object,
    level: int = logging.ERROR,
    failure: BaseException | None = None,
) -> None:
    """Log a line about a run of either kind, with the traceback of an exception."""
    is_task = isinstance(run, TaskRun)
    logger = task_runs_logger if is_task else flow_runs_logger
    extra = fields_of(run, None) if isinstance(run, TaskRun) else fields_of(None, run)
    logger.log(level, message, *args, exc_info=failure, extra=extra)


def fields_of(task_run: TaskRun | None, flow_run: FlowRun | None) -> dict[str, object]:
    """Return what records about a run carry: its names and ids, and those of its flow run."""
    fields = {} if flow_run is None else dict(_flow_fields(flow_run))
    if task_run is not None:
        name = task_run.name
        fields["run_label"] = f"Task run {name!r}"
        fields["task_run_id"] = task_run.id
        fields["task_run_name"] = name
        fields["task_name"] = task_run.task_name
    return fields


@lru_cache(maxsize=16)  # Of the flow runs that go on; each task run in them asks several times.
def _flow_fields(run: FlowRun) -> Mapping[str, object]:
    """Return what records about a flow run carry."""
    return {
        "run_label": f"Flow run {run.name!r}",
        "flow_run_id": run.id,
        "flow_run_name": run.name,
        "flow_name": run.flow_name,
    }


@final
class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose records carry the names and ids of a run."""

    def process(  # type: ignore[explicit-any]  # As the standard library has it.
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        """Add the run's fields to those that the caller gives."""
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **(self.extra or {})}
        return msg, kwargs


def get_run_logger() -> RunLogger:
    """Return the logger of the run that is calling.

    It always works. In a task it is the logger ``anabranch.task_runs``, and in a flow's own body
    ``anabranch.flow_runs``; each record carries the run's names and ids, beside the ``extra`` that
    it is logged with. Outside any run, as in a unit test, it is the logger ``anabranch``.

    The logger stays that of this run, wherever it is used.
    """
    scope = current_scope.get()
    task_run, flow_run = (None, None) if scope is None else (scope.task_run, scope.flow_run)
    if task_run is not None:
        logger = task_runs_logger
    else:
        logger = _root if flow_run is None else flow_runs_logger
    return RunLogger(logger, fields_of(task_run, flow_run))


class RunFormatter(logging.Formatter):
    """Formats records as ``16:51:17.967 | INFO    | Flow run 'humongous-mink' - message``."""

    def __init__(self) -> None:
        super().__init__(datefmt="%H:%M:%S")
        self._last_second: tuple[int, str] = (0, "")

    def usesTime(self) -> bool:
        """Whether lines show when they were made: yes."""
        return True

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """Return when a record was made, to the second; worked out once for each second."""
        second, text = self._last_second
        if second != int(record.created):
            text = super().formatTime(record, datefmt)
            self._last_second = (int(record.created), text)
        return text

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line; a record that is about no run shows its logger's name."""
        label = getattr(record, "run_label", record.name)
        when = f"{record.asctime}.{int(record.msecs):03d}"
        return f"{when} | {record.levelname:<7} | {label} - {record.message}"


class _StandardErrorHandler(logging.StreamHandler[TextIO]):
    """Writes to whatever standard error is at the time, as it may be redirected."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(RunFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def ensure_console_logging() -> None:
    """Show log lines on standard error, unless somebody has taken charge of logging.

    Called when a flow starts, so that a script shows what it does, and a library that merely
    imports this stays silent. The environment variable ``ANABRANCH_LOGGING=off``, a handler on the
    ``anabranch`` logger or one on the root logger turn it off.
    """
    if _root.handlers or logging.root.handlers:
        return
    with _installing:
        if _root.handlers:  # Of a flow that started at the same time.
            return
        if os.environ.get("ANABRANCH_LOGGING", "").lower() == "off":
            _root.addHandler(logging.NullHandler())
            return
        _root.addHandler(_StandardErrorHandler())
        if _root.level == logging.NOTSET:
            _root.setLevel(logging.INFO)
