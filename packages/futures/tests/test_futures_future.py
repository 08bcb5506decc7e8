"""Futures: completing once, waking whoever waits, and refusing what could never work."""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from queue import SimpleQueue

import anyio
import anyio.lowlevel
import pytest

from anabranch.futures import (
    Cancellation,
    Cancelled,
    Completed,
    Failed,
    Future,
    NotFinishedError,
    Pending,
    Running,
    State,
    TaskRun,
    TimedOut,
    WouldDeadlockError,
)
from anabranch.futures.runner import BlockingSection, StoredValue, set_blocking_section

BOOM = LookupError("boom")


def make(name: str = "a", *, loops: frozenset[int] = frozenset()) -> Future[int]:
    """Make a pending future of a run of this name."""
    return Future(TaskRun(name, name, name), loops=loops)


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run async tests on both kinds of event loop."""
    return str(request.param)


# ------------------------------------------------------------------------- completing


def test_a_new_future_is_pending() -> None:
    """A future starts out neither running nor done."""
    future = make()
    assert not future.done()
    assert not future.is_running()
    assert isinstance(future.state, Pending)
    with pytest.raises(NotFinishedError, match="Run 'a' has not ended"):
        future.final_state()


def test_a_future_completes_once() -> None:
    """Only the first final state counts, and the call says whether it was the one."""
    future = make()
    assert future.set_final(Completed(1))
    assert not future.set_final(Failed(BOOM))
    assert future.done()
    assert future.result() == 1


def test_a_future_is_claimed_once() -> None:
    """Only the first claim succeeds, and then the run counts as running, since then."""
    future = make()
    assert future.set_running()
    assert not future.set_running()
    assert future.is_running()
    state = future.state
    assert isinstance(state, Running)
    assert isinstance(future.state, Running)
    assert future.state.timestamp == state.timestamp
    future.set_final(Completed(1))
    assert not future.is_running()


def test_a_run_that_has_ended_cannot_be_claimed() -> None:
    """A run that was cancelled before it started is never executed."""
    future = make()
    future.set_final(Cancelled())
    assert not future.set_running()
    assert not future.is_running()


@pytest.mark.parametrize("action", ["claim", "complete"])
def test_one_of_many_threads_wins(action: str) -> None:
    """Of many threads that claim or complete a future at once, exactly one does."""
    count = 16
    with ThreadPoolExecutor(count) as pool:
        for _ in range(20):
            future = make()
            barrier = threading.Barrier(count)

            def compete(
                number: int, future: Future[int] = future, barrier: threading.Barrier = barrier
            ) -> bool:
                barrier.wait()
                if action == "claim":
                    return future.set_running()
                return future.set_final(Completed(number))

            won = list(pool.map(compete, range(count)))
            assert sum(won) == 1
            if action == "complete":
                assert future.result() == won.index(True)


def test_looking_at_the_outcome_is_noted() -> None:
    """A future knows whether anyone has looked at how the run ended."""
    looks: list[Callable[[Future[int]], object]] = [
        lambda future: future.state,
        lambda future: future.wait(),
        lambda future: future.result(),
        lambda future: future.exception(),
    ]
    for look in looks:
        future = make()
        assert not future.was_observed()
        assert isinstance(future.state, Pending)  # There was nothing to see yet.
        assert not future.was_observed()
        future.set_final(Completed(1))
        assert future.done()
        assert isinstance(future.final_state(), Completed)
        assert not future.was_observed()
        look(future)
        assert future.was_observed()


# ------------------------------------------------------------------------- results


def test_results_of_a_failed_run() -> None:
    """A failure is raised by result, or returned if asked for, and returned by exception."""
    future = make()
    future.set_final(Failed(BOOM))
    with pytest.raises(LookupError, match=r"^boom$") as caught:
        future.result()
    assert caught.value is BOOM
    assert future.result(raise_on_failure=False) is BOOM
    assert future.exception() is BOOM
    state = future.wait()
    assert isinstance(state, Failed)


def test_a_completed_run_has_no_exception() -> None:
    """The exception of a run that ended well is None."""
    future = make()
    future.set_final(Completed(1))
    assert future.exception() is None


def test_waits_that_time_out() -> None:
    """When the time is over, wait gives None, the others raise with the run's name."""
    future = make("slow-run")
    assert future.wait(timeout=0) is None
    assert future.wait(timeout=-1) is None
    with pytest.raises(TimeoutError, match=r"^Run 'slow-run' has not ended after 0\.0 s$"):
        future.result(timeout=0.0)
    with pytest.raises(TimeoutError, match=r"^Run 'slow-run' has not ended after 0\.0 s$"):
        future.exception(timeout=0.0)
    assert not future.done()


