"""The behaviours of task runners."""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Awaitable, Callable, Mapping
from queue import SimpleQueue
from typing import Any, Final

import anyio

from anabranch.futures import (
    Backend,
    Cancellation,
    Cancelled,
    Completed,
    ConcurrencyType,
    Failed,
    Future,
    RunCancelledError,
    RunnerAlreadyStartedError,
    RunnerNotStartedError,
    TaskRun,
    UpstreamFailed,
    UpstreamFailedError,
    allow_failure,
    as_completed,
    gather,
    lift,
    quote,
    wait,
)
from anabranch.futures.runner import make_item, new_run_id
from anabranch.futures.testing._behaviour import Behaviour, Subject, raises
from anabranch.futures.testing._functions import (
    Box,
    Case,
    add,
    add_async,
    fail,
    fail_async,
    kind_of,
    same,
    total,
    unpack,
    wait_at,
)
from anabranch.futures.testing._gate import Gate

#: What every task runner must do.
BEHAVIOURS: Final[list[Behaviour]] = []

_IN_PLACE: Final = {
    ConcurrencyType.SEQUENTIAL: "its submit returns when the run has ended, in sync code"
}
_BACKENDS: Final[tuple[Backend, ...]] = ("trio", "asyncio")


def behaviour(
    name: str, not_for: Mapping[ConcurrencyType, str] | None = None
) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
    """Put a check into the table."""

    def register(check: Callable[[Subject], None]) -> Callable[[Subject], None]:
        BEHAVIOURS.append(Behaviour(name, check, not_for or {}))
        return check

    return register


def _after(subject: Subject, upstream: Future[Any], *args: object) -> Future[Any]:
    """Submit `same` to run after another run, whose value it does not get."""
    run = TaskRun(new_run_id(), "later", "same")
    return subject.runner.dispatch(make_item(same, args, {}, task_run=run, wait_for=(upstream,)))


def _run_async(main: Callable[[], Awaitable[None]]) -> None:
    for backend in _BACKENDS:
        anyio.run(main, backend=backend)


# ---------------------------------------------------------------------------- values


@behaviour("gives back what a function returns")
def _(subject: Subject) -> None:
    future = subject.runner.submit(add, 1, 2)
    assert future.result() == 3
    assert future.done()
    assert isinstance(future.state, Completed)
    assert future.state.value == 3
    assert str(future.state) == "Completed()"


@behaviour("passes keyword arguments")
def _(subject: Subject) -> None:
    assert subject.runner.submit(add, x=1, y=5).result() == 6


@behaviour("runs lambdas and closures")
def _(subject: Subject) -> None:
    offset = 5
    assert subject.runner.submit(lambda x: x + offset, 1).result() == 6


@behaviour("runs coroutine functions")
def _(subject: Subject) -> None:
    assert subject.runner.submit(add_async, 1, 2).result() == 3


@behaviour("gives back None, False and even exceptions that were returned, as values")
def _(subject: Subject) -> None:
    for value in (None, False, 0, ""):
        assert subject.runner.submit(same, value).result() == value
    returned = subject.runner.submit(same, KeyError("a value")).result()
    assert isinstance(returned, KeyError)


@behaviour("gives back the same object each time it is asked")
def _(subject: Subject) -> None:
    future = subject.runner.submit(same, [1, 2])
    assert future.result() is future.result()


@behaviour("brings back every one of many runs")
def _(subject: Subject) -> None:
    futures = [subject.runner.submit(add, number, 1) for number in range(100)]
    assert [future.result() for future in futures] == list(range(1, 101))


# ---------------------------------------------------------------------------- failures


@behaviour("raises what the function raised, of the same type and with the same arguments")
def _(subject: Subject) -> None:
    for function in (fail, fail_async):
        future = subject.runner.submit(function, "gone")
        with raises(LookupError, "gone"):
            future.result()
        error = future.exception()
        assert type(error) is LookupError
        assert error.args == ("gone", 42)
        assert isinstance(future.state, Failed)
        assert str(future.state) == "Failed(\"LookupError: ('gone', 42)\")"


@behaviour("returns the state from wait, and never raises the run's failure there")
def _(subject: Subject) -> None:
    state = subject.runner.submit(fail, "gone").wait()
    assert isinstance(state, Failed)
    assert isinstance(state.exception, LookupError)


