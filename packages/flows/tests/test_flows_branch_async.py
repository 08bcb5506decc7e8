"""Branches in async code, on trio and on asyncio: what cancels them, and what they cancel."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

import anyio
import anyio.to_thread
import branch_tasks as shared
import pytest
from branch_tasks import abandoned, add, add_async, fail, hold, listen

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
    gather,
    task,
    unmapped,
)
from anabranch.futures import NotSubmittableError, WouldDeadlockError
from anabranch.futures.testing import VirtualClock

runner = shared.runner
release = shared.release
messages = shared.messages

pytestmark = pytest.mark.anyio


async def until(event: threading.Event) -> None:
    """Wait for an event in a loop."""
    await anyio.to_thread.run_sync(event.wait, 20)


class TestJoining:
    async def test_every_run_has_ended_at_its_end(self, runner: TaskRunner) -> None:
        """What was submitted in a branch is over where it ends, sync and async."""

        @flow(task_runner=runner)
        async def body() -> list[int]:
            async with branch("sums") as opened:
                assert isinstance(opened, Branch)
                futures = [*add.map([1, 2], unmapped(1)), *add_async.map([3, 4], unmapped(1))]
            assert all(each.done() for each in futures)
            return await gather(futures)

        assert await body() == [2, 3, 4, 5]

    async def test_branches_in_tasks(self, runner: TaskRunner) -> None:
        """Async and sync tasks open branches in one another's branches, on one worker as well."""

        @task
        async def tree(depth: int) -> int:
            async with branch(), branch(fail_fast=True):
                children = [leaf.submit(depth - 1) for _ in range(2 if depth else 0)]
            assert all(each.done() for each in children)
            return 1 + sum(each.result() for each in children)

        @task
        def leaf(depth: int) -> int:
            with branch():
                children = [tree.submit(depth - 1) for _ in range(2 if depth else 0)]
            return 1 + sum(each.result() for each in children)

        @flow(task_runner=runner)
        async def body() -> int:
            async with branch():
                top = tree.submit(3)
            return await top

        assert await body() == 15

    async def test_left_by_an_exception_it_cancels_and_waits(
        self, release: threading.Event
    ) -> None:
        """The runs that have not started never do, the others end, and the exception comes out."""
        started = threading.Event()
        error = ValueError("mine")

        @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
        async def body() -> list[str]:
            futures: list[Future[object]] = []
            with pytest.raises(ValueError, match="mine") as caught:  # noqa: PT012 - the body of the branch
                async with branch():
                    futures += [hold.submit(started, release), add.submit(1), listen.submit()]
                    futures[1].add_done_callback(lambda _: release.set())
                    await until(started)
                    raise error
            assert caught.value is error
            assert all(each.done() for each in futures)
            return [each.state.name for each in futures]

        assert await body() == ["Completed", "Cancelled", "Cancelled"]


class TestWhere:
    async def test_a_blocking_branch_in_async_code(self) -> None:
        """`with` is refused where it would block the loop, in flows and in tasks."""

        @task
        async def blocking() -> None:
            with branch("mine"):
                pass

        @flow
        async def body() -> None:
            with pytest.raises(WouldDeadlockError, match=r"'mine'.*Use `async with branch"):
                await blocking()
            async with branch():
                future = blocking.submit()
            assert isinstance(future.exception(), WouldDeadlockError)
            with branch("mine"):
                pass

        with pytest.raises(WouldDeadlockError, match=r"'mine' waits for. Use `async with branch"):
            await body()

    async def test_a_blocking_branch_in_a_thread(self) -> None:
        """A worker thread of the async code's own may block, and so may open a branch by `with`."""

        def blocking() -> int:
            with branch(), branch():
                future = add_async.submit(1)
            return future.result()

        @flow
        async def body() -> int:
            async with branch():
                number = await anyio.to_thread.run_sync(blocking)
            return number

        assert await body() == 1

    def test_a_loop_in_a_sync_flow(self, anyio_backend: str) -> None:
        """A loop that is run in a sync flow opens branches by `async with`."""

        async def main() -> list[str]:
            async with branch(fail_fast=True):
                futures = [add.submit(1), add_async.submit(2)]
            return [each.state.name for each in futures]

        @flow
        def body() -> list[str]:
            return anyio.run(main, backend=anyio_backend)

        assert body() == ["Completed", "Completed"]

    def test_a_loop_in_a_branch(self, anyio_backend: str) -> None:
        """Cancelling a branch interrupts the async branches inside, in a loop of their own too."""

        async def main() -> None:
            async with branch("inner"):
                fail.submit()
                await anyio.sleep_forever()

        @flow
        def body() -> None:
            with branch("outer", fail_fast=True):
                fail_later = fail.submit(wait_for=[add.submit(1)])
                assert fail_later is not None
                anyio.run(main, backend=anyio_backend)

        with pytest.raises(LookupError, match="boom"):
            body()

    async def test_submitting_in_a_branch_that_has_ended(self) -> None:
        """An async task that outlives the branch it was started in is told that it has ended."""
        errors = []

        @flow
        async def body() -> int:
            async with anyio.create_task_group() as group:
                ended = anyio.Event()

                async def late() -> None:
                    await ended.wait()
                    with pytest.raises(NotSubmittableError, match=r"'short'.*has ended") as caught:
                        add.submit(1)
                    errors.append(caught.value)

                async with branch("short"):
                    group.start_soon(late)
                ended.set()
            return 1

        assert await body() == 1
        assert len(errors) == 1


