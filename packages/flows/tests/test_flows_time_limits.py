"""Time limits of tasks and flows: who is told what, what is stopped, and what is left behind."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import anyio
import pytest

from anabranch.flows import (
    Cancelled,
    Completed,
    ConcurrentTaskRunner,
    Failed,
    Future,
    RunTimedOutError,
    SequentialTaskRunner,
    State,
    TaskRunner,
    TimedOut,
    flow,
    flow_run,
    task,
    task_run,
)
from anabranch.futures import RunnerStatistics
from anabranch.futures.runner import current_scope, sleep, sleep_async
from anabranch.futures.testing import VirtualClock

HOUR = 3600.0

RUNNERS = [SequentialTaskRunner, ConcurrentTaskRunner]

#: How long to wait for what should happen at once, in seconds; reached by failing tests only.
PATIENCE = 10.0


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    """Enter a virtual clock."""
    with VirtualClock() as clock:
        yield clock


class Stuck:
    """A call that does not return before the test ends, and then leaves no thread behind."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.threads: list[threading.Thread] = []
        self.helpers: list[threading.Thread] = []

    def __call__(self, clock: VirtualClock, seconds: float = 60) -> str:
        """Block this thread, and have time move meanwhile."""
        self.threads.append(threading.current_thread())
        helper = threading.Thread(target=clock.advance, args=(seconds,))
        self.helpers.append(helper)
        helper.start()
        self.may_end.wait()
        return "late"

    def end(self) -> None:
        """Let all calls return, and wait for their threads."""
        self.may_end.set()
        for thread in (*self.threads, *self.helpers):
            if thread is not threading.current_thread():
                thread.join(PATIENCE)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    """Make a call that does not return before the test ends."""
    stuck = Stuck()
    yield stuck
    stuck.end()


@task
def add(x: int) -> int:
    """Add one."""
    return x + 1


def statistics() -> RunnerStatistics:
    """Return the statistics of the runner here."""
    scope = current_scope.get()
    assert scope is not None
    assert scope.runner is not None
    return scope.runner.statistics()


def assert_timed_out(state: State[object] | None, seconds: float = 60) -> None:
    """Check that a run has ended by its time limit, and says so."""
    assert isinstance(state, TimedOut)
    assert isinstance(state.exception, RunTimedOutError)
    assert isinstance(state.exception, TimeoutError)
    assert state.message is not None
    assert state.message.endswith(f"did not end within its time limit of {seconds:g} s")
    assert str(state.exception) == state.message


# ------------------------------------------------------------------------- tasks in threads


@pytest.mark.parametrize("how", ["call", "submit"])
@pytest.mark.parametrize("runner", RUNNERS)
def test_a_task_that_takes_too_long(
    clock: VirtualClock,
    stuck: Stuck,
    caplog: pytest.LogCaptureFixture,
    runner: Callable[[], TaskRunner],
    how: str,
) -> None:
    """A stuck thread is given up on time: the run has timed out, is counted, and is in the log."""

    @task(timeout=60, task_run_name="slow one")
    def slow() -> str:
        return stuck(clock)

    states: list[State[str] | None] = []

    @flow(task_runner=runner)
    def timing() -> tuple[int, int]:
        states.append(slow.run() if how == "call" else slow.submit().wait())
        return add.submit(1).result(), statistics().abandoned

    with caplog.at_level(logging.INFO, "anabranch"):
        assert timing() == (2, 1)
    assert_timed_out(states[0])
    assert clock.now() == 60
    assert "Abandoned run 'slow one', which could not be stopped" in caplog.text
    assert "Finished in state TimedOut(\"Run 'slow one' did not end" in caplog.text


def test_a_direct_call_raises_on_time(clock: VirtualClock, stuck: Stuck) -> None:
    """A task that is called outside any flow has a time limit as well, in any thread."""

    @task(timeout=60, task_run_name="slow one")
    def slow() -> str:
        return stuck(clock)

    with clock.held(), pytest.raises(RunTimedOutError, match="Run 'slow one' did not end within"):
        slow()
    assert clock.now() == 60


def test_an_abandoned_direct_call_is_in_the_log(
    clock: VirtualClock, stuck: Stuck, caplog: pytest.LogCaptureFixture
) -> None:
    """Even outside any flow, where no runner counts it, the thread that is left is named."""
    slow = task(timeout=60, task_run_name="slow one")(stuck)
    with clock.held():
        assert_timed_out(slow.run(clock))
    assert "Abandoned run 'slow one', which could not be stopped" in caplog.text


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_task_in_time_is_as_without_a_limit(
    clock: VirtualClock, runner: Callable[[], TaskRunner]
) -> None:
    """A task that ends in time gives its value, knows its run, and nothing is abandoned."""

    @task(timeout=60)
    def quick(x: int) -> tuple[int, str | None, int]:
        sleep(59)
        return x, flow_run.name, task_run.attempt

    @flow(task_runner=runner, flow_run_name="around")
    def timing() -> list[tuple[int, str | None, int]]:
        values = [quick(1), quick.submit(2).result()]
        assert statistics().abandoned == 0
        return values

    assert timing() == [(1, "around", 1), (2, "around", 1)]
    assert clock.now() == 118


