"""What flows and tasks make of mistakes: futures of flows that have ended, and attempts to exit."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import anyio
import pytest

from anabranch.flows import (
    Cancelled,
    Completed,
    ConcurrentTaskRunner,
    Crashed,
    Failed,
    Future,
    SequentialTaskRunner,
    State,
    TaskRunner,
    flow,
    lift,
    task,
)
from anabranch.futures.testing import VirtualClock

RUNNERS = [SequentialTaskRunner, ConcurrentTaskRunner]
EXITS = [SystemExit, KeyboardInterrupt]

#: How long to wait for what should happen at once, in seconds; reached by failing tests only.
PATIENCE = 10.0


@task
def add(x: int) -> int:
    """Add one."""
    return x + 1


@task
def fail() -> int:
    """Raise."""
    raise LookupError("gone")


def future_of(submit: Callable[[], Future[int]]) -> Future[int]:
    """Return a future whose flow has ended."""
    futures: list[Future[int]] = []
    flow(lambda: futures.append(submit())).run()
    return futures[0]


# ------------------------------------------------------------------------- ended flows


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_value_outlives_its_flow(runner: Callable[[], TaskRunner]) -> None:
    """A future of a flow that has ended is worth its value, in other flows and outside."""
    future = future_of(lambda: add.submit(1))
    assert future.result() == 2
    assert add(lift(future)) == 3
    again = flow(task_runner=runner)(lambda x: [add(x), add.submit(x).result()])
    assert again(lift(future)) == [3, 3]
    assert flow(task_runner=runner)(lambda: add.submit(future).result())() == 3


def test_a_failure_outlives_its_flow() -> None:
    """What is given a failed run of another flow ends as behind one of its own."""
    future = future_of(fail.submit)
    state = flow(lambda: add.submit(future)).run()
    assert isinstance(state, Failed)
    assert isinstance(state.exception, LookupError)


@pytest.mark.usefixtures("no_grace")
@pytest.mark.parametrize("way_out", ["an error", "an exit", "a time-out"])
def test_no_future_of_an_ended_flow_is_pending(way_out: str) -> None:
    """However a flow ends, each of its runs has ended with it, even one whose thread is stuck."""
    may_end, is_stuck = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []
    futures: list[Future[object]] = []

    @task
    def get_stuck() -> None:
        threads.append(threading.current_thread())
        is_stuck.set()
        may_end.wait()

    @task
    def after(_: object) -> None:
        pytest.fail("what it waits for never ended")

    @flow(timeout=60)
    def left() -> None:
        futures.append(get_stuck.submit())
        futures.append(after.submit(futures[0]))
        assert is_stuck.wait(PATIENCE)
        if way_out == "a time-out":
            clock.advance(60)
            futures[0].wait()
        if way_out == "an exit":
            raise SystemExit
        # A flow that fails joins its threads: it is not in a hurry.
        futures[1].add_done_callback(lambda _: may_end.set())
        raise LookupError

    with VirtualClock() as clock:
        if way_out == "an exit":
            with pytest.raises(SystemExit):
                left()
        else:
            left.run()
        expected = Completed if way_out == "an error" else Cancelled
        assert [type(each.state) for each in futures] == [expected, Cancelled]
    may_end.set()
    for thread in threads:
        thread.join(PATIENCE)


# ------------------------------------------------------------------------- attempts to exit


@pytest.mark.parametrize("error", EXITS)
def test_a_task_in_a_worker_thread_cannot_exit(error: type[BaseException]) -> None:
    """SystemExit in a worker thread crashes its run, and nothing else."""

    @task
    def leave() -> int:
        raise error

    @flow
    def body() -> list[object]:
        states: list[State[int] | None] = [leave.submit().wait()]
        state = states[0]
        assert isinstance(state, Crashed)
        assert isinstance(state.exception, error)
        return [add.submit(1).result()]

    assert body() == [2]


@pytest.mark.parametrize("error", EXITS)
@pytest.mark.parametrize("runner", RUNNERS)
def test_an_async_task_beside_a_sync_flow_cannot_exit(
    error: type[BaseException], runner: Callable[[], TaskRunner]
) -> None:
    """SystemExit in the event loop beside a flow crashes its run, and the loop goes on."""

    @task
    async def leave() -> int:
        raise error

    @task
    async def stay() -> int:
        await anyio.lowlevel.checkpoint()
        return 1

    @flow(task_runner=runner)
    def body() -> tuple[str, int]:
        future = leave.submit()
        future.wait()
        return type(future.state).__name__, stay.submit().result()

    assert body() == ("Crashed", 1)


@pytest.mark.parametrize("error", EXITS)
def test_in_the_callers_thread_it_is_the_callers(error: type[BaseException]) -> None:
    """What a task or a flow raises to end the program, in the program's own thread, does so."""

    def leave() -> int:
        raise error

    in_place = flow(task_runner=SequentialTaskRunner())
    for call in (
        task(leave),
        task(leave).run,
        flow(leave),
        flow(leave).run,
        in_place(lambda: task(leave).submit().result()),
        flow(lambda: flow(leave)()),
    ):
        with pytest.raises(error):
            call()


@pytest.mark.anyio
@pytest.mark.parametrize("error", EXITS)
async def test_in_the_callers_loop_it_is_the_callers(error: type[BaseException]) -> None:
    """So does what an async task or flow raises that is awaited."""

    async def leave() -> int:
        raise error

    for call in (task(leave), task(leave).run, flow(leave), flow(leave).run):
        with pytest.raises(error):
            await call()


@pytest.mark.parametrize("error", EXITS)
@pytest.mark.parametrize("option", ["on_running", "on_completion"])
@pytest.mark.parametrize("is_async", [False, True])
def test_the_hooks_of_a_submitted_flow_cannot_exit(
    error: type[BaseException], option: str, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What the hooks of a submitted flow raise changes no state, and is logged."""

    def leave(*_: object) -> None:
        raise error

    async def async_body() -> int:
        return 1

    options = flow(**{option: leave})  # type: ignore[call-overload]  # One of the options.
    inner = options(async_body) if is_async else options(lambda: 1)
    with caplog.at_level(logging.ERROR, "anabranch"):
        assert flow(lambda: inner.submit().result())() == 1
    assert f"were ended by {error.__name__}()" in caplog.text


@pytest.mark.parametrize("error", EXITS)
def test_the_hooks_of_a_flow_that_is_called_may_exit(error: type[BaseException]) -> None:
    """A hook of a flow that is called runs in the caller's thread, which is its to end."""

    def leave(*_: object) -> None:
        raise error

    for hooked in (flow(on_running=leave), flow(on_completion=leave)):
        with pytest.raises(error):
            hooked(lambda: 1)()


def test_a_subflow_that_exits_is_a_failure_of_its_parent() -> None:
    """A parent that returns None is told of a submitted subflow that crashed."""

    def leave() -> None:
        raise SystemExit(3)

    @flow
    def outer() -> None:
        flow(leave).submit()

    state = outer.run()
    assert str(state) == "Failed('1/1 states failed.')"
