"""A plain `with` of the local runners: when its loop comes, and how it all ends."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio.lowlevel
import pytest

from anabranch.futures import Backend, Cancelled, Future, TaskRunner
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.local import ConcurrentTaskRunner, SequentialTaskRunner, _workers
from anabranch.runners.local._async_runs import AsyncRuns
from anabranch.runners.local._run import LocalRun
from anabranch.runners.local._workers import _Worker

RUNNERS: list[type[TaskRunner]] = [ConcurrentTaskRunner, SequentialTaskRunner]
BACKENDS: list[Backend] = ["trio", "asyncio"]

#: How long something that should happen at once is waited for; reached by failing tests only.
PATIENCE = 10.0


def add(x: int, y: int = 0) -> int:
    """Return the sum."""
    return x + y


async def add_async(x: int, y: int = 0) -> int:
    """Return the sum, after letting the loop turn once."""
    await anyio.lowlevel.checkpoint()
    return x + y


def wait_at(ticket: Ticket) -> None:
    """Wait at a gate."""
    ticket.wait()


async def block_loop_at(ticket: Ticket) -> None:
    """Wait at a gate, and have all other async tasks wait as well."""
    ticket.wait()


def loop_threads(runner: TaskRunner) -> list[threading.Thread]:
    """Return the threads of a runner's own event loops that are alive."""
    return [each for each in threading.enumerate() if each.name == f"anabranch-{runner.name}"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", RUNNERS)
def test_the_loop_comes_with_the_first_async_task(kind: type[TaskRunner], backend: Backend) -> None:
    """Sync tasks need no event loop; the async ones share one, which ends with the runner."""
    runner = kind()
    runner.backend = backend
    with runner:
        assert runner.submit(add, 1, 2).result() == 3
        assert loop_threads(runner) == []
        futures = [runner.submit(add_async, number) for number in range(3)]
        assert len(loop_threads(runner)) == 1
        assert [future.result() for future in futures] == [0, 1, 2]
    assert loop_threads(runner) == []


@pytest.mark.parametrize("kind", RUNNERS)
def test_a_loop_that_was_not_started_is_started_anew(
    kind: type[TaskRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while a loop starts is raised by that submit, leaves no loop, and harms no other."""
    is_first = True

    def open_second(runner: TaskRunner) -> AbstractAsyncContextManager[AsyncRuns]:
        return interrupted() if is_first else open_runs(runner)

    @asynccontextmanager
    async def interrupted() -> AsyncIterator[AsyncRuns]:
        raise KeyboardInterrupt
        yield

    open_runs = AsyncRuns.open
    monkeypatch.setattr(AsyncRuns, "open", open_second)
    with kind() as runner:
        with pytest.raises(KeyboardInterrupt):
            runner.submit(add_async, 1)
        assert loop_threads(runner) == []
        is_first = False
        assert runner.submit(add_async, 2).result() == 2
        assert runner.statistics().submitted == 1


def test_leaving_joins_the_runs_of_both_kinds() -> None:
    """Async and sync runs have ended when the block has, and those that they submitted."""
    futures: list[Future[int]] = []

    def parent() -> None:
        futures.append(runner.submit(add_async, 1))
        futures.append(runner.submit(add, 2))

    with ConcurrentTaskRunner(max_workers=1) as runner:
        runner.submit(parent)
        futures.append(runner.submit(add_async, 3))
    assert sorted(future.result() for future in futures) == [1, 2, 3]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals between threads here")
@pytest.mark.usefixtures("no_grace")
def test_ctrl_c_while_it_joins(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who interrupts the end of the block does not wait for a thread that cannot be stopped."""
    main = threading.main_thread().ident
    assert main is not None
    futures: list[Future[None]] = []
    users = [threading.Thread(target=signal.pthread_kill, args=(main, signal.SIGINT))]

    def interrupt(run: LocalRun[object]) -> None:
        while users:
            users.pop().start()

    def body(gate: Gate) -> None:
        with runner:
            futures.append(runner.submit(wait_at, gate.ticket))
            gate.await_arrival()

    monkeypatch.setattr(LocalRun, "awaited", interrupt)
    runner = ConcurrentTaskRunner()
    with Gate() as gate, caplog.at_level(logging.WARNING, logger=runner.logger.name):
        with pytest.raises(KeyboardInterrupt):
            body(gate)
        assert isinstance(futures[0].state, Cancelled)
        assert runner.statistics().abandoned == 1
    assert [record.getMessage() for record in caplog.records] == [
        f"Abandoned run {futures[0].task_run.name!r}, which could not be stopped"
    ]


@pytest.mark.usefixtures("no_grace")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loop_that_a_task_blocks_is_abandoned_when_left_by_ctrl_c(
    backend: Backend, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named in the log, like the run, and not waited for; later it ends by itself."""
    monkeypatch.setattr("anabranch.futures._hosting._PATIENCE", 0.01)
    runner = ConcurrentTaskRunner()
    runner.backend = backend
    loops: list[threading.Thread] = []

    def body(gate: Gate) -> None:
        with runner:
            runner.submit(block_loop_at, gate.ticket)
            loops.extend(loop_threads(runner))
            gate.await_arrival()
            raise KeyboardInterrupt

    with Gate() as gate, caplog.at_level(logging.WARNING, logger=runner.logger.name):
        with pytest.raises(KeyboardInterrupt):
            body(gate)
        assert loops[0].is_alive()
    loops[0].join(PATIENCE)
    assert not loops[0].is_alive()
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert messages[1] == "Abandoned the event loop of the runner: a task blocks it"


# ---------------------------------------------------------------------------- threads


def interrupted(*_: object) -> None:
    """Stand in for what Ctrl-C meets."""
    raise KeyboardInterrupt


def submit_until_a_thread_is_woken(runner: TaskRunner) -> None:
    """Submit runs: a thread that has not fallen asleep yet takes the next one by itself."""
    for _ in range(10_000):
        runner.submit(abs, -2).result(timeout=10)


def test_ctrl_c_while_a_thread_is_woken_costs_the_pool_nothing() -> None:
    """The thread that was about to be called takes the next run, and the runner can be left."""
    with ConcurrentTaskRunner(max_workers=1) as runner:
        assert runner.submit(abs, -1).result() == 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_Worker, "wake", interrupted)
            with pytest.raises(KeyboardInterrupt):
                submit_until_a_thread_is_woken(runner)
        assert runner.submit(abs, -3).result(timeout=10) == 3


def test_ctrl_c_while_a_thread_is_started_costs_the_pool_nothing() -> None:
    """A thread that never began to run takes nobody's place."""
    with ConcurrentTaskRunner(max_workers=1) as runner:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_workers, "start_thread", interrupted)
            with pytest.raises(KeyboardInterrupt):
                runner.submit(abs, -1)
        assert runner.submit(abs, -2).result(timeout=10) == 2
