"""The concurrent runner: its limit, its threads, and waits inside of tasks."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

import pytest

from anabranch.futures import (
    Backend,
    Cancelled,
    Completed,
    Crashed,
    Future,
    RunCrashedError,
    RunnerNotStartedError,
    TaskRun,
    TaskRunner,
    UpstreamFailed,
    as_completed,
    gather,
    lift,
    wait,
)
from anabranch.futures.runner import current_scope
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.local import ConcurrentTaskRunner
from anabranch.runners.local._run import LocalRun

R = TypeVar("R")

BACKENDS: list[Backend] = ["trio", "asyncio"]

#: How long a run that should end at once is waited for, in seconds; reached by failing tests only.
PATIENCE = 10.0


def runner_here() -> TaskRunner:
    """Return the runner of the task that calls this."""
    scope = current_scope.get()
    assert scope is not None
    assert scope.runner is not None
    return scope.runner


def outcome(future: Future[R]) -> R:
    """Return the value of a run that has to end; if it does not, leave without waiting for it."""
    if future.wait(timeout=PATIENCE) is None:
        pytest.fail(f"{future!r} never ended")
    return future.result()


def pool_threads() -> list[threading.Thread]:
    """Return the threads of the runner's pool that are alive."""
    return [each for each in threading.enumerate() if each.name.startswith("anabranch-concurrent-")]


def add(x: int, y: int = 0) -> int:
    """Return the sum."""
    return x + y


def wait_at(ticket: Ticket, value: int = 0) -> int:
    """Wait at a gate, then return the value."""
    ticket.wait()
    return value


def thread_here() -> threading.Thread:
    """Return the thread that runs this."""
    return threading.current_thread()


# ------------------------------------------------------------------------- settings


@pytest.mark.parametrize("max_workers", [0, -1])
def test_at_least_one_worker_is_needed(max_workers: int) -> None:
    """A limit that would let nothing run is refused, naming the default."""
    with pytest.raises(
        ValueError,
        match=rf"^ConcurrentTaskRunner\(max_workers={max_workers}\): at least one is needed; "
        "leave it out for 40$",
    ):
        ConcurrentTaskRunner(max_workers=max_workers)


def test_the_limit_is_a_setting() -> None:
    """Runners with the same limit are equal, and the limit is shown."""
    assert ConcurrentTaskRunner(3) == ConcurrentTaskRunner(3)
    assert ConcurrentTaskRunner(3) != ConcurrentTaskRunner()
    assert repr(ConcurrentTaskRunner(3).duplicate()) == "ConcurrentTaskRunner(max_workers=3)"
    assert ConcurrentTaskRunner().name == "concurrent"


# ------------------------------------------------------------------------- the limit


def test_no_more_than_the_limit_run_at_a_time() -> None:
    """With two workers, two of five tasks run; the others wait for them."""
    with Gate() as gate, ConcurrentTaskRunner(max_workers=2) as runner:
        futures = [runner.submit(wait_at, gate.ticket, number) for number in range(5)]
        gate.await_arrival()
        gate.await_arrival()
        statistics = runner.statistics()
        assert (statistics.running, statistics.pending) == (2, 3)
        assert len(pool_threads()) == 2
        gate.open()
        assert [future.result() for future in futures] == [0, 1, 2, 3, 4]
        assert len(pool_threads()) == 2


