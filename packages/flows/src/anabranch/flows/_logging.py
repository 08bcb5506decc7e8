"""Log lines about runs, through the standard library's logging."""

from __future__ import annotations

import logging
import os
import sys
from typing import Final, TextIO

from anabranch.futures import FlowRun, TaskRun

engine_logger: Final = logging.getLogger("anabranch.engine")
flow_runs_logger: Final = logging.getLogger("anabranch.flow_runs")
task_runs_logger: Final = logging.getLogger("anabranch.task_runs")

_root: Final = logging.getLogger("anabranch")


def log_flow_run(run: FlowRun, message: str, *args: object, level: int = logging.INFO) -> None:
    """Log a line about a flow run."""
    if flow_runs_logger.isEnabledFor(level):
        extra = {"run_label": f"Flow run {run.name!r}", **_flow_fields(run)}
        flow_runs_logger.log(level, message, *args, extra=extra)


def log_task_run(
    run: TaskRun,
    flow_run: FlowRun | None,
    message: str,
    *args: object,
    level: int = logging.INFO,
) -> None:
    """Log a line about a task run."""
    if task_runs_logger.isEnabledFor(level):
        extra: dict[str, object] = {
            "run_label": f"Task run {run.name!r}",
            "task_run_id": run.id,
            "task_run_name": run.name,
            "task_name": run.task_name,
        }
        if flow_run is not None:
            extra |= _flow_fields(flow_run)
        task_runs_logger.log(level, message, *args, extra=extra)


def _flow_fields(run: FlowRun) -> dict[str, object]:
    return {"flow_run_id": run.id, "flow_run_name": run.name, "flow_name": run.flow_name}


class RunFormatter(logging.Formatter):
    """Formats records as ``16:51:17.967 | INFO    | Flow run 'humongous-mink' - message``."""

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s.%(msecs)03d | %(levelname)-7s | %(run_label)s - %(message)s",
            datefmt="%H:%M:%S",
        )

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a record that is about no run shows its logger's name."""
        if not hasattr(record, "run_label"):
            record.run_label = record.name
        return super().format(record)


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
    if os.environ.get("ANABRANCH_LOGGING", "").lower() == "off":
        _root.addHandler(logging.NullHandler())
        return
    _root.addHandler(_StandardErrorHandler())
    if _root.level == logging.NOTSET:
        _root.setLevel(logging.INFO)
