"""Time limits in the local runners: runs end on time, and what is stuck is done without."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

from anabranch.futures import (
    Backend,
    Cancelled,
    Completed,
    Failed,
    Future,
    RetryPolicy,
    RunTimedOutError,
    TaskRun,
    TaskRunner,
    TimedOut,
    UpstreamFailed,
    lift,
)
from anabranch.futures.runner import (
    NO_RETRIES,
    current_scope,
    make_item,
    new_run_id,
    sleep,
    sleep_async,
)
from anabranch.futures.testing import Gate, Ticket, VirtualClock
from anabranch.runners.local import ConcurrentTaskRunner, SequentialTaskRunner

HOUR = 3600.0
BACKENDS: list[Backend] = ["trio", "asyncio"]
RUNNERS: list[type[TaskRunner]] = [SequentialTaskRunner, ConcurrentTaskRunner]

#: How long to wait for what should happen at once, in seconds; reached by failing tests only.
PATIENCE = 10.0


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    """Enter a virtual clock."""
    with VirtualClock() as clock:
        yield clock


class Stuck:
    """A function that does not return before the test says so."""

    def __init__(self) -> None:
        self._begun = threading.Semaphore(0)
        self._may_end = threading.Event()
        self.threads: list[threading.Thread] = []

    def __call__(self) -> str:
        """Block this thread."""
        self.threads.append(threading.current_thread())
        self._begun.release()
        self._may_end.wait()
        return "late"

    def wait(self) -> None:
        """Wait until one more call is stuck."""
        assert self._begun.acquire(timeout=PATIENCE)

    def end(self) -> None:
        """Let all calls return."""
        self._may_end.set()


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    """Make a function that does not return before the test ends, and leaves no thread behind."""
    stuck = Stuck()
    yield stuck
    stuck.end()
    for thread in stuck.threads:
        if thread is not threading.current_thread():
            thread.join(PATIENCE)
            assert not thread.is_alive()


def dispatch(
    runner: TaskRunner,
    function: Callable[..., object],
    *args: object,
    limit: float | None = None,
    retry: RetryPolicy = NO_RETRIES,
) -> Future[Any]:
    """Have a call run, with a time limit."""
    run = TaskRun(new_run_id(), "run", "task")
    return runner.dispatch(
        make_item(function, args, {}, task_run=run, retry=retry, time_limit=limit)
    )


def runner_here() -> TaskRunner:
    """Return the runner of the task that calls this."""
    scope = current_scope.get()
    assert scope is not None
    assert scope.runner is not None
    return scope.runner


def one_worker() -> ConcurrentTaskRunner:
    """Make a concurrent runner that does one thing at a time."""
    return ConcurrentTaskRunner(max_workers=1)


def pool_threads() -> list[threading.Thread]:
    """Return the threads of the runner's pool that are alive."""
    return [each for each in threading.enumerate() if each.name.startswith("anabranch-concurrent-")]


def wait_at(ticket: Ticket) -> None:
    """Wait at a gate."""
    ticket.wait()


# ------------------------------------------------------------------------- threads


def test_a_run_that_is_stuck_times_out(
    clock: VirtualClock, stuck: Stuck, caplog: pytest.LogCaptureFixture
) -> None:
    """On time, the run ends, named and counted; another thread takes the only place."""
    with one_worker() as runner:
        with clock.held(), caplog.at_level(logging.WARNING):
            future = dispatch(runner, stuck, limit=60.0)
            later = runner.submit(threading.current_thread)
            stuck.wait()
            clock.advance(59)
            assert not future.done()
            clock.advance(1)
            state = future.final_state()
            assert isinstance(state, TimedOut)
            assert state.message == "Run 'run' did not end within its time limit of 60 s"
            with pytest.raises(RunTimedOutError, match="Run 'run' did not end within its time"):
                future.result()
            assert later.result() is not stuck.threads[0]
            assert clock.now() == 60
        statistics = runner.statistics()
        assert (statistics.running, statistics.pending, statistics.abandoned) == (0, 0, 1)
    assert "Abandoned run 'run', which could not be stopped" in caplog.text
    assert stuck.threads[0].is_alive()  # Leaving has not waited for it.


