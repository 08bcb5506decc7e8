"""What tasks log and print on clusters, as the handlers of the flow's process get it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import anyio
import pytest

from anabranch.flows import flow, get_run_logger, task, task_run, unmapped
from anabranch.futures import TaskRunner
from anabranch.futures.testing import Gate, Ticket
from integration.clusters import CLUSTERS, cluster
from integration.listeners import Listener, listening

pytestmark = pytest.mark.slow

_LIBRARY = logging.getLogger("mylib")

_MANY = 5_000

#: By what records are handed to the handlers of this process.
DELIVERED = {
    "dask": "anabranch.runners.dask._link.deliver_record",
    "ray": "anabranch.runners.ray._origin.deliver_record",
}


@pytest.fixture(scope="module", params=CLUSTERS)
def runner(request: pytest.FixtureRequest) -> Iterator[TaskRunner]:
    """A runner on two workers."""
    with cluster(request.param) as runner:
        yield runner


@pytest.fixture
def heard() -> Iterator[Listener]:
    """What the handlers of this process get, from INFO on."""
    listener = Listener()
    with listening(None, logging.INFO, listener):
        yield listener


class Awkward:
    """What does not travel."""

    def __init__(self, text: str) -> None:
        self.lock = threading.Lock()
        self.text = text

    def __str__(self) -> str:
        return self.text


@task
def speak() -> tuple[str, str]:
    """Log at several levels; return the name and the id of the run."""
    logger = get_run_logger()
    logger.debug("in detail")
    logger.info("counted %d of %s", 3, "them", extra={"part": 7})
    logger.warning("with care")
    return str(task_run.name), str(task_run.id)


@task
def say(text: str) -> str:
    """Log a line; return the name of the run."""
    get_run_logger().info("%s", text)
    return str(task_run.name)


@task
def stumble() -> None:
    """Log an exception."""
    try:
        raise LookupError("nowhere")
    except LookupError:
        get_run_logger().exception("it went on")


@task
def use_library() -> str:
    """Have a library log; return the name of the run."""
    _LIBRARY.debug("deep inside")
    _LIBRARY.info("at work")
    return str(task_run.name)


@task(log_prints=True)
def show(text: str) -> None:
    """Print."""
    print(text, 1, sep="-")


@task(log_prints=True)
async def show_async(text: str) -> None:
    """Print, before and after another task of the loop had its turn."""
    print(text, 1)
    await anyio.lowlevel.checkpoint()
    print(text, 2)


@task
def whisper(text: str) -> None:
    """Print, and leave it to others where that goes."""
    print(text)


@task(log_prints=True)
def show_below() -> None:
    """Print, and have a run below print."""
    print("above")
    whisper.submit("below").result()


@task(timeout=60)
def say_in_time(text: str) -> None:
    """Log a line in the thread of a time limit."""
    get_run_logger().info("%s", text)


@task
def say_below(text: str, depth: int) -> list[str]:
    """Log a line here and in runs below; return the names of the runs."""
    name = say(text + " here")
    if not depth:
        return [name]
    runs = say_below.map([f"{text}{number}" for number in range(2)], unmapped(depth - 1))
    return [name, *(each for names in runs.result() for each in names)]


@task
def fail() -> None:
    """Raise."""
    raise LookupError("below")


@task
def fail_below() -> None:
    """Have runs below fail, and be content."""
    for run in (fail.submit(), fail.submit()):
        run.wait()


@task
def count_up(number: int) -> None:
    """Log many lines."""
    logger = get_run_logger()
    for each in range(number):
        logger.info("%d", each)


@task
def say_awkwardly(fails: bool) -> None:
    """Log what does not travel."""
    awkward, bomb = Awkward("odd"), Awkward("bomb")
    logger = get_run_logger()
    logger.info("saw %s and %r", awkward, [1], extra={"thing": bomb, "things": [awkward.text]})
    _LIBRARY.info("and %(what)s", {"what": awkward})
    if fails:
        raise LookupError("after that")


@task
def wait_and_say(ticket: Ticket, text: str) -> None:
    """Log a line once a gate has been opened."""
    ticket.wait()
    get_run_logger().info("%s", text)


@task
def root_level() -> int:
    """Return from which level on the root logger of this process listens."""
    _LIBRARY.warning("to nobody")
    get_run_logger().critical("to nobody")
    print("to nobody")
    return logging.root.level


def test_records_have_the_names_and_ids_of_their_run(runner: TaskRunner, heard: Listener) -> None:
    """What a task logs on a worker is here as if it had been logged here, with all its fields."""
    flows: list[tuple[str, str]] = []

    @flow(task_runner=runner)
    def body() -> tuple[str, str]:
        get_run_logger().info("the flow's")
        return speak.submit().result()

    name, run_id = body()
    mine = heard.one("the flow's")
    flows = [(vars(mine)["flow_run_name"], vars(mine)["flow_run_id"])]
    record = heard.one("counted 3 of them")
    fields = vars(record)
    assert (record.name, record.levelno) == ("anabranch.task_runs", logging.INFO)
    assert (fields["task_run_name"], fields["task_run_id"]) == (name, run_id)
    assert (fields["flow_run_name"], fields["flow_run_id"]) == flows[0]
    assert (fields["task_name"], fields["part"]) == ("speak", 7)
    assert (record.funcName, record.filename) == ("speak", "test_logs_on_clusters.py")
    assert record.process != mine.process
    assert abs(record.created - time.time()) < 60
    assert heard.one("with care").levelno == logging.WARNING


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.WARNING])
def test_what_nobody_wants_here_does_not_travel(
    runner: TaskRunner, monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    """A record leaves its worker only if the handlers here want its level, now and not before."""
    travelled: list[str] = []
    monkeypatch.setattr(DELIVERED[runner.name], lambda record: travelled.append(str(record["msg"])))

    @flow(task_runner=runner)
    def body() -> list[str]:
        speak.submit().result()
        use_library.submit().result()
        return travelled

    expected = {
        logging.DEBUG: ["in detail", "counted 3 of them", "with care", "deep inside", "at work"],
        logging.INFO: ["counted 3 of them", "with care", "at work"],
        logging.WARNING: ["with care"],
    }
    with listening(None, level, Listener()):
        body()
    assert travelled == expected[level]


def test_nothing_is_sent_when_nobody_listens(
    runner: TaskRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are no handlers here, not even one of last resort, nothing travels at all."""
    travelled: list[object] = []
    monkeypatch.setattr(DELIVERED[runner.name], travelled.append)
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.getLogger("anabranch"), "handlers", [])
    monkeypatch.setattr(logging, "lastResort", None)

    with runner.duplicate() as started:
        started.submit(root_level.function).result()
    assert travelled == []


