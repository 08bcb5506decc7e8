"""Behaviours: starting and leaving a runner, and what it says of itself."""

from __future__ import annotations

import pickle
from typing import Final

from anabranch.futures import (
    Cancelled,
    ConcurrencyType,
    Future,
    RunnerAlreadyStartedError,
    RunnerNotStartedError,
    TaskRun,
    lift,
    wait,
)
from anabranch.futures.testing._behaviour import (
    Behaviour,
    Subject,
    raises,
    registrar,
    run_on_each_loop,
)
from anabranch.futures.testing._functions import (
    add,
    add_async,
)

ROWS: Final[list[Behaviour]] = []
behaviour: Final = registrar(ROWS)


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

    run_on_each_loop(main)


@behaviour("lets an exception out of an event loop's block as it is")
def _(subject: Subject) -> None:
    async def main() -> None:
        error = KeyError("the body's own")
        with raises(KeyError, "the body's own"):
            async with subject.make().start():
                raise error
        assert error.__context__ is None

    run_on_each_loop(main)


@behaviour("works in plain code where an event loop runs already")
def _(subject: Subject) -> None:
    async def main() -> None:
        with subject.make() as runner:
            assert runner.submit(add_async, 1, 2).result() == 3

    run_on_each_loop(main)


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