def test_what_it_submitted_is_cancelled(clock: VirtualClock, stuck: Stuck) -> None:
    """The children of a task that is given up are cancelled; its caller goes on at once."""
    children: list[Future[None]] = []

    @task
    async def pausing() -> None:
        await sleep_async(HOUR)

    @task(timeout=60)
    def parent() -> None:
        children.append(pausing.submit())
        stuck(clock)

    @flow
    def timing() -> str:
        future = parent.submit()
        future.wait()
        children[0].wait()
        return type(future.state).__name__ + type(children[0].state).__name__

    assert timing() == "TimedOutCancelled"
    assert clock.now() == 60


def test_what_comes_late_does_not_count(clock: VirtualClock, stuck: Stuck) -> None:
    """What an abandoned attempt returns is lost, and the next attempt's value is the run's."""

    @task(timeout=60, retries=1, retry_delay=HOUR)
    def slow_at_first() -> str:
        return stuck(clock) if task_run.attempt == 1 else "in time"

    @flow
    def timing() -> tuple[str, int, list[str]]:
        future = slow_at_first.submit()
        value = future.result()
        return value, statistics().abandoned, [type(each).__name__ for each in future.history]

    assert timing() == ("in time", 1, ["Pending", "Running", "Retrying", "Running", "Completed"])
    assert clock.now() == 60 + HOUR


def test_a_stuck_task_keeps_no_worker(clock: VirtualClock, stuck: Stuck) -> None:
    """On a pool of one worker, others run on while an abandoned thread is stuck."""

    @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
    def timing() -> list[int]:
        slow = task(timeout=60)(stuck).submit(clock)
        after = add.map([1, 2, 3])
        assert_timed_out(slow.wait())
        return after.result()

    assert timing() == [2, 3, 4]


def test_hooks_hear_of_the_time_out(clock: VirtualClock, stuck: Stuck) -> None:
    """`on_failure` is called for a run that timed out, with the state that says so."""
    told: list[State[object]] = []
    slow = task(timeout=60, on_failure=lambda _, __, state: told.append(state))(stuck)
    assert isinstance(flow(lambda: slow.submit(clock)).run(), Failed)
    assert_timed_out(told[0])


@pytest.mark.parametrize("how", ["call", "submit"])
def test_a_limited_task_waits_for_its_own_on_one_worker(clock: VirtualClock, how: str) -> None:
    """A task with a time limit that waits for a run that it submitted does not starve it."""

    @task(timeout=60)
    def parent() -> int:
        return add.submit(add.submit(1)).result()

    @task
    def caller() -> int:
        return parent() if how == "call" else parent.submit().result()

    one_worker = flow(task_runner=ConcurrentTaskRunner(max_workers=1))
    assert one_worker(lambda: caller.submit().result())() == 3


# ------------------------------------------------------------------------- async tasks


@pytest.mark.anyio
@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("how", ["call", "submit"])
async def test_an_async_task_is_really_stopped(runner: Callable[[], TaskRunner], how: str) -> None:
    """An async task is cancelled where it waits when its time is over, and nothing is left."""
    ends: list[float] = []

    @task(timeout=60)
    async def slow() -> None:
        try:
            await sleep_async(HOUR)
        finally:
            ends.append(virtual.now())

    @flow(task_runner=runner)
    async def timing() -> int:
        assert_timed_out(await slow.run() if how == "call" else await slow.submit().wait_async())
        return statistics().abandoned

    with VirtualClock() as virtual:
        assert await timing() == 0
    assert ends == [60]


@pytest.mark.anyio
async def test_an_async_task_outside_any_flow() -> None:
    """Called directly, with nothing around it, an async task has its time limit."""
    slow = task(timeout=60)(sleep_async)
    with VirtualClock() as clock:
        with pytest.raises(RunTimedOutError):
            await slow(HOUR)
        assert clock.now() == 60


@pytest.mark.anyio
async def test_a_time_out_is_no_cancellation() -> None:
    """A cancel scope around a task with a time limit cancels the caller, and is no time-out."""
    slow = task(timeout=HOUR)(sleep_async)
    with VirtualClock(), anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(slow, 2 * HOUR)
            await sleep_async(1)
            scope.cancel()
    assert scope.cancelled_caught