@behaviour("returns the exception from result if asked not to raise it")
def _(subject: Subject) -> None:
    outcome = subject.runner.submit(fail, "gone").result(raise_on_failure=False)
    assert isinstance(outcome, LookupError)


@behaviour("refuses arguments that do not fit the function, naming them")
def _(subject: Subject) -> None:
    submit: Callable[..., Future[object]] = subject.runner.submit
    with raises(TypeError, "add()", "'z'"):
        submit(add, 1, z=2)
    with raises(TypeError, "add()", "'x'"):
        submit(add)


# ---------------------------------------------------------------------------- dependencies


@behaviour("replaces a future among the arguments by its value")
def _(subject: Subject) -> None:
    first = subject.runner.submit(add, 1, 1)
    assert subject.runner.submit(add, lift(first), lift(first)).result() == 4
    assert subject.runner.submit(add_async, lift(first), y=lift(first)).result() == 4


@behaviour("finds futures in lists, tuples, dicts, sets, dataclasses and attrs classes")
def _(subject: Subject) -> None:
    one, two = subject.runner.submit(add, 1), subject.runner.submit(add, 2)
    nested = {"a": [one, (two, 3)], "b": Box(Case([one])), "c": {two}, "d": frozenset({one})}
    assert subject.runner.submit(unpack, nested).result() == [1, 2, 3, 1, 2, 1]
    assert isinstance(nested["a"], list), "the caller's own containers are left alone"
    assert nested["a"][0] is one, "the caller's own containers are left alone"


@behaviour("runs a chain of runs, each on the one before")
def _(subject: Subject) -> None:
    future = subject.runner.submit(add, 0, 1)
    for _ in range(20):
        future = subject.runner.submit(add, lift(future), 1)
    assert future.result() == 21


@behaviour("gives a task the values of a whole list of futures")
def _(subject: Subject) -> None:
    futures = gather(subject.runner.submit(add, number) for number in range(4))
    assert subject.runner.submit(total, lift(futures)).result() == 6


@behaviour("takes futures of other runners")
def _(subject: Subject) -> None:
    foreign: Future[int] = Future(TaskRun("0" * 32, "foreign", "foreign"))
    threading.Thread(target=foreign.set_final, args=(Completed(7),)).start()
    assert subject.runner.submit(add, lift(foreign), 1).result() == 8


@behaviour("hands on what is quoted without looking for futures in it")
def _(subject: Subject) -> None:
    assert subject.runner.submit(total, quote([1, 2, 3])).result() == 6


@behaviour("never starts a run whose upstream failed, and tells the root cause")
def _(subject: Subject) -> None:
    failed = subject.runner.submit(fail, "gone")
    dependant = subject.runner.submit(add, lift(failed))
    state = dependant.wait()
    assert isinstance(state, UpstreamFailed)
    assert isinstance(state.cause, LookupError)
    assert failed.task_run.name in str(state)
    with raises(UpstreamFailedError, failed.task_run.name, "gone"):
        dependant.result()
    error = dependant.exception()
    assert error is not None
    assert isinstance(error.__cause__, LookupError)


@behaviour("tells the root cause at the end of a long chain")
def _(subject: Subject) -> None:
    future: Future[Any] = subject.runner.submit(fail, "gone")
    for _ in range(10):
        future = subject.runner.submit(same, [lift(future)])
    state = future.wait()
    assert isinstance(state, UpstreamFailed)
    assert isinstance(state.cause, LookupError)


@behaviour("passes a failure on as a value where that is allowed")
def _(subject: Subject) -> None:
    failed = subject.runner.submit(fail, "gone")
    assert subject.runner.submit(kind_of, allow_failure(failed)).result() == "LookupError"
    fine = subject.runner.submit(add, 1)
    assert subject.runner.submit(kind_of, allow_failure(fine)).result() == "int"


@behaviour("holds a run back until those that it waits for have completed")
def _(subject: Subject) -> None:
    assert _after(subject, subject.runner.submit(add, 1), 5).result() == 5
    state = _after(subject, subject.runner.submit(fail, "gone"), 5).wait()
    assert isinstance(state, UpstreamFailed)
    assert isinstance(state.cause, LookupError)


@behaviour("does not start a run before those that it waits for have ended", not_for=_IN_PLACE)
def _(subject: Subject) -> None:
    with Gate() as gate:
        first = subject.runner.submit(wait_at, gate.ticket)
        gate.await_arrival()
        second = _after(subject, first, 5)
        assert second.wait(timeout=0.0) is None
        assert not second.done()
        gate.open()
        assert second.result() == 5
        assert first.done()


