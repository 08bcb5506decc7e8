"""What cancelling a running run means where its thread cannot be stopped."""

from __future__ import annotations

import threading

import anyio

from anabranch.futures import Cancellation, Cancelled, Completed, Future, RetryPolicy, TaskRun
from anabranch.futures.runner import current_scope, make_item, new_run_id
from anabranch.runners.local import ConcurrentTaskRunner


async def listen() -> None:
    """Wait for ever, until cancelled."""
    await anyio.sleep_forever()


def test_what_it_has_submitted_is_cancelled() -> None:
    """The thread goes on; the runs that it submitted, and will, are cancelled."""
    submitted, go_on = threading.Event(), threading.Event()

    def parent() -> list[str]:
        scope = current_scope.get()
        assert scope is not None
        assert scope.runner is not None
        children: list[Future[object]] = [scope.runner.submit(listen)]
        submitted.set()
        go_on.wait(20)
        children.append(scope.runner.submit(listen))
        return [each.wait().name for each in children]

    with ConcurrentTaskRunner(max_workers=1) as runner:
        future = runner.submit(parent)
        submitted.wait(20)
        assert future.cancel() is Cancellation.CANNOT_STOP
        go_on.set()
        assert future.result() == ["Cancelled", "Cancelled"]
        assert isinstance(future.state, Completed)


def test_it_makes_no_other_attempt() -> None:
    """An attempt that fails after the run was cancelled is the last."""
    started, go_on = threading.Event(), threading.Event()
    attempts = []

    def flaky() -> None:
        attempts.append(1)
        started.set()
        go_on.wait(20)
        raise ValueError("again")

    with ConcurrentTaskRunner() as runner:
        run = TaskRun(new_run_id(), "flaky", "flaky")
        retry = RetryPolicy(retries=3, delay=3600)
        future = runner.dispatch(make_item(flaky, (), {}, task_run=run, retry=retry))
        started.wait(20)
        assert future.cancel() is Cancellation.CANNOT_STOP
        go_on.set()
        state = future.wait()
    assert isinstance(state, Cancelled)
    assert state.message == "The run was cancelled between two attempts."
    assert attempts == [1]
    assert [each.name for each in future.history] == ["Pending", "Running", "Cancelled"]
