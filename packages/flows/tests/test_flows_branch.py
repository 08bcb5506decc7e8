"""Branches in sync code: they join, they nest, they cancel and they leave nothing."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import logging
import threading
import weakref
from collections.abc import Callable

import branch_tasks as shared
import pytest
from branch_tasks import add, add_async, fail, hold, listen, release_when_done

from anabranch.flows import (
    Branch,
    Cancelled,
    Completed,
    ConcurrentTaskRunner,
    Future,
    SequentialTaskRunner,
    State,
    TaskRun,
    TaskRunner,
    UpstreamFailedError,
    branch,
    flow,
    gather,
    task,
    unmapped,
)
from anabranch.futures import NotSubmittableError
from anabranch.futures.runner import current_scope

runner = shared.runner
messages = shared.messages


class TestJoining:
    def test_every_run_has_ended_at_its_end(self, runner: TaskRunner) -> None:
        """What was submitted in a branch is over where it ends, sync and async."""

        @flow(task_runner=runner)
        def body() -> list[int]:
            with branch("sums") as opened:
                assert isinstance(opened, Branch)
                assert opened.name == "sums"
                futures = [*add.map([1, 2], unmapped(1)), *add_async.map([3, 4], unmapped(1))]
            assert all(each.done() for each in futures)
            return [each.result() for each in futures]

        assert body() == [2, 3, 4, 5]

    def test_a_failed_run_fails_nothing_else(self, runner: TaskRunner) -> None:
        """By itself a failure is its future's: the branch ends well, and so do the others."""

        @flow(task_runner=runner)
        def body() -> list[str]:
            with branch():
                futures = [fail.submit(), add.submit(1)]
            return [each.state.name for each in futures]

        assert body() == ["Failed", "Completed"]

    def test_only_its_own_runs_are_waited_for(self) -> None:
        """What was submitted around a branch goes on beside it."""
        started, release = threading.Event(), threading.Event()

        @flow
        def body() -> bool:
            around = hold.submit(started, release)
            started.wait(20)
            with branch():
                add.submit(1)
            went_on = not around.done()
            release.set()
            return went_on

        assert body()

    def test_left_by_an_exception_it_cancels_and_waits(self) -> None:
        """The runs that have not started never do, the others end, and the exception comes out."""
        started, release = threading.Event(), threading.Event()
        error = ValueError("mine")

        @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
        def body() -> list[str]:
            futures: list[Future[object]] = []
            with pytest.raises(ValueError, match="mine") as caught, branch():  # noqa: PT012 - the body of the branch
                futures += [hold.submit(started, release), add.submit(1), listen.submit()]
                started.wait(20)
                release_when_done(futures[1], release)
                raise error
            assert caught.value is error
            assert all(each.done() for each in futures)
            return [each.state.name for each in futures]

        assert body() == ["Completed", "Cancelled", "Cancelled"]

    def test_it_joins_what_another_thread_submits_in_it(self) -> None:
        """A thread with the context of the branch submits in it, and nested ones count too."""
        started, release = threading.Event(), threading.Event()
        entered, futures = threading.Event(), []

        def beside() -> None:
            with branch("inner"):
                futures.append(hold.submit(started, release))
                entered.set()

        @flow
        def body() -> bool:
            with branch():
                context = contextvars.copy_context()
                thread = threading.Thread(target=context.run, args=(beside,))
                thread.start()
                entered.wait(20)
                last = add.submit(1)
                release_when_done(last, release)
            done = [each.done() for each in futures] == [True]
            thread.join()
            return done

        assert body()

    def test_a_submitted_subflow_is_joined_and_cancelled(self) -> None:
        """A subflow submitted in a branch belongs to it; in a cancelled one it never starts."""
        calls = []

        @flow
        def inner(x: int) -> int:
            calls.append(x)
            return x

        @flow
        def body() -> list[str]:
            with branch() as opened:
                first = inner.submit(1)
                first.wait()
                opened.cancel()
                second = inner.submit(2)
            return [first.state.name, second.state.name]

        assert body() == ["Completed", "Cancelled"]
        assert calls == [1]