# ---------------------------------------------------------------------------- waiting


@behaviour(
    "returns None from wait when the time is over, and lets the run go on", not_for=_IN_PLACE
)
def _(subject: Subject) -> None:
    with Gate() as gate:
        future = subject.runner.submit(wait_at, gate.ticket, 3)
        gate.await_arrival()
        assert future.wait(timeout=0.0) is None
        with raises(TimeoutError, future.task_run.name):
            future.result(timeout=0.0)
        assert not future.done()
        gate.open()
        assert future.result() == 3


@behaviour("can be awaited on trio and on asyncio")
def _(subject: Subject) -> None:
    async def main() -> None:
        assert await subject.runner.submit(add, 1, 2) == 3
        state = await subject.runner.submit(fail, "gone").wait_async()
        assert isinstance(state, Failed)
        with raises(LookupError, "gone"):
            await subject.runner.submit(fail, "gone")

    _run_async(main)


@behaviour("does not cancel a run with the wait for it", not_for=_IN_PLACE)
def _(subject: Subject) -> None:
    async def main() -> None:
        with Gate() as gate:
            future = subject.runner.submit(wait_at, gate.ticket, 3)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await future
            assert scope.cancelled_caught
            assert not future.done()
            gate.open()
            assert await future == 3

    _run_async(main)


@behaviour("calls done callbacks once, with the future, also when it is done already")
def _(subject: Subject) -> None:
    called: SimpleQueue[Future[int]] = SimpleQueue()
    future = subject.runner.submit(add, 1)
    future.add_done_callback(called.put)
    assert called.get(timeout=30) is future
    future.add_done_callback(called.put)
    assert called.get_nowait() is future
    assert called.empty()


@behaviour("lets no failing callback get in the way of a run")
def _(subject: Subject) -> None:
    def broken(_: Future[int]) -> None:
        raise RuntimeError("a broken callback")

    logger = logging.getLogger("anabranch.futures")
    logger.addFilter(_refuse)
    try:
        future = subject.runner.submit(add, 1)
        future.add_done_callback(broken)
        assert future.result() == 1
        future.add_done_callback(broken)
    finally:
        wait([future])
        logger.removeFilter(_refuse)


def _refuse(_: logging.LogRecord) -> bool:
    return False


@behaviour("yields futures as their runs end")
def _(subject: Subject) -> None:
    futures = [subject.runner.submit(add, number) for number in range(5)]
    assert sorted(future.result() for future in as_completed(futures)) == list(range(5))

    async def main() -> None:
        again = [subject.runner.submit(add, number) for number in range(5)]
        values = [future.result() async for future in as_completed(again)]
        assert sorted(values) == list(range(5))

    _run_async(main)


@behaviour("yields a run that has ended before one that has not", not_for=_IN_PLACE)
def _(subject: Subject) -> None:
    with Gate() as gate:
        slow = subject.runner.submit(wait_at, gate.ticket)
        gate.await_arrival()
        quick = subject.runner.submit(add, 1)
        stream = as_completed([slow, quick])
        assert next(stream) is quick
        gate.open()
        assert next(stream) is slow


@behaviour("gathers values in their order, and fails with the first failure")
def _(subject: Subject) -> None:
    futures = gather(subject.runner.submit(add, number) for number in range(5))
    assert futures.result() == list(range(5))
    with raises(LookupError, "gone"):
        gather([subject.runner.submit(add, 1), subject.runner.submit(fail, "gone")]).result()


@behaviour("divides futures into those that are done and those that are not", not_for=_IN_PLACE)
def _(subject: Subject) -> None:
    with Gate() as gate:
        slow = subject.runner.submit(wait_at, gate.ticket)
        quick = subject.runner.submit(add, 1)
        quick.wait()
        assert wait([slow, quick], timeout=0.0) == ([quick], [slow])
        gate.open()
        assert wait([slow, quick]) == ([slow, quick], [])


# ---------------------------------------------------------------------------- cancelling


