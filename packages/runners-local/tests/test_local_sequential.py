"""The sequential runner: in place in sync code, and in turns in async code."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import anyio
import anyio.lowlevel
import pytest

from anabranch.futures import (
    Backend,
    Cancelled,
    Completed,
    Future,
    TaskRun,
    TaskRunner,
    UpstreamFailed,
    WouldDeadlockError,
    as_completed,
    gather,
    lift,
    wait,
)
from anabranch.futures.runner import current_scope
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.local import SequentialTaskRunner

R = TypeVar("R")

BACKENDS: list[Backend] = ["trio", "asyncio"]

#: How long a run that should end at once is waited for, in seconds; reached by failing tests only.
PATIENCE = 5.0


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run async tests on both kinds of event loop."""
    return str(request.param)


async def outcome(future: Future[R]) -> R:
    """Return the value of a run that has to end; if it does not, leave without waiting for it."""
    if await future.wait_async(timeout=PATIENCE) is None:
        pytest.fail(f"{future!r} never ended")
    return await future


def runner_here() -> TaskRunner:
    """Return the runner of the task that calls this."""
    scope = current_scope.get()
    assert scope is not None
    assert scope.runner is not None
    return scope.runner


def add(x: int, y: int = 0) -> int:
    """Return the sum."""
    return x + y


async def add_async(x: int, y: int = 0) -> int:
    """Return the sum, after letting the loop turn once."""
    await anyio.lowlevel.checkpoint()
    return x + y


def fail() -> int:
    """Raise a LookupError."""
    raise LookupError("boom")


def wait_at(ticket: Ticket, value: int = 0) -> int:
    """Wait at a gate, then return the value."""
    ticket.wait()
    return value


def loop_threads() -> list[threading.Thread]:
    """Return the loop threads of sequential runners that are alive."""
    return [each for each in threading.enumerate() if each.name == "anabranch-sequential"]


# ------------------------------------------------------------------------- in sync code


def test_tasks_run_there_and_then_in_the_callers_thread() -> None:
    """In sync code, submit returns when the task has ended, having run it in its own thread."""
    with SequentialTaskRunner() as runner:
        future = runner.submit(threading.get_ident)
        assert future.done()
        assert future.result() == threading.get_ident()
        assert not runner.submit(fail).state.is_completed()


def test_tasks_run_in_the_order_of_submission() -> None:
    """Sync and async tasks run one after the other, as they were submitted."""
    order: list[int] = []

    async def note(number: int) -> None:
        await anyio.lowlevel.checkpoint()
        order.append(number)

    with SequentialTaskRunner() as runner:
        for number in range(10):
            if number % 2:
                runner.submit(note, number)
            else:
                runner.submit(order.append, number)
            assert order[-1] == number
    assert order == list(range(10))


def test_async_tasks_are_done_when_submit_returns() -> None:
    """An async task is waited for there and then, which is no look at its outcome."""
    with SequentialTaskRunner() as runner:
        future = runner.submit(add_async, 1, 2)
        assert future.done()
        assert not future.was_observed()
        assert future.result() == 3


def test_nested_submissions_run_there_and_then() -> None:
    """A task that submits another is in the middle of its own run while that one runs."""
    order: list[str] = []

    def parent() -> None:
        order.append("parent begins")
        runner_here().submit(order.append, "child")
        order.append("parent ends")

    with SequentialTaskRunner() as runner:
        runner.submit(parent)
    assert order == ["parent begins", "child", "parent ends"]


def test_sync_code_needs_no_loop_until_an_async_task_comes() -> None:
    """A loop thread is started with the first async task, and is gone with the runner."""
    with SequentialTaskRunner() as runner:
        runner.submit(add, 1)
        assert loop_threads() == []
        runner.submit(add_async, 1)
        (thread,) = loop_threads()
        assert thread.daemon
        runner.submit(add_async, 1)
        assert loop_threads() == [thread]
    assert not thread.is_alive()


