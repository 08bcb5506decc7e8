"""Branches with `timeout`: the deadline is kept, whatever the runs are at."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

import anyio
import branch_tasks as shared
import pytest
from branch_tasks import abandoned, add, listen

from anabranch.flows import (
    Branch,
    ConcurrentTaskRunner,
    Future,
    RunCancelledError,
    RunTimedOutError,
    SequentialTaskRunner,
    TaskRunner,
    branch,
    flow,
    task,
)
from anabranch.futures.testing import VirtualClock

release = shared.release
messages = shared.messages


@pytest.fixture(params=["concurrent", "one worker"])
def runner(request: pytest.FixtureRequest) -> TaskRunner:
    """A local runner that executes sync tasks on threads of its own."""
    return ConcurrentTaskRunner(1) if request.param == "one worker" else ConcurrentTaskRunner()


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    """The time that these branches go by."""
    with VirtualClock() as clock:
        yield clock


@task
def get_stuck(clock: VirtualClock, release: threading.Event, seconds: float = 60) -> str:
    """Be at work while time passes, and after that."""
    clock.advance(seconds)
    release.wait(20)
    return "late"


class TestInTime:
    def test_a_branch_that_ends_in_time(self, clock: VirtualClock, runner: TaskRunner) -> None:
        """It ends as without a limit, and no timer is left behind."""

        @flow(task_runner=runner)
        def body() -> int:
            with branch(timeout=60):
                future = add.submit(1)
            clock.advance(100)
            return future.result()

        assert body() == 1
        assert clock.now() == 100
        assert not [each for each in clock._timers if each.callback is not None]


class TestOutOfTime:
    def test_async_runs_are_cancelled(
        self, clock: VirtualClock, messages: Callable[[], list[str]]
    ) -> None:
        """When the time is up its runs are cancelled, the branch says so, and so does the log."""

        @flow
        def body() -> str:
            with (
                pytest.raises(
                    RunTimedOutError,
                    match=r"Branch 'listening' did not end within its time limit of 60 s",
                ) as caught,
                branch("listening", timeout=60),
            ):
                future = listen.submit()
            assert isinstance(caught.value, TimeoutError)
            return str(future.state)

        assert body() == "Cancelled('The run was cancelled while it was running.')"
        assert clock.now() == 60
        log = messages()
        assert "Branch 'listening' has used up its 60 s: it cancels its runs" in log
        assert not [each for each in log if "anyone having looked" in each]

    def test_a_stuck_thread_is_abandoned(
        self,
        clock: VirtualClock,
        release: threading.Event,
        runner: TaskRunner,
        messages: Callable[[], list[str]],
    ) -> None:
        """The branch does without it: it is counted, named in the log, and its result ignored."""

        @flow(task_runner=runner)
        def body() -> list[str]:
            with pytest.raises(RunTimedOutError), branch("short", timeout=60):  # noqa: PT012 - the body of the branch
                stuck = get_stuck.submit(clock, release)
                behind = add.submit(1, wait_for=[stuck])
            assert abandoned() == 1
            assert add.submit(1).result() == 1  # On one worker, another thread stands in.
            release.set()
            return [str(stuck.state), behind.state.name]

        assert body() == ["Cancelled(\"Branch 'short' ran out of time.\")", "Cancelled"]
        assert any(each.startswith("Abandoned run 'get_stuck-") for each in messages())

    @pytest.mark.parametrize("waits", ["in the body", "at the end"])
    def test_in_a_task(
        self, clock: VirtualClock, release: threading.Event, runner: TaskRunner, waits: str
    ) -> None:
        """The thread that waits does not execute the run itself: it has to go on in time."""

        @task
        def parent() -> str:
            try:
                with branch(timeout=60):
                    future = get_stuck.submit(clock, release)
                    if waits == "in the body":
                        future.result()
            except RunTimedOutError:
                return future.state.name
            return "in time"

        @flow(task_runner=runner)
        def body() -> tuple[str, int]:
            return parent.submit().result(), abandoned()

        assert body() == ("Cancelled", 1)

    def test_one_thread_may_wait_beneath_a_deadline(self, clock: VirtualClock) -> None:
        """Tasks with timed branches submit such tasks, many deep, on one worker."""

        @task
        def tree(depth: int) -> int:
            with branch(timeout=60):
                children = [tree.submit(depth - 1) for _ in range(2 if depth else 0)]
            return 1 + sum(each.result() for each in children)

        @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
        def body() -> int:
            return tree.submit(4).result()

        assert body() == 31

    def test_a_body_that_waits_is_left_by_the_time_out(self, clock: VirtualClock) -> None:
        """The wait for a run that was cancelled for the time ends as the time-out."""

        @flow
        def body() -> None:
            with branch(timeout=60):
                listen.submit().result()

        with pytest.raises(RunTimedOutError) as caught:
            body()
        assert not isinstance(caught.value.__context__, RunCancelledError)

    def test_the_bodys_own_error_comes_out(self, clock: VirtualClock) -> None:
        """What the body raises of its own accord comes out, however late."""

        @flow
        def body() -> None:
            with branch(timeout=60):
                clock.advance(60)
                raise ValueError("mine")

        with pytest.raises(ValueError, match="mine"):
            body()

    @pytest.mark.parametrize("of", [ConcurrentTaskRunner(), SequentialTaskRunner()], ids=str)
    def test_a_sync_body_goes_on_and_submits_nothing_more(
        self, clock: VirtualClock, of: TaskRunner
    ) -> None:
        """A body that takes longer is told at its end; what it submits meanwhile never starts."""
        calls = []

        @task
        def note(x: int) -> None:
            calls.append(x)

        @flow(task_runner=of)
        def body() -> str:
            with pytest.raises(RunTimedOutError), branch(timeout=60):  # noqa: PT012 - the body of the branch
                note.submit(1).wait()
                clock.advance(60)
                late = note.submit(2)
            return late.state.name

        assert body() == "Cancelled"
        assert calls == [1]

    def test_in_place_it_counts_between_runs(self, clock: VirtualClock) -> None:
        """On the sequential runner a run ends in its own time, what it submits later never starts,
        and neither do the runs behind it.
        """
        calls = []

        @task
        def note(x: int) -> None:
            calls.append(x)

        @task
        def parent() -> str:
            note.submit(1)
            clock.advance(60)
            return note.submit(2).state.name

        @flow(task_runner=SequentialTaskRunner())
        def body() -> list[str]:
            with pytest.raises(RunTimedOutError), branch(timeout=60):
                futures: list[Future[object]] = [parent.submit(), note.submit(3)]
            return [str(futures[0].result()), futures[1].state.name]

        assert body() == ["Cancelled", "Cancelled"]
        assert calls == [1]

    def test_a_direct_call_is_not_tried_again(self, clock: VirtualClock) -> None:
        """A task called directly makes no attempt after the deadline, and does not wait for it."""
        attempts = []

        @task(retries=3, retry_delay=3600)
        def flaky() -> None:
            attempts.append(1)
            clock.advance(60)
            raise ValueError("again")

        @flow
        def body() -> None:
            with branch(timeout=60):
                flaky()

        with pytest.raises(RunTimedOutError):
            body()
        assert attempts == [1]
        assert clock.now() == 60

    def test_the_deadline_of_an_outer_branch_reaches_inside(
        self, clock: VirtualClock, release: threading.Event, runner: TaskRunner
    ) -> None:
        """A thread stuck in a branch inside is abandoned, and so is one of a task called there."""

        @task
        def called() -> None:
            get_stuck.submit(clock, release).wait()

        @flow(task_runner=runner)
        def body() -> tuple[str, int]:
            with pytest.raises(RunTimedOutError, match="'outer'"), branch("outer", timeout=60):  # noqa: PT012 - the body of the branch
                with branch("inner"):
                    inner = get_stuck.submit(clock, release)
                called()
            with pytest.raises(RunTimedOutError, match="'outer'"), branch("outer", timeout=60):
                called()
            return inner.state.name, abandoned()

        assert body() == ("Cancelled", 2)

    def test_the_runs_of_an_abandoned_run_are_abandoned(
        self, clock: VirtualClock, release: threading.Event, runner: TaskRunner
    ) -> None:
        """Nothing waits for what an abandoned task has submitted, however deep."""
        futures: list[Future[object]] = []
        all_known = threading.Event()

        @task
        def last() -> None:
            all_known.wait(20)
            get_stuck(clock, release)

        @task
        def parent(depth: int) -> None:
            child = parent.submit(depth - 1) if depth else last.submit()
            futures.append(child)
            if depth == 0:
                all_known.set()
            child.wait()
            release.wait(20)  # Or it might end by itself before it is abandoned.

        @flow(task_runner=runner)
        def body() -> list[str]:
            with pytest.raises(RunTimedOutError), branch(timeout=60):
                parent.submit(2)
            return [each.state.name for each in futures]

        assert body() == ["Cancelled"] * 3

    def test_the_time_limit_of_a_task_reaches_its_branches(
        self, clock: VirtualClock, release: threading.Event, runner: TaskRunner
    ) -> None:
        """A task that exceeds its own limit in a branch leaves nothing that holds up the flow."""
        futures: list[Future[str]] = []

        @task(timeout=60)
        def parent() -> None:
            with branch():
                futures.append(get_stuck.submit(clock, release))

        @flow(task_runner=runner)
        def body() -> list[str]:
            future = parent.submit()
            future.wait()
            return [future.state.name, futures[0].state.name]

        assert body() == ["TimedOut", "Cancelled"]

    def test_a_submitted_subflow_is_abandoned(
        self, clock: VirtualClock, release: threading.Event
    ) -> None:
        """A sync subflow cannot be stopped; the branch goes on without it."""

        @flow
        def inner() -> None:
            clock.advance(60)
            release.wait(20)

        @flow
        def body() -> str:
            with pytest.raises(RunTimedOutError), branch(timeout=60):
                future = inner.submit()
            return future.state.name

        assert body() == "Cancelled"


class TestFailFastToo:
    def test_a_failure_before_the_deadline_comes_out(
        self, clock: VirtualClock, release: threading.Event, runner: TaskRunner
    ) -> None:
        """When the time is up while the branch waits for its threads, it is left by the failure."""

        @task
        async def fail_async() -> None:
            raise LookupError("boom")

        @flow(task_runner=runner)
        def body() -> int:
            with pytest.raises(LookupError, match="boom"), branch(fail_fast=True, timeout=60):  # noqa: PT012 - the body of the branch
                started = threading.Event()
                hold_until_failed.submit(started)
                started.wait(20)
                fail_async.submit()
            return abandoned()

        failed = threading.Event()

        @task
        def hold_until_failed(started: threading.Event) -> None:
            started.set()
            failed.wait(20)
            get_stuck(clock, release)

        with _told_of("cancels the others", failed):
            assert body() == 1

    def test_a_failure_after_the_deadline_is_none(
        self, clock: VirtualClock, release: threading.Event
    ) -> None:
        """What fails for having been cancelled in the end does not count."""

        @task
        async def fail_when_cancelled() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                raise LookupError("late")

        @flow
        def body() -> Branch:
            with branch("late", fail_fast=True, timeout=60) as opened:
                fail_when_cancelled.submit()
            return opened

        with pytest.raises(RunTimedOutError, match="'late'"):
            body()


@contextlib.contextmanager
def _told_of(words: str, event: threading.Event) -> Iterator[None]:
    """Set an event when a message with these words is logged."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if words in record.getMessage():
                event.set()

    handler, logger = Handler(), logging.getLogger("anabranch")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