class TestNesting:
    def test_a_branch_in_a_task(self, runner: TaskRunner) -> None:
        """A task opens branches, one in another, and its children do so too, on any runner."""

        @task
        def tree(depth: int) -> int:
            if depth == 0:
                return 1
            with branch("left"):
                left = tree.submit(depth - 1)
                with branch("right", fail_fast=True):
                    right = tree.submit(depth - 1)
                assert right.done()
            assert left.done()
            return left.result() + right.result()

        @flow(task_runner=runner)
        def body() -> int:
            with branch():
                top = tree.submit(3)
            return top.result()

        assert body() == 8

    def test_a_branch_in_an_async_task(self, runner: TaskRunner) -> None:
        """An async task opens branches of its own."""

        @task
        async def parent() -> int:
            async with branch():
                futures = add_async.map([1, 2], unmapped(1))
            assert all(each.done() for each in futures)
            return sum(each.result() for each in futures)

        @flow(task_runner=runner)
        def body() -> int:
            with branch():
                future = parent.submit()
            return future.result()

        assert body() == 5

    def test_cancelling_one_cancels_those_inside(self) -> None:
        """A cancelled branch cancels the branches in it, and not those around it."""

        @flow
        def body() -> list[str]:
            with branch("outer"):
                outer = add.submit(1)
                with branch("middle") as middle:
                    first = listen.submit()
                    with branch("inner"):
                        second = listen.submit()
                        middle.cancel()
                        third = add.submit(1)
                last = add.submit(2)
            return [each.state.name for each in (outer, first, second, third, last)]

        assert body() == ["Completed", "Cancelled", "Cancelled", "Cancelled", "Completed"]

    def test_cancelling_reaches_what_running_tasks_have_submitted(self) -> None:
        """A thread that is at a run goes on, and finds that what it waits for is cancelled."""
        submitted = threading.Event()

        @task
        def parent() -> str:
            with branch():
                child = listen.submit()
                submitted.set()
            return child.state.name

        @flow
        def body() -> str:
            with branch() as opened:
                future = parent.submit()
                submitted.wait(20)
                opened.cancel()
            return future.result()

        assert body() == "Cancelled"

    def test_cancelling_reaches_tasks_called_directly(self, runner: TaskRunner) -> None:
        """What a directly called task submits is cancelled with the branch around it."""

        @task
        def parent(opened: Branch) -> list[str]:
            # On the sequential runner, a run is over before there is anything to cancel.
            futures = [] if isinstance(runner, SequentialTaskRunner) else [listen.submit()]
            opened.cancel()
            futures.append(listen.submit())
            for each in futures:
                each.wait()
            return [each.state.name for each in futures]

        @flow(task_runner=runner)
        def body() -> set[str]:
            with branch() as opened:
                names = parent(opened)
            return set(names)

        assert body() == {"Cancelled"}

    def test_each_with_needs_a_branch_of_its_own(self) -> None:
        """A branch is entered once, and says so."""

        @flow
        def body() -> None:
            opened = branch("once")
            with opened:
                pass
            with opened:
                pass

        with pytest.raises(RuntimeError, match=r"Branch 'once' was entered before.*of its own"):
            body()