def test_a_wait_that_timed_out_leaves_nothing_behind() -> None:
    """Waiting in vain many times over does not make the future grow."""
    future = make()
    for _ in range(100):
        future.wait(timeout=0)
    called: list[Future[int]] = []
    future.add_done_callback(called.append)
    future.set_final(Completed(1))
    assert called == [future]
    assert future.wait(timeout=0) is future.state


class EndingSoon(Future[int]):
    """A run that ends in another thread once it is waited for."""

    __slots__ = ()

    def park(self, timeout: float | None = None) -> None:
        """Have the run end, and wait for it."""
        threading.Thread(target=self.set_final, args=(Completed(1),)).start()
        super().park(timeout)


@pytest.mark.parametrize("timeout", [None, 30])
def test_a_wait_ends_with_the_run(timeout: float | None) -> None:
    """A wait, with a limit or without, ends when the run does."""
    assert EndingSoon(TaskRun("a", "a", "a")).result(timeout=timeout) == 1


def test_many_threads_wait_for_one_run() -> None:
    """Every waiting thread is woken with the same value."""
    future: Future[list[int]] = Future(TaskRun("a", "a", "a"))
    waiting: SimpleQueue[None] = SimpleQueue()

    def wait() -> list[int]:
        waiting.put(None)
        return future.result()

    with ThreadPoolExecutor(8) as pool:
        results = [pool.submit(wait) for _ in range(8)]
        for _ in results:
            waiting.get()
        value = [1]
        future.set_final(Completed(value))
        assert all(result.result() is value for result in results)


def test_a_time_out_of_the_run_is_not_one_of_the_wait() -> None:
    """A run that exceeded its own limit is a result like another: wait returns the state."""
    future = make()
    future.set_final(TimedOut(message="The run took 3 s."))
    assert isinstance(future.wait(timeout=0), TimedOut)
    with pytest.raises(TimeoutError, match=r"^The run took 3 s\.$"):
        future.result(timeout=0)


# ------------------------------------------------------------------------- in event loops


@pytest.mark.anyio
async def test_awaiting_gives_the_value_or_raises() -> None:
    """In async code a future is awaited for its value, or raises the run's failure."""
    future, failed = make(), make()
    async with anyio.create_task_group() as group:

        async def wait() -> None:
            assert await future == 1
            assert await future == 1, "as often as one likes"

        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        threading.Thread(target=future.set_final, args=(Completed(1),)).start()
    failed.set_final(Failed(BOOM))
    with pytest.raises(LookupError, match="boom"):
        await failed
    state = await failed.wait_async()
    assert isinstance(state, Failed)


@pytest.mark.anyio
async def test_an_async_wait_that_times_out() -> None:
    """When the time is over, an async wait gives None, and the run goes on."""
    future = make()
    assert await future.wait_async(timeout=0) is None
    assert not future.done()
    future.set_final(Completed(1))
    assert await future.wait_async(timeout=0) is future.state


@pytest.mark.anyio
async def test_cancelling_an_async_wait_lets_the_run_go_on() -> None:
    """Giving up a wait neither ends the run nor keeps the waiter on it."""
    future = make()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await future
    assert scope.cancelled_caught
    assert not future.done()
    assert future.set_final(Completed(1))
    assert await future == 1


