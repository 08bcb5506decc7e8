"""Branches with `fail_fast`: the first failure ends the rest."""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Callable

import anyio
import branch_tasks as shared
import pytest
from branch_tasks import add, fail, hold, listen, release_when_done

from anabranch.flows import (
    ConcurrentTaskRunner,
    Failed,
    Future,
    SequentialTaskRunner,
    UpstreamFailedError,
    branch,
    flow,
    task,
)

messages = shared.messages


class TestFailFast:
    def test_the_first_failure_cancels_the_rest(self, messages: Callable[[], list[str]]) -> None:
        """Running async tasks and pending runs are cancelled, threads waited for, the log tells."""
        started, release = threading.Event(), threading.Event()
        error = LookupError("boom")
        futures: list[Future[object]] = []

        @task
        async def fail_when(started: threading.Event) -> None:
            await anyio.to_thread.run_sync(started.wait, 20)
            raise error

        @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
        def body() -> str:
            with pytest.raises(LookupError) as caught, branch("all", fail_fast=True):  # noqa: PT012 - the body of the branch
                futures.extend((hold.submit(started, release), add.submit(1), listen.submit()))
                release_when_done(futures[1], release)
                failing = fail_when.submit(started)
            assert caught.value is error
            assert error.__context__ is None
            assert isinstance(failing.state, Failed)
            return " ".join(each.state.name for each in futures)

        assert body() == "Completed Cancelled Cancelled"
        log = messages()
        assert any(
            each.startswith("Run 'fail_when-") and each.endswith("branch 'all' cancels the others")
            for each in log
        )
        assert not [each for each in log if "anyone having looked" in each]

    def test_in_sequence_what_follows_never_starts(self) -> None:
        """On the sequential runner the runs behind the first failure are not begun."""
        calls = []

        @task
        def note(x: int) -> int:
            calls.append(x)
            if x == 2:
                raise LookupError(x)
            return x

        @flow(task_runner=SequentialTaskRunner())
        def body() -> None:
            with branch(fail_fast=True):
                note.map(range(5))

        with pytest.raises(LookupError, match="2"):
            body()
        assert calls == [0, 1, 2]

    @pytest.mark.parametrize("wait", ["result", "group", "behind", "failed"])
    def test_the_body_that_waits_is_left_by_the_failure(self, wait: str) -> None:
        """A body that meets with what comes of the failure is left by the failure itself."""
        failure = LookupError("boom")

        @task
        def fail_so() -> int:
            raise failure

        @flow
        def body() -> None:
            with branch(fail_fast=True):
                waiting = listen.submit()
                failed = fail_so.submit()
                behind = add.submit(failed)
                match wait:
                    case "result":
                        waiting.result()
                    case "behind":
                        behind.result()
                    case "failed":
                        failed.result()
                    case _:
                        errors = [
                            error
                            for each in (waiting, behind, failed)
                            if isinstance(error := each.exception(), Exception)
                        ]
                        raise ExceptionGroup("several", errors)

        with pytest.raises(LookupError) as caught:
            body()
        assert caught.value is failure
        assert failure.__context__ is None

    def test_the_bodys_own_error_comes_out(self) -> None:
        """What the body raises of its own accord comes out as it is, failure or not."""

        @flow
        def body() -> None:
            with branch(fail_fast=True):
                fail.submit().wait()
                raise ValueError("mine")

        with pytest.raises(ValueError, match="mine"):
            body()

    def test_a_failure_keeps_its_own_context(self) -> None:
        """The exception shows what it came of in its task, and nothing of the branch's affairs."""

        @task
        def fail_twice() -> None:
            try:
                raise KeyError("first")
            except KeyError:
                raise LookupError("second")  # noqa: B904 - the context is wanted

        @flow
        def body() -> None:
            with branch(fail_fast=True):
                waiting = listen.submit()
                fail_twice.submit()
                waiting.result()

        with pytest.raises(LookupError, match="second") as caught:
            body()
        text = "".join(traceback.format_exception(caught.value))
        assert "KeyError: 'first'" in text
        assert "RunCancelledError" not in text

    def test_what_was_cancelled_is_no_failure(self) -> None:
        """A run that is cancelled by hand, and what depends on it, do not end the branch."""

        @flow
        def body() -> list[str]:
            with branch(fail_fast=True):
                waiting = listen.submit()
                behind = add.submit(1, wait_for=[waiting])
                waiting.cancel()
                behind.wait()
                other = add.submit(1)
            return [each.state.name for each in (waiting, behind, other)]

        assert body() == ["Cancelled", "UpstreamFailed", "Completed"]

    def test_an_upstream_outside_counts(self) -> None:
        """A run that cannot start because of a failure outside the branch fails it."""

        @flow
        def body() -> int:
            failed = fail.submit()
            with branch(fail_fast=True):
                listen.submit()
                add.submit(failed)
            return 1

        with pytest.raises(UpstreamFailedError) as caught:
            body()
        assert isinstance(caught.value.__cause__, LookupError)

    def test_each_branch_sees_to_its_own_runs(self) -> None:
        """What fails in a branch inside is that one's affair."""

        @flow
        def body() -> list[str]:
            with branch(fail_fast=True):
                with branch():
                    failed = fail.submit()
                other = add.submit(1)
            assert isinstance(failed.exception(), LookupError)
            return [each.state.name for each in (failed, other)]

        assert body() == ["Failed", "Completed"]

    def test_the_failure_of_an_inner_branch_ends_the_outer(self) -> None:
        """It comes out of the inner branch as an exception, like any other."""

        @flow
        def body() -> list[str]:
            with contextlib.suppress(LookupError), branch():
                outer = listen.submit()
                with branch(fail_fast=True):
                    inner = listen.submit()
                    fail.submit()
            return [each.state.name for each in (outer, inner)]

        assert body() == ["Cancelled", "Cancelled"]

    def test_a_sibling_is_not_tried_again(self) -> None:
        """A thread that fails after its branch was cancelled has no further attempt."""
        started, release = threading.Event(), threading.Event()
        attempts = []

        @flow
        def body() -> str:
            with contextlib.suppress(LookupError), branch(fail_fast=True):
                flaky = flaky_task.submit()
                release_when_done(listen.submit(), release)
                started.wait(20)
                fail.submit()
            return str(flaky.state)

        @task(retries=3, retry_delay=3600)
        def flaky_task() -> None:
            attempts.append(1)
            started.set()
            release.wait(20)
            raise ValueError("again")

        assert body() == "Cancelled('The run was cancelled between two attempts.')"
        assert attempts == [1]

    def test_a_sibling_between_two_attempts_is_cancelled(self) -> None:
        """A run that waits for its next attempt is over at once."""

        @task(retries=1, retry_delay=3600)
        def flaky() -> None:
            raise ValueError("again")

        @flow
        def body() -> str:
            with contextlib.suppress(LookupError), branch(fail_fast=True):
                waiting = flaky.submit()
                waiting.wait(0.01)
                while waiting.state.name != "Retrying":
                    waiting.wait(0.01)
                fail.submit()
            return waiting.state.name

        assert body() == "Cancelled"
