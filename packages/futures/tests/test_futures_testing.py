"""The testing kit: the table passes a runner that is right, and tells one that is not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import TypeVar, cast

import attrs
import pytest

from anabranch.futures import (
    Cancellation,
    Cancelled,
    Completed,
    ConcurrencyType,
    Failed,
    Future,
    State,
    TaskRunner,
    UpstreamFailed,
    WorkItem,
)
from anabranch.futures.runner import run_item, run_item_in_new_loop, when_ready
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


class ThreadRun(Future[R]):
    """A run in a thread of its own."""

    def begin(self, execute: Callable[[], State[object]]) -> threading.Thread:
        """Execute in a new thread, unless the run was cancelled."""

        def work() -> None:
            if self.set_running():
                self.set_final(execute())

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    def cancel(self) -> Cancellation:
        """End the run if it has not started."""
        if self.set_running():
            self.set_final(Cancelled())
            return Cancellation.CANCELLED
        return Cancellation.CANNOT_STOP


class RightTaskRunner(TaskRunner):
    """Takes a thread for each run, and does everything right."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[threading.Thread] = []

    @property
    def concurrency_type(self) -> ConcurrencyType:
        """Concurrent."""
        return ConcurrencyType.CONCURRENT

    async def _start(self, exit_stack: AsyncExitStack) -> None:
        def join() -> None:
            for thread in self.threads:
                thread.join()

        exit_stack.callback(join)

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        run: ThreadRun[R] = ThreadRun(item.task_run)

        def begin() -> None:
            self.threads.append(run.begin(lambda: self.execute(item)))

        when_ready(item, begin, run.set_final)
        return run

    def execute(self, item: WorkItem[R]) -> State[R]:
        """Execute an item that is ready, in its thread."""
        return run_item_in_new_loop(item, self) if item.is_async else run_item(item, self)


class WrongValue(RightTaskRunner):
    """Loses what functions return."""

    def execute(self, item: WorkItem[R]) -> State[R]:
        """Execute, and forget the value."""
        state = super().execute(item)
        return Completed(cast("R", None)) if isinstance(state, Completed) else state


class SwallowsExceptions(RightTaskRunner):
    """Calls a failed run a completed one."""

    def execute(self, item: WorkItem[R]) -> State[R]:
        """Execute, and forget the failure."""
        state = super().execute(item)
        return state if isinstance(state, Completed) else Completed(cast("R", None))


class WrapsExceptions(RightTaskRunner):
    """Puts an exception of its own around what was raised."""

    def execute(self, item: WorkItem[R]) -> State[R]:
        """Execute, and wrap the failure."""
        state = super().execute(item)
        if isinstance(state, Failed):
            wrapped = RuntimeError("a task failed")
            wrapped.__cause__ = state.exception
            return Failed(wrapped, message=state.message)
        return state


class LeavesFutures(RightTaskRunner):
    """Hands futures on as they are."""

    def execute(self, item: WorkItem[R]) -> State[R]:
        """Execute with the arguments as they were submitted."""
        return super().execute(attrs.evolve(item, is_plain=True))


class TakesWorkAnytime(RightTaskRunner):
    """Does not mind whether it has been started."""

    def dispatch(self, item: WorkItem[R]) -> Future[R]:
        """Take the item, and count nothing."""
        return self._submit(item)


class DoesNotWait(RightTaskRunner):
    """Starts runs before those that they wait for have ended."""

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        if not item.upstreams:
            return super()._submit(item)
        run: ThreadRun[R] = ThreadRun(item.task_run)
        run.set_final(self.execute(item))
        return run


class IgnoresUpstreamFailures(RightTaskRunner):
    """Starts runs though one upstream has failed."""

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        tolerant = attrs.evolve(item, upstreams=(), tolerated=(*item.upstreams, *item.tolerated))
        return super()._submit(tolerant)