class FarValue(StoredValue[int]):
    """A value that remembers which thread fetched it."""

    thread: int | None = None

    def _fetch(self) -> int:
        self.thread = threading.get_ident()
        return 5


@pytest.mark.anyio
async def test_awaiting_fetches_values_outside_the_loop() -> None:
    """A value that lies elsewhere is brought over without blocking the event loop."""
    future, far = make(), FarValue()
    future.set_final(Completed(far))
    assert await future == 5
    assert far.thread not in (None, threading.get_ident())


# ------------------------------------------------------------------------- deadlocks


def test_a_blocking_wait_in_a_loop_that_the_run_needs_raises() -> None:
    """A wait that could never end raises at once, and shows what to write in its place."""
    future = make("needy", loops=frozenset({threading.get_ident()}))
    for wait in (future.wait, future.result, future.exception):
        with pytest.raises(
            WouldDeadlockError,
            match=r"Waiting for run 'needy' here would never end: .*Use `await future` instead of",
        ):
            wait()


def test_a_blocking_wait_elsewhere_just_waits() -> None:
    """In a thread whose loop the run does not need, a blocking wait waits."""
    future = make(loops=frozenset({threading.get_ident()}))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(future.result)
        future.set_final(Completed(1))
        assert waiting.result() == 1


def test_a_run_that_has_ended_needs_no_loop() -> None:
    """The outcome of a run that has ended can be read anywhere."""
    future = make(loops=frozenset({threading.get_ident()}))
    assert future.needed_loops() == frozenset({threading.get_ident()})
    future.set_final(Completed(1))
    assert future.needed_loops() == frozenset()
    assert future.result() == 1


@pytest.mark.anyio
async def test_a_blocking_wait_in_a_loop_that_the_run_does_not_need_waits() -> None:
    """Inside an event loop, a blocking wait for a run of plain threads is allowed."""
    future = make()
    threading.Thread(target=future.set_final, args=(Completed(1),)).start()
    assert future.result() == 1


# ------------------------------------------------------------------------- blocking sections


class Recording(BlockingSection):
    """A section that notes what is waited for."""

    def __init__(self) -> None:
        self.waits: list[Future[object]] = []

    def wait(self, future: Future[object], timeout: float | None = None) -> None:
        """Note the wait, and wait."""
        self.waits.append(future)
        super().wait(future)


@pytest.fixture
def section() -> Iterator[Recording]:
    """Put a recording section around this thread's waits."""
    recording = Recording()
    before = set_blocking_section(recording)
    yield recording
    assert set_blocking_section(before) is recording


def test_waits_go_through_the_threads_section(section: Recording) -> None:
    """A thread's blocking waits are its section's business, but not if the run is done."""
    future = make()
    threading.Thread(target=future.set_final, args=(Completed(1),)).start()
    future.wait()
    first = list(section.waits)
    assert future.result() == 1
    assert section.waits == first
    assert first in ([], [future])  # The run may have been done before the wait.


def test_other_threads_have_no_section(section: Recording) -> None:
    """A section is one thread's: others wait by themselves."""
    future = make()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(future.result)
        future.set_final(Completed(1))
        assert waiting.result() == 1
    assert section.waits == []


# ------------------------------------------------------------------------- callbacks


def test_callbacks_are_called_in_order_with_the_future() -> None:
    """Callbacks are called once each, in the order in which they were added."""
    future = make()
    called: list[tuple[str, Future[int]]] = []

    def noting(name: str) -> Callable[[Future[int]], object]:
        return lambda each: called.append((name, each))

    for name in "abc":
        future.add_done_callback(noting(name))
    assert called == []
    future.set_final(Completed(1))
    assert called == [("a", future), ("b", future), ("c", future)]
    future.set_final(Completed(2))
    assert len(called) == 3