@pytest.fixture
def _hectic() -> Iterator[None]:
    """Have threads take turns as often as can be, so that races between them show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_hectic")
def test_as_many_as_the_limit_run_at_a_time() -> None:
    """Tasks that wait for one another run together, up to the limit, without exception.

    A thread that has been woken for one run must not be counted on for the next.
    """
    for _ in range(20):
        barrier = threading.Barrier(8, timeout=PATIENCE)
        with ConcurrentTaskRunner(max_workers=8) as runner:
            futures = [runner.submit(barrier.wait) for _ in range(8)]
            assert sorted(future.result() for future in futures) == list(range(8))


def test_threads_come_as_they_are_needed() -> None:
    """A thread that is idle is used again before another one is started."""
    with ConcurrentTaskRunner() as runner:
        assert pool_threads() == []
        for _ in range(20):
            runner.submit(add, 1).result()
        # One thread, or a few: the one that told of a run's end may not be back for the next yet.
        assert 1 <= len(pool_threads()) < 20
        with Gate() as gate:
            futures = [runner.submit(wait_at, gate.ticket) for _ in range(3)]
            for _ in futures:
                gate.await_arrival()
            assert len(pool_threads()) >= 3


def test_fresh_runs_go_in_their_order() -> None:
    """One worker takes runs in the order of their submission."""
    order: list[int] = []
    with ConcurrentTaskRunner(max_workers=1) as runner:
        for number in range(50):
            runner.submit(order.append, number)
    assert order == list(range(50))


def test_nested_runs_go_before_fresh_ones() -> None:
    """What a task submits goes before what was submitted outside meanwhile."""
    order: list[str] = []

    def parent(ticket: Ticket) -> None:
        ticket.wait()
        runner_here().submit(order.append, "nested")

    with Gate() as gate, ConcurrentTaskRunner(max_workers=1) as runner:
        runner.submit(parent, gate.ticket)
        gate.await_arrival()
        runner.submit(order.append, "fresh")
        gate.open()
    assert order == ["nested", "fresh"]


# ------------------------------------------------------------------------- waits inside of tasks


def in_parent(body: Callable[[TaskRunner], R], max_workers: int = 1) -> R:
    """Run a task on a runner of few workers, and return its value."""
    with ConcurrentTaskRunner(max_workers) as runner:
        return outcome(runner.submit(lambda: body(runner_here())))


def test_a_task_waits_for_its_child_on_the_only_worker() -> None:
    """A task that waits for a run that has not started runs it itself."""

    def body(runner: TaskRunner) -> tuple[threading.Thread, threading.Thread]:
        return threading.current_thread(), runner.submit(thread_here).result()

    parent, child = in_parent(body)
    assert child is parent


def test_a_task_waits_for_a_chain_of_runs_on_the_only_worker() -> None:
    """What a run depends on is run before it."""

    def body(runner: TaskRunner) -> int:
        future = runner.submit(add, 0)
        for _ in range(200):
            future = runner.submit(add, lift(future), 1)
        return future.result()

    assert in_parent(body) == 200


def test_tasks_nest_deeply_on_the_only_worker() -> None:
    """A hundred tasks, each of which waits for the next, end on one worker."""

    def descend(depth: int) -> int:
        return 0 if depth == 0 else 1 + runner_here().submit(descend, depth - 1).result()

    assert in_parent(lambda runner: runner.submit(descend, 100).result()) == 100


@pytest.mark.parametrize(
    "collect",
    [
        lambda futures: gather(futures).result(),
        lambda futures: [each.result() for each in wait(futures).done],
        lambda futures: sorted(each.result() for each in as_completed(futures)),
        lambda futures: [each.result(timeout=PATIENCE / 2) for each in futures],
        lambda futures: gather(futures).result(timeout=PATIENCE / 2),
        lambda futures: [each.result() for each in wait(futures, timeout=PATIENCE / 2).done],
        lambda futures: sorted(
            each.result() for each in as_completed(futures, timeout=PATIENCE / 2)
        ),
    ],
    ids=[
        "gather",
        "wait",
        "as_completed",
        "result with timeout",
        "gather with timeout",
        "wait with timeout",
        "as_completed with timeout",
    ],
)
def test_every_kind_of_wait_lets_children_run(
    collect: Callable[[list[Future[int]]], list[int]],
) -> None:
    """However a task waits for its children, with a timeout or without, they get to run."""

    def body(runner: TaskRunner) -> list[int]:
        return collect([runner.submit(add, number) for number in range(5)])

    assert in_parent(body) == [0, 1, 2, 3, 4]


def test_a_task_waits_for_an_async_child() -> None:
    """A sync task waits for an async one, which needs no worker."""

    async def child() -> int:
        return 5

    assert in_parent(lambda runner: runner.submit(child).result()) == 5


def test_a_failing_child_raises_in_its_parent() -> None:
    """The failure of a child that the waiting thread ran itself is raised by the wait."""

    def fail() -> None:
        raise LookupError("boom")

    def body(runner: TaskRunner) -> str:
        with pytest.raises(LookupError, match="boom"):
            runner.submit(fail).result()
        return "handled"

    assert in_parent(body) == "handled"


def test_a_wait_for_a_run_under_way_lends_its_place() -> None:
    """While the only worker waits for something else, a stand-in does its work."""
    awaited: Future[int] = Future(TaskRun("0" * 32, "foreign", "foreign"))
    waiting: SimpleQueue[threading.Thread] = SimpleQueue()

    def parent() -> int:
        waiting.put(threading.current_thread())
        return awaited.result()

    def stand_in() -> threading.Thread:
        awaited.set_final(Completed(5))
        return threading.current_thread()

    with ConcurrentTaskRunner(max_workers=1) as runner:
        future = runner.submit(parent)
        thread = waiting.get()
        assert outcome(runner.submit(stand_in)) is not thread
        assert outcome(future) == 5


def test_a_place_is_lent_for_as_long_as_the_wait() -> None:
    """After the wait, the pool is back to its size."""
    with ConcurrentTaskRunner(max_workers=1) as runner, Gate() as gate:
        awaited: Future[int] = Future(TaskRun("0" * 32, "foreign", "foreign"))
        parent = runner.submit(awaited.result)
        helper = runner.submit(wait_at, gate.ticket)
        gate.await_arrival()
        assert len(pool_threads()) == 2
        awaited.set_final(Completed(1))
        assert outcome(parent) == 1
        gate.open()
        outcome(helper)
        with Gate() as other:
            held = [runner.submit(wait_at, other.ticket) for _ in range(3)]
            other.await_arrival()
            assert runner.statistics().running == 1
            other.open()
            for each in held:
                outcome(each)


def test_many_parents_that_wait_take_few_threads() -> None:
    """1,000 tasks that each wait for a child, on two slots, take two threads and a few."""
    most = 0

    def child(number: int) -> int:
        nonlocal most
        most = max(most, len(pool_threads()))
        return number

    def parent(number: int) -> int:
        return runner_here().submit(child, number).result()

    with ConcurrentTaskRunner(max_workers=2) as runner:
        futures = [runner.submit(parent, number) for number in range(1000)]
        assert [outcome(future) for future in futures] == list(range(1000))
    assert 1 <= most <= 10


def test_parents_that_gather_many_children() -> None:
    """A few parents with many children each, on two slots, all end."""

    def parent(size: int) -> int:
        runner = runner_here()
        return sum(gather(runner.submit(add, number) for number in range(size)).result())

    with ConcurrentTaskRunner(max_workers=2) as runner:
        futures = [runner.submit(parent, 100) for _ in range(10)]
        assert [outcome(future) for future in futures] == [4950] * 10


# ------------------------------------------------------------------------- threads


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_are_named_daemons_that_end_with_the_runner(backend: Backend) -> None:
    """Every thread is a daemon with the runner's name, and is gone when the runner is."""
    barrier = threading.Barrier(3, timeout=PATIENCE)

    def meet() -> threading.Thread:
        barrier.wait()
        return threading.current_thread()

    runner = ConcurrentTaskRunner(max_workers=3)
    runner.backend = backend
    before = set(threading.enumerate())
    with runner:
        threads = [outcome(future) for future in [runner.submit(meet) for _ in range(3)]]
        assert all(thread.is_alive() for thread in threads)
    assert len({thread.name for thread in threads}) == 3
    assert all(thread.name.startswith("anabranch-concurrent-") for thread in threads)
    assert all(thread.daemon for thread in threads)
    assert not any(thread.is_alive() for thread in threads)
    assert set(threading.enumerate()) <= before


