"""Log records of the engine, of which each run makes several."""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping

_LOGGED_FROM = (__file__, 0, "emit")


def emit(
    logger: logging.Logger,
    level: int,
    message: str,
    args: tuple[object, ...],
    fields: Mapping[str, object],
) -> None:
    """Log a line, as ``logger.log`` does, for half of what that costs.

    It is not found out from which line of the engine a record comes, which nobody wants to know;
    and what is alike in all records is not made anew for each.

    Args:
        logger: The logger, which is enabled for the level.
        level: The level.
        message: The message.
        args: What is merged into it.
        fields: What the record has besides.
    """
    if logging.getLogRecordFactory() is not logging.LogRecord:  # The user's own.
        path, line, function = _LOGGED_FROM
        record = logger.makeRecord(
            logger.name, level, path, line, message, args, None, function, fields
        )
    else:
        record = logging.LogRecord.__new__(logging.LogRecord)
        values = record.__dict__
        values.update(_alike(logger.name, level))
        created = time.time()
        values["msg"] = message
        values["args"] = args
        values["created"] = created
        values["msecs"] = float(int(created % 1 * 1000))
        values["relativeCreated"] += created * 1000
        thread = threading.current_thread()
        values["thread"] = thread.ident
        values["threadName"] = thread.name
        if "taskName" in values:  # From Python 3.12 on.
            values["taskName"] = _asyncio_task()
        values.update(fields)
    logger.handle(record)


@functools.cache
def _alike(name: str, level: int) -> Mapping[str, object]:
    """Return what all records of a logger and a level have in common, in this process."""
    path, line, function = _LOGGED_FROM
    record = logging.LogRecord(name, level, path, line, "", (), None, function)
    # What is to be added to the time of a record.
    record.relativeCreated -= record.created * 1000
    return vars(record)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_alike.cache_clear)


def _asyncio_task() -> str | None:
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or not getattr(logging, "logAsyncioTasks", True):
        return None
    try:
        task = asyncio.current_task()
    except RuntimeError:  # No loop runs here.
        return None
    return None if task is None else task.get_name()