# ------------------------------------------------------------------------- sync flows


def test_a_flow_that_takes_too_long(
    clock: VirtualClock, stuck: Stuck, caplog: pytest.LogCaptureFixture
) -> None:
    """A flow whose body is stuck ends on time, and the body that is left is named in the log."""

    @flow(timeout=60, flow_run_name="slow one")
    def slow() -> str:
        return stuck(clock)

    state = slow.run()
    assert_timed_out(state)
    assert "Run 'slow one' did not end" in str(state)
    assert clock.now() == 60
    assert "Abandoned the body of 'slow one'" in caplog.text
    assert "Finished in state TimedOut" in caplog.text


def test_a_call_of_a_slow_flow_raises(clock: VirtualClock) -> None:
    """A direct call raises the time-out, which is a TimeoutError."""
    with pytest.raises(TimeoutError, match="did not end within its time limit of 60 s"):
        flow(timeout=60)(lambda: sleep(HOUR))()
    assert clock.now() >= 60


def test_a_flow_in_time_is_as_without_a_limit(clock: VirtualClock) -> None:
    """A flow that ends in time has its value, its context and its children."""

    @flow(timeout=60, task_runner=ConcurrentTaskRunner(max_workers=1))
    def quick(x: int) -> tuple[int, object]:
        sleep(59)
        return add.submit(add.submit(x)).result(), flow_run.parameters["x"]

    assert quick(1) == (3, 1)
    assert quick.run(1).result() == (3, 1)


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt, SystemExit])
def test_what_a_limited_body_raises_comes_out(error: type[BaseException]) -> None:
    """What the body raises in its own thread is raised where the flow was called."""

    @flow(timeout=60, retries=0)
    def raising() -> None:
        raise error

    with pytest.raises(error):
        raising()


def test_what_a_slow_flow_submitted_is_cancelled(clock: VirtualClock) -> None:
    """When a flow's time is over, its runs are cancelled, and those that did not start never do."""
    futures: list[Future[object]] = []
    calls: list[int] = []

    @task
    async def slow() -> None:
        await sleep_async(HOUR)

    @task
    def after(_: object) -> None:
        calls.append(1)

    @flow(timeout=60)
    def timing() -> None:
        first = slow.submit()
        futures.extend([first, after.submit(first)])
        first.result()

    assert_timed_out(timing.run())
    assert [type(each.state) for each in futures] == [Cancelled, Cancelled]
    assert calls == []


def test_the_join_of_a_flow_is_within_its_time(clock: VirtualClock) -> None:
    """A flow's time goes on after its body, while it waits for what that has submitted."""

    @task
    async def slow() -> None:
        await sleep_async(HOUR)

    @flow(timeout=60)
    def returns_at_once() -> None:
        slow.submit()

    assert_timed_out(returns_at_once.run())
    assert clock.now() == 60


@pytest.mark.usefixtures("no_grace")
def test_a_slow_flow_leaves_its_stuck_threads_behind(
    clock: VirtualClock, stuck: Stuck, caplog: pytest.LogCaptureFixture
) -> None:
    """A flow that is out of time abandons the tasks whose threads are stuck, and names them."""

    @flow(timeout=60)
    def timing() -> None:
        named = task(task_run_name="stuck in here")(stuck)
        named.submit(clock).result()

    assert_timed_out(timing.run())
    assert "Abandoned run 'stuck in here', which could not be stopped" in caplog.text


def test_a_slow_flow_is_tried_again(clock: VirtualClock, stuck: Stuck) -> None:
    """Another attempt follows, in which nothing that the abandoned body yet does counts."""
    came_back = threading.Event()

    @task
    def fail() -> None:
        raise LookupError("late")

    @flow(timeout=60, retries=1, retry_delay=HOUR)
    def slow_at_first() -> None:
        if flow_run.attempt == 1:
            stuck(clock)
            fail.run()
            came_back.set()
            return
        stuck.may_end.set()
        assert came_back.wait(PATIENCE)
        add.submit(1)

    assert str(slow_at_first.run()) == "Completed('All states completed.')"
    assert clock.now() == 60 + HOUR


# ------------------------------------------------------------------------- async flows


@pytest.mark.anyio
async def test_an_async_flow_is_really_stopped() -> None:
    """An async body is cancelled where it waits, with its runs, and is not tried again unasked."""
    ends: list[str] = []

    @task
    async def slow(name: str) -> None:
        try:
            await sleep_async(HOUR)
        finally:
            ends.append(name)

    @flow(timeout=60)
    async def timing() -> None:
        slow.submit("submitted")
        await slow("called")

    with VirtualClock() as clock:
        assert_timed_out(await timing.run())
        with pytest.raises(RunTimedOutError):
            await timing()
        assert clock.now() == 120
    assert sorted(ends) == ["called", "called", "submitted", "submitted"]


