"""Each row of the table passes a runner that is right, and tells one that is not."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import broken_runners as broken
import pytest
from runner_of_threads import RightTaskRunner, ThreadRun

from anabranch.futures import Cancelled
from anabranch.futures.testing import BEHAVIOURS, Behaviour, Subject, judge

#: For each row a runner that does not show it.
BROKEN: dict[str, type[RightTaskRunner]] = {
    "gives back what a function returns": broken.WrongValue,
    "passes keyword arguments": broken.DropsKeywords,
    "runs lambdas and closures": broken.PicklesFunctions,
    "runs coroutine functions": broken.RefusesAsync,
    "gives back None, False and even exceptions that were returned, as values": (
        broken.TruthyValuesOnly
    ),
    "gives back the same object each time it is asked": broken.CopiesValues,
    "brings back every one of many runs": broken.LosesSomeRuns,
    "raises what the function raised, of the same type and with the same arguments": (
        broken.WrapsExceptions
    ),
    "returns the state from wait, and never raises the run's failure there": (
        broken.SwallowsExceptions
    ),
    "returns the exception from result if asked not to raise it": broken.AlwaysRaises,
    "refuses arguments that do not fit the function, naming them": broken.TakesAnyArguments,
    "replaces a future among the arguments by its value": broken.LeavesFutures,
    "finds futures in lists, tuples, dicts, sets, dataclasses and attrs classes": (
        broken.LeavesFutures
    ),
    "runs a chain of runs, each on the one before": broken.LeavesFutures,
    "gives a task the values of a whole list of futures": broken.LeavesFutures,
    "takes futures of other runners": broken.TakesOnlyItsOwn,
    "hands on what is quoted without looking for futures in it": broken.LeavesFutures,
    "never starts a run whose upstream failed, and tells the root cause": (
        broken.IgnoresUpstreamFailures
    ),
    "tells the root cause at the end of a long chain": broken.HidesTheRootCause,
    "passes a failure on as a value where that is allowed": broken.ToleratesNothing,
    "holds a run back until those that it waits for have completed": (
        broken.IgnoresUpstreamFailures
    ),
    "does not start a run before those that it waits for have ended": broken.DoesNotWait,
    "tries a run that failed again until it completes": broken.NeverRetries,
    "makes no more attempts than its budget has, and fails with the failure of the last": (
        broken.RetriesOnceMore
    ),
    "makes one attempt if it is not told to retry": broken.RetriesOnceMore,
    "waits before each retry for as long as the policy says": broken.HurriesRetries,
    "asks the policy's condition whether to retry, with the state": broken.IgnoresConditions,
    "ends a run as Failed if its retry policy fails, with the run's own failure as cause": (
        broken.IgnoresConditions
    ),
    "tells a run which attempt it is": broken.CountsNoAttempts,
    "starts a dependant when the last attempt has completed, and only then": broken.NeverRetries,
    "ends a run that raises SystemExit or KeyboardInterrupt as Crashed, at the first attempt": (
        broken.CallsExitsFailures
    ),
    "ends a run whose process is lost as Crashed, executed once": broken.IsInNoOtherProcess,
    "retries failures and lost processes alike, within one budget": broken.IsInNoOtherProcess,
    "stops an async run whose time is up, and ends it as TimedOut": broken.AbandonsAsyncRuns,
    "ends a sync run whose time is up as TimedOut, though nothing has let it go on": (
        broken.IgnoresTimeLimits
    ),
    "stops a sync run whose time is up, or else counts it as abandoned": broken.CountsNoAbandoned,
    "retries a run whose time was up, within the same budget": broken.RetriesNoTimeOuts,
    "lets a run that ends in time be, whatever its limit": broken.TimesEverythingOut,
    "never starts what depends on a run that has timed out": broken.IgnoresUpstreamFailures,
    "keeps the history of a run: every state that it was in, with the times, in order": (
        broken.ForgetsHistory
    ),
    "says that a run is Pending, then Running, and has no result yet": broken.RunsFromTheStart,
    "counts the runs that are pending and those that are running": broken.RunsFromTheStart,
    "tells a run's listener whenever it becomes Running or Retrying": broken.DropsListeners,
    "lets no failing listener get in the way of a run": broken.FailsWithListeners,
    "says that a run is Retrying between two attempts, and cancels it there": broken.NeverCancels,
    "gives states that can be pickled, and written as JSON without the value": (
        broken.TaintsFailures
    ),
    "ends a run in the state that its function returns": broken.WrapsReturned,
    "stops an async run that is cancelled, and retries it not": broken.NeverCancels,
    "stops a sync run that is cancelled, or says that it cannot and lets it go on": (
        broken.ClaimsToStop
    ),
    "never starts a run that was cancelled, nor what depends on it": broken.StartsCancelledRuns,
    "executes one run at a time, in the order of their submission": broken.LosesRunsInSequence,
    "executes several runs at a time": broken.OneAtATime,
    "shows a run the context variables of whoever submitted it": broken.ForgetsVariables,
    "keeps neither the future nor the value of a run that has ended": broken.KeepsRuns,
    "keeps no arguments of a run that has ended, though its future is kept": broken.KeepsRuns,
    "keeps no run that timed out or failed": broken.KeepsRuns,
    "returns None from wait when the time is over, and lets the run go on": broken.WaitsForEver,
    "can be awaited on trio and on asyncio": broken.CannotBeAwaited,
    "does not cancel a run with the wait for it": broken.CancelsWithTheWait,
    "calls done callbacks once, with the future, also when it is done already": (
        broken.CallsBackTwice
    ),
    "lets no failing callback get in the way of a run": broken.FailsWithCallbacks,
    "yields futures as their runs end": broken.WrongValue,
    "yields a run that has ended before one that has not": broken.OneAtATime,
    "gathers values in their order, and fails with the first failure": broken.WrongValue,
    "divides futures into those that are done and those that are not": broken.WaitsForEver,
    "cancels a run that has not started, and its dependants with it": broken.NeverCancels,
    "says that a run that has ended cannot be stopped": broken.ClaimsToStop,
    "refuses work before it is started and after it has ended, showing how to start it": (
        broken.TakesWorkAnytime
    ),
    "refuses to be started twice, and goes on unharmed": broken.RefusesWithoutAReason,
    "joins everything when it is left": broken.LeavesRunsBehind,
    "cancels what is left when it is left by an exception, which comes out as it is": (
        broken.LeavesRunsBehind
    ),
    "starts in a running event loop, on trio and on asyncio": broken.StartsOnlyInThreads,
    "lets an exception out of an event loop's block as it is": broken.WrapsBodyErrors,
    "works in plain code where an event loop runs already": broken.RefusesBesideALoop,
    "counts what it has done": broken.TakesWorkAnytime,
    "is equal to its duplicate and to its pickled copy": broken.ForgetsItsSettings,
    "says why a pickled copy of a started runner cannot submit": broken.CopiesSilently,
    "says why a future has no truth value and cannot be pickled": broken.TruthyFutures,
    "lets a run submit another and wait for it": broken.WrongValue,
    "lets more runs than it has workers each wait for one of its own": broken.LendsNoPlaces,
    "joins what a run has submitted before the run ends": broken.LeavesChildren,
    "joins a run with the future that it returns": broken.WrapsReturned,
    "cancels what a run has submitted when its time is up": broken.IgnoresTimeLimits,
    "ends a chain of several hundred runs, well or badly": broken.HidesTheRootCause,
    "takes work from many threads": broken.WrongValue,
    "stops waiting for many at the first failure if asked to": broken.SwallowsExceptions,
    "refuses a wait that would block the run's own event loop for ever, with the fix": (
        broken.BelongsToTheLoop
    ),
    "runs async tasks on the event loop that is asked for": broken.IgnoresBackends,
    "names an argument that cannot be sent, by the path to it": broken.IsInNoOtherProcess,
    "leaves a value where it was made until it is asked for, also when other runs take it": (
        broken.IsInNoOtherProcess
    ),
    "tells a failure whose exception cannot be pickled, with its type and its message": (
        broken.PicklesOutcomes
    ),
    "gives back a value after the runner has ended, or says that it was left, and what to do": (
        broken.LosesValues
    ),
}


def test_every_row_has_a_broken_runner() -> None:
    """No row is without a runner that does not show it, and in the table's own order."""
    assert list(BROKEN) == [row.name for row in BEHAVIOURS]


