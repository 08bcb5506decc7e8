"""Short runs that go to Ray together: each ends as if it had gone alone."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest
import ray

from anabranch.futures import Cancellation, Cancelled, Completed, Crashed, Failed, Future, lift
from anabranch.futures.runner import current_scope
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.ray import RayTaskRunner, _batch, _lines
from anabranch.runners.ray._lines import Line, Waiting
from anabranch.runners.ray._link import Link
from anabranch.runners.ray._native import Exported

pytestmark = pytest.mark.slow

#: How many of Ray's tasks keep both CPUs busy.
FILLING = 4


@pytest.fixture(scope="module")
def instance() -> Iterator[RayTaskRunner]:
    """A runner that keeps an instance with two CPUs going, for those of the tests."""
    with RayTaskRunner(init_kwargs={"num_cpus": 2}) as runner:
        yield runner


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A file in which each execution is noted."""
    path = tmp_path / "notes"
    path.touch()
    return path


def do(what: str, notes: str = "", port: int = 0) -> str:
    """Note what is done, do it, and return the id of the task of Ray's that it is a part of."""
    if notes:
        with Path(notes).open("a") as file:
            file.write(f"{what}\n")
    match what.split()[0]:
        case "fail":
            raise LookupError(what)
        case "log":
            logging.getLogger("anabranch.test").warning("%s", what)
        case "wait":
            Ticket(port).wait()
        case "exit":
            os._exit(1)
        case "die":
            Ticket(port).wait()
            os._exit(1)
        case "large":
            return "x" * 1_000
        case "lock":
            return cast("str", threading.Lock())
        case "submit":
            scope = current_scope.get()
            assert scope is not None
            assert scope.runner is not None
            return scope.runner.submit(do, "child", notes).result()
        case _:
            pass
    return str(ray.get_runtime_context().get_task_id())


def hold(ticket: Ticket) -> None:
    """Hold a CPU until the gate is opened."""
    ticket.wait()


def length(text: str) -> int:
    """Return the length of a text."""
    return len(text)


def noted(notes: Path) -> Counter[str]:
    """Return how often each thing was done."""
    return Counter(notes.read_text().splitlines())


def line_of(runner: RayTaskRunner) -> Line:
    """Return the line of `do`, once that is known to be short."""
    while True:
        runner.submit(do, "warm up").result()
        session = runner._session
        assert session is not None
        exported, _ = session._functions.get(do, "do")
        line = session._lines[exported]
        if line._is_short:
            return line


class Stage:
    """A runner whose CPUs are held, so that runs of `do` wait for others to end.

    Args:
        runner: The runner.
        notes: Where executions are noted.
    """

    def __init__(self, runner: RayTaskRunner, notes: Path) -> None:
        self.runner = runner
        self.notes = notes
        self.line = line_of(runner)
        self.gate = Gate()
        self._held: list[Future[None]] = []

    def submit(self, *things: str, port: int = 0) -> list[Future[str]]:
        """Hold the CPUs, and submit runs that wait for them."""
        for _ in range(2):
            self._held.append(self.runner.submit(hold, self.gate.ticket))
            self.gate.await_arrival()
        for _ in range(FILLING):
            self.runner.submit(do, "fill")
        futures = [self.runner.submit(do, what, str(self.notes), port) for what in things]
        assert len(self.line._outbox) == len(things)
        return futures

    def send(self) -> None:
        """Have what waits sent to Ray, in one batch, where it waits for a CPU."""
        self.line._send_overdue(1)
        assert not self.line._outbox

    def run(self) -> None:
        """Have what waits sent, together if it may be, and let go of the CPUs."""
        if 0 < len(self.line._outbox) <= _lines._MAX_RUNS:
            self.send()
        self.gate.open()