def test_a_stuck_run_holds_no_clock(clock: VirtualClock, stuck: Stuck) -> None:
    """Once it has been given up, a thread keeps time from moving no more."""
    with one_worker() as runner, clock.held():
        future = dispatch(runner, stuck, limit=60.0)
        stuck.wait()
        clock.advance(60)
        assert future.done()
        sleep(HOUR)
        assert clock.now() == HOUR + 60


def test_time_stands_still_while_a_limited_run_is_at_work(clock: VirtualClock) -> None:
    """A run that is at work is in time on a virtual clock, unless the test moves it."""
    with one_worker() as runner, clock.held():
        futures = [dispatch(runner, max, number, 0, limit=1e-6) for number in range(100)]
        assert [future.result() for future in futures] == list(range(100))
        sleep(HOUR)  # The limits of those that have ended do nothing.
        assert all(isinstance(future.final_state(), Completed) for future in futures)
        assert runner.statistics().abandoned == 0


def test_a_run_that_sleeps_too_long_times_out(clock: VirtualClock) -> None:
    """A run that waits on the clock itself is overtaken by its limit."""
    with one_worker() as runner, clock.held():
        assert isinstance(dispatch(runner, sleep, 61.0, limit=60.0).wait(), TimedOut)
        assert clock.now() == 60
        assert isinstance(dispatch(runner, sleep, 59.0, limit=60.0).wait(), Completed)
        assert clock.now() == 119


def test_a_limited_run_may_fail_in_time(clock: VirtualClock) -> None:
    """A failure in time is the run's own."""
    with one_worker() as runner:
        state = dispatch(runner, int, "x", limit=60.0).wait()
        assert isinstance(state, Failed)
        assert isinstance(state.exception, ValueError)


def test_a_thread_that_comes_back_gives_its_place_back(clock: VirtualClock, stuck: Stuck) -> None:
    """A stuck thread that goes on after all makes no second worker, and its result is ignored."""
    with Gate() as gate, one_worker() as runner:
        with clock.held():
            future = dispatch(runner, stuck, limit=60.0)
            stuck.wait()
            clock.advance(60)
            assert future.done()
            assert runner.submit(max, 1, 2).result() == 2  # In the thread that stands in.
        stuck.end()
        for _ in range(5):
            runs = [runner.submit(wait_at, gate.ticket) for _ in range(2)]
            gate.await_arrival()
            statistics = runner.statistics()
            assert (statistics.running, statistics.pending) == (1, 1)
            gate.open()
            for run in runs:
                run.result()
            gate = Gate()
        gate.open()
    assert isinstance(future.final_state(), TimedOut)
    stuck.threads[0].join(PATIENCE)  # Leaving need not have waited for it.
    assert pool_threads() == []


def test_a_task_with_a_limit_waits_for_its_child_on_one_worker(clock: VirtualClock) -> None:
    """A limited task that waits for what it submitted does not deadlock."""

    def parent(limit: float | None) -> object:
        return dispatch(runner_here(), max, 1, 2, limit=limit).result()

    with one_worker() as runner, clock.held():
        for limit in (None, 60.0):
            assert dispatch(runner, parent, limit, limit=60.0).result() == 2


def test_a_task_learns_in_time_that_its_child_has_timed_out(
    clock: VirtualClock, stuck: Stuck
) -> None:
    """A task that waits for a limited child goes on when the child's time is over.

    So it must not run the child in its own thread, which would be stuck with it.
    """

    def parent() -> str:
        state = dispatch(runner_here(), stuck, limit=60.0).wait()
        return type(state).__name__

    with one_worker() as runner, clock.held():
        future = runner.submit(parent)
        stuck.wait()
        clock.advance(60)
        assert future.result(timeout=HOUR) == "TimedOut"
        assert runner.submit(max, 1, 2).result() == 2


def test_the_children_of_a_run_that_timed_out_are_cancelled(
    clock: VirtualClock, stuck: Stuck
) -> None:
    """At the end of a run's time what it submitted is cancelled, now and from now on."""
    children: list[Future[Any]] = []
    is_back = threading.Event()

    def parent() -> None:
        children.append(dispatch(runner_here(), sleep_async, HOUR))
        stuck()
        children.append(runner_here().submit(max, 1, 2))
        is_back.set()

    with one_worker() as runner:
        with clock.held():
            future = dispatch(runner, parent, limit=60.0)
            stuck.wait()
            clock.advance(60)
            assert isinstance(future.final_state(), TimedOut)
            assert isinstance(children[0].wait(), Cancelled)
            assert clock.now() == 60
        stuck.end()
        assert is_back.wait(PATIENCE)
    assert isinstance(children[1].final_state(), Cancelled)


