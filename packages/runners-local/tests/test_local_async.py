"""Local runners in event loops, and async tasks: started, seen, cancelled, never deadlocked."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

import anyio
import anyio.lowlevel
import pytest

from anabranch.futures import (
    Backend,
    Cancellation,
    Cancelled,
    Completed,
    Failed,
    Future,
    TaskRun,
    TaskRunner,
    WouldDeadlockError,
    lift,
)
from anabranch.futures.runner import current_scope, running_loop
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.local import ConcurrentTaskRunner, SequentialTaskRunner

R = TypeVar("R")

BACKENDS: list[Backend] = ["trio", "asyncio"]
RUNNERS: list[type[TaskRunner]] = [SequentialTaskRunner, ConcurrentTaskRunner]

#: How long a run that should end at once is waited for, in seconds; reached by failing tests only.
PATIENCE = 10.0


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run async tests on both kinds of event loop."""
    return str(request.param)


def hosted(kind: type[TaskRunner], backend: Backend) -> TaskRunner:
    """Make a runner that brings a loop of this kind along."""
    runner = kind()
    runner.backend = backend
    return runner


async def outcome(future: Future[R]) -> R:
    """Return the value of a run that has to end; if it does not, leave without waiting for it."""
    if await future.wait_async(timeout=PATIENCE) is None:
        pytest.fail(f"{future!r} never ended")
    return await future


def event() -> Future[None]:
    """Make something that tasks on any loop and in any thread can wait for."""
    return Future(TaskRun("0" * 32, "event", "event"))


def happen(future: Future[None]) -> None:
    """Let those who wait for an event go on."""
    future.set_final(Completed(None))


def add(x: int, y: int = 0) -> int:
    """Return the sum."""
    return x + y


async def add_async(x: int, y: int = 0) -> int:
    """Return the sum, after letting the loop turn once."""
    await anyio.lowlevel.checkpoint()
    return x + y


def wait_at(ticket: Ticket, value: int = 0) -> int:
    """Wait at a gate, then return the value."""
    ticket.wait()
    return value


def runner_here() -> TaskRunner:
    """Return the runner of the task that calls this."""
    scope = current_scope.get()
    assert scope is not None
    assert scope.runner is not None
    return scope.runner


async def where() -> tuple[str, int]:
    """Return the kind of loop that runs this, and its thread."""
    loop = running_loop()
    assert loop is not None
    await anyio.lowlevel.checkpoint()
    return loop.backend, loop.thread_id


# ------------------------------------------------------------------------- where tasks run


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", RUNNERS)
def test_async_tasks_in_sync_code_share_one_loop(kind: type[TaskRunner], backend: Backend) -> None:
    """All async tasks of a runner run in one loop, of the kind asked for, beside the caller."""
    with hosted(kind, backend) as runner:
        places = {runner.submit(where).result() for _ in range(3)}
    ((seen, thread),) = places
    assert seen == backend
    assert thread != threading.get_ident()


@pytest.mark.anyio
@pytest.mark.parametrize("kind", RUNNERS)
async def test_async_tasks_in_async_code_run_in_the_callers_loop(
    kind: type[TaskRunner], anyio_backend: str
) -> None:
    """In async code there is no other loop."""
    async with kind().start() as runner:
        assert await outcome(runner.submit(where)) == (anyio_backend, threading.get_ident())


@pytest.mark.anyio
@pytest.mark.parametrize("kind", RUNNERS)
async def test_sync_tasks_in_async_code_run_in_threads(kind: type[TaskRunner]) -> None:
    """The caller's loop is never blocked by a sync task."""
    async with kind().start() as runner:
        assert await outcome(runner.submit(threading.get_ident)) != threading.get_ident()


@pytest.mark.anyio
@pytest.mark.parametrize("kind", RUNNERS)
@pytest.mark.parametrize("inner", BACKENDS)
async def test_a_runner_with_a_loop_of_its_own_inside_a_running_loop(
    kind: type[TaskRunner], inner: Backend
) -> None:
    """A runner can bring a loop of either kind along though one of either kind is running."""

    async def sleep() -> str:
        await anyio.sleep(0)
        return (await where())[0]

    with hosted(kind, inner) as runner:
        assert runner.submit(sleep).result() == inner


