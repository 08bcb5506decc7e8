"""The testing kit: the table passes a runner that is right, and tells one that is not."""

from __future__ import annotations

import threading
from contextlib import AsyncExitStack, suppress
from queue import SimpleQueue
from typing import TypeVar

import pytest
from runner_of_threads import RightTaskRunner, ThreadRun

from anabranch.futures import ConcurrencyType, TaskRunner, WorkItem
from anabranch.futures.testing import (
    BEHAVIOURS,
    Behaviour,
    Gate,
    Subject,
    Verdict,
    judge,
    judge_all,
    raises,
    report,
)

R = TypeVar("R")

TABLE = {each.name: each for each in BEHAVIOURS}

LOST = 0.05


class LosesRuns(RightTaskRunner):
    """Never begins."""

    def begin(self, run: ThreadRun[R], item: WorkItem[R]) -> None:
        """Do nothing."""


# ------------------------------------------------------------------------- verdicts


def _passes(_: Subject) -> None:
    return


def _fails(_: Subject) -> None:
    raise ValueError("it does not")


def test_a_behaviour_that_a_runner_cannot_have_is_not_checked() -> None:
    """Where a kind of runner truly cannot, the verdict is the reason."""
    behaviour = Behaviour("flies", _fails, {ConcurrencyType.CONCURRENT: "it has no wings"})
    with Subject(RightTaskRunner) as subject:
        assert judge(behaviour, subject) == Verdict(behaviour, "-", "it has no wings")


def test_a_runner_may_be_excused_by_its_name() -> None:
    """A reason can be one runner's own, and not that of all of its kind."""
    behaviour = Behaviour("flies", _fails, {"right": "it has no wings"})
    with Subject(RightTaskRunner) as subject:
        assert judge(behaviour, subject) == Verdict(behaviour, "-", "it has no wings")
    with Subject(LosesRuns) as subject:
        assert judge(behaviour, subject).outcome == "no"


def test_a_runner_that_loses_a_run_is_told() -> None:
    """A check that does not end is given up, and what comes after it has a runner of its own."""
    behaviour = TABLE["gives back what a function returns"]
    with Subject(LosesRuns) as subject:
        runner = subject.runner
        verdict = judge(behaviour, subject, time_limit=LOST)
        assert subject.runner is not runner
    assert verdict.outcome == "no"
    assert verdict.details.startswith("It did not end within 0.05 s:")
    assert "result()" in verdict.details


def test_a_check_that_was_given_up_starts_no_other_runner() -> None:
    """A check that goes on after its time is refused a runner, which nobody would leave."""
    go_on, refused = threading.Event(), threading.Event()

    def check(subject: Subject) -> None:
        go_on.wait()
        try:
            _ = subject.runner
        except RuntimeError:
            refused.set()

    with Subject(RightTaskRunner) as subject:
        assert judge(Behaviour("flies", check), subject, time_limit=0.01).outcome == "no"
        go_on.set()
        assert refused.wait(timeout=20)


def test_a_runner_that_starts_when_its_check_was_given_up_is_left_at_once() -> None:
    """A runner that has started too late for its check is left by an error, and used by nobody."""
    begun, go_on = threading.Event(), threading.Event()
    left_by: SimpleQueue[BaseException | None] = SimpleQueue()
    late: list[TaskRunner] = []

    class SlowToStart(RightTaskRunner):
        async def _start(self, exit_stack: AsyncExitStack) -> None:
            async def leave(_kind: object, error: BaseException | None, _: object) -> None:
                left_by.put(error)

            exit_stack.push_async_exit(leave)
            late.append(self)
            begun.set()
            go_on.wait()

    def check() -> None:
        with suppress(RuntimeError):
            _ = subject.runner

    subject = Subject(SlowToStart)
    thread = threading.Thread(target=check, daemon=True)
    thread.start()
    assert begun.wait(20)
    subject.give_up(thread)
    go_on.set()
    assert isinstance(left_by.get(timeout=20), TimeoutError)
    with subject:
        assert subject.runner is not late[0]