def test_a_callback_of_a_run_that_has_ended_is_called_at_once() -> None:
    """A callback that comes late is called there and then."""
    future = make()
    future.set_final(Completed(1))
    called: list[Future[int]] = []
    future.add_done_callback(called.append)
    assert called == [future]


def test_a_failing_callback_is_logged_and_the_others_are_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a callback raises is logged with the run's name, and nobody else suffers."""
    future = make("logged-run")
    called: list[Future[int]] = []

    def broken(_: Future[int]) -> None:
        raise BOOM

    future.add_done_callback(broken)
    future.add_done_callback(called.append)
    with caplog.at_level(logging.ERROR, logger="anabranch.futures"):
        assert future.set_final(Completed(1))
    assert called == [future]
    assert [record.getMessage() for record in caplog.records] == [
        "A callback of run 'logged-run' failed"
    ]
    assert caplog.records[0].exc_info is not None
    assert caplog.records[0].exc_info[1] is BOOM


def test_a_long_chain_of_futures_does_not_overflow_the_stack() -> None:
    """10,000 futures, each of which completes the next, are completed one after the other."""
    futures = [make() for _ in range(10_000)]

    def complete(following: Future[int]) -> Callable[[Future[int]], object]:
        return lambda ended: following.set_final(ended.final_state())

    for one, following in pairwise(futures):
        one.add_done_callback(complete(following))
    futures[0].set_final(Completed(7))
    assert futures[-1].result() == 7


def test_callbacks_may_add_callbacks() -> None:
    """A callback that adds another one to its own future sees it called."""
    future = make()
    called: list[str] = []

    def first(each: Future[int]) -> None:
        each.add_done_callback(lambda _: called.append("second"))
        called.append("first")

    future.add_done_callback(first)
    future.set_final(Completed(1))
    assert sorted(called) == ["first", "second"]


def test_completing_in_many_threads_calls_every_callback() -> None:
    """Chains that end in several threads at once do not mix up their callbacks."""
    ended: SimpleQueue[Future[int]] = SimpleQueue()
    futures = [make(str(number)) for number in range(200)]
    for future in futures:
        future.add_done_callback(ended.put)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda future: future.set_final(Completed(1)), futures))
    assert {ended.get_nowait().task_run.name for _ in futures} == {str(n) for n in range(200)}
    assert ended.empty()


# ------------------------------------------------------------------------- the rest


def test_a_plain_future_cannot_be_stopped() -> None:
    """Without a runner that says how, a run cannot be cancelled."""
    future = make()
    assert future.cancel() is Cancellation.CANNOT_STOP
    assert not future.done()


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (None, "<Future of 'a': Pending()>"),
        (Completed(1), "<Future of 'a': Completed()>"),
        (Failed(BOOM, message="LookupError: boom"), "<Future of 'a': Failed('LookupError: boom')>"),
    ],
)
def test_repr_shows_the_run_and_its_state(state: State[int] | None, shown: str) -> None:
    """A future is shown with its run's name and its state, which is no look at the outcome."""
    future = make()
    if state is not None:
        future.set_final(state)
    assert repr(future) == shown
    assert not future.was_observed()


def test_repr_of_a_running_future() -> None:
    """A future that has been claimed is shown as running."""
    future = make()
    future.set_running()
    assert repr(future) == "<Future of 'a': Running()>"


def test_a_future_has_no_truth_value() -> None:
    """Asking a future for its truth raises, with what was probably meant."""
    with pytest.raises(TypeError, match=r"no truth value.*Use future\.done\(\), or future\.result"):
        bool(make())


def test_a_future_cannot_be_pickled() -> None:
    """Pickling a future raises with the run's name and the way to do it."""
    with pytest.raises(
        TypeError,
        match=r"The future of 'a' cannot be pickled: .*Pass it as an argument to \.submit",
    ):
        pickle.dumps([make()])


def test_futures_are_told_apart_by_identity() -> None:
    """Two futures of the same run are different, and futures can be keys."""
    one, other = make(), make()
    assert one != other
    assert {one: 1, other: 2}[one] == 1