def is_idle(thread: threading.Thread) -> bool:
    """Whether it is one that trio or the clock keeps for a while."""
    return thread.name.startswith(("Trio thread", "anabranch-clock"))


def end_runs() -> None:
    """End all runs, and keep none of them."""
    for run in ThreadRun.all_known():
        if run.stop is not None:
            run.stop()
        run.set_final(Cancelled())


def end_what_is_left(threads: set[threading.Thread]) -> None:
    """End the runs that were lost, and with them all threads but those that were there before."""
    broken.KeepsRuns.kept.clear()
    for _ in range(5000):
        end_runs()
        left = [each for each in threading.enumerate() if each not in threads and not is_idle(each)]
        if not left:
            break
        left[0].join(0.002)
    assert left == []


@pytest.mark.parametrize("row", BEHAVIOURS, ids=str)
def test_a_broken_runner_is_told(row: Behaviour) -> None:
    """A runner with one thing wrong is told that it does not show the behaviour."""
    kind = BROKEN[row.name]
    subject = Subject(kind)
    threads = set(threading.enumerate())
    verdict = judge(row, subject, time_limit=kind.patience)
    subject.give_up()
    end_what_is_left(threads)
    assert verdict.outcome == "no", f"{kind.__name__}: {verdict.details}"


@pytest.fixture(scope="module")
def right() -> Iterator[Subject]:
    """A runner that is right."""
    with Subject(RightTaskRunner) as subject:
        yield subject


@pytest.mark.parametrize("row", BEHAVIOURS, ids=str)
def test_a_right_runner_shows_it(row: Behaviour, right: Subject) -> None:
    """A runner that takes a thread for each run shows every behaviour of the table."""
    verdict = judge(row, right, time_limit=25)
    assert verdict.outcome in ("yes", "-"), verdict.details


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in BEHAVIOURS
        if BROKEN[row.name] in (broken.LendsNoPlaces, broken.LeavesChildren)
    ],
    ids=str,
)
def test_a_runner_that_says_what_it_cannot_do_is_believed(row: Behaviour) -> None:
    """Runs that are told that they cannot submit others are no fault of their runner."""
    with Subject(broken.NothingToSubmitTo) as subject:
        verdict = judge(row, subject)
    assert verdict.outcome == "-"
    assert verdict.details == "its runs cannot submit others, and are told so"