def test_an_exception_arrives_as_text(runner: TaskRunner, heard: Listener) -> None:
    """The traceback that is logged on a worker is formatted there, and shown by formatters here."""

    @flow(task_runner=runner)
    def body() -> str:
        stumble.submit().result()
        return "done"

    assert body() == "done"
    record = heard.one("it went on")
    assert record.exc_info is None
    shown = logging.Formatter("%(message)s").format(record)
    assert shown.startswith("it went on\nTraceback (most recent call last):\n")
    assert shown.endswith("LookupError: nowhere")


def test_loggers_of_libraries_are_heard(runner: TaskRunner, heard: Listener) -> None:
    """What a library logs inside a task arrives under its own name, with the run's beside it."""

    @flow(task_runner=runner)
    def body() -> str:
        return use_library.submit().result()

    name = body()
    record = heard.one("at work")
    assert (record.name, vars(record)["task_run_name"]) == ("mylib", name)
    assert len(vars(record)["task_run_id"]) == 32
    assert heard.said("mylib") == ["at work"]


def test_what_is_printed_is_logged(runner: TaskRunner, heard: Listener) -> None:
    """Prints of sync and async tasks and of runs below come home, where they are to be logged."""

    @flow(task_runner=runner)
    def body() -> str:
        show.submit("sync").result()
        show_async.submit("async").result()
        show_below.submit().result()
        whisper.submit("not logged").result()
        return "done"

    assert body() == "done"
    printed = [each for each in heard.records if each.name == "anabranch.task_runs"]
    printed.sort(key=lambda record: record.created)  # Those of several workers overtake each other.
    said = [each.getMessage() for each in printed if "Finished" not in each.getMessage()]
    assert said == ["sync-1", "async 1", "async 2", "above", "below"]
    names = [vars(heard.one(each))["task_name"] for each in said]
    assert names == ["show", "show_async", "show_async", "show_below", "whisper"]


def test_a_flow_has_the_prints_of_its_tasks_logged(runner: TaskRunner, heard: Listener) -> None:
    """Tasks that do not say otherwise go by what surrounds them, on workers too."""

    @flow(task_runner=runner, log_prints=True)
    def body() -> str:
        whisper.submit("inherited").result()
        return "done"

    assert body() == "done"
    assert vars(heard.one("inherited"))["task_name"] == "whisper"


def test_runs_below_are_heard_from_whatever_worker(runner: TaskRunner, heard: Listener) -> None:
    """Records of runs at any depth, on all workers, arrive once and under the run's own name."""

    @flow(task_runner=runner)
    def body() -> list[str]:
        return [
            each for names in say_below.map(list("abcd"), unmapped(2)).result() for each in names
        ]

    names = body()
    records = [each for each in heard.records if each.getMessage().endswith(" here")]
    assert len({each.getMessage() for each in records}) == len(records) == 4 * 7
    assert sorted(vars(each)["task_run_name"] for each in records) == sorted(names)
    assert len({each.process for each in records}) >= 2
    assert len({vars(each)["flow_run_name"] for each in records}) == 1


