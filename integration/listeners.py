"""Handlers for logs that tests look at."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class Listener(logging.Handler):
    """Keeps the records that reach it."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def said(self, logger: str) -> list[str]:
        """Return the messages of one logger."""
        return [each.getMessage() for each in self.records if each.name == logger]

    def one(self, message: str) -> logging.LogRecord:
        """Return the only record with a message."""
        (found,) = [each for each in self.records if each.getMessage() == message]
        return found


@contextmanager
def listening(name: str | None, level: int, handler: logging.Handler) -> Iterator[None]:
    """Have a handler at a logger, which has a level, for as long as the context lasts."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