def test_threads_that_submit_at_once_share_one_loop() -> None:
    """The first async tasks of several threads start one loop between them, which ends as usual."""
    barrier = threading.Barrier(4, timeout=PATIENCE)

    async def loop_here() -> int:
        return threading.get_ident()

    def submit(runner: SequentialTaskRunner) -> int:
        barrier.wait()
        return runner.submit(loop_here).result()

    for _ in range(5):
        with SequentialTaskRunner() as runner, ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(submit, [runner] * 4))) == 1
        assert loop_threads() == []


def test_a_dependant_of_a_failed_run_never_runs() -> None:
    """In place as well, a run whose upstream failed is not started."""
    log: list[int] = []
    with SequentialTaskRunner() as runner:
        future = runner.submit(log.append, lift(runner.submit(fail)))
        assert isinstance(future.state, UpstreamFailed)
        further = runner.submit(add, lift(runner.submit(add_async, 1)), 1)
        assert further.result() == 2
    assert log == []


@pytest.mark.parametrize("error", [KeyboardInterrupt("now"), SystemExit(3)])
def test_ctrl_c_in_an_in_place_task_comes_out(error: BaseException) -> None:
    """The caller's own thread was meant: what is no ordinary exception leaves submit as it is."""

    def interrupted() -> None:
        raise error

    with SequentialTaskRunner() as runner:
        with pytest.raises(type(error)) as caught:
            runner.submit(interrupted)
        assert caught.value is error
        assert runner.submit(add, 1).result() == 1