class HidesTheRootCause(RightTaskRunner):
    """Says that an upstream failed, but not why."""

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        run: ThreadRun[R] = ThreadRun(item.task_run)

        def fail(failure: UpstreamFailed) -> None:
            run.set_final(UpstreamFailed(cause=RuntimeError(failure.message)))

        when_ready(item, lambda: run.begin(lambda: self.execute(item)), fail)
        return run


class CannotCancelRun(ThreadRun[R]):
    """Pretends that nothing can be cancelled."""

    def cancel(self) -> Cancellation:
        """Do nothing."""
        return Cancellation.CANNOT_STOP


class NeverCancels(RightTaskRunner):
    """Cancels no run, even if it has not started."""

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        run: CannotCancelRun[R] = CannotCancelRun(item.task_run)
        when_ready(item, lambda: run.begin(lambda: self.execute(item)), run.set_final)
        return run


class ForgetsItsSettings(RightTaskRunner):
    """Is equal to nobody."""

    def _settings(self) -> Mapping[str, object]:
        return {"itself": object()}

    def duplicate(self) -> ForgetsItsSettings:
        """Return another one."""
        return ForgetsItsSettings()


def test_a_right_runner_does_all_of_it() -> None:
    """A runner that takes a thread for each run shows every behaviour of the table."""
    verdicts = judge_all(BEHAVIOURS, RightTaskRunner)
    assert [verdict.details for verdict in verdicts if verdict.outcome != "yes"] == []
    assert [verdict.behaviour for verdict in verdicts] == list(BEHAVIOURS)


@pytest.mark.parametrize(
    ("runner", "behaviour"),
    [
        (WrongValue, "gives back what a function returns"),
        (WrongValue, "brings back every one of many runs"),
        (
            SwallowsExceptions,
            "raises what the function raised, of the same type and with the same arguments",
        ),
        (
            SwallowsExceptions,
            "returns the state from wait, and never raises the run's failure there",
        ),
        (
            WrapsExceptions,
            "raises what the function raised, of the same type and with the same arguments",
        ),
        (LeavesFutures, "replaces a future among the arguments by its value"),
        (
            LeavesFutures,
            "finds futures in lists, tuples, dicts, sets, dataclasses and attrs classes",
        ),
        (
            TakesWorkAnytime,
            "refuses work before it is started and after it has ended, showing how to start it",
        ),
        (TakesWorkAnytime, "counts what it has done"),
        (DoesNotWait, "does not start a run before those that it waits for have ended"),
        (
            IgnoresUpstreamFailures,
            "never starts a run whose upstream failed, and tells the root cause",
        ),
        (IgnoresUpstreamFailures, "holds a run back until those that it waits for have completed"),
        (HidesTheRootCause, "tells the root cause at the end of a long chain"),
        (NeverCancels, "cancels a run that has not started, and its dependants with it"),
        (ForgetsItsSettings, "is equal to its duplicate and to its pickled copy"),
    ],
)
def test_a_broken_runner_is_told(runner: type[RightTaskRunner], behaviour: str) -> None:
    """A runner with one thing wrong is told that it does not show that behaviour."""
    with Subject(runner) as subject:
        verdict = judge(TABLE[behaviour], subject)
    assert verdict.outcome == "no"
    assert "Traceback (most recent call last)" in verdict.details


def test_a_broken_runner_may_do_the_rest_right() -> None:
    """One thing that is wrong does not spoil the verdict on others."""
    with Subject(WrapsExceptions) as subject:
        assert judge(TABLE["gives back what a function returns"], subject).outcome == "yes"


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
            "stone": [Verdict(flies, "no", "it fell")],
        }
    )
    assert table == (
        "| behaviour | duck | stone |\n|---|---|---|\n| flies | yes | no |\n| swims | yes |  |"
    )


def test_the_table_has_names_of_its_own() -> None:
    """Each behaviour has a name that no other has, which is how it is shown."""
    assert len(TABLE) == len(BEHAVIOURS) >= 40
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