@pytest.mark.anyio
@pytest.mark.parametrize("kind", RUNNERS)
@pytest.mark.parametrize("inner", BACKENDS)
async def test_a_sync_task_in_async_code_may_run_a_loop(
    kind: type[TaskRunner], inner: Backend
) -> None:
    """A sync task has a thread to itself, in which it can run an event loop of its own."""

    def run_loop() -> str:
        return anyio.run(where, backend=inner)[0]

    async with kind().start() as runner:
        assert await outcome(runner.submit(run_loop)) == inner


# ------------------------------------------------------------------------- concurrency


@pytest.mark.parametrize("backend", BACKENDS)
def test_async_tasks_are_concurrent(backend: Backend) -> None:
    """Two async tasks that wait for each other both end, though only one worker is allowed."""
    one, other = event(), event()

    def meeting(
        mine: Future[None], theirs: Future[None]
    ) -> Callable[[], Coroutine[object, object, str]]:
        # Not as arguments: a task gets the values of futures among those.
        async def meet() -> str:
            happen(mine)
            await theirs
            return "met"

        return meet

    runner = ConcurrentTaskRunner(max_workers=1)
    runner.backend = backend
    with runner:
        futures = [runner.submit(meeting(one, other)), runner.submit(meeting(other, one))]
        assert [future.result(timeout=PATIENCE) for future in futures] == ["met", "met"]


@pytest.mark.anyio
async def test_many_async_tasks_wait_together() -> None:
    """Async tasks take no worker: any number of them wait at once."""
    arrived = 0
    everybody = anyio.Event()

    async def arrive() -> None:
        nonlocal arrived
        arrived += 1
        if arrived == 100:
            everybody.set()
        await everybody.wait()

    async with ConcurrentTaskRunner(max_workers=1).start() as runner:
        for future in [runner.submit(arrive) for _ in range(100)]:
            await outcome(future)


# ------------------------------------------------------------------------- context variables

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


def read() -> str:
    """Return what the task sees, and change it."""
    seen = VARIABLE.get()
    VARIABLE.set("changed by the task")
    return seen


async def read_async() -> str:
    """Return what the task sees, and change it."""
    await anyio.lowlevel.checkpoint()
    return read()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", RUNNERS)
@pytest.mark.parametrize("function", [read, read_async])
def test_tasks_see_the_submitters_variables(
    kind: type[TaskRunner], backend: Backend, function: Callable[[], str]
) -> None:
    """A task sees the context variables as they were when it was submitted, in a copy."""
    with hosted(kind, backend) as runner:
        token = VARIABLE.set("the submitter's")
        try:
            assert runner.submit(function).result() == "the submitter's"
            assert VARIABLE.get() == "the submitter's"
        finally:
            VARIABLE.reset(token)
        assert runner.submit(function).result() == "unset"


@pytest.mark.anyio
@pytest.mark.parametrize("kind", RUNNERS)
@pytest.mark.parametrize("function", [read, read_async])
async def test_tasks_see_the_submitters_variables_in_loops(
    kind: type[TaskRunner], function: Callable[[], str]
) -> None:
    """In async code, too."""
    async with kind().start() as runner:
        token = VARIABLE.set("the submitter's")
        future = runner.submit(function)
        VARIABLE.reset(token)
        assert await outcome(future) == "the submitter's"
        assert VARIABLE.get() == "unset"


# ------------------------------------------------------------------------- cancelling


@pytest.mark.anyio
@pytest.mark.parametrize("kind", RUNNERS)
async def test_a_running_async_task_is_told_to_stop(kind: type[TaskRunner]) -> None:
    """Cancelling a running async task will stop it, after it has cleaned up."""
    started = anyio.Event()
    log: list[str] = []

    async def run() -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            log.append("cleaned up")

    async with kind().start() as runner:
        future = runner.submit(run)
        await started.wait()
        assert future.cancel() is Cancellation.WILL_STOP
        state = await future.wait_async(timeout=PATIENCE)
        assert isinstance(state, Cancelled)
        assert state.message == "The run was cancelled while it was running."
        assert log == ["cleaned up"]
        assert future.cancel() is Cancellation.CANCELLED
        assert await outcome(runner.submit(add_async, 1)) == 1, "others are unharmed"


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_async_task_is_cancelled_from_sync_code(backend: Backend) -> None:
    """A thread beside the loop can have an async task stopped."""
    started = threading.Event()

    async def run() -> None:
        started.set()
        await anyio.sleep_forever()

    with hosted(ConcurrentTaskRunner, backend) as runner:
        future = runner.submit(run)
        assert started.wait(timeout=PATIENCE)
        assert future.cancel() is Cancellation.WILL_STOP
        assert isinstance(future.wait(timeout=PATIENCE), Cancelled)