def test_ctrl_c_in_a_nested_in_place_task_comes_out_of_all() -> None:
    """It is not taken for the failure of the parent either."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    def parent() -> None:
        runner_here().submit(interrupted)

    with pytest.raises(KeyboardInterrupt), SequentialTaskRunner() as runner:
        runner.submit(parent)


def test_a_runner_can_be_used_in_a_loop_first_and_beside_sync_code_then() -> None:
    """What a runner had while it was started in a loop is gone with that loop."""
    runner = SequentialTaskRunner()

    async def main() -> int:
        async with runner.start():
            return await outcome(runner.submit(add_async, 1))

    assert anyio.run(main) == 1
    with runner:
        assert runner.submit(add, 2).result() == 2
        assert runner.submit(add_async, 3).result() == 3


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_async_task_in_sync_code_submits_and_awaits(backend: Backend) -> None:
    """An async task cannot run another of its loop in place: it queues it, and awaits it."""

    async def parent() -> int:
        return await runner_here().submit(add_async, 1) + await runner_here().submit(add, 1)

    runner = SequentialTaskRunner()
    runner.backend = backend
    with runner:
        assert runner.submit(parent).result() == 2


def test_an_async_task_in_sync_code_submits_what_depends_on_an_async_one() -> None:
    """A sync task that waits for an async one is queued by an async task, too."""

    async def parent() -> int:
        runner = runner_here()
        first = runner.submit(add_async, 1)
        return await runner.submit(add, lift(first), 1)

    with SequentialTaskRunner() as runner:
        assert runner.submit(parent).result() == 2


# ------------------------------------------------------------------------- in async code


@pytest.mark.anyio
async def test_tasks_queue_in_async_code() -> None:
    """In async code each task starts when the one before it has ended; the loop goes on."""
    with Gate() as gate:
        async with SequentialTaskRunner().start() as runner:
            first = runner.submit(wait_at, gate.ticket, 1)
            second = runner.submit(add, 2)
            gate.await_arrival()
            await anyio.wait_all_tasks_blocked()
            statistics = runner.statistics()
            assert (statistics.running, statistics.pending) == (1, 1)
            gate.open()
            assert await outcome(second) == 2
            assert first.done()


@pytest.mark.anyio
async def test_tasks_run_one_at_a_time_in_order_in_async_code() -> None:
    """Sync and async tasks take turns, and never overlap."""
    log: list[str] = []

    def run(number: int) -> None:
        log.extend([f"begin {number}", f"end {number}"])

    async def run_async(number: int) -> None:
        log.append(f"begin {number}")
        await anyio.lowlevel.checkpoint()
        log.append(f"end {number}")

    async with SequentialTaskRunner().start() as runner:
        for number in range(0, 10, 2):
            runner.submit(run, number)
            runner.submit(run_async, number + 1)
    assert log == [f"{what} {number}" for number in range(10) for what in ("begin", "end")]


@pytest.mark.anyio
async def test_a_run_takes_its_turn_when_it_is_ready() -> None:
    """A run that waits for something else holds up nobody."""
    late: Future[int] = Future(TaskRun("0" * 32, "late", "late"))
    order: list[str] = []
    async with SequentialTaskRunner().start() as runner:
        runner.submit(lambda _: order.append("dependant"), late)
        await outcome(runner.submit(order.append, "other"))
        late.set_final(Completed(1))
    assert order == ["other", "dependant"]


@pytest.mark.anyio
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_tasks_own_child_goes_out_of_turn(is_async: bool) -> None:
    """A task that waits for its child lets it go first, and before what else is queued."""
    order: list[str] = []

    def child() -> int:
        order.append("child")
        return 5

    async def child_async() -> int:
        return child()

    def parent() -> int:
        runner = runner_here()
        queued = runner.submit(order.append, "another")
        value = runner.submit(child_async).result() + runner.submit(child).result()
        assert not queued.done()
        return value

    async def parent_async() -> int:
        runner = runner_here()
        queued = runner.submit(order.append, "another")
        value = await runner.submit(child_async) + await runner.submit(child)
        assert not queued.done()
        return value

    async with SequentialTaskRunner().start() as runner:
        future = runner.submit(parent_async) if is_async else runner.submit(parent)
        runner.submit(order.append, "later")
        assert await outcome(future) == 10
    assert sorted(order[2:]) == ["another", "later"]
    assert order[:2] == ["child", "child"]


@pytest.mark.anyio
async def test_what_a_child_depends_on_goes_out_of_turn_with_it() -> None:
    """A task may wait for the end of a chain of its own runs."""

    async def parent() -> int:
        future = runner_here().submit(add_async, 0)
        for _ in range(20):
            future = runner_here().submit(add, lift(future), 1)
        return await future

    async with SequentialTaskRunner().start() as runner:
        assert await outcome(runner.submit(parent)) == 20


async def gather_async(futures: list[Future[int]]) -> list[int]:
    """Await a list."""
    return await gather(futures)


async def as_completed_async(futures: list[Future[int]]) -> list[int]:
    """Take futures as they come."""
    return sorted([each.result() async for each in as_completed(futures)])


async def one_by_one_async(futures: list[Future[int]]) -> list[int]:
    """Await each."""
    return [await each for each in futures]


async def with_timeout_async(futures: list[Future[int]]) -> list[int]:
    """Wait for each, for so long."""
    for each in futures:
        await each.wait_async(timeout=PATIENCE / 2)
    return [each.result() for each in futures]


@pytest.mark.anyio
@pytest.mark.parametrize("child", [add, add_async])
@pytest.mark.parametrize(
    "collect", [one_by_one_async, with_timeout_async, gather_async, as_completed_async]
)
async def test_every_kind_of_async_wait_lets_children_go_first(
    collect: Callable[[list[Future[int]]], Awaitable[list[int]]],
    child: Callable[[int], int],
) -> None:
    """However an async task waits for its children, they get their turn."""

    async def parent() -> list[int]:
        return await collect([runner_here().submit(child, number) for number in range(3)])

    async with SequentialTaskRunner().start() as runner:
        assert await outcome(runner.submit(parent)) == [0, 1, 2]


@pytest.mark.anyio
@pytest.mark.parametrize("child", [add, add_async])
@pytest.mark.parametrize(
    "collect",
    [
        lambda futures: [each.result() for each in futures],
        lambda futures: gather(futures).result(),
        lambda futures: [each.result() for each in wait(futures).done],
        lambda futures: sorted(each.result() for each in as_completed(futures)),
        lambda futures: [each.result(timeout=PATIENCE / 2) for each in futures],
        lambda futures: gather(futures).result(timeout=PATIENCE / 2),
        lambda futures: sorted(
            each.result() for each in as_completed(futures, timeout=PATIENCE / 2)
        ),
    ],
    ids=[
        "result",
        "gather",
        "wait",
        "as_completed",
        "result with timeout",
        "gather with timeout",
        "as_completed with timeout",
    ],
)
async def test_every_kind_of_wait_lets_children_go_first(
    collect: Callable[[list[Future[int]]], list[int]],
    child: Callable[[int], int],
) -> None:
    """However a sync task waits for its children, they get their turn."""

    def parent() -> list[int]:
        return collect([runner_here().submit(child, number) for number in range(3)])

    async with SequentialTaskRunner().start() as runner:
        assert await outcome(runner.submit(parent)) == [0, 1, 2]


@pytest.mark.anyio
@pytest.mark.parametrize("collect", [gather_async, as_completed_async])
async def test_children_that_are_waited_for_together_still_take_turns(
    collect: Callable[[list[Future[int]]], Awaitable[list[int]]],
) -> None:
    """Out of turn does not mean at once: the children of a task never overlap either."""
    log: list[str] = []

    async def child(number: int) -> int:
        log.append(f"begin {number}")
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        log.append(f"end {number}")
        return number

    async def parent() -> list[int]:
        return await collect([runner_here().submit(child, number) for number in range(3)])

    async with SequentialTaskRunner().start() as runner:
        assert await outcome(runner.submit(parent)) == [0, 1, 2]
    assert log == [f"{what} {number}" for number in range(3) for what in ("begin", "end")]


@pytest.mark.anyio
async def test_a_task_with_many_children_leaves_the_queue_in_order() -> None:
    """500 children that the waiting thread ran itself are passed over when the queue goes on."""

    def parent() -> int:
        runner = runner_here()
        return sum(future.result() for future in [runner.submit(add, 1) for _ in range(500)])

    async with SequentialTaskRunner().start() as runner:
        assert await outcome(runner.submit(parent)) == 500
        assert await outcome(runner.submit(add, 1)) == 1


@pytest.mark.anyio
async def test_many_cancelled_runs_are_passed_over() -> None:
    """500 queued runs that were cancelled do not hold up the next one."""
    with Gate() as gate:
        async with SequentialTaskRunner().start() as runner:
            first = runner.submit(wait_at, gate.ticket)
            gate.await_arrival()
            queued = [runner.submit(add, number) for number in range(500)]
            last = runner.submit(add, 1)
            for each in queued:
                each.cancel()
            gate.open()
            assert await outcome(first) == 0
            assert await outcome(last) == 1


@pytest.mark.anyio
async def test_leaving_by_an_exception_cancels_the_queue() -> None:
    """What has not had its turn never has it."""
    log: list[int] = []
    started = anyio.Event()

    async def run() -> None:
        started.set()
        await anyio.sleep_forever()

    runs: list[Future[None]] = []

    async def body() -> None:
        async with SequentialTaskRunner().start() as runner:
            runs.append(runner.submit(run))
            runs.extend(runner.submit(log.append, number) for number in range(10))
            await started.wait()
            raise LookupError("boom")

    with pytest.raises(LookupError, match="boom"):
        await body()
    assert log == []
    assert all(isinstance(each.state, Cancelled) for each in runs)


@pytest.mark.anyio
async def test_a_blocking_wait_in_the_loop_raises_even_for_sync_tasks() -> None:
    """A sync task may queue behind an async one, so that a blocking wait might never end."""
    async with SequentialTaskRunner().start() as runner:
        runner.submit(add_async, 1)
        future = runner.submit(add, 1)
        with pytest.raises(WouldDeadlockError, match="Use `await future`"):
            future.result()
        assert await outcome(future) == 1


async def async_leaf() -> int:
    """Return a number, in the loop."""
    await anyio.lowlevel.checkpoint()
    return 1


def sync_middle() -> int:
    """Wait for an async run, in a thread."""
    return runner_here().submit(async_leaf).result() + 1


def sync_top() -> int:
    """Wait for a run that waits for another one."""
    return runner_here().submit(sync_middle).result() + 1


@pytest.mark.anyio
async def test_sync_runs_wait_for_sync_ones_that_wait_for_async_ones() -> None:
    """A run that a waiting thread executes itself has its turn, and lets others have theirs."""
    async with SequentialTaskRunner().start() as runner:
        assert await outcome(runner.submit(sync_top)) == 3