@pytest.fixture
def stage(instance: RayTaskRunner, notes: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A stage on which only ends have others sent, however long they take."""
    del instance
    monkeypatch.setattr(_lines, "_PATIENCE", 1_000.0)
    monkeypatch.setattr(_lines, "_MAX_SECONDS", 1_000.0)  # As many as may, on slow machines too.
    with RayTaskRunner() as runner:
        stage = Stage(runner, notes)
        try:
            yield stage
        finally:
            stage.run()


def states(futures: Sequence[Future[str]]) -> str:
    """Return the first letters of how runs have ended; two for those that begin alike."""
    return " ".join(future.wait().name[:2] for future in futures)


def journals() -> set[Path]:
    """Return the journals that lie about."""
    return set(Path(tempfile.gettempdir()).glob("anabranch-ray-*"))


# ---------------------------------------------------------------------------- together


def test_short_runs_go_together(stage: Stage) -> None:
    """Runs that have waited for others are one task to Ray, and are executed in their order."""
    futures = stage.submit(*(f"do {number}" for number in range(12)))
    stage.run()
    assert len({future.result() for future in futures}) == 1
    assert list(noted(stage.notes)) == [f"do {number}" for number in range(12)]
    assert [state.name for state in futures[7].history] == ["Pending", "Running", "Completed"]
    assert not journals()


def test_at_most_so_many_runs_go_together(stage: Stage) -> None:
    """No batch is larger than it may be, however many runs wait."""
    futures = stage.submit(*(f"do {number}" for number in range(40)))
    stage.run()
    together = Counter(future.result() for future in futures)
    assert max(together.values()) <= _lines._MAX_RUNS
    assert len(together) < 10


def test_a_failure_is_that_of_its_run_alone(stage: Stage) -> None:
    """A run that fails in a batch does not keep those after it from being executed."""
    futures = stage.submit("do 1", "fail 2", "do 3")
    stage.run()
    assert states(futures) == "Co Fa Co"
    with pytest.raises(LookupError, match="fail 2") as caught:
        futures[1].result()
    assert "in do" in caught.value.__notes__[0]
    assert futures[0].result() == futures[2].result()


def test_logs_of_a_batch_come_before_the_ends_of_its_runs(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """What each run logs has been logged here when its future is done."""
    futures = stage.submit("log 1", "log 2", "log 3")
    stage.run()
    for number, future in enumerate(futures, start=1):
        future.result()
        assert f"log {number}" in caplog.messages
    assert [each for each in caplog.messages if each.startswith("log")] == [
        "log 1",
        "log 2",
        "log 3",
    ]


def test_runs_of_a_batch_submit_others(stage: Stage) -> None:
    """A run in a batch may submit another and wait for it."""
    futures = stage.submit("submit 1", "do 2", "submit 3")
    stage.run()
    assert states(futures) == "Co Co Co"
    assert noted(stage.notes)["child"] == 2


def test_dependants_of_a_batch_get_its_values(stage: Stage) -> None:
    """What depends on a run in a batch gets its value, and fails if that fails."""
    futures = stage.submit("do 1", "fail 2")
    lengths = [stage.runner.submit(length, lift(future)) for future in futures]
    stage.run()
    assert lengths[0].result() == len(futures[0].result())
    assert lengths[1].wait().name == "UpstreamFailed"


def test_a_large_value_of_a_batch_stays_in_ray(stage: Stage) -> None:
    """It ends its batch, is not brought over for a dependant, and no run of it goes with others."""
    futures = stage.submit("do 1", "large 2", "do 3", "do 4")
    stage.run()
    assert states(futures) == "Co Co Co Co"
    assert stage.runner.submit(length, lift(futures[1])).result() == 1_000
    state = futures[1].state
    assert isinstance(state, Completed)
    assert not state.is_local
    assert futures[1].result() == "x" * 1_000
    assert stage.line._is_closed
    assert len({futures[index].result() for index in (0, 2, 3)}) == 3
    assert set(noted(stage.notes).values()) == {1}


def test_a_value_that_cannot_be_stored_fails_its_run_alone(stage: Stage) -> None:
    """The others of the batch have their values."""
    futures = stage.submit("do 1", "lock 2", "do 3")
    stage.run()
    assert states(futures) == "Co Fa Co"
    state = futures[1].state
    assert isinstance(state, Failed)
    assert "could not store the value that run 'do-" in state.exception.__notes__[0]
    assert set(noted(stage.notes).values()) == {1}


# ---------------------------------------------------------------------------- cancelling


def test_a_run_that_waits_is_cancelled_at_once(stage: Stage) -> None:
    """A run that has not been sent is over at once, and never executed."""
    futures = stage.submit("do 1", "do 2", "do 3")
    assert futures[1].cancel() is Cancellation.CANCELLED
    assert futures[1].done()
    stage.run()
    assert states(futures) == "Co Ca Co"
    assert noted(stage.notes) == {"do 1": 1, "do 3": 1}


def test_a_run_in_a_queued_batch_is_cancelled_alone(stage: Stage) -> None:
    """Cancelled while its batch waits for a CPU, a run is never executed; the others are, once."""
    futures = stage.submit("do 1", "do 2", "do 3", "do 4")
    stage.send()
    assert futures[1].cancel() is Cancellation.WILL_STOP
    assert isinstance(futures[1].wait(10), Cancelled)
    stage.run()
    assert states(futures) == "Co Ca Co Co"
    assert noted(stage.notes) == {"do 1": 1, "do 3": 1, "do 4": 1}


def test_a_run_in_a_batch_that_has_begun_is_cancelled_alone(stage: Stage) -> None:
    """Cancelled while its batch is at another run, a run is never executed."""
    with Gate() as gate:
        futures = stage.submit("do 1", "wait 2", "do 3", "do 4", port=gate.ticket.port)
        stage.run()
        gate.await_arrival()
        futures[2].cancel()
        gate.open()
        assert states(futures) in ("Co Co Ca Co", "Co Co Co Co")
    counts = noted(stage.notes)
    assert set(counts.values()) == {1}
    assert ("do 3" in counts) == isinstance(futures[2].state, Completed)


def test_the_run_that_a_batch_is_at_is_stopped_alone(stage: Stage) -> None:
    """A run is interrupted where it is, and the others are none the worse for it."""
    with Gate() as gate:
        futures = stage.submit("do 1", "wait 2", "do 3", port=gate.ticket.port)
        stage.run()
        gate.await_arrival()
        futures[1].cancel()
        assert states(futures) == "Co Ca Co"
    assert noted(stage.notes) == {"do 1": 1, "wait 2": 1, "do 3": 1}


def test_a_run_that_is_ended_here_leaves_the_others_alone(stage: Stage) -> None:
    """A run that someone has ended is taken out of its batch."""
    futures = stage.submit("do 1", "do 2", "do 3")
    stage.send()
    futures[1].set_final(Cancelled(message="ended here"))
    stage.run()
    assert states(futures) == "Co Ca Co"
    assert noted(stage.notes) == {"do 1": 1, "do 3": 1}


def test_leaving_the_runner_by_an_exception_drops_batches(
    instance: RayTaskRunner, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits, here or in Ray's queue, is cancelled and never executed."""
    del instance
    monkeypatch.setattr(_lines, "_PATIENCE", 1_000.0)
    futures: list[Future[str]] = []
    stages: list[Stage] = []

    def leave() -> None:
        with RayTaskRunner() as hurried:
            stages.append(stage := Stage(hurried, notes))
            futures.extend(stage.submit("do 1", "do 2"))
            stage.send()
            futures.extend(hurried.submit(do, what, str(notes)) for what in ("do 3", "do 4"))
            raise KeyError("the body's own")

    with pytest.raises(KeyError, match="the body's own"):
        leave()
    stages[0].run()
    assert states(futures) == "Ca Ca Ca Ca"
    assert not noted(notes)


# ---------------------------------------------------------------------------- surprises


def test_runs_behind_one_that_goes_on_are_executed_elsewhere(stage: Stage) -> None:
    """When a run of a batch turns out to be long, those behind it do not wait for it."""
    with Gate() as gate:
        futures = stage.submit("do 1", "wait 2", "do 3", "do 4", port=gate.ticket.port)
        stage.run()
        gate.await_arrival()
        assert states(futures[2:]) == "Co Co"
        assert not futures[1].done()
        gate.open()
        assert states(futures) == "Co Co Co Co"
    assert futures[0].result() == futures[1].result()
    assert len({future.result() for future in futures}) == 3
    assert set(noted(stage.notes).values()) == {1}


def test_a_run_does_not_wait_for_ever_for_others_to_end(
    instance: RayTaskRunner, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits is sent after a moment, even if nothing ends."""
    del instance
    sent = threading.Event()

    def send(line: Line, taken: Sequence[Waiting]) -> None:
        sent.set()
        original(line, taken)

    original = Line._send
    with RayTaskRunner() as runner, Gate() as gate:
        line_of(runner)
        monkeypatch.setattr(Line, "_send", send)
        port = gate.ticket.port
        filling = [runner.submit(do, "wait", str(notes), port) for _ in range(FILLING)]
        behind = runner.submit(do, "behind", str(notes))
        assert sent.wait(10)
        gate.open()
        assert states([*filling, behind]) == "Co Co Co Co Co"


def test_a_lost_worker_takes_along_the_run_that_it_was_at(stage: Stage) -> None:
    """The runs before it keep their values, those after it are executed elsewhere, each once."""
    futures = stage.submit("do 1", "fail 2", "exit 3", "do 4", "do 5")
    stage.run()
    assert states(futures) == "Co Fa Cr Co Co"
    assert len({futures[index].result() for index in (0, 3, 4)}) == 3
    assert set(noted(stage.notes).values()) == {1}
    assert stage.line._is_closed
    assert not journals()


@pytest.mark.parametrize("cancelled", [0, 2])
def test_a_cancellation_does_not_hide_that_a_batch_had_begun(stage: Stage, cancelled: int) -> None:
    """Whatever Ray says when its worker is lost then: none is executed twice, and values stay."""
    with Gate() as gate:
        futures = stage.submit("do 1", "die 2", "do 3", port=gate.ticket.port)
        stage.run()
        gate.await_arrival()
        futures[cancelled].cancel()
        gate.open()
        assert states(futures)[:5] == "Co Cr"
        assert futures[2].wait() is not None
    assert set(noted(stage.notes).values()) == {1}
    assert not journals()


def test_without_a_journal_all_runs_of_a_lost_batch_have_crashed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is executed twice, and each says why it is not known how it has ended."""
    lost: list[str] = []
    monkeypatch.setattr(_batch, "find_journal", lost.append)
    futures = stage.submit("do 1", "exit 2", "do 3")
    stage.run()
    assert states(futures) == "Cr Cr Cr"
    for future in futures:
        state = future.state
        assert isinstance(state, Crashed)
        assert "shared a task of Ray's with others" in str(state.message)
    assert noted(stage.notes) == {"do 1": 1, "exit 2": 1}
    for path in journals():
        if path.name.endswith(lost[0]):
            path.unlink()


# ---------------------------------------------------------------------------- what is known


@pytest.fixture
def line() -> Line:
    """A line of its own, of which nothing is sent."""

    class FewCpus:
        cpus = 2

    return Line(cast("Exported", None), cast("Link", FewCpus()))


def test_a_function_is_known_to_be_short_after_a_number_of_runs(line: Line) -> None:
    """Many short runs make it short, one long one does not change that, more of them do."""
    for _ in range(19):
        line.note(0.0001, is_small=True)
    assert line._batch_size() == 1
    line.note(0.0001, is_small=True)
    assert line._batch_size() > 1
    line.note(0.01, is_small=True)
    assert line._batch_size() > 1
    for _ in range(5):
        line.note(0.01, is_small=True)
    assert line._batch_size() == 1
    assert not line._may_be_short


def test_a_batch_is_short_as_well(line: Line) -> None:
    """The longer the runs of a function, the fewer go together."""
    for _ in range(500):
        line.note(0.00001, is_small=True)
    assert line._batch_size() == 16
    for _ in range(500):
        line.note(0.0018, is_small=True)
    assert line._batch_size() == 5


def test_after_a_surprise_it_is_counted_anew(line: Line) -> None:
    """A function whose run went on for long is short again after as many runs as at first."""
    for _ in range(20):
        line.note(0.0001, is_small=True)
    line.reset()
    assert line._batch_size() == 1
    for _ in range(20):
        line.note(0.0001, is_small=True)
    assert line._batch_size() > 1


def test_large_values_go_alone_for_good(line: Line) -> None:
    """A function that has returned something large once goes alone from then on."""
    line.note(0.0001, is_small=False)
    for _ in range(50):
        line.note(0.0001, is_small=True)
    assert line._batch_size() == 1
    assert not line._may_be_short