class TestCancelling:
    def test_what_is_submitted_afterwards_never_starts(self, runner: TaskRunner) -> None:
        """In a cancelled branch a run is Cancelled at once, even where it would run in place."""
        calls = []

        @task
        def note() -> None:
            calls.append(1)

        @flow(task_runner=runner)
        def body() -> State[None] | None:
            with branch() as opened:
                opened.cancel()
                future = note.submit()
                assert future.done()
            return future.wait()

        state = body.run()
        assert isinstance(state, Cancelled)
        assert calls == []

    def test_it_ends_quietly(self) -> None:
        """Cancelled by hand, a branch swallows what comes of it, and nothing else."""

        @flow
        def body() -> str:
            with branch() as opened:
                waiting = listen.submit()
                behind = add.submit(1, wait_for=[waiting])
                opened.cancel()
                gather([behind, waiting]).result()
                raise AssertionError
            return waiting.state.name

        assert body() == "Cancelled"

    def test_other_errors_come_out(self) -> None:
        """What fails for other reasons comes out of a cancelled branch too."""

        @flow
        def body() -> None:
            with branch() as opened:
                failed = fail.submit()
                behind = add.submit(failed)
                behind.wait()
                opened.cancel()
                behind.result()

        with pytest.raises(UpstreamFailedError):
            body()

    def test_at_any_time(self) -> None:
        """A branch may be cancelled before it is entered, and after its end."""

        @flow
        def body() -> str:
            opened = branch()
            opened.cancel()
            with opened:
                future = add.submit(1)
            opened.cancel()
            return future.state.name + add.submit(1).wait().name

        assert body() == "CancelledCompleted"

    def test_cancelled_runs_are_not_reported_as_unseen(
        self, messages: Callable[[], list[str]]
    ) -> None:
        """Of what a branch has cancelled nobody is told that no one looked at it."""

        @flow
        def body() -> int:
            with branch() as opened:
                listen.submit()
                opened.cancel()
            return 1

        assert body() == 1
        assert not [each for each in messages() if "anyone having looked" in each]


class TestWhere:
    def test_outside_any_flow(self) -> None:
        """Outside, a branch says where it belongs."""
        with pytest.raises(NotSubmittableError, match=r"'mine' was opened outside any.*@flow or"):
            branch("mine").__enter__()

    def test_in_a_task_called_outside_any_flow(self) -> None:
        """In a task that is called as a plain function a branch does nothing."""

        @task
        def body() -> int:
            with branch(fail_fast=True, timeout=60):
                number = add(1)
            return number

        assert body() == 1

    @pytest.mark.parametrize("timeout", [0, -1, "1", True, float("nan")])
    def test_bad_timeouts(self, timeout: object) -> None:
        """A time limit is a positive number."""
        with pytest.raises((TypeError, ValueError), match=r"timeout="):
            branch(timeout=timeout)  # type: ignore[arg-type]  # That is the point.

    def test_a_number_for_a_name(self) -> None:
        """A time limit in the place of the name is refused, with the fix."""
        with pytest.raises(TypeError, match=r"branch\(60\).*branch\(timeout=60\)"):
            branch(60)  # type: ignore[arg-type]  # That is the point.

    def test_submitting_in_a_branch_that_has_ended(self) -> None:
        """A thread that outlives its branch cannot submit in it any more, and is told so."""
        ended, errors = threading.Event(), []

        def late(submit: Callable[[int], object]) -> None:
            ended.wait(20)
            try:
                submit(1)
            except NotSubmittableError as error:
                errors.append(str(error))

        @flow
        def inner(x: int) -> int:
            return x

        @flow
        def body() -> None:
            with branch("short"), branch("shorter"):
                threads = [
                    threading.Thread(target=contextvars.copy_context().run, args=(late, submit))
                    for submit in (add.submit, inner.submit)
                ]
                for each in threads:
                    each.start()
            ended.set()
            for each in threads:
                each.join()

        body()
        assert len(errors) == 2
        for error in errors:
            assert error.startswith("Cannot submit")
            assert "branch 'shorter', in which it is submitted, has ended" in error

    def test_entered_and_left_in_different_contexts(self) -> None:
        """A branch that is left elsewhere still joins, and takes no more where it was entered."""

        @flow
        def body() -> tuple[bool, str]:
            context = contextvars.copy_context()
            opened = branch("split")
            context.run(opened.__enter__)
            future = context.run(add.submit, 1)
            opened.__exit__(None, None, None)
            with pytest.raises(NotSubmittableError, match=r"'split'.*has ended"):
                context.run(add.submit, 1)
            return future.done(), add.submit(1).wait().name

        assert body() == (True, "Completed")