def test_a_run_with_a_time_limit_is_heard(runner: TaskRunner, heard: Listener) -> None:
    """What is logged in the thread of a time limit belongs to the run."""

    @flow(task_runner=runner)
    def body() -> str:
        say_in_time.submit("in time").result()
        return "done"

    assert body() == "done"
    assert vars(heard.one("in time"))["task_name"] == "say_in_time"


@pytest.mark.parametrize("times", range(3))
def test_records_arrive_in_order_before_the_end(
    runner: TaskRunner, heard: Listener, times: int
) -> None:
    """Of thousands of records none is lost or overtaken, and the run's end comes after them."""
    at_the_end: list[int] = []

    @flow(task_runner=runner)
    def body() -> str:
        run = count_up.submit(_MANY)
        run.add_done_callback(lambda _: at_the_end.append(len(numbers())))
        run.result()
        return "done"

    def numbers() -> list[int]:
        said = heard.said("anabranch.task_runs")
        return [int(each) for each in said if each.isdecimal()]

    assert body() == "done"
    assert numbers() == list(range(_MANY))
    assert at_the_end == [_MANY]


def test_records_of_failed_runs_arrive_before_the_end(runner: TaskRunner, heard: Listener) -> None:
    """What a run logs just before it fails is there when its failure is."""

    @flow(task_runner=runner)
    def body() -> str:
        for _ in range(20):
            heard.records.clear()
            run = say_awkwardly.submit(True)
            run.wait()
            assert heard.one("and odd").name == "mylib"
        return "done"

    assert body() == "done"


def test_what_does_not_travel_is_text(runner: TaskRunner, heard: Listener) -> None:
    """Arguments are merged into the message on the worker; fields that are no plain data, shown."""

    @flow(task_runner=runner)
    def body() -> str:
        say_awkwardly.submit(False).result()
        return "done"

    assert body() == "done"
    record = heard.one("saw odd and [1]")
    assert not record.args
    assert (vars(record)["thing"], vars(record)["things"]) == ("bomb", "['odd']")
    assert heard.one("and odd").levelno == logging.INFO


class Raising(Listener):
    """Raises out of its `emit`, as one with a mistake in it does."""

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        message = record.getMessage()
        if message.endswith(" here") or "LookupError" in message or "could not be noted" in message:
            raise RuntimeError("a broken handler")


class Blocking(Listener):
    """Holds back the record of one message until it is let go on."""

    def __init__(self, message: str) -> None:
        super().__init__()
        self.message = message
        self.came = threading.Event()
        self.may_go_on = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == self.message:
            self.came.set()
            self.may_go_on.wait()
        super().emit(record)


def test_a_handler_that_raises_harms_nothing(
    runner: TaskRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither records nor what is told of runs below are lost because of a broken handler here."""
    raising = Raising()

    @flow(task_runner=runner)
    def body() -> None:
        fail_below.submit().result()
        say_below.submit("a", depth=1).result()

    with listening(None, logging.INFO, raising):
        state = body.run()
    # Of each of two the parent and two below it; and what those three call that speak.
    assert state.message == "2/9 states failed."
    said = raising.said("anabranch.task_runs")
    assert sum(each.startswith("Finished in state") for each in said) == 9
    assert sum(each.endswith(" here") for each in said) == 3


def test_a_handler_that_blocks_ends_no_run_wrongly(runner: TaskRunner) -> None:
    """Runs end when a slow handler here is through with what they have logged, and end well."""
    blocking = Blocking("one here")

    @flow(task_runner=runner)
    def body() -> list[str]:
        runs = [say.submit(f"{text} here") for text in ("one", "two", "three")]
        assert blocking.came.wait(20)
        assert not runs[0].done()
        blocking.may_go_on.set()
        return [run.wait().name for run in runs]

    with listening(None, logging.INFO, blocking):
        assert body() == ["Completed"] * 3
    said = blocking.said("anabranch.task_runs")
    assert {"one here", "two here", "three here"} <= set(said)


def test_records_that_come_late_are_no_harm(runner: TaskRunner, heard: Listener) -> None:
    """A run that was given up goes on to log, to nobody, and its worker goes on to others."""

    @flow(task_runner=runner)
    def body() -> str:
        with Gate() as gate:
            left = wait_and_say.with_options(timeout=0.2).submit(gate.ticket, "late")
            gate.await_arrival()
            assert left.wait().name == "TimedOut"
        return say.submit("afterwards").result()

    name = body()
    assert vars(heard.one("afterwards"))["task_run_name"] == name