def test_a_child_on_the_stack_of_a_run_that_timed_out(clock: VirtualClock, stuck: Stuck) -> None:
    """A child that its waiting parent runs itself is given up with it, and their place is lent."""
    children: list[Future[Any]] = []

    def parent() -> object:
        children.append(runner_here().submit(stuck))
        return children[0].result()

    with one_worker() as runner:
        with clock.held():
            future = dispatch(runner, parent, limit=60.0)
            stuck.wait()
            clock.advance(60)
            assert isinstance(future.final_state(), TimedOut)
            state = children[0].final_state()
            assert isinstance(state, Cancelled)
            assert state.message == "Run 'run', which submitted it, was given up."
            assert runner.submit(max, 1, 2).result() == 2
            assert len(pool_threads()) == 2
        assert runner.statistics().abandoned == 2
        stuck.end()
    assert isinstance(children[0].final_state(), Cancelled)


def test_a_waiting_thread_that_is_given_up_lends_one_place(clock: VirtualClock) -> None:
    """A run that waits, and then times out, lets one other run and not two."""
    with Gate() as gate, one_worker() as runner:
        with clock.held():
            children: list[Future[Any]] = []
            # Cancelled before it is in its thread, the child would end, and the parent go on.
            has_begun, may_end = threading.Event(), threading.Event()

            def block() -> None:
                has_begun.set()
                may_end.wait()

            async def child() -> None:
                await anyio.to_thread.run_sync(block)

            def parent() -> object:
                children.append(runner_here().submit(child))
                return children[0].wait()

            future = dispatch(runner, parent, limit=60.0)
            first = dispatch(runner, wait_at, gate.ticket)  # In a thread that stands in.
            gate.await_arrival()
            assert has_begun.wait(PATIENCE)
            clock.advance(60)
            assert isinstance(future.final_state(), TimedOut)
            second = dispatch(runner, wait_at, gate.ticket)
            assert len(pool_threads()) == 2
            assert not second.is_running()
            may_end.set()
        gate.open()
        assert isinstance(first.wait(), Completed)
        assert isinstance(second.wait(), Completed)


def test_time_outs_are_tried_again_on_one_worker(clock: VirtualClock, stuck: Stuck) -> None:
    """Each stuck attempt is given up, though the threads of those before are at it still."""
    with one_worker() as runner:
        with clock.held():
            future = dispatch(runner, stuck, limit=60.0, retry=RetryPolicy(4, 10.0))
            for attempt in range(5):
                stuck.wait()
                assert clock.now() == attempt * 70
                clock.advance(60)
                if attempt < 4:
                    clock.advance(10)
            assert isinstance(future.final_state(), TimedOut)
            assert clock.now() == 4 * 70 + 60
            assert runner.submit(max, 1, 2).result() == 2
        assert runner.statistics().abandoned == 5
        assert len(set(stuck.threads)) == 5
    waits = ["Running", "Retrying"] * 4
    assert [type(each).__name__ for each in future.history] == [
        "Pending",
        *waits,
        "Running",
        "TimedOut",
    ]


def test_a_late_result_does_not_disturb_the_next_attempt(clock: VirtualClock) -> None:
    """What the first attempt's thread returns, late, is not taken for the second's."""
    first, second = Stuck(), Stuck()
    calls = [first, second]

    def work() -> str:
        call = calls.pop(0)
        call()
        return "first" if call is first else "second"

    with one_worker() as runner, clock.held():
        future = dispatch(runner, work, limit=60.0, retry=RetryPolicy(1))
        first.wait()
        clock.advance(60)
        second.wait()
        first.end()
        # It finds its place taken, and leaves.
        first.threads[0].join(PATIENCE)
        assert not first.threads[0].is_alive()
        assert future.is_running()
        second.end()
        assert future.result() == "second"
    assert pool_threads() == []


def test_what_depends_on_a_run_that_timed_out_never_runs(clock: VirtualClock, stuck: Stuck) -> None:
    """A dependant of a run that timed out fails by it, on time."""
    with one_worker() as runner, clock.held():
        future = dispatch(runner, stuck, limit=60.0)
        dependant = runner.submit(len, lift(future))
        stuck.wait()
        clock.advance(60)
        state = dependant.final_state()
        assert isinstance(state, UpstreamFailed)
        assert isinstance(state.cause, RunTimedOutError)


