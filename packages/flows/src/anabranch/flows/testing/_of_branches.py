"""Behaviours of branches, and the ways out of a flow."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from typing import Final

import anyio

from anabranch.flows._branch import branch
from anabranch.flows._decorators import flow
from anabranch.flows.testing._functions import add, fail, hold, note, sleep_noted
from anabranch.futures import (
    Cancelled,
    Completed,
    Future,
    RunCancelledError,
    RunTimedOutError,
    UpstreamFailed,
    WouldDeadlockError,
)
from anabranch.futures.testing import (
    NOT_IN_PLACE,
    Behaviour,
    Gate,
    Subject,
    new_tally,
    raises,
    registrar,
    run_on_each_loop,
)

ROWS: Final[list[Behaviour]] = []
behaviour: Final = registrar(ROWS)


# ---------------------------------------------------------------------------- branches


@behaviour("joins what is submitted in a branch at its end, and no more, in sync and async code")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    def body() -> int:
        with branch("inner"):
            futures = [add.submit(1), add.submit(add.submit(2), 1), fail.submit("gone")]
        assert all(future.done() for future in futures)
        return futures[1].result()

    @flow(task_runner=subject.make())
    async def body_async() -> int:
        async with branch():
            future = add.submit(1)
        assert future.done()
        return await future

    async def main() -> None:
        assert await body_async() == 1

    assert body() == 3
    run_on_each_loop(main)


@behaviour("cancels the rest of a branch at the first failure, if it is to fail fast")
def _(subject: Subject) -> None:
    with new_tally() as tally:

        @flow(task_runner=subject.make())
        async def body() -> str:
            with raises(LookupError, "gone"):
                async with branch(fail_fast=True):
                    failed = fail.submit("gone")
                    sleeping = sleep_noted.submit(tally)
                    behind = note.submit(tally, sleeping)
            assert failed.done()
            assert isinstance(sleeping.state, Cancelled)
            assert isinstance(behind.state, Cancelled | UpstreamFailed)
            return "done"

        async def main() -> None:
            assert await body() == "done"

        run_on_each_loop(main)
        assert set(tally.words()) <= {"started", "stopped"}


@behaviour("cancels the rest of a branch in sync code as well", not_for=NOT_IN_PLACE)
def _(subject: Subject) -> None:
    with new_tally() as tally:

        @flow(task_runner=subject.make())
        def body() -> str:
            with raises(LookupError, "gone"), branch(fail_fast=True):
                sleeping = sleep_noted.submit(tally)
                fail.submit("gone")
            assert isinstance(sleeping.state, Cancelled)
            with branch() as inner:
                other = sleep_noted.submit(tally)
                inner.cancel()
            assert isinstance(other.state, Cancelled)
            return "done"

        assert body() == "done"


@behaviour("ends a branch when its time is up, runs that cannot be stopped included")
def _(subject: Subject) -> None:
    with new_tally() as tally, Gate() as gate:

        @flow(task_runner=subject.make())
        async def body() -> str:
            with raises(RunTimedOutError, "'late'", "0.05 s"):
                async with branch("late", timeout=0.05):
                    held = hold.submit(gate.ticket)
                    behind = note.submit(tally, held)
            assert isinstance(held.state, Cancelled)
            assert isinstance(behind.state, Cancelled | UpstreamFailed)
            gate.open()
            assert await add.submit(1) == 1
            return "done"

        assert anyio.run(body, backend="trio") == "done"
        assert len(tally) == 0


@behaviour("has an anyio cancel scope around a branch reach its runs, wherever they execute")
def _(subject: Subject) -> None:
    with new_tally() as tally:

        @flow(task_runner=subject.make())
        async def body() -> Future[int]:
            with anyio.move_on_after(0.05):
                async with branch():
                    future = sleep_noted.submit(tally)
            assert isinstance(future.state, Cancelled)
            assert await add.submit(1) == 1
            return add.submit(2)

        async def main() -> None:
            assert (await body()).result() == 2

        run_on_each_loop(main)
        assert tally.words().count("started") <= 2


@behaviour("refuses a sync branch in async code, and says what to write")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    async def body() -> int:
        with raises(WouldDeadlockError, "async with branch(...)"), branch():
            pass
        return await add.submit(1)

    async def main() -> None:
        assert await body() == 1

    run_on_each_loop(main)


# ---------------------------------------------------------------------------- ways out


@behaviour("joins all runs before a flow ends")
def _(subject: Subject) -> None:
    futures: list[Future[int]] = []

    @flow(task_runner=subject.make())
    def body() -> str:
        futures.extend(add.submit(number) for number in range(10))
        futures.append(add.submit(futures[-1]))
        return "done"

    body()
    assert all(isinstance(future.state, Completed) for future in futures)


@behaviour("cancels what a flow has submitted when the flow raises")
def _(subject: Subject) -> None:
    futures: list[Future[int]] = []
    with new_tally() as tally:

        @flow(task_runner=subject.make())
        async def body() -> int:
            futures.append(sleep_noted.submit(tally))
            futures.append(note.submit(tally, futures[-1]))
            raise KeyError("the body's own")

        async def main() -> None:
            with raises(KeyError, "the body's own"):
                await body()

        run_on_each_loop(main)
    assert all(isinstance(each.state, Cancelled | UpstreamFailed) for each in futures)


@behaviour("cancels what a flow has submitted when what surrounds the flow is cancelled")
def _(subject: Subject) -> None:
    futures: list[Future[int]] = []
    with new_tally() as tally:

        @flow(task_runner=subject.make())
        async def body() -> int:
            futures.append(sleep_noted.submit(tally))
            return await futures[-1]

        async def main() -> None:
            with anyio.move_on_after(0.05) as scope:
                await body()
            assert scope.cancelled_caught

        run_on_each_loop(main)
    assert all(isinstance(each.state, Cancelled) for each in futures)
    with raises(RunCancelledError):
        futures[0].result()


_SCRIPT: Final = """
import pickle, sys
from anabranch.flows import flow
from anabranch.flows.testing._functions import hold

if __name__ == "__main__":
    runner, ticket = pickle.loads(bytes.fromhex(sys.argv[1]))

    @flow(task_runner=runner)
    def body():
        return hold.submit(ticket).result()

    body()
"""


def _end_by(subject: Subject, number: signal.Signals) -> tuple[int, str]:
    """Send a signal to a program whose flow waits for a task, and return how it ends."""
    with Gate() as gate:
        given = pickle.dumps((subject.make(), gate.ticket)).hex()
        with subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, given],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "ANABRANCH_LOGGING": "on"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as program:
            try:
                gate.await_arrival()
                program.send_signal(number)
                _, log = program.communicate(timeout=60)
            finally:
                program.kill()
    return program.returncode, log


@behaviour("ends on one Ctrl-C, as Cancelled, while a task blocks")
def _(subject: Subject) -> None:
    code, log = _end_by(subject, signal.SIGINT)
    # A shell reports it as 130.
    assert code == -signal.SIGINT, (code, log)
    assert "Finished in state Cancelled" in log
    assert "KeyboardInterrupt" in log


@behaviour("ends on SIGTERM, as Cancelled, while a task blocks, with exit code 143")
def _(subject: Subject) -> None:
    code, log = _end_by(subject, signal.SIGTERM)
    assert code == 143, (code, log)
    assert "Finished in state Cancelled" in log