def test_a_gate_lets_go_whom_another_thread_listens_to() -> None:
    """A gate that is opened while a thread waits for a run to go away lets both go on."""
    listens = threading.Event()

    def listen() -> None:
        listens.set()
        with suppress(OSError, IndexError):  # It is gone already.
            gate.await_departure()

    with Gate() as gate:
        threads = [
            threading.Thread(target=each, daemon=True) for each in (gate.ticket.wait, listen)
        ]
        threads[0].start()
        gate.await_arrival()
        threads[1].start()
        assert listens.wait(20)
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_a_verdict_has_the_traceback() -> None:
    """What was raised by the check is shown, whatever it is."""
    behaviour = Behaviour("flies", _fails)
    with Subject(RightTaskRunner) as subject:
        verdict = judge(behaviour, subject)
    assert verdict.outcome == "no"
    assert verdict.details.endswith("ValueError: it does not\n")


def test_a_report_is_a_table() -> None:
    """The report has a row for each behaviour and a column for each runner."""
    flies, swims = Behaviour("flies", _passes), Behaviour("swims", _passes)
    table = report(
        {
            "duck": [Verdict(flies, "yes"), Verdict(swims, "yes")],
            "hen": [Verdict(flies, "-", "it is too heavy"), Verdict(swims, "-", "it drowns")],
            "stone": [Verdict(flies, "no", "it fell"), Verdict(swims, "-", "it drowns")],
        }
    )
    assert table.splitlines() == [
        "| behaviour | duck | hen | stone |",
        "|---|---|---|---|",
        "| flies | yes | - (1) | no |",
        "| swims | yes | - (2) | - (2) |",
        "",
        "1. it is too heavy",
        "2. it drowns",
    ]


def test_a_table_is_judged_in_one_go() -> None:
    """All behaviours are judged of one runner, which is started once."""
    rows = [TABLE["gives back what a function returns"], TABLE["passes keyword arguments"]]
    assert judge_all(rows, RightTaskRunner) == [Verdict(each, "yes") for each in rows]


def test_the_table_has_names_of_its_own() -> None:
    """Each behaviour has a name that no other has, which is how it is shown."""
    assert len(TABLE) == len(BEHAVIOURS) >= 90
    assert all(str(each) == each.name for each in BEHAVIOURS)
    reasons = [reason for each in BEHAVIOURS for reason in each.not_for.values()]
    assert all(reasons)


# ------------------------------------------------------------------------- subjects


def test_a_subject_starts_its_runner_once_and_ends_it() -> None:
    """The runner starts when it is first asked for, and ends with the subject."""
    made: list[RightTaskRunner] = []

    def make() -> RightTaskRunner:
        made.append(RightTaskRunner())
        return made[-1]

    with Subject(make) as subject:
        assert made == []
        runner = subject.runner
        assert subject.runner is runner
        assert made == [runner]
        assert runner.submit(len, "abc").result() == 3
        assert subject.concurrency_type is ConcurrencyType.CONCURRENT
    with pytest.raises(RuntimeError, match="not started any more"):
        runner.submit(len, "abc")


def test_a_subject_that_was_not_asked_for_its_runner_starts_none() -> None:
    """A subject that is left unused has nothing to end."""

    def make() -> RightTaskRunner:
        raise AssertionError("it was made")

    with Subject(make):
        pass


# ------------------------------------------------------------------------- raises


def test_raises_wants_kind_and_words() -> None:
    """The body has to raise an exception of the kind with all of the words in its message."""
    with raises(LookupError, "one", "two"):
        raise KeyError("two and one")
    with pytest.raises(AssertionError, match="LookupError was not raised"), raises(LookupError):
        pass
    with pytest.raises(AssertionError, match="'three' is not in"), raises(LookupError, "three"):
        raise LookupError("two and one")
    with pytest.raises(OSError, match="another"), raises(LookupError):
        raise OSError("another")


# ------------------------------------------------------------------------- gates


def test_a_gate_holds_runs_until_it_is_opened() -> None:
    """Those that have come wait until the gate opens, and all of them go on then."""
    passed: list[int] = []
    with Gate() as gate:
        ticket = gate.ticket

        def come(number: int) -> None:
            ticket.wait()
            passed.append(number)

        threads = [threading.Thread(target=come, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
            gate.await_arrival()
        assert passed == []
        gate.open()
        for thread in threads:
            thread.join()
    assert sorted(passed) == [0, 1, 2]


def test_an_open_gate_holds_nobody() -> None:
    """Whoever comes after the gate has been opened goes on at once."""
    with Gate() as gate:
        ticket = gate.ticket
    ticket.wait()


def test_those_who_were_not_seen_to_arrive_are_let_go() -> None:
    """Opening the gate frees also those whose arrival nobody waited for."""
    with Gate() as gate:
        ticket = gate.ticket
        thread = threading.Thread(target=ticket.wait)
        thread.start()
    thread.join()
