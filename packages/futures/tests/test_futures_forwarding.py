"""Log records of runs elsewhere: what is taken, in which form it travels, and who gets it."""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Iterator

import pytest

from anabranch.futures.runner import (
    LogLevels,
    LogSink,
    PackedRecord,
    deliver_record,
    forwarded_logs,
)

ALL = LogLevels(logging.INFO, logging.INFO)


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Iterator[None]:
    """Take everything back that is set in a process in which runs execute."""
    ours, root = logging.getLogger("anabranch"), logging.root
    handlers, levels = list(root.handlers), (ours.level, root.level)
    yield
    root.handlers[:] = handlers
    ours.setLevel(levels[0])
    root.setLevel(levels[1])


def clear_logging() -> None:
    """Have nobody have set up logging, as in a worker process; pytest does so for each test."""
    logging.root.handlers.clear()
    logging.root.setLevel(logging.WARNING)
    logging.getLogger("anabranch").setLevel(logging.NOTSET)


def sink_into(records: list[PackedRecord], levels: LogLevels = ALL) -> LogSink:
    """Return a sink that keeps what comes."""
    return LogSink(levels, records.append, "a" * 32, "add-811087cd-0")


def test_records_of_a_run_are_taken() -> None:
    """They are taken from any logger, with the run's name, and only where they are of the run."""
    clear_logging()
    records: list[PackedRecord] = []
    with forwarded_logs(sink_into(records)):
        logging.getLogger("anabranch.task_runs").info("one %s", "word")
        logging.getLogger("of_a_library").info("another", extra={"size": 7})
    logging.getLogger("anabranch.task_runs").info("outside")
    assert [each["msg"] for each in records] == ["one word", "another"]
    assert [each["task_run_name"] for each in records] == ["add-811087cd-0"] * 2
    assert records[1]["size"] == 7


def test_records_below_the_level_are_not_taken() -> None:
    """What nobody would see at home does not travel, and levels differ from run to run."""
    clear_logging()
    quiet: list[PackedRecord] = []
    loud: list[PackedRecord] = []
    logger, other = logging.getLogger("anabranch.task_runs"), logging.getLogger("of_a_library")
    with forwarded_logs(sink_into(loud, LogLevels(logging.DEBUG, logging.DEBUG))):
        logger.debug("1")
        other.debug("2")
    with forwarded_logs(sink_into(quiet, LogLevels(logging.WARNING, logging.ERROR))):
        logger.info("3")
        logger.warning("4")
        other.warning("5")
        other.error("6")
    assert [each["msg"] for each in loud] == ["1", "2"]
    assert [each["msg"] for each in quiet] == ["4", "6"]


def test_a_level_that_somebody_has_set_stays() -> None:
    """Where the process has handlers of its own, the root logger keeps its level."""
    clear_logging()
    handler = logging.NullHandler()
    logging.root.addHandler(handler)
    records: list[PackedRecord] = []
    with forwarded_logs(sink_into(records)):
        logging.getLogger("of_a_library").info("not asked for here")
        logging.getLogger("of_a_library").warning("asked for")
    assert [each["msg"] for each in records] == ["asked for"]
    assert logging.root.level == logging.WARNING


def test_other_records_go_where_they_would_go(capsys: pytest.CaptureFixture[str]) -> None:
    """What is logged outside runs is printed as without the forwarding: warnings, and no more."""
    clear_logging()
    with forwarded_logs(sink_into([])):
        pass
    logging.getLogger("of_a_library").info("in passing")
    logging.getLogger("of_a_library").warning("to be seen")
    assert capsys.readouterr().err == "to be seen\n"


def test_a_sink_that_fails_harms_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A record that cannot be sent is reported as logging does, and the run goes on."""
    clear_logging()

    def send(record: PackedRecord) -> None:
        logging.getLogger("of_the_sink").warning("it logs itself")
        raise OSError("gone")

    with forwarded_logs(LogSink(ALL, send, "a" * 32, "add-0")):
        logging.getLogger("anabranch.task_runs").info("lost")
    assert "OSError: gone" in capsys.readouterr().err


def test_a_record_travels_whatever_is_in_it() -> None:
    """Exceptions come as text, and so does what cannot be pickled."""
    clear_logging()
    records: list[PackedRecord] = []
    with forwarded_logs(sink_into(records)):
        try:
            raise LookupError("no")
        except LookupError:
            logging.getLogger("anabranch").exception("it failed", extra={"lock": threading.Lock()})
    (record,) = pickle.loads(pickle.dumps(records))
    assert "LookupError: no" in record["exc_text"]
    assert "lock" in record["lock"]
    assert record["exc_info"] is None


def test_a_record_is_handled_at_home(caplog: pytest.LogCaptureFixture) -> None:
    """The handlers here get it as it was logged; a level that is set here is kept to."""
    records: list[PackedRecord] = []
    with forwarded_logs(sink_into(records, LogLevels(0, 0))):
        logging.getLogger("anabranch.task_runs").info("100 %")
        logging.getLogger("anabranch.task_runs").debug("in detail")
    caplog.clear()
    with caplog.at_level(logging.INFO, "anabranch"):
        for record in records:
            deliver_record(record)
    assert [each.getMessage() for each in caplog.records] == ["100 %"]
    assert caplog.records[0].created == records[0]["created"]


def test_a_process_knows_which_levels_it_wants() -> None:
    """Without handlers it is what the handler of last resort shows; with them, what they want."""
    clear_logging()
    assert LogLevels.of_this_process() == LogLevels(logging.WARNING, logging.WARNING)
    logging.root.addHandler(logging.NullHandler())
    logging.root.setLevel(logging.DEBUG)
    logging.getLogger("anabranch").setLevel(logging.ERROR)
    assert LogLevels.of_this_process() == LogLevels(logging.ERROR, logging.DEBUG)