@pytest.mark.anyio
async def test_a_running_sync_task_cannot_be_stopped() -> None:
    """Cancelling a running sync task tells that it cannot be stopped, and it goes on."""
    with Gate() as gate:
        async with ConcurrentTaskRunner().start() as runner:
            future = runner.submit(wait_at, gate.ticket, 3)
            gate.await_arrival()
            assert future.cancel() is Cancellation.CANNOT_STOP
            gate.open()
            assert await outcome(future) == 3


@pytest.mark.anyio
async def test_a_cancelled_task_that_cleans_up_badly_has_not_crashed() -> None:
    """A cancelled task with a nursery, one of whose children raises while it is cancelled, failed.

    Its exception reaches the engine in a group beside the loop's own cancellation.
    """
    started = anyio.Event()

    async def child() -> None:
        try:
            started.set()
            await anyio.sleep_forever()
        finally:
            raise LookupError("boom")

    async def run() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(child)
            group.start_soon(anyio.sleep_forever)

    async with ConcurrentTaskRunner().start() as runner:
        future = runner.submit(run)
        await started.wait()
        future.cancel()
        state = await future.wait_async(timeout=PATIENCE)
        assert isinstance(state, Failed | Cancelled), state


@pytest.mark.anyio
@pytest.mark.parametrize("moment", ["body", "join"])
@pytest.mark.parametrize("kind", RUNNERS)
async def test_an_outer_cancel_scope_cancels_the_runs(kind: type[TaskRunner], moment: str) -> None:
    """What surrounds the runner can be cancelled: runs end with it, started or not."""
    started = anyio.Event()
    runs: list[Future[None] | Future[int]] = []
    never: Future[int] = Future(TaskRun("0" * 32, "never", "never"))

    async def run() -> None:
        started.set()
        await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        async with kind().start() as runner:
            runs.append(runner.submit(run))
            runs.append(runner.submit(add, lift(never)))
            await started.wait()
            if moment == "body":
                scope.cancel()
                await anyio.sleep_forever()
            else:
                running_loop().call_soon(scope.cancel)  # type: ignore[union-attr]  # It runs.
    assert scope.cancelled_caught
    assert [type(each.state) for each in runs] == [Cancelled, Cancelled]


async def cancel_own_task() -> None:
    """Wait for an asyncio task that something else cancels."""
    inner = asyncio.ensure_future(asyncio.sleep(3600))
    await asyncio.sleep(0)
    inner.cancel()
    await inner


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.anyio
async def test_a_cancellation_that_a_task_brings_on_itself_is_its_own() -> None:
    """On asyncio, a task that raises CancelledError though nobody cancelled it ends alone."""
    happened = anyio.Event()

    async def wait() -> str:
        await happened.wait()
        return "unharmed"

    async with ConcurrentTaskRunner().start() as runner:
        other = runner.submit(wait)
        state = await runner.submit(cancel_own_task).wait_async(timeout=PATIENCE)
        assert state is not None
        assert not state.is_completed()
        await anyio.wait_all_tasks_blocked()
        happened.set()
        assert await outcome(other) == "unharmed"
        assert await outcome(runner.submit(add_async, 1)) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("stop", ["cancel", "fail"])
async def test_a_task_that_is_stopped_while_it_joins_stops_its_children(stop: str) -> None:
    """A task that has returned waits for its children; cancelled in that, it cancels them."""
    started = anyio.Event()
    children: list[Future[None]] = []

    async def child() -> None:
        started.set()
        await anyio.sleep_forever()

    async def parent() -> None:
        scope = current_scope.get()
        assert scope is not None
        children.append(runner_here().submit(child))
        scope.adopt(children[0])
        if stop == "fail":
            await started.wait()
            raise LookupError("boom")

    async with ConcurrentTaskRunner().start() as runner:
        future = runner.submit(parent)
        await started.wait()
        if stop == "cancel":
            await anyio.wait_all_tasks_blocked()
            assert future.cancel() is Cancellation.WILL_STOP
        state = await future.wait_async(timeout=PATIENCE)
        ended = children[0].done()
        children[0].cancel()
    assert state is not None
    assert not state.is_completed()
    assert ended, "the child has ended before its parent"
    assert isinstance(children[0].state, Cancelled)


