"""What tests of flows and of runners use: tables of behaviours, clocks, gates and recorders."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping
from typing import NoReturn, assert_type

import anyio

from anabranch.flows import Future, FutureList, SequentialTaskRunner, State
from anabranch.flows.testing import (
    FLOW_BEHAVIOURS,
    Outcome,
    RecordedRun,
    RecordingTaskRunner,
    RunEvent,
    Which,
    assert_completed,
    assert_failed,
    assert_state,
)
from anabranch.flows.testing.fixtures import virtual_clock
from anabranch.futures import (
    Completed,
    ConcurrencyType,
    Failed,
    FlowRun,
    Pending,
    Retrying,
    Running,
    TaskRun,
    TaskRunner,
    TimedOut,
    UpstreamFailed,
)
from anabranch.futures.runner import CancelTimer
from anabranch.futures.testing import (
    BEHAVIOURS,
    NOT_IN_PLACE,
    ONLY_IN_PARALLEL,
    Behaviour,
    Gate,
    Reasons,
    Registrar,
    Subject,
    Tally,
    Ticket,
    Unable,
    Verdict,
    VirtualClock,
    judge,
    judge_all,
    new_tally,
    raises,
    registrar,
    report,
    run_on_each_loop,
)
from typing_tests.functions import add, aone, main_flow, none, one

recorder = RecordingTaskRunner()


# ---------------------------------------------------------------------------- behaviours


def tables() -> None:
    """Tables are of behaviours, with reasons of those that cannot show them."""
    assert_type(BEHAVIOURS, tuple[Behaviour, ...])
    assert_type(FLOW_BEHAVIOURS, tuple[Behaviour, ...])
    assert_type(BEHAVIOURS[0].check, Callable[[Subject], None])
    assert_type(BEHAVIOURS[0].not_for, Reasons)
    assert_type((*BEHAVIOURS, *FLOW_BEHAVIOURS), tuple[Behaviour, ...])
    assert_type(NOT_IN_PLACE, Reasons)
    assert_type(Unable("it cannot"), Unable)
    assert_type(ONLY_IN_PARALLEL, Mapping[ConcurrencyType | str, str])
    assert_type({**NOT_IN_PLACE, "mine": "not built yet"}, dict[ConcurrencyType | str, str])


def judgements() -> None:
    """A runner is judged by one behaviour or by a table, and reported on."""
    behaviour = Behaviour("is named", lambda subject: None, {"mine": "it is not"})
    with Subject(SequentialTaskRunner) as subject:
        assert_type(subject, Subject)
        assert_type(judge(behaviour, subject), Verdict)
        assert_type(subject.runner, TaskRunner)
        assert_type(behaviour.reason_against(subject), str | None)
    assert_type(Behaviour("is", print, NOT_IN_PLACE).name, str)
    verdicts = judge_all([behaviour], SequentialTaskRunner, time_limit=30)
    assert_type(verdicts, list[Verdict])
    assert_type(judge_all((), lambda: SequentialTaskRunner()), list[Verdict])
    assert_type(Subject(lambda: SequentialTaskRunner()).make, Callable[[], TaskRunner])
    assert_type(Verdict(behaviour, "yes").behaviour, Behaviour)
    assert_type(report({"sequential": verdicts}), str)


def own_table() -> None:
    """Checks are put into a table of one's own."""
    rows: list[Behaviour] = []
    behaviour: Registrar = registrar(rows)

    @behaviour("adds", not_for=NOT_IN_PLACE)
    def adds(subject: Subject) -> None:
        subject.runner.submit(int).result()

    assert_type(adds, Callable[[Subject], None])
    assert_type(registrar(rows)("is named")(adds), Callable[[Subject], None])
    assert_type(rows[0], Behaviour)


def own_checks() -> None:
    """Checks raise, count and run on loops."""
    with raises(LookupError, "gone") as nothing:
        assert_type(nothing, None)
        raise LookupError("gone")
    assert_type(add(1), int)


def counts() -> None:
    """A tally counts lines, with words and times."""
    with new_tally() as tally:
        assert_type(tally, Tally)
        assert_type(tally.add("word"), int)
        assert_type(tally.words(), list[str])
        assert_type(Tally(tally.path).times(), list[float])
        assert_type(len(tally), int)


def on_loops() -> None:
    """An async check runs on each loop."""

    async def main() -> None:
        await anyio.sleep(0)

    assert_type(contextvars.copy_context().run(run_on_each_loop, main), None)


# ---------------------------------------------------------------------------- gates and clocks