class TestFailFast:
    async def test_the_body_is_interrupted(self) -> None:
        """The first failure cancels the runs and the body, and comes out as it is."""
        failure = LookupError("boom")
        seen = []

        @task
        async def fail_so() -> None:
            raise failure

        @flow
        async def body() -> str:
            with pytest.raises(LookupError) as caught:  # noqa: PT012 - the body of the branch
                async with branch(fail_fast=True):
                    other = listen.submit()
                    fail_so.submit()
                    try:
                        await anyio.sleep_forever()
                    finally:
                        seen.append("interrupted")
            assert caught.value is failure
            assert failure.__context__ is None
            return other.state.name

        assert await body() == "Cancelled"
        assert seen == ["interrupted"]

    async def test_threads_are_waited_for(self, release: threading.Event) -> None:
        """A thread beside the failure is no more abandoned than in sync code."""
        started = threading.Event()

        @task
        async def release_when_cancelled() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                # Long after the body was interrupted.
                with anyio.CancelScope(shield=True):
                    await anyio.wait_all_tasks_blocked()
                release.set()

        @flow
        async def body() -> tuple[str, int]:
            with contextlib.suppress(LookupError):
                async with branch(fail_fast=True):
                    future = hold.submit(started, release)
                    release_when_cancelled.submit()
                    await until(started)
                    fail.submit()
                    await anyio.sleep_forever()
            return future.state.name, abandoned()

        assert await body() == ("Completed", 0)

    async def test_a_failure_during_the_join(self) -> None:
        """A failure when the body is through cancels the others, and comes out."""

        @flow
        async def body() -> str:
            with contextlib.suppress(LookupError):
                async with branch(fail_fast=True):
                    other = listen.submit()
                    fail.submit(wait_for=[add_async.submit(1)])
            return other.state.name

        assert await body() == "Cancelled"

    @pytest.mark.parametrize("shielded", [False, True])
    async def test_a_body_of_several_tasks(self, shielded: bool) -> None:
        """Whichever task of the body meets the failure first, it is the failure that comes out."""

        @flow
        async def body() -> None:
            async with branch(fail_fast=True), anyio.create_task_group() as group:
                waiting = listen.submit()

                async def wait_for(future: Future[object]) -> None:
                    with anyio.CancelScope(shield=shielded):
                        await future

                group.start_soon(wait_for, waiting)
                group.start_soon(wait_for, fail.submit())

        with pytest.raises(LookupError, match="boom"):
            await body()

    async def test_errors_beside_the_interruption_come_out(self) -> None:
        """What the body raises while it is interrupted is not swallowed; the runs are joined."""

        @flow
        async def body() -> str:
            with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the body of the branch
                async with branch(fail_fast=True), anyio.create_task_group() as group:
                    other = listen.submit()

                    async def fail_when_cancelled() -> None:
                        try:
                            await anyio.sleep_forever()
                        finally:
                            raise ValueError("clean-up")

                    group.start_soon(fail_when_cancelled)
                    group.start_soon(anyio.sleep_forever)
                    await anyio.wait_all_tasks_blocked()
                    fail.submit()
                    await anyio.sleep_forever()
            assert other.done()
            return str(caught.value.exceptions)

        assert await body() == "(ValueError('clean-up'),)"

    async def test_a_shielded_body_goes_on(self) -> None:
        """What shields itself is not interrupted; what it submits then never starts."""
        calls = []

        @task
        def note() -> None:
            calls.append(1)

        @flow
        async def body() -> str:
            with contextlib.suppress(LookupError):
                async with branch(fail_fast=True):
                    with anyio.CancelScope(shield=True):
                        await fail.submit().wait_async()
                        await anyio.wait_all_tasks_blocked()
                        late = note.submit()
            return late.state.name

        assert await body() == "Cancelled"
        assert calls == []

    async def test_in_an_async_task(self) -> None:
        """A branch in a submitted task fails that task, which is another's to see to."""

        @task
        async def parent() -> None:
            async with branch(fail_fast=True):
                listen.submit()
                fail.submit()

        @flow
        async def body() -> str:
            async with branch():
                future = parent.submit()
                other = add.submit(1)
            return f"{future.state} {other.state}"

        assert await body() == "Failed('LookupError: boom') Completed()"