def test_threads_end_when_the_runner_is_left_by_an_exception() -> None:
    """An exception of the body leaves no thread behind either."""
    threads: list[threading.Thread] = []

    def body() -> None:
        with ConcurrentTaskRunner() as runner:
            threads.append(runner.submit(thread_here).result())
            raise LookupError("boom")

    with pytest.raises(LookupError, match="boom"):
        body()
    assert not threads[0].is_alive()
    assert pool_threads() == []


def test_system_exit_in_a_task_ends_no_thread() -> None:
    """A task that raises SystemExit has crashed; its thread goes on with the next."""

    def leave() -> None:
        raise SystemExit(3)

    with ConcurrentTaskRunner(max_workers=1) as runner:
        state = runner.submit(leave).wait()
        assert state is not None
        assert state.is_crashed()
        assert outcome(runner.submit(add, 1)) == 1


@pytest.mark.usefixtures("no_grace")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stuck_thread_is_abandoned_when_left_by_ctrl_c(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """A thread in foreign code is given up: cancelled, named in the log, and not waited for."""
    runner = ConcurrentTaskRunner(max_workers=1)
    runner.backend = backend
    threads: list[threading.Thread] = []
    futures: list[Future[str] | Future[int]] = []
    late: list[str] = []

    def stuck(ticket: Ticket) -> str:
        threads.append(threading.current_thread())
        ticket.wait()
        with pytest.raises(RunnerNotStartedError, match="is not started any more"):
            runner_here().submit(add, 1)
        late.append("it goes on, but nowhere")
        return "too late"

    def body(gate: Gate) -> None:
        with runner:
            futures.append(runner.submit(stuck, gate.ticket))
            futures.append(runner.submit(add, 1))
            gate.await_arrival()
            raise KeyboardInterrupt

    with Gate() as gate:
        with (
            caplog.at_level(logging.WARNING, logger=runner.logger.name),
            pytest.raises(KeyboardInterrupt),
        ):
            body(gate)
        assert threads[0].is_alive(), "it is still stuck, and the runner has been left"
        assert [type(future.state) for future in futures] == [Cancelled, Cancelled]
        assert [record.getMessage() for record in caplog.records] == [
            f"Abandoned run {futures[0].task_run.name!r}, which could not be stopped"
        ]
    threads[0].join()
    assert late == ["it goes on, but nowhere"]
    assert isinstance(futures[0].state, Cancelled), "what it returned at last changes nothing"
    assert pool_threads() == []


# ------------------------------------------------------------------------- letting go


class Thing:
    """Something that can be referred to weakly."""


def test_a_finished_run_keeps_neither_value_nor_arguments() -> None:
    """Once the user's handle is gone, nothing of a run is left, not even in an idle thread."""
    argument, gone = Thing(), threading.Event()
    weakref.finalize(argument, gone.set)

    def same(thing: Thing) -> Thing:
        return thing

    with ConcurrentTaskRunner(max_workers=1) as runner:
        future = runner.submit(same, argument)
        assert future.result() is argument
        del argument, future
        gc.collect()
        # The thread may still be on its way to being idle.
        assert gone.wait(timeout=PATIENCE)


def test_a_finished_future_keeps_no_arguments() -> None:
    """A future that is kept holds the value, but not what the run was called with."""
    argument = Thing()
    gone = weakref.ref(argument)

    def forget(_: Thing) -> int:
        return 1

    with ConcurrentTaskRunner(max_workers=1) as runner:
        future = runner.submit(forget, argument)
        assert future.result() == 1
        runner.submit(add, 1).result()
        del argument
        gc.collect()
        assert gone() is None
        assert future.result() == 1


# ------------------------------------------------------------------------- cancelling


def test_queued_runs_can_be_cancelled() -> None:
    """A run that waits for a worker is over at once, and its turn is passed over."""
    with Gate() as gate, ConcurrentTaskRunner(max_workers=1) as runner:
        first = runner.submit(wait_at, gate.ticket)
        gate.await_arrival()
        queued = [runner.submit(add, number) for number in range(2000)]
        last = runner.submit(add, 1)
        for each in queued:
            each.cancel()
        assert all(isinstance(each.state, Cancelled) for each in queued)
        assert str(queued[0].state) == "Cancelled('The run was cancelled before it started.')"
        gate.open()
        assert outcome(first) == 0
        assert outcome(last) == 1


def test_a_run_that_gets_no_thread_has_crashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine has no thread left, a run ends so, and the runner can still be left."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("anabranch-concurrent-"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with ConcurrentTaskRunner(max_workers=1) as runner:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            state = runner.submit(add, 1).wait(timeout=PATIENCE)
        assert isinstance(state, Crashed)
        with pytest.raises(RunCrashedError, match="no thread left"):
            state.result()
        assert runner.submit(add, 2).result() == 2


def test_a_run_that_gets_no_thread_of_its_own_goes_to_one_that_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the machine has no thread left, the pool goes on with those that it has."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with Gate() as gate, ConcurrentTaskRunner(max_workers=2) as runner:
        first = runner.submit(wait_at, gate.ticket)
        gate.await_arrival()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            second = runner.submit(add, 2)
        gate.open()
        assert outcome(second) == 2
        assert outcome(first) == 0


def test_a_thread_that_comes_back_as_it_is_given_up_is_one_of_the_pool_again() -> None:
    """A run's thread may be through with it just when its time is up: then nobody is stuck."""
    looked, through = threading.Event(), threading.Event()

    class ComesBackMeanwhile(set[LocalRun[object]]):
        def add(self, run: LocalRun[object]) -> None:
            looked.set()
            assert through.wait(PATIENCE)
            super().add(run)

    with Gate() as gate, ConcurrentTaskRunner(max_workers=1) as runner:
        assert runner._executor is not None
        pool = runner._executor.threads
        run = runner.submit(wait_at, gate.ticket)
        assert isinstance(run, LocalRun)
        gate.await_arrival()
        [worker] = pool._workers
        worker.given_up = ComesBackMeanwhile()
        with ThreadPoolExecutor() as other:
            giving_up = other.submit(pool.give_up, run)
            assert looked.wait(PATIENCE)
            gate.open()
            assert outcome(run) == 0
            while worker.runs:
                pass
            through.set()
            giving_up.result()
        assert not worker.is_stuck()
        assert runner.submit(add, 2).result() == 2
        assert pool.leaving() == [worker.thread]


def test_a_long_chain_of_runs_that_fail_one_by_another() -> None:
    """Hundreds of runs, each on the one before, all fail with the first, naming the root."""

    def fail(ticket: Ticket) -> int:
        ticket.wait()
        raise LookupError("boom")

    with Gate() as gate, ConcurrentTaskRunner(max_workers=1) as runner:
        future = runner.submit(fail, gate.ticket)
        for _ in range(24):
            future = runner.submit(add, lift(future))
        gate.open()
        state = future.wait()
        assert isinstance(state, UpstreamFailed)
        assert isinstance(state.cause, LookupError)
        assert len(str(state)) < 500


def test_whoever_submits_waits_for_no_other_thread() -> None:
    """A run is queued while another thread changes the pool, which then sees to the run."""
    with ConcurrentTaskRunner() as runner:
        assert runner._executor is not None
        with runner._executor.threads._changing():
            submitted: list[Future[int]] = []
            thread = threading.Thread(target=lambda: submitted.append(runner.submit(sum, (3, 4))))
            thread.start()
            thread.join(PATIENCE)
            assert not thread.is_alive()
        assert outcome(submitted[0]) == 7
