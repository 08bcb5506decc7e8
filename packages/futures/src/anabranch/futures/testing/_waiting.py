"""Behaviours: waiting for runs, and cancelling them."""

from __future__ import annotations

import logging
from queue import SimpleQueue
from typing import Final

import anyio

from anabranch.futures import (
    Cancellation,
    Cancelled,
    Failed,
    Future,
    RunCancelledError,
    UpstreamFailed,
    as_completed,
    gather,
    lift,
    wait,
)
from anabranch.futures.testing._behaviour import (
    NOT_IN_PLACE,
    Behaviour,
    Subject,
    raises,
    registrar,
    run_on_each_loop,
)
from anabranch.futures.testing._functions import (
    add,
    fail,
    wait_at,
)
from anabranch.futures.testing._gate import Gate

ROWS: Final[list[Behaviour]] = []
behaviour: Final = registrar(ROWS)


# ---------------------------------------------------------------------------- waiting


@behaviour(
    "returns None from wait when the time is over, and lets the run go on", not_for=NOT_IN_PLACE
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

    run_on_each_loop(main)


@behaviour("does not cancel a run with the wait for it", not_for=NOT_IN_PLACE)
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

    run_on_each_loop(main)


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
    future = subject.runner.submit(add, 1)
    logger.addFilter(_refuse)
    try:
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

    run_on_each_loop(main)


@behaviour("yields a run that has ended before one that has not", not_for=NOT_IN_PLACE)
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


@behaviour("divides futures into those that are done and those that are not", not_for=NOT_IN_PLACE)
def _(subject: Subject) -> None:
    with Gate() as gate:
        slow = subject.runner.submit(wait_at, gate.ticket)
        quick = subject.runner.submit(add, 1)
        quick.wait()
        assert wait([slow, quick], timeout=0.0) == ([quick], [slow])
        gate.open()
        assert wait([slow, quick]) == ([slow, quick], [])


# ---------------------------------------------------------------------------- cancelling


@behaviour("cancels a run that has not started, and its dependants with it", not_for=NOT_IN_PLACE)
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
