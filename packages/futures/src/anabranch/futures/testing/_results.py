"""Behaviours: values, failures, and runs that depend on others."""

from __future__ import annotations

import threading
from typing import Final

from anabranch.futures import (
    Completed,
    Failed,
    Future,
    TaskRun,
    UpstreamFailed,
    UpstreamFailedError,
    allow_failure,
    gather,
    lift,
    quote,
)
from anabranch.futures.runner import AnyFunction
from anabranch.futures.testing._behaviour import (
    NOT_IN_PLACE,
    AnyFuture,
    Behaviour,
    Subject,
    raises,
    registrar,
    submit_after,
)
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

ROWS: Final[list[Behaviour]] = []
behaviour: Final = registrar(ROWS)


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
    submit: AnyFunction[Future[object]] = subject.runner.submit
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
    future: AnyFuture = subject.runner.submit(fail, "gone")
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
    assert submit_after(subject, subject.runner.submit(add, 1), 5).result() == 5
    state = submit_after(subject, subject.runner.submit(fail, "gone"), 5).wait()
    assert isinstance(state, UpstreamFailed)
    assert isinstance(state.cause, LookupError)


@behaviour("does not start a run before those that it waits for have ended", not_for=NOT_IN_PLACE)
def _(subject: Subject) -> None:
    with Gate() as gate:
        first = subject.runner.submit(wait_at, gate.ticket)
        gate.await_arrival()
        second = submit_after(subject, first, 5)
        assert second.wait(timeout=0.0) is None
        assert not second.done()
        gate.open()
        assert second.result() == 5
        assert first.done()