# ------------------------------------------------------------------------- deadlocks


@pytest.mark.anyio
@pytest.mark.parametrize("kind", RUNNERS)
async def test_blocking_the_loop_for_an_async_task_raises(kind: type[TaskRunner]) -> None:
    """A blocking wait in the loop that has to run the task raises, with what to write instead."""
    async with kind().start() as runner:
        future = runner.submit(add_async, 1)
        with pytest.raises(
            WouldDeadlockError,
            match=rf"{future.task_run.name}' here would never end: .*Use `await future`",
        ):
            future.result()
        assert await outcome(future) == 1
        assert future.result() == 1


@pytest.mark.anyio
@pytest.mark.parametrize("kind", RUNNERS)
async def test_blocking_the_loop_for_what_depends_on_an_async_task_raises(
    kind: type[TaskRunner],
) -> None:
    """A sync task that waits for an async one needs the loop as well."""
    async with kind().start() as runner:
        future = runner.submit(add, lift(runner.submit(add_async, 1)), 1)
        further = runner.submit(add, lift(future), 1)
        with pytest.raises(WouldDeadlockError, match="Use `await future`"):
            further.result()
        assert await outcome(further) == 3


@pytest.mark.anyio
async def test_blocking_the_loop_for_a_plain_sync_task_works() -> None:
    """A sync task on a thread needs no loop, so that a blocking wait for it ends."""
    async with ConcurrentTaskRunner().start() as runner:
        first = runner.submit(add, 1)
        assert runner.submit(add, lift(first), 1).result(timeout=PATIENCE) == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_blocking_the_loop_beside_sync_code_raises(backend: Backend) -> None:
    """An async task in a loop of the runner's own must not block that loop either."""

    async def parent() -> str:
        child = runner_here().submit(add_async, 1)
        with pytest.raises(WouldDeadlockError, match="Use `await future`"):
            child.result()
        return f"awaited {await child}"

    with hosted(ConcurrentTaskRunner, backend) as runner:
        future = runner.submit(parent)
        assert future.result(timeout=PATIENCE) == "awaited 1"


@pytest.mark.anyio
async def test_blocking_the_loop_for_a_task_of_another_loop_works(anyio_backend: str) -> None:
    """A runner with a loop of its own can be waited for in a running loop."""
    with hosted(ConcurrentTaskRunner, "trio") as runner:
        assert runner.submit(add_async, 1).result(timeout=PATIENCE) == 1


# ------------------------------------------------------------------------- leaving


@pytest.mark.anyio
@pytest.mark.parametrize("kind", RUNNERS)
async def test_leaving_waits_for_tasks_of_both_kinds(kind: type[TaskRunner]) -> None:
    """The block ends when every task has, sync or async."""
    log: list[str] = []

    async def run_async() -> None:
        await anyio.wait_all_tasks_blocked()
        log.append("async")

    async with kind().start() as runner:
        runner.submit(run_async)
        runner.submit(log.append, "sync")
    assert sorted(log) == ["async", "sync"]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", RUNNERS)
async def test_an_async_task_that_raises_harms_no_other(kind: type[TaskRunner]) -> None:
    """A failing async task neither fails the runner nor cancels its siblings."""

    async def fail() -> None:
        raise LookupError("boom")

    async with kind().start() as runner:
        failed, fine = runner.submit(fail), runner.submit(add_async, 1)
        state = await failed.wait_async(timeout=PATIENCE)
        assert isinstance(state, Failed)
        assert await outcome(fine) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_awaitable_is_left_behind(backend: Backend) -> None:
    """An async task that is cancelled before it starts leaves no coroutine that was never run."""
    never: Future[int] = Future(TaskRun("0" * 32, "never", "never"))

    async def run() -> None:
        async with ConcurrentTaskRunner().start() as runner:
            future = runner.submit(add_async, lift(never))
            assert future.cancel() is Cancellation.CANCELLED

    main: Callable[[], Awaitable[None]] = run
    anyio.run(main, backend=backend)
