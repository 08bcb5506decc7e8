"""Reports of runs below a run in another process: what its owner at home hears."""

from __future__ import annotations

import pickle

import pytest

from anabranch.futures import (
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Future,
    RemoteExceptionError,
    State,
    TaskRun,
    TimedOut,
    UpstreamFailed,
)
from anabranch.futures.runner import Report, Reporter, ReportTaker


class Owner:
    """Keeps the runs that have ended."""

    def __init__(self) -> None:
        self.ended: list[Future[object]] = []

    def child_ended(self, child: Future[object]) -> None:
        self.ended.append(child)


def told(reports: list[Report]) -> list[Future[object]]:
    """Return what the owner at home has heard, when the reports have travelled."""
    owner = Owner()
    take = ReportTaker(owner)
    for report in pickle.loads(pickle.dumps(reports)):
        take(report)
    return owner.ended


RUN = TaskRun("a" * 32, "add-811087cd-0", "add", frozenset({"tag"}))


@pytest.mark.parametrize(
    "state",
    [
        Completed(object(), message="fine"),
        Failed(LookupError("no"), message="it failed"),
        TimedOut(message="too late"),
        Crashed(message="gone"),
        Cancelled(message="not wanted"),
        UpstreamFailed(cause=LookupError("no"), message="one upstream"),
    ],
    ids=lambda state: str(state.name),
)
def test_ends_are_heard_of(state: State[object]) -> None:
    """Each state comes home, without the value."""
    reports: list[Report] = []
    reporter = Reporter(reports.append)
    child: Future[object] = Future(RUN)
    child.set_final(state)
    reporter.child_ended(child)
    reporter.note_end(RUN, state)
    for heard in told(reports):
        assert heard.task_run == RUN
        assert str(heard.final_state()) == str(state)
        assert not heard.logs_its_end
        assert not heard.was_disowned()
        if isinstance(state, UpstreamFailed):
            assert isinstance(heard.final_state().result(raise_on_failure=False), Exception)


def test_failures_come_with_their_exceptions() -> None:
    """The exception is the same, unless it is too large: then it is described."""
    reports: list[Report] = []
    reporter = Reporter(reports.append)
    reporter.note_end(RUN, Failed(LookupError("no")))
    reporter.note_end(RUN, Failed(ValueError("x" * 200_000)))
    small, large = (heard.final_state().result(raise_on_failure=False) for heard in told(reports))
    assert isinstance(small, LookupError)
    assert isinstance(large, RemoteExceptionError)


def test_losses_that_are_none_are_told_apart() -> None:
    """A run that its submitter has let go of is no loss at home either, nor one of a branch."""
    reports: list[Report] = []
    reporter = Reporter(reports.append)
    child: Future[object] = Future(RUN)
    child.disown()
    child.set_final(Cancelled())
    reporter.child_ended(child)
    reporter.note_no_loss(RUN, Cancelled())
    assert [heard.was_disowned() for heard in told(reports)] == [True, True]


def test_subflows_are_told_apart() -> None:
    """A subflow that was called has logged its end where it was."""
    reports: list[Report] = []
    Reporter(reports.append).note_subflow_end(Completed(1))
    (heard,) = told(reports)
    assert heard.logs_its_end


def test_it_is_heard_who_has_been_looked_at() -> None:
    """In the end the owner knows of which failures somebody there has taken note."""
    reports: list[Report] = []
    reporter = Reporter(reports.append)
    runs = [TaskRun(letter * 32, letter, "add") for letter in "abc"]
    children: list[Future[object]] = [Future(run) for run in runs]
    for child in children:
        child.set_final(Failed(LookupError("no")))
        reporter.child_ended(child)
    children[1].observe()
    reporter.finish()
    assert [heard.was_observed() for heard in told(reports)] == [False, True, False]
