"""Word between workers and this process: in order, before the end, and whatever becomes of it."""

from __future__ import annotations

import logging
import os
import pickle
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
import ray

from anabranch.futures import Cancellation, Cancelled, Crashed, Running
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.ray import RayTaskRunner
from anabranch.runners.ray._connection import Connection

pytestmark = pytest.mark.slow

_LOGGER = logging.getLogger("some.library")


@pytest.fixture(scope="module")
def runner() -> Iterator[RayTaskRunner]:
    """A started runner on two CPUs."""
    with RayTaskRunner(init_kwargs={"num_cpus": 2}) as runner:
        yield runner


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that is opened when the test is over."""
    with Gate() as gate:
        yield gate


class Arrivals(logging.Handler):
    """Keeps the messages that come, and tells of them."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.came = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self.came:
            self.messages.append(record.getMessage())
            self.came.notify_all()

    def wait_for(self, message: str) -> None:
        """Wait until a message has come."""
        with self.came:
            assert self.came.wait_for(lambda: message in self.messages, 30)


@pytest.fixture
def arrivals() -> Iterator[Arrivals]:
    """What a library's logger here gets."""
    arrivals = Arrivals()
    _LOGGER.addHandler(arrivals)
    logging.root.addHandler(arrivals)
    level = logging.root.level
    logging.root.setLevel(logging.INFO)
    _LOGGER.propagate = False
    yield arrivals
    _LOGGER.propagate = True
    logging.root.setLevel(level)
    logging.root.removeHandler(arrivals)
    _LOGGER.removeHandler(arrivals)


def connection_of(runner: RayTaskRunner) -> Connection:
    """Return what a started runner uses."""
    assert runner._connection is not None
    return runner._connection


def say(message: str) -> None:
    """Log a line."""
    _LOGGER.info("%s", message)


def say_and_wait(ticket: Ticket, *messages: str) -> None:
    """Log a line, wait at a gate, and log another."""
    first, *rest = messages
    _LOGGER.info("%s", first)
    ticket.wait()
    for each in rest:
        _LOGGER.info("%s", each)


def say_and_die(ticket: Ticket) -> None:
    """Log a line, and lose this process once that has come home."""
    _LOGGER.info("last words")
    ticket.wait()
    os._exit(1)


def wait_at(ticket: Ticket) -> int:
    """Wait at a gate."""
    ticket.wait()
    return 1


def test_records_come_while_a_run_goes_on(
    runner: RayTaskRunner, gate: Gate, arrivals: Arrivals
) -> None:
    """What a run logs is here while it goes on; what it logs at its end, before that."""
    at_the_end: list[str] = []
    run = runner.submit(say_and_wait, gate.ticket, "first", "second", "third")
    run.add_done_callback(lambda _: at_the_end.extend(arrivals.messages))
    arrivals.wait_for("first")
    gate.await_arrival()
    assert arrivals.messages == ["first"]
    gate.open()
    run.result()
    assert at_the_end == ["first", "second", "third"]


def test_records_of_short_runs_come_with_their_ends(
    runner: RayTaskRunner, arrivals: Arrivals
) -> None:
    """What short runs log is here before they end, in order."""
    for number in range(20):
        runner.submit(say, str(number)).result()
    assert arrivals.messages == [str(number) for number in range(20)]


def test_more_than_comes_with_an_end_is_sent_before(
    runner: RayTaskRunner, arrivals: Arrivals
) -> None:
    """Long records of a short run are here before it ends, too."""
    runner.submit(say, "x" * 1_000_000).result()
    assert [len(each) for each in arrivals.messages] == [1_000_000]


def test_what_a_lost_run_has_said_comes_before_its_end(
    runner: RayTaskRunner, gate: Gate, arrivals: Arrivals
) -> None:
    """What a run has logged whose process is lost is not lost with it."""
    run = runner.submit(say_and_die, gate.ticket)
    arrivals.wait_for("last words")
    gate.open()
    assert isinstance(run.wait(), Crashed)


def test_fences_come_after_all_that_was_posted(
    runner: RayTaskRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is to come after all that was posted does."""
    connection = connection_of(runner)
    native: Any = connection._relay
    came: list[object] = []
    monkeypatch.setattr(connection.inbox, "_read", lambda posted: came.append(pickle.loads(posted)))
    for number in range(20):
        ray.get(native.post.remote(pickle.dumps([number])))
        over = threading.Event()
        connection.inbox.after_all(over.set)
        assert over.wait(30)
        assert came[-1] == [number]


def test_runs_outlive_the_relay(runner: RayTaskRunner, gate: Gate, arrivals: Arrivals) -> None:
    """When the relay is lost Ray makes it anew: runs end, are heard and can be stopped as ever."""
    others = Gate()
    with others:
        left = runner.submit(wait_at, others.ticket)
        others.await_arrival()
        run = runner.submit(say_and_wait, gate.ticket, "before", "after")
        arrivals.wait_for("before")
        gate.await_arrival()
        ray.kill(cast("Any", connection_of(runner)._relay), no_restart=False)
        gate.open()
        run.result()
        assert left.cancel() is Cancellation.WILL_STOP
        assert isinstance(left.wait(), Cancelled)
    runner.submit(say, "later").result()
    assert arrivals.messages[-1] == "later"


def test_an_instance_is_left_without_a_relay(runner: RayTaskRunner) -> None:
    """A runner that is left takes its relay along, and nothing of its own stays in Ray."""
    name = connection_of(runner).relay_name
    names = ray.util.list_named_actors(all_namespaces=True)
    assert [each["name"] for each in names] == [name]
    assert runner.submit(pow, 2, 3).result() == 8


def test_a_run_is_seen_to_be_running(runner: RayTaskRunner, gate: Gate) -> None:
    """A run that goes on is Running here, since when it began there."""
    run = runner.submit(wait_at, gate.ticket)
    came = threading.Event()
    gate.await_arrival()
    while not isinstance(run.state, Running):
        came.wait(0.01)
    before = run.state.timestamp
    gate.open()
    run.result()
    assert [each.name for each in run.history] == ["Pending", "Running", "Completed"]
    assert run.history[1].timestamp == before
