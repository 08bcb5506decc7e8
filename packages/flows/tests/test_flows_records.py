"""Tests of the records that the engine logs."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import anyio
import pytest

from anabranch.flows import flow


class Collector(logging.Handler):
    """Keeps the records that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def collector() -> Iterator[Collector]:
    """What the engine logs."""
    handler, logger = Collector(), logging.getLogger("anabranch")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@flow
def nothing() -> None:
    """Do nothing."""


@flow
async def nothing_async() -> None:
    """Do nothing."""


def of_logging(record: logging.LogRecord) -> logging.LogRecord:
    """Return the record that the standard library makes in this thread in place of another."""
    place = (record.pathname, record.lineno, record.msg, record.args, None, record.funcName)
    return logging.LogRecord(record.name, record.levelno, *place)


def test_a_record_has_all_that_those_of_logging_have(collector: Collector) -> None:
    """Records of the engine differ from others in no more than their moment and their runs."""
    before = time.time()
    nothing()
    after = time.time()
    record = collector.records[-1]
    other = vars(of_logging(record))
    fields = {"run_label", "flow_run_id", "flow_run_name", "flow_name"}
    # What formatters leave in a record does not count.
    assert vars(record).keys() - {"message", "asctime"} == other.keys() | fields
    moments = {"created", "msecs", "relativeCreated"}
    for name in other.keys() - moments:
        assert vars(record)[name] == other[name], name
    assert before <= record.created <= after
    assert 0 <= record.msecs < 1_000
    since_start = (record.created - other["created"]) * 1_000 + other["relativeCreated"]
    assert record.relativeCreated == pytest.approx(since_start, abs=1)
    assert record.getMessage().startswith("Finished in state Completed(")


def test_a_record_names_the_task_of_asyncio(collector: Collector) -> None:
    """Where the standard library tells the asyncio task of a record, so does the engine."""
    names: list[object] = []

    async def main() -> None:
        await nothing_async()
        names.append(getattr(of_logging(collector.records[-1]), "taskName", None))

    anyio.run(main)
    assert getattr(collector.records[-1], "taskName", None) == names[0]


def test_the_record_factory_of_the_user_makes_the_records(collector: Collector) -> None:
    """A record factory that somebody has set is asked for the engine's records as well."""

    class Marked(logging.LogRecord):
        """A record of its own kind."""

    factory = logging.getLogRecordFactory()
    logging.setLogRecordFactory(Marked)
    try:
        nothing()
    finally:
        logging.setLogRecordFactory(factory)
    assert {type(record) for record in collector.records} == {Marked}
    assert "run_label" in vars(collector.records[-1])