class TestTimeout:
    async def test_the_body_is_interrupted(self) -> None:
        """When the time is up the runs and the body are cancelled; then the branch says so."""
        with VirtualClock() as clock:

            @flow
            async def body() -> str:
                with pytest.raises(RunTimedOutError, match=r"'short' did not end.*of 60 s"):  # noqa: PT012 - the body of the branch
                    async with branch("short", timeout=60):
                        future = listen.submit()
                        await anyio.sleep_forever()
                return future.state.name

            assert await body() == "Cancelled"
            assert clock.now() == 60

    async def test_during_the_join(
        self, release: threading.Event, messages: Callable[[], list[str]]
    ) -> None:
        """A stuck thread is abandoned on time, counted and named; the others are cancelled."""
        with VirtualClock() as clock:

            @task
            def get_stuck() -> None:
                clock.advance(60)
                release.wait(20)

            @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
            async def body() -> list[str]:
                with pytest.raises(RunTimedOutError):
                    async with branch("short", timeout=60):
                        futures = [get_stuck.submit(), listen.submit(), add.submit(1)]
                assert abandoned() == 1
                assert await add.submit(1) == 1
                return [each.state.name for each in futures]

            assert await body() == ["Cancelled"] * 3
        assert any(each.startswith("Abandoned run 'get_stuck-") for each in messages())

    async def test_in_turns(self, release: threading.Event) -> None:
        """On the sequential runner the turns go on after an abandoned run."""
        with VirtualClock() as clock:

            @task
            def get_stuck() -> None:
                clock.advance(60)
                release.wait(20)

            @flow(task_runner=SequentialTaskRunner())
            async def body() -> list[str]:
                with pytest.raises(RunTimedOutError):
                    async with branch(timeout=60):
                        futures = [get_stuck.submit(), add.submit(1)]
                return [each.state.name for each in (*futures, add.submit(1))[:2]] + [
                    (await add.submit(1).wait_async()).name
                ]

            assert await body() == ["Cancelled", "Cancelled", "Completed"]