class TestLeavingNothing:
    def test_a_finished_branch_keeps_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        """It keeps none of its runs, their values or failures, nor the flow; nor is it kept."""
        # Log records refer to states, and those to frames.
        caplog.set_level(logging.CRITICAL, logger="anabranch")
        kept: list[weakref.ref[object]] = []

        class Value:
            pass

        @task
        def make() -> Value:
            return Value()

        @flow
        def body() -> Branch:
            opened = branch(fail_fast=True, timeout=3600)
            with contextlib.suppress(LookupError), opened:
                future = make.submit()
                kept.append(weakref.ref(future.result()))
                kept.append(weakref.ref(future))
                failed = fail.submit()
                kept.append(weakref.ref(failed))
            return opened

        opened = body()
        gc.collect()
        assert [each() for each in kept] == [None] * 3
        reference = weakref.ref(opened)
        del opened
        assert reference() is None

    def test_the_surrounding_scope_keeps_no_branch(self) -> None:
        """However often branches are opened, what is around them does not grow."""

        @flow
        def body() -> tuple[int, int]:
            for _ in range(3):
                with branch(timeout=3600):
                    add.submit(add(1))
            scope = current_scope.get()
            assert scope is not None
            return len(scope._inside()), len(scope.children())

        assert body() == (0, 0)


@pytest.mark.slow
class TestInterrupts:
    def test_an_interrupted_body_abandons_stuck_threads(
        self, messages: Callable[[], list[str]]
    ) -> None:
        """Ctrl-C in the body waits half a second for the threads, and then goes on without."""
        started, release = threading.Event(), threading.Event()
        states = []

        @flow
        def body() -> None:
            with contextlib.suppress(KeyboardInterrupt), branch():
                future = hold.submit(started, release)
                started.wait(20)
                raise KeyboardInterrupt
            states.append(future.state.name)
            runner = current_scope.get().runner  # type: ignore[union-attr]  # The flow's own.
            states.append(str(runner.statistics().abandoned))  # type: ignore[union-attr]  # As above.

        try:
            body.run()
        finally:
            release.set()
        assert states == ["Cancelled", "1"]
        assert any(each.startswith("Abandoned run 'hold-") for each in messages())

    def test_an_interrupted_join_cancels(self) -> None:
        """Ctrl-C while the branch waits for its runs cancels them, and comes out."""

        class Interrupting(Future[object]):
            def park(self, timeout: float | None = None) -> None:
                if self.done():
                    return
                self.set_final(Completed(1))
                raise KeyboardInterrupt

        @flow
        def body() -> str:
            try:
                with branch():
                    scope = current_scope.get()
                    assert scope is not None
                    scope.adopt(Interrupting(TaskRun("0" * 32, "it", "it")))
                    other = listen.submit()
            except KeyboardInterrupt:
                return other.state.name
            return "not interrupted"

        assert body() == "Cancelled"


def test_what_a_branch_has_cancelled_is_no_loss_to_the_flow() -> None:
    """A flow that returns None after cancelling a branch of its own has completed.

    The branch answers for what its tasks have submitted, and for what was tried in it afterwards.
    """

    @flow
    def body() -> None:
        with branch() as search:
            listen.submit()
            search.cancel()
        add.submit(1)

    assert str(body.run()) == "Completed('All states completed.')"

    def late_and_early() -> None:
        with branch() as search:
            parent.submit()
            is_waiting.wait()
            search.cancel()
            add.submit(1)
            add.run(1)
            is_over.set()

    @task
    def parent() -> None:
        listen.submit()
        is_waiting.set()
        is_over.wait()

    is_waiting, is_over = threading.Event(), threading.Event()
    assert str(flow(late_and_early).run()) == "Completed('All states completed.')"


def test_a_run_that_was_cancelled_before_its_branch_counts() -> None:
    """What the body itself cancels, and not the branch, counts as ever."""

    @flow
    def body() -> None:
        with branch() as search:
            listen.submit().cancel()
            listen.submit()
            gather([add.submit(1)]).wait()
            search.cancel()

    assert str(body.run()) == "Cancelled('1/2 states cancelled.')"