@behaviour("cancels a run that has not started, and its dependants with it", not_for=_IN_PLACE)
def _(subject: Subject) -> None:
    with Gate() as gate:
        first = subject.runner.submit(wait_at, gate.ticket)
        pending = subject.runner.submit(add, lift(first))
        dependant = subject.runner.submit(add, lift(pending))
        assert pending.cancel() is Cancellation.CANCELLED
        assert isinstance(pending.wait(), Cancelled)
        with raises(RunCancelledError):
            pending.result()
        state = dependant.wait()
        assert isinstance(state, UpstreamFailed), state
        assert isinstance(state.cause, RunCancelledError)
        gate.open()
        assert first.result() == 0


@behaviour("says that a run that has ended cannot be stopped")
def _(subject: Subject) -> None:
    future = subject.runner.submit(add, 1)
    future.wait()
    assert future.cancel() is Cancellation.CANNOT_STOP
    assert future.result() == 1


# ---------------------------------------------------------------------------- starting, leaving


@behaviour("refuses work before it is started and after it has ended, showing how to start it")
def _(subject: Subject) -> None:
    runner = subject.make()
    with raises(RunnerNotStartedError, str(runner), "has not been started", f"with {runner}()"):
        runner.submit(add, 1)
    with runner:
        pass
    with raises(RunnerNotStartedError, str(runner), "not started any more"):
        runner.submit(add, 1)


@behaviour("refuses to be started twice, and goes on unharmed")
def _(subject: Subject) -> None:
    with raises(RunnerAlreadyStartedError, str(subject.runner), "duplicate()"), subject.runner:
        pass
    assert subject.runner.submit(add, 1).result() == 1


@behaviour("joins everything when it is left")
def _(subject: Subject) -> None:
    with subject.make() as runner:
        futures = [runner.submit(add, number) for number in range(10)]
    assert all(future.done() for future in futures)


@behaviour("cancels what is left when it is left by an exception, which comes out as it is")
def _(subject: Subject) -> None:
    error = KeyError("the body's own")
    never: Future[int] = Future(TaskRun("0" * 32, "never", "never"))
    pending: list[Future[int]] = []
    with raises(KeyError, "the body's own") as _, subject.make() as runner:
        if runner.concurrency_type is not ConcurrencyType.SEQUENTIAL:
            pending.append(runner.submit(add, lift(never)))
        raise error
    assert error.__cause__ is None
    assert error.__context__ is None
    assert all(isinstance(future.state, Cancelled) for future in pending)


@behaviour("starts in a running event loop, on trio and on asyncio")
def _(subject: Subject) -> None:
    async def main() -> None:
        async with subject.make().start() as runner:
            future = runner.submit(add, 1, 2)
            assert await future == 3
            assert await runner.submit(add_async, lift(future), 2) == 5
            left = runner.submit(add, 4)
        assert left.done()

    _run_async(main)


@behaviour("lets an exception out of an event loop's block as it is")
def _(subject: Subject) -> None:
    async def main() -> None:
        error = KeyError("the body's own")
        with raises(KeyError, "the body's own"):
            async with subject.make().start():
                raise error
        assert error.__context__ is None

    _run_async(main)


@behaviour("works in plain code where an event loop runs already")
def _(subject: Subject) -> None:
    async def main() -> None:
        with subject.make() as runner:
            assert runner.submit(add_async, 1, 2).result() == 3

    _run_async(main)


# ---------------------------------------------------------------------------- the rest


@behaviour("counts what it has done")
def _(subject: Subject) -> None:
    with subject.make() as runner:
        wait([runner.submit(add, 1), runner.submit(add, 2)])
        assert runner.statistics().submitted == 2
    assert runner.statistics().running == 0


@behaviour("is equal to its duplicate and to its pickled copy")
def _(subject: Subject) -> None:
    runner = subject.make()
    assert runner.duplicate() == runner
    assert runner.duplicate() is not runner
    assert pickle.loads(pickle.dumps(runner)) == runner
    assert hash(runner.duplicate()) == hash(runner)


@behaviour("says why a pickled copy of a started runner cannot submit")
def _(subject: Subject) -> None:
    copy: object = pickle.loads(pickle.dumps(subject.runner))
    assert isinstance(copy, type(subject.runner))
    with raises(RunnerNotStartedError, "pickled copy"):
        copy.submit(add, 1)


@behaviour("says why a future has no truth value and cannot be pickled")
def _(subject: Subject) -> None:
    future = subject.runner.submit(add, 1)
    with raises(TypeError, "truth value", "result()"):
        bool(future)
    with raises(TypeError, "cannot be pickled", future.task_run.name):
        pickle.dumps(future)
    future.wait()