# ------------------------------------------------------------------------- async tasks


@pytest.mark.parametrize("kind", RUNNERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_async_task_is_cancelled_on_time(
    clock: VirtualClock, kind: type[TaskRunner], backend: Backend
) -> None:
    """An async task that takes too long is cancelled where it waits, and tried again."""
    ended: list[float] = []

    async def slow() -> None:
        try:
            await sleep_async(HOUR)
        finally:
            ended.append(clock.now())

    runner = kind()
    runner.backend = backend
    with runner:
        with clock.held():
            future = dispatch(runner, slow, limit=60.0, retry=RetryPolicy(1, 10.0))
            assert isinstance(future.wait(), TimedOut)
            assert dispatch(runner, sleep_async, 59.0, limit=60.0).wait() is not None
        assert runner.statistics().abandoned == 0
    assert ended == [60, 130]
    assert clock.now() == 130 + 59


@pytest.mark.anyio
@pytest.mark.parametrize("kind", RUNNERS)
async def test_time_limits_in_async_code(kind: type[TaskRunner], stuck: Stuck) -> None:
    """In the runner's own loop, both kinds of run end on time, and later ones have their turn."""
    with VirtualClock() as clock:
        async with kind().start() as runner:
            slow = dispatch(runner, sleep_async, HOUR, limit=60.0)
            assert isinstance(await slow.wait_async(), TimedOut)
            assert clock.now() == 60
            blocked = dispatch(runner, stuck, limit=60.0)
            later = runner.submit(max, 1, 2)
            await anyio.to_thread.run_sync(stuck.wait)
            clock.advance(60)
            assert isinstance(await blocked.wait_async(), TimedOut)
            assert await later == 2
            assert runner.statistics().abandoned == 1
            assert clock.now() == 120
    assert stuck.threads[0].is_alive()


# ------------------------------------------------------------------------- in place


def test_the_sequential_runner_gives_up_in_place(clock: VirtualClock, stuck: Stuck) -> None:
    """In sync code, submitting a run that gets stuck returns when its time is over."""

    def advance() -> None:
        stuck.wait()
        clock.advance(60)

    helper = threading.Thread(target=advance)
    with SequentialTaskRunner() as runner, clock.held():
        helper.start()
        future = dispatch(runner, stuck, limit=60.0)
        assert isinstance(future.final_state(), TimedOut)
        assert clock.now() == 60
        assert runner.submit(max, 1, 2).result() == 2
        assert dispatch(runner, max, 1, 2, limit=60.0).result() == 2
        assert runner.statistics().abandoned == 1
    helper.join()
    assert stuck.threads[0].is_alive()


def test_the_sequential_runner_runs_in_its_callers_thread(clock: VirtualClock) -> None:
    """Without a limit, a run is executed in the caller's own thread, and with one in another."""
    with SequentialTaskRunner() as runner, clock.held():
        here = threading.current_thread()
        assert dispatch(runner, threading.current_thread).result() is here
        assert dispatch(runner, threading.current_thread, limit=60.0).result() is not here


def test_a_limited_task_submits_in_place(clock: VirtualClock) -> None:
    """What a limited task submits to the sequential runner is run at once, in its thread."""

    def parent() -> bool:
        return runner_here().submit(threading.current_thread).result() is threading.current_thread()

    with SequentialTaskRunner() as runner, clock.held():
        assert dispatch(runner, parent, limit=60.0).result() is True


def test_a_slow_policy_holds_up_no_other_time_limit(stuck: Stuck) -> None:
    """A retry condition may take its time, as after a time-out, while others' time is up."""
    asked, go = threading.Event(), threading.Event()

    def condition(_: object) -> bool:
        asked.set()
        return not go.wait(PATIENCE)

    with ConcurrentTaskRunner() as runner:
        slow = dispatch(runner, stuck, limit=0.01, retry=RetryPolicy(1, condition=condition))
        assert asked.wait(PATIENCE)
        assert isinstance(dispatch(runner, stuck, limit=0.01).wait(PATIENCE / 2), TimedOut)
        go.set()
        assert isinstance(slow.wait(PATIENCE), TimedOut)
