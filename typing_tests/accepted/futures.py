"""Futures: waited for alone and together, in threads and in event loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type

from anabranch.futures import (
    AnabranchError,
    Cancellation,
    Completed,
    FlowRun,
    Future,
    FutureList,
    MissingDependencyError,
    NotFinishedError,
    NotSubmittableError,
    RemoteExceptionError,
    ResultUnavailableError,
    RunCancelledError,
    RunCrashedError,
    RunnerAlreadyStartedError,
    RunnerNotStartedError,
    RunTimedOutError,
    State,
    Stream,
    TaskRun,
    UpstreamFailedError,
    Waited,
    WouldDeadlockError,
    as_completed,
    gather,
    wait,
    wait_async,
)
from typing_tests.functions import none, one


def results() -> None:
    """A result is the value; where failures are not raised, it may be an exception."""
    fi = none.submit()
    assert_type(fi.result(), int)
    assert_type(fi.result(timeout=10.0), int)
    assert_type(fi.result(20.0), int)
    assert_type(fi.result(raise_on_failure=True), int)
    assert_type(fi.result(raise_on_failure=False), int | BaseException)
    assert_type(fi.result(timeout=10, raise_on_failure=False), int | BaseException)
    assert_type(fi.exception(), BaseException | None)
    widened: list[Future[object]] = [fi]
    assert_type(widened[0].result(), object)


def waits() -> None:
    """Waiting without a limit gives a state; with one, perhaps none."""
    fi = none.submit()
    assert_type(fi.wait(), State[int])
    assert_type(fi.wait(10), State[int] | None)
    assert_type(fi.wait(timeout=10.0), State[int] | None)
    match fi.wait():
        case Completed(value):
            assert_type(value, int)
        case _:
            pass


async def async_waits() -> None:
    """The same in event loops."""
    fi = none.submit()
    assert_type(await fi, int)
    assert_type(await fi.wait_async(), State[int])
    assert_type(await fi.wait_async(10), State[int] | None)
    assert_type(await gather([fi, fi]), list[int])
    assert_type(await wait_async([fi]), Waited[int])
    async for fut in as_completed([fi]):
        assert_type(fut, Future[int])


def together() -> None:
    """Many futures of a kind stay of that kind."""
    fi = none.submit()
    assert_type(gather([fi, fi]), FutureList[int])
    assert_type(as_completed([fi, fi], timeout=10), Stream[Future[int]])
    assert_type(list(as_completed([fi, fi])), list[Future[int]])
    for fut in as_completed(one.map([1, 2])):
        assert_type(fut, Future[str])
    done, todo = wait([fi, fi], timeout=10, fail_fast=True)
    assert_type(done, Sequence[Future[int]])
    assert_type(todo, Sequence[Future[int]])
    assert_type(wait(one.map([1])), Waited[str])
    assert_type(wait(one.map([1])).not_done, Sequence[Future[str]])


def watched() -> None:
    """A future tells of its run, and when that has ended."""
    fi = none.submit()

    def ended(future: Future[int]) -> None:
        assert_type(future.result(), int)

    def any_ended(future: Future[object]) -> None:
        assert_type(future.done(), bool)

    assert_type(fi.add_done_callback(ended), None)
    assert_type(fi.add_done_callback(any_ended), None)
    assert_type(fi.task_run, TaskRun)
    assert_type(fi.task_run.tags, frozenset[str])
    assert_type(fi.cancel(), Cancellation)


def runs(run: TaskRun, flow_run: FlowRun) -> None:
    """Runs have names and ids."""
    assert_type(run.name, str)
    assert_type(run.id, str)
    assert_type(flow_run.flow_name, str)
    assert_type(flow_run.tags, frozenset[str])


def errors() -> None:
    """Every error of ours is an AnabranchError, and what else it is."""
    ours: AnabranchError = RunCancelledError("stopped")
    assert_type(str(ours), str)
    runtime: list[RuntimeError] = [
        assert_type(NotSubmittableError("here"), NotSubmittableError),
        assert_type(NotFinishedError("yet"), NotFinishedError),
        assert_type(WouldDeadlockError("ever"), WouldDeadlockError),
        assert_type(RunnerNotStartedError("first"), RunnerNotStartedError),
        assert_type(RunnerAlreadyStartedError("twice"), RunnerAlreadyStartedError),
    ]
    missing: ImportError = assert_type(MissingDependencyError("dask"), MissingDependencyError)
    late: TimeoutError = assert_type(RunTimedOutError("late"), RunTimedOutError)
    others: list[AnabranchError] = [
        assert_type(RemoteExceptionError("odd"), RemoteExceptionError),
        assert_type(ResultUnavailableError("gone"), ResultUnavailableError),
        assert_type(RunCrashedError("killed"), RunCrashedError),
        assert_type(UpstreamFailedError("first"), UpstreamFailedError),
    ]
    assert_type(len([*runtime, missing, late, *others]), int)