def gates() -> None:
    """A gate gives tickets away."""
    with Gate() as gate:
        assert_type(gate, Gate)
        assert_type(gate.ticket, Ticket)
        assert_type(Ticket(gate.ticket.port).port, int)


def clocks() -> None:
    """A virtual clock is entered, held and moved."""
    with VirtualClock() as clock:
        assert_type(clock, VirtualClock)
        assert_type(clock.now(), float)
        assert_type(clock.call_later(60, str), CancelTimer)
        with clock.held() as nothing:
            assert_type(nothing, None)
        clock.advance(60)
    assert_type(VirtualClock(everywhere=True).now(), float)


def fixtures() -> None:
    """A fixture of pytest is told by its name."""
    assert_type(virtual_clock.name, str)


# ---------------------------------------------------------------------------- recorders


def records() -> None:
    """A recorder gives the runs of tasks and of names."""
    recorder = RecordingTaskRunner(SequentialTaskRunner())
    assert_type(main_flow.with_options(task_runner=recorder)(1), int)
    assert_type(RecordingTaskRunner().runs(add), tuple[RecordedRun, ...])
    assert_type(RecordingTaskRunner(SequentialTaskRunner).runs("add"), tuple[RecordedRun, ...])
    assert_type(recorder.runs(), tuple[RecordedRun, ...])
    assert_type(recorder.events, tuple[RunEvent, ...])
    assert_type(recorder.order(), list[str])
    assert_type(recorder.duplicate(), RecordingTaskRunner)


def recorded(which: Which) -> None:
    """A run is recorded with its parameters and states."""
    assert_type(recorder.run(which), RecordedRun)
    assert_type(recorder.run(aone).states, list[str])
    assert_type(recorder.states(which), list[str])
    assert_type(recorder.run(which).started, float | None)
    assert_type(recorder.run(which).parameters, Mapping[str, object])
    assert_type(recorder.run(which).flow_run, FlowRun | None)
    assert_type(recorder.run(which).state, State[object] | Pending | Running | Retrying)
    recorder.assert_ran_before(add, which)


def events() -> None:
    """An event tells the time, the run and the state."""
    event = RunEvent(0.0, TaskRun("", "a", "b"), Pending())
    assert_type(event, RunEvent)
    assert_type(RunEvent(0.0, event.task_run, Running()).time, float)
    assert_type(RecordedRun(event.task_run, None, {}, (event,)).attempts, int)
    which: list[Which] = [add, aone, one.after(), "add"]
    assert_type(which, list[Which])


# ---------------------------------------------------------------------------- assertions


def completed() -> None:
    """What completed has the future's value."""
    assert_type(assert_completed(none.submit()), int)
    assert_type(assert_completed(one.submit(1), "1"), str)
    assert_type(assert_completed(add.run(1)), int)
    assert_type(assert_completed(add.submit(1).wait(timeout=30)), int)
    assert_type(assert_completed(add.map([1, 2])), list[int])
    futures: FutureList[int] = add.map([1])
    assert_type(assert_completed(futures[0]), int)


def failed() -> None:
    """What failed has an exception of the kind asked for."""
    state: State[int] = Failed(ValueError("1"))
    assert_type(assert_failed(state), BaseException)
    assert_type(assert_failed(state, match="1"), BaseException)
    assert_type(assert_failed(state, ValueError), ValueError)
    assert_type(assert_failed(state, ValueError, match="1"), ValueError)


def failed_runs(future: Future[int], never: Future[NoReturn]) -> None:
    """The same holds for futures, even of functions that never return."""
    assert_type(assert_failed(future, ValueError), ValueError)
    assert_type(assert_failed(never, LookupError, match="1"), LookupError)
    assert_type(assert_state(future, UpstreamFailed, match="1").cause, BaseException)


def in_states() -> None:
    """What is in a state of one kind is narrowed to it."""
    assert_type(assert_state(TimedOut(), TimedOut), TimedOut)
    assert_type(assert_state(UpstreamFailed(cause=KeyError()), UpstreamFailed), UpstreamFailed)
    assert_type(assert_state(Retrying(message="soon"), Retrying, "soon"), Retrying)
    assert_type(assert_state(none.submit(), Completed), Completed[int])


def outcomes(outcome: Outcome[int], future: Future[int]) -> None:
    """An outcome is a future, a state, or what a wait gave."""
    assert_type(assert_completed(outcome), int)
    assert_type(assert_state(outcome, TimedOut), TimedOut)
    assert_type(assert_state(outcome, Failed, "gone"), Failed[int])
    each: list[Outcome[int]] = [future, future.state, future.wait(1.0), None]
    assert_type(each[0], Outcome[int])
