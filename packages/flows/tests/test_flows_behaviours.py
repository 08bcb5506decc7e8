"""Each row of the table of flows is shown to fail on a runner that is not right."""

from __future__ import annotations

import threading

import broken_task_runners as broken
import pytest

from anabranch.flows import Cancelled
from anabranch.flows.testing import FLOW_BEHAVIOURS
from anabranch.futures.testing import Behaviour, Subject, judge

#: For each row a runner that does not show it.
BROKEN: dict[str, type[broken.BentTaskRunner]] = {
    "runs a task that is called directly in place, and returns its value": broken.WrongValue,
    "executes submitted tasks in this process": broken.PretendsToBeElsewhere,
    "executes submitted tasks in other processes": broken.IsInNoOtherProcess,
    "passes values from task to task: sync and async, mapped, and in containers": (
        broken.LeavesFutures
    ),
    "runs functions of all kinds: lambdas, closures, partials, callables and methods": (
        broken.DropsArguments
    ),
    "returns what a generator yields as a list": broken.LeavesGenerators,
    "fails a sync task that returns a coroutine, and says what to do": broken.SwallowsExceptions,
    "ends a task in the state that it returns": broken.TakesStatesForValues,
    "tells failures alike: of a run, behind it, and to those that allow for it": (
        broken.HidesTheRootCause
    ),
    "shows a run itself, its flow run, its parameters and its tags, wherever it executes": (
        broken.ForgetsWhoRuns
    ),
    "names runs by their task and a number, by a template, or as a callable says": (
        broken.RenamesRuns
    ),
    "logs each run from its creation to its end": broken.RenamesRuns,
    "brings what a task logs and prints to the handlers of this process": (broken.RenamesRuns),
    "calls hooks in this process, before the flow ends": broken.DropsListeners,
    "calls the hooks of runs that crashed or were cancelled": broken.CallsCrashesFailures,
    "retries tasks, submitted or called, sync or async, and logs each failed attempt": (
        broken.NeverRetries
    ),
    "calls a hook for each attempt, and asks the condition whether there is another": (
        broken.IgnoresConditions
    ),
    "ends tasks whose time is up as TimedOut, submitted or called, sync or async": (
        broken.IgnoresTimeLimits
    ),
    "takes options for other runners, and ignores them": broken.RefusesOptions,
    "says which submitted runs are running and which are pending": broken.HastyStarts,
    "maps over iterables, futures of lists and unmapped values, all of the same length": (
        broken.LosesSomeRuns
    ),
    "waits for many: for all, for the first failure, or for their values": (
        broken.SwallowsExceptions
    ),
    "starts a task when those have completed that it is to come after": broken.IgnoresUpstreams,
    "streams the results of an endless input in order, a few at a time, until it is left": (
        broken.WrongValue
    ),
    "streams results as the runs end, one behind the other or not": broken.OneAtATime,
    "streams in event loops, from async iterables as well": broken.LosesSomeRuns,
    "raises a failed run's exception at its step of a stream, and goes on": (
        broken.SwallowsExceptions
    ),
    "holds back runs with a tag whose limit is reached, and no others": broken.RunsDependantsAtOnce,
    "lets runs with a limited tag go one after the other, to the last": broken.WrongValue,
    "lets tasks submit tasks, and wait for them": broken.WrongValue,
    "joins a branch inside a task": broken.WrongValue,
    "counts and logs the runs of its tasks among those of the flow": broken.SwallowsExceptions,
    "takes futures of other runners, at any depth, failed ones included": (broken.TakesOnlyItsOwn),
    "ends a flow that returns None as the sum of its runs": broken.SwallowsExceptions,
    "ends a flow that returns data as Completed with it, and warns of unseen failures": (
        broken.SwallowsExceptions
    ),
    "ends a flow that returns futures or states as the sum of those": broken.SwallowsExceptions,
    "ends a flow that raises as Failed with that, and the call raises it": (broken.WrapsBodyErrors),
    "brings over what a flow returns, so that it can be read afterwards": (
        broken.LeavesValuesBehind
    ),
    "gives each run of a flow a duplicate of its runner, and leaves the original alone": (
        broken.DuplicatesNothing
    ),
    "runs async flows on trio and on asyncio": broken.StartsOnlyOnTrio,
    "runs sync flows where an event loop runs already": broken.RefusesBesideALoop,
    "runs the async tasks of a sync flow on the event loop that the flow asks for": (
        broken.KnowsOneLoop
    ),
    "runs a flow that is called in a flow in place, as one run of it, on its own runner": (
        broken.OneInAProcess
    ),
    "runs submitted subflows beside each other, never in a place of the runner": (
        broken.OneInAProcess
    ),
    "lets a flow call itself, and submit itself": broken.StartsOnlyOnce,
    "retries a flow with a fresh runner, and forgets the failures of the attempt before": (
        broken.StartsOnlyOnce
    ),
    "ends a flow whose time is up as TimedOut, and cancels what it has submitted": (
        broken.WaitsForThreads
    ),
    "names flow runs by a template, and calls the hooks of flows": broken.WrongValue,
    "checks and converts the parameters of a flow if it is asked to": broken.WrongValue,
    "joins what is submitted in a branch at its end, and no more, in sync and async code": (
        broken.LosesRuns
    ),
    "cancels the rest of a branch at the first failure, if it is to fail fast": (
        broken.CompletesWhatIsCancelled
    ),
    "cancels the rest of a branch in sync code as well": broken.NeverCancels,
    "ends a branch when its time is up, runs that cannot be stopped included": (
        broken.WaitsForThreads
    ),
    "has an anyio cancel scope around a branch reach its runs, wherever they execute": (
        broken.NeverCancels
    ),
    "refuses a sync branch in async code, and says what to write": broken.WrongValue,
    "joins all runs before a flow ends": broken.LosesRuns,
    "cancels what a flow has submitted when the flow raises": broken.CompletesWhatIsCancelled,
    "cancels what a flow has submitted when what surrounds the flow is cancelled": (
        broken.CompletesWhatIsCancelled
    ),
    "ends on one Ctrl-C, as Cancelled, while a task blocks": broken.SurvivesInterrupts,
    "ends on SIGTERM, as Cancelled, while a task blocks, with exit code 143": (
        broken.SurvivesInterrupts
    ),
}