class TestFromOutside:
    async def test_a_cancel_scope_reaches_the_runs(self, runner: TaskRunner) -> None:
        """Cancelling what surrounds a branch cancels its runs, and ends as cancelled."""

        @flow(task_runner=runner)
        async def body() -> tuple[bool, list[str]]:
            futures: list[Future[object]] = []
            with anyio.CancelScope() as scope:
                async with branch(fail_fast=True, timeout=3600):
                    futures += [listen.submit(), listen.submit()]
                    scope.cancel()
                    await anyio.sleep_forever()
            return scope.cancelled_caught, [each.state.name for each in futures]

        assert await body() == (True, ["Cancelled", "Cancelled"])

    async def test_while_it_joins(self, runner: TaskRunner) -> None:
        """A branch that is waiting for its runs is cancelled as well."""

        @flow(task_runner=runner)
        async def body() -> tuple[bool, list[str]]:
            futures: list[Future[object]] = []
            async with anyio.create_task_group() as group:

                async def waiting() -> None:
                    async with branch():
                        futures.extend((listen.submit(), listen.submit()))

                group.start_soon(waiting)
                await anyio.wait_all_tasks_blocked()
                group.cancel_scope.cancel()
            return group.cancel_scope.cancel_called, [each.state.name for each in futures]

        assert await body() == (True, ["Cancelled", "Cancelled"])

    async def test_it_reaches_branches_inside(self) -> None:
        """Branches in branches, and in tasks called directly, go the same way."""

        futures: list[Future[object]] = []

        @task
        async def called() -> None:
            async with branch():
                futures.append(listen.submit())

        @flow
        async def body() -> list[str]:
            async with anyio.create_task_group() as group:

                async def waiting() -> None:
                    async with branch():
                        futures.append(listen.submit())
                        async with branch(fail_fast=True):
                            futures.append(listen.submit())
                            await called()

                group.start_soon(waiting)
                while len(futures) < 3:
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            return [each.state.name for each in futures]

        assert await body() == ["Cancelled"] * 3

    @pytest.mark.slow
    @pytest.mark.parametrize("left_by", ["nothing", "an error", "the failure of a run"])
    async def test_stuck_threads_are_abandoned(
        self, release: threading.Event, left_by: str
    ) -> None:
        """A thread that does not end within half a second is given up, however the body ended."""
        started = threading.Event()

        @flow
        async def body() -> tuple[str, str, int]:
            outcome = "cancelled"
            async with anyio.create_task_group() as group:
                futures: list[Future[object]] = []

                async def waiting() -> None:
                    nonlocal outcome
                    try:
                        async with branch(fail_fast=True):
                            futures.append(hold.submit(started, release))
                            await until(started)
                            if left_by == "an error":
                                raise ValueError("mine")
                            if left_by == "the failure of a run":
                                fail.submit()
                                await anyio.sleep_forever()
                    except (ValueError, LookupError) as error:
                        outcome = str(error)

                group.start_soon(waiting)
                await until(started)
                with anyio.CancelScope(shield=True):
                    await anyio.wait_all_tasks_blocked()
                group.cancel_scope.cancel()
            return outcome, futures[0].state.name, abandoned()

        outcome = "mine" if left_by == "an error" else "cancelled"
        assert await body() == (outcome, "Cancelled", 1)

    async def test_by_asyncio_itself(self, anyio_backend_name: str) -> None:
        """A native cancellation of the task is one from outside, too."""
        if anyio_backend_name != "asyncio":
            return
        futures: list[Future[object]] = []
        opened = asyncio.Event()

        @flow
        async def body() -> None:
            async with branch(fail_fast=True):
                futures.append(listen.submit())
                opened.set()
                await asyncio.sleep(60)

        running = asyncio.get_running_loop().create_task(body())
        await opened.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert futures[0].state.name == "Cancelled"

    async def test_giving_up_a_wait_cancels_nothing(self) -> None:
        """The wait for a run is one thing, the run another: the branch owns it."""

        @flow
        async def body() -> str:
            async with branch() as opened:
                future = listen.submit()
                with anyio.move_on_after(0):
                    await future
                name = future.state.name
                opened.cancel()
            return name

        assert await body() in ("Pending", "Running")


class TestByHand:
    async def test_it_ends_quietly(self, runner: TaskRunner) -> None:
        """Cancelled by hand, the runs and the body are, and the branch ends without an error."""
        seen = []

        @flow(task_runner=runner)
        async def body() -> list[str]:
            async with branch() as opened:
                futures = [listen.submit(), add.submit(1, wait_for=[listen.submit()])]
                opened.cancel()
                futures.append(add.submit(2))
                await anyio.sleep_forever()
                seen.append("went on")
            return [each.state.name for each in futures]

        assert await body() == ["Cancelled"] * 3
        assert seen == []

    async def test_from_another_thread(self) -> None:
        """A branch may be cancelled in any thread, and before it is entered."""

        @flow
        async def body() -> list[str]:
            opened, early = branch(), branch()
            async with opened:
                first = listen.submit()
                await anyio.to_thread.run_sync(opened.cancel)
                await anyio.sleep_forever()
            early.cancel()
            async with early:
                second = listen.submit()
                await anyio.sleep_forever()
            opened.cancel()
            await anyio.lowlevel.checkpoint()
            return [first.state.name, second.state.name]

        assert await body() == ["Cancelled", "Cancelled"]

    async def test_a_wait_for_a_cancelled_run(self) -> None:
        """A shielded wait that finds its run cancelled is what comes of it, and no error."""

        @flow
        async def body() -> str:
            async with branch() as opened:
                future = listen.submit()
                opened.cancel()
                with anyio.CancelScope(shield=True):
                    await future
            return future.state.name

        assert await body() == "Cancelled"

    async def test_cancelling_a_run_is_the_bodys_affair(self) -> None:
        """Only the branch's own cancelling is swallowed."""

        @flow
        async def body() -> None:
            async with branch():
                future = listen.submit()
                future.cancel()
                await future

        with pytest.raises(RunCancelledError):
            await body()

    async def test_direct_calls_that_it_cancels_are_no_loss(self) -> None:
        """An async task that is called in a branch, and cancelled by it, does not count."""

        @flow
        async def body() -> None:
            async with branch() as opened:
                opened.cancel()
                await listen()

        assert str(await body.run()) == "Completed('All states completed.')"