@pytest.mark.anyio
async def test_an_async_flow_is_tried_again_after_a_time_out() -> None:
    """Time-outs and failures share the budget of an async flow."""

    @flow(timeout=60, retries=2, retry_delay=10)
    async def slow_at_first() -> int:
        if flow_run.attempt == 1:
            await sleep_async(HOUR)
        if flow_run.attempt == 2:
            raise LookupError("boom")
        return flow_run.attempt

    with VirtualClock() as clock:
        assert await slow_at_first() == 3
        assert clock.now() == 60 + 10 + 10


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["task", "flow"])
@pytest.mark.parametrize("way_out", ["a value", "an error"])
async def test_swallowing_the_cancellation_helps_nobody(kind: str, way_out: str) -> None:
    """A body that does not let itself be cancelled has timed out all the same, once it ends."""

    async def stubborn() -> str:
        try:
            await sleep_async(HOUR)
        except anyio.get_cancelled_exc_class():
            if way_out == "an error":
                raise LookupError("in the way") from None
        return "late"

    with VirtualClock():
        if kind == "task":
            assert_timed_out(await task(timeout=60)(stubborn).run())
        else:
            assert_timed_out(await flow(timeout=60)(stubborn).run())


@pytest.mark.anyio
async def test_a_shield_is_waited_for() -> None:
    """A body that shields itself ends when the shield does, and has timed out."""

    @flow(timeout=60)
    async def shielded() -> None:
        with anyio.CancelScope(shield=True):
            await sleep_async(HOUR)
        await anyio.lowlevel.checkpoint()

    with VirtualClock() as clock:
        assert_timed_out(await shielded.run())
        assert clock.now() == HOUR


@pytest.mark.usefixtures("no_grace")
@pytest.mark.anyio
async def test_an_async_flow_leaves_its_stuck_threads_behind(stuck: Stuck) -> None:
    """An async flow that is out of time does not wait for the thread of a sync task."""
    slow = task(stuck)

    @flow(timeout=60)
    async def timing() -> None:
        await slow.submit(virtual)

    with VirtualClock() as virtual:
        assert_timed_out(await timing.run())
        assert virtual.now() == 60


# ------------------------------------------------------------------------- subflows


@pytest.mark.parametrize("how", ["call", "submit"])
def test_a_subflow_has_a_limit_of_its_own(clock: VirtualClock, stuck: Stuck, how: str) -> None:
    """A subflow that is out of time is one failed run of its parent, which goes on."""
    inner = flow(timeout=60)(stuck)

    @flow
    def outer() -> list[object]:
        state = inner.run(clock) if how == "call" else inner.submit(clock).wait()
        assert_timed_out(state)
        return [add.submit(1).result()]

    assert outer() == [2]
    assert clock.now() == 60


def test_the_parents_limit_reaches_its_subflows(clock: VirtualClock) -> None:
    """When a parent's time is over, the runs of its subflows are cancelled, in place or beside."""
    futures: list[Future[None]] = []

    @task
    async def slow() -> None:
        await sleep_async(HOUR)

    @flow
    def inner() -> None:
        future = slow.submit()
        futures.append(future)
        future.wait()

    @flow(timeout=60)
    def outer() -> None:
        inner.submit()
        inner()

    assert_timed_out(outer.run())
    assert len(futures) == 2
    for future in futures:
        assert isinstance(future.wait(PATIENCE), Cancelled)
    assert clock.now() == 60


def test_an_in_place_subflow_is_not_tried_again_after_its_parents_time(
    clock: VirtualClock, stuck: Stuck
) -> None:
    """An abandoned body makes no further attempt of a subflow that it is in."""
    attempts: list[int] = []
    ended = threading.Event()

    @flow(retries=3)
    def inner() -> None:
        attempts.append(flow_run.attempt)
        stuck(clock)
        raise LookupError("boom")

    @flow(timeout=60)
    def outer() -> None:
        try:
            inner.run()
        finally:
            ended.set()

    assert_timed_out(outer.run())
    stuck.end()
    assert ended.wait(PATIENCE)
    assert attempts == [1]


def test_a_limited_flow_inside_a_running_loop(clock: VirtualClock) -> None:
    """A sync flow with a time limit works where an event loop runs already."""

    async def main() -> State[int]:
        return flow(timeout=60)(lambda: add.submit(1).result()).run()

    state = anyio.run(main)
    assert isinstance(state, Completed)
