"""Log records of runs in other processes, as the handlers of the submitter's process get them.

In a worker process one handler at the root takes the records that a run logs to the run's
`LogSink`. At home `deliver_record` hands them to the handlers that are there.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, TypeAlias, final

import attrs

_ours: Final = logging.getLogger("anabranch")

#: Above all levels that there are.
_NOTHING: Final = 1_000

#: A log record, taken apart: names, texts and numbers.
PackedRecord: TypeAlias = Mapping[str, object]

_SIMPLE: Final = (str, int, float, bool, type(None))


@final
@attrs.frozen
class LogLevels:
    """From which levels on a process wants to hear what runs elsewhere log.

    Attributes:
        ours: For the loggers of tasks and flows, below ``anabranch``.
        others: For all other loggers.
    """

    ours: int
    others: int

    @classmethod
    def of_this_process(cls) -> LogLevels:
        """Return what the handlers that are there want."""
        # Without handlers there is one of last resort.
        last = _NOTHING if logging.lastResort is None else logging.lastResort.level
        ours = _ours.getEffectiveLevel() if _ours.hasHandlers() else last
        others = logging.root.level if logging.root.handlers else last
        return cls(ours, others)


@final
@attrs.frozen(eq=False)
class LogSink:
    """Where the records go that a run logs.

    Attributes:
        levels: Those below are dropped.
        send: Takes a packed record home.
        run_id: The run's id.
        run_name: Its name.
    """

    levels: LogLevels
    send: Callable[[PackedRecord], object]
    run_id: str
    run_name: str

    def wants(self, record: logging.LogRecord) -> bool:
        """Whether a record is to go there."""
        is_ours = record.name == _ours.name or record.name.startswith(f"{_ours.name}.")
        return record.levelno >= (self.levels.ours if is_ours else self.levels.others)


_sink: ContextVar[LogSink | None] = ContextVar("log_sink", default=None)
_formatter: Final = logging.Formatter()


@final
class _Forwarder(logging.Handler):
    """Takes the records of runs home; others go where they would go without it."""

    def emit(self, record: logging.LogRecord) -> None:
        sink = _sink.get()
        if sink is None:
            last = logging.lastResort
            if last is not None and record.levelno >= last.level and self._is_alone(record.name):
                last.handle(record)
            return
        if sink.wants(record):
            token = _sink.set(None)  # What sending logs is not of the run.
            try:
                sink.send(pack_record(record, sink))
            except Exception:  # The record is lost, and the run goes on.
                self.handleError(record)
            finally:
                _sink.reset(token)

    def _is_alone(self, name: str) -> bool:
        """Whether no other handler gets the records of a logger."""
        logger: logging.Logger | None = logging.getLogger(name)
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return False
            logger = logger.parent if logger.propagate else None
        return True


_installing: Final = threading.Lock()
_forwarder: Final = _Forwarder()


@contextmanager
def forwarded_logs(sink: LogSink) -> Generator[None]:
    """Have what is logged in a block go to a sink, and not be dropped for its level before that."""
    _install(sink.levels)
    token = _sink.set(sink)
    try:
        yield
    finally:
        _sink.reset(token)


def _install(levels: LogLevels) -> None:
    with _installing:
        root = logging.root
        # Else somebody has decided on its level.
        if root.handlers in ([], [_forwarder]) and root.level > levels.others:
            root.setLevel(levels.others)
        if _forwarder not in root.handlers:
            root.addHandler(_forwarder)
        level = max(1, levels.ours)  # 0 would mean that of the root.
        if not _ours.isEnabledFor(level):
            _ours.setLevel(level)


def pack_record(record: logging.LogRecord, sink: LogSink) -> PackedRecord:
    """Return a record in a form that always travels.

    Args:
        record: The record.
        sink: Of the run that has logged it.
    """
    fields = dict(vars(record))
    fields["msg"] = record.getMessage()
    fields["args"] = None
    if record.exc_info and not record.exc_text:
        fields["exc_text"] = _formatter.formatException(record.exc_info)
    fields["exc_info"] = None
    fields.setdefault("task_run_id", sink.run_id)
    fields.setdefault("task_run_name", sink.run_name)
    return {name: value if type(value) in _SIMPLE else str(value) for name, value in fields.items()}


def deliver_record(packed: PackedRecord) -> None:
    """Hand a record from another process to the handlers of this one, as if logged here."""
    record = logging.makeLogRecord(dict(packed))
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        try:
            logger.handle(record)
        except Exception:  # Whoever has logged it is not here to hear of a broken handler.
            _forwarder.handleError(record)