ROWS = [
    # Those two take a program of their own.
    pytest.param(row, marks=[pytest.mark.slow] if row.name.startswith("ends on ") else [])
    for row in FLOW_BEHAVIOURS
]


def test_every_row_has_a_broken_runner() -> None:
    """No row is without a runner that does not show it, in the table's own order."""
    assert list(BROKEN) == [row.name for row in FLOW_BEHAVIOURS]
    assert len(set(BROKEN)) == len(FLOW_BEHAVIOURS)


def is_idle(thread: threading.Thread) -> bool:
    """Whether it is one that trio or the clock keeps for a while."""
    return thread.name.startswith(("Trio thread", "anabranch-clock"))


def end_runs() -> None:
    """End all runs, and keep none of them."""
    for run in broken.BentTaskRunner.all_known():
        run.cancel()
        run.set_final(Cancelled())


def end_what_is_left(threads: set[threading.Thread]) -> None:
    """End the runs that were lost, and with them all threads but those that were there before."""
    for _ in range(5000):
        end_runs()
        left = [each for each in threading.enumerate() if each not in threads and not is_idle(each)]
        if not left:
            break
        left[0].join(0.002)
    assert left == []


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_broken_runner_is_told(row: Behaviour) -> None:
    """A runner with one thing wrong is told that its flows do not show the behaviour."""
    kind = BROKEN[row.name]
    threads = set(threading.enumerate())
    verdict = judge(row, Subject(kind), time_limit=kind.patience)
    end_what_is_left(threads)
    assert verdict.outcome == "no", f"{kind.__name__}: {verdict.details}"


@pytest.mark.slow  # All rows together.
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_runner_that_is_only_wrapped_shows_it(row: Behaviour) -> None:
    """What the broken runners have in common is not what is wrong with them."""
    verdict = judge(row, Subject(broken.BentTaskRunner), time_limit=25)
    assert verdict.outcome in ("yes", "-"), verdict.details


@pytest.mark.parametrize(
    "row", [row for row in FLOW_BEHAVIOURS if row.name.startswith("lets tasks submit")], ids=str
)
def test_a_runner_that_says_what_it_cannot_do_is_believed(row: Behaviour) -> None:
    """Tasks that are told that they cannot submit others are no fault of their runner."""
    with Subject(broken.NothingToSubmitTo) as subject:
        verdict = judge(row, subject)
    assert verdict.outcome == "-"
    assert verdict.details == "its runs cannot submit others, and are told so"
