"""Behaviours: runs of runs, long chains, and what travels to other processes."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from anabranch.futures import (
    Backend,
    Completed,
    ConcurrencyType,
    Failed,
    NotSubmittableError,
    ResultUnavailableError,
    RunTimedOutError,
    TimedOut,
    UpstreamFailed,
    WouldDeadlockError,
    gather,
    lift,
    wait,
    wait_async,
)
from anabranch.futures.runner import AnyFunction
from anabranch.futures.testing._behaviour import (
    NOT_IN_PLACE,
    ONLY_IN_PARALLEL,
    AnyFuture,
    Behaviour,
    Subject,
    Unable,
    dispatch,
    dispatch_to,
    new_tally,
    raises,
    registrar,
    run_on_each_loop,
)
from anabranch.futures.testing._functions import (
    ODD_ERRORS,
    Case,
    Noted,
    add,
    add_async,
    descend,
    fail,
    fail_stubbornly,
    fail_with,
    fail_with_async,
    kind_of,
    library,
    same,
    submit_and_leave,
    submit_and_return,
    submit_and_wait,
    submit_dependants,
    wait_at,
)
from anabranch.futures.testing._gate import Gate

ROWS: Final[list[Behaviour]] = []
behaviour: Final = registrar(ROWS)


# ---------------------------------------------------------------------------- runs of runs


@behaviour("lets a run submit another and wait for it")
def _(subject: Subject) -> None:
    _require_nesting(subject)
    assert subject.runner.submit(submit_and_wait, 1).result() == 2


@behaviour("lets more runs than it has workers each wait for one of its own")
def _(subject: Subject) -> None:
    _require_nesting(subject)
    futures = [subject.runner.submit(submit_and_wait, number) for number in range(100)]
    assert gather(futures).result() == list(range(1, 101))
    assert subject.runner.submit(descend, 50).result() == 50


@behaviour(
    "joins what a run has submitted before the run ends",
    not_for=NOT_IN_PLACE,
)
def _(subject: Subject) -> None:
    _require_nesting(subject)
    with Gate() as gate:
        parent = subject.runner.submit(submit_and_leave, gate.ticket)
        gate.await_arrival()
        assert parent.wait(timeout=0.0) is None
        gate.open()
        assert parent.result() == 1


@behaviour("joins a run with the future that it returns")
def _(subject: Subject) -> None:
    _require_nesting(subject)
    value: object = subject.runner.submit(submit_and_return, 1).result()
    assert value == 2


@behaviour(
    "cancels what a run has submitted when its time is up",
    not_for=NOT_IN_PLACE,
)
def _(subject: Subject) -> None:
    _require_nesting(subject)
    with new_tally() as tally, Gate() as gate:
        parent = dispatch(subject, submit_dependants, gate.ticket, tally, time_limit=0.03)
        state = parent.wait(timeout=30)
        assert isinstance(state, TimedOut)
        assert isinstance(state.exception, RunTimedOutError)
        gate.open()
        assert subject.runner.submit(add, 1).result() == 1
        assert len(tally) == 0


def _require_nesting(subject: Subject) -> None:
    """Go on only if the runs of a runner can submit others."""
    try:
        subject.runner.submit(submit_and_wait, 1).result()
    except NotSubmittableError as error:
        raise Unable("its runs cannot submit others, and are told so") from error


# ---------------------------------------------------------------------------- many


@behaviour("ends a chain of several hundred runs, well or badly")
def _(subject: Subject) -> None:
    value: AnyFuture = subject.runner.submit(add, 0)
    failure: AnyFuture = subject.runner.submit(fail, "gone")
    for _ in range(300):
        value = subject.runner.submit(add, lift(value), 1)
        failure = subject.runner.submit(add, lift(failure), 1)
    assert value.result() == 300
    state = failure.wait()
    assert isinstance(state, UpstreamFailed)
    assert isinstance(state.cause, LookupError)


@behaviour("takes work from many threads")
def _(subject: Subject) -> None:
    runner = subject.runner
    before = runner.statistics().submitted
    with ThreadPoolExecutor(8) as pool:
        futures = list(pool.map(lambda number: runner.submit(add, number, 1), range(64)))
    assert [future.result() for future in futures] == list(range(1, 65))
    assert runner.statistics().submitted - before == 64


@behaviour("stops waiting for many at the first failure if asked to", not_for=NOT_IN_PLACE)
def _(subject: Subject) -> None:
    with Gate() as gate:
        slow = subject.runner.submit(wait_at, gate.ticket)
        failed = subject.runner.submit(fail, "gone")
        done, not_done = wait([slow, failed], fail_fast=True)
        assert (done, not_done) == ([failed], [slow])

        async def main() -> None:
            assert (await wait_async([slow, failed], fail_fast=True)).not_done == [slow]

        run_on_each_loop(main)
        gate.open()
        assert wait([slow, failed], fail_fast=False).not_done == []


# ---------------------------------------------------------------------------- event loops


@behaviour("refuses a wait that would block the run's own event loop for ever, with the fix")
def _(subject: Subject) -> None:
    async def main() -> None:
        async with subject.make().start() as runner:
            future = runner.submit(add_async, 1, 2)
            refusal = ""
            try:
                future.result()  # Goes on where the run does not need this loop.
            except WouldDeadlockError as error:
                refusal = str(error)
            assert "await" in refusal or future.done()
            assert await future == 3

    run_on_each_loop(main)


@behaviour("runs async tasks on the event loop that is asked for")
def _(subject: Subject) -> None:
    backends: tuple[Backend, ...] = ("trio", "asyncio")
    for backend in backends:
        if subject.concurrency_type is ConcurrencyType.PARALLEL:
            future = dispatch(subject, library, backend=backend)
        else:
            runner = subject.make()
            runner.backend = backend
            with runner:
                future = dispatch_to(runner, library, backend=backend)
        assert future.result() == backend


# ---------------------------------------------------------------------------- other processes


@behaviour("names an argument that cannot be sent, by the path to it", not_for=ONLY_IN_PARALLEL)
def _(subject: Subject) -> None:
    there = subject.runner.submit(add, 1)
    for value, path in (
        ({"db": [1, threading.Lock()]}, "'value'['db'][1]"),
        ({"db": [1, Case(threading.Lock())]}, "'value'['db'][1].content"),
        ({"a": there, "b": threading.Lock()}, "'value'['b']"),
    ):
        future = subject.runner.submit(kind_of, value)
        with raises(TypeError, future.task_run.name, f"argument {path} cannot be pickled"):
            future.result()
    method: AnyFunction[object] = Case(threading.Lock()).__eq__
    with raises(TypeError, "argument 'self'.content cannot be pickled"):
        subject.runner.submit(method, 1).result()
    assert subject.runner.submit(add, 1).result() == 1


@behaviour(
    "leaves a value where it was made until it is asked for, also when other runs take it",
    not_for=ONLY_IN_PARALLEL,
)
def _(subject: Subject) -> None:
    with new_tally() as tally:
        future = subject.runner.submit(Noted, tally)
        state = future.wait()
        assert isinstance(state, Completed)
        assert not state.is_local
        assert subject.runner.submit(kind_of, future).result() == "Noted"
        assert str(os.getpid()) not in tally.words()
        assert isinstance(future.result(), Noted)
        assert tally.words().count(str(os.getpid())) == 1


@behaviour("tells a failure whose exception cannot be pickled, with its type and its message")
def _(subject: Subject) -> None:
    for function in (fail_with, fail_with_async):
        for message, make, args in ODD_ERRORS:
            future: AnyFuture = subject.runner.submit(function, make, *args)
            state = future.wait()
            assert isinstance(state, Failed), state
            assert state.message == message
            assert isinstance(subject.runner.submit(add, lift(future)).wait(), UpstreamFailed)
    state = subject.runner.submit(fail_stubbornly).wait()
    assert isinstance(state, Failed)
    assert "this and that" in str(state.exception)


@behaviour(
    "gives back a value after the runner has ended, or says that it was left, and what to do"
)
def _(subject: Subject) -> None:
    subject.leave()  # Runners of one process may share a cluster, which ends with the last.
    with subject.make() as runner:
        left, kept = runner.submit(same, [1]), runner.submit(same, [2])
        assert kept.result() == [2]
        assert isinstance(left.wait(), Completed)
    assert kept.result() == [2]
    refusal = None
    try:
        assert left.result() == [1]
    except ResultUnavailableError as error:
        refusal = str(error)
    assert refusal is None or (left.task_run.name in refusal and "result()" in refusal)
