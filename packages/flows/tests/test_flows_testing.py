"""The assertions of the testing kit, and tasks as the plain callables that tests call."""

from __future__ import annotations

import inspect
import logging
import subprocess
import sys
import threading
from typing import assert_type

import pytest

import anabranch.flows.testing
from anabranch.flows import (
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Future,
    Pending,
    Running,
    TaskRun,
    TimedOut,
    UpstreamFailed,
    flow,
    get_run_logger,
    task,
)
from anabranch.flows.testing import (
    Gate,
    assert_completed,
    assert_failed,
    assert_state,
    fixtures,
)

BOOM = ValueError("no such city: Atlantis")


@task
def double(x: int) -> int:
    """Double a number, and log it."""
    get_run_logger().info("doubling %d", x)
    return 2 * x


@task
async def double_async(x: int) -> int:
    """Double a number in async code, and log it."""
    get_run_logger().info("doubling %d", x)
    return 2 * x


@task
def fail() -> int:
    """Fail."""
    raise BOOM


def future_of(state: Completed[int] | Failed[int] | None = None) -> Future[int]:
    """Return the future of a run that has ended so, or has not."""
    future: Future[int] = Future(TaskRun("1", "fetch-0", "fetch"))
    if state is not None:
        future.set_final(state)
    return future


# ------------------------------------------------------------------------- plain callables


def test_a_task_is_a_plain_callable(caplog: pytest.LogCaptureFixture) -> None:
    """Without any flow, calling a task and calling its function give the same, and can log."""
    caplog.set_level(logging.INFO)
    assert double(3) == 6
    assert double.function(3) == 6
    assert caplog.messages.count("doubling 3") == 2


@pytest.mark.anyio
async def test_an_async_task_is_a_plain_callable(caplog: pytest.LogCaptureFixture) -> None:
    """So it is for async tasks, on both loops."""
    caplog.set_level(logging.INFO)
    assert await double_async(3) == 6
    assert caplog.messages.count("doubling 3") == 1


# ------------------------------------------------------------------------- completed


def test_a_completed_run_gives_its_value() -> None:
    """`assert_completed` returns the value, whose type is exact, of states and of futures."""
    assert_type(assert_completed(double.run(3)), int)
    assert assert_completed(double.run(3)) == 6
    assert assert_completed(double.run(3), 6) == 6
    assert assert_completed(double.run(3), value=6) == 6
    future = future_of(Completed(1))
    assert_type(assert_completed(future), int)
    assert assert_completed(future, 1) == 1
    assert assert_completed(future.wait(), 1) == 1
    assert assert_completed(future.state, 1) == 1


def test_none_is_a_value_like_others() -> None:
    """Asked for None, a run must have returned None."""
    assert assert_completed(Completed(None), None) is None
    with pytest.raises(AssertionError, match=r"^The run completed with 1, not with None$"):
        assert_completed(Completed(1), None)


def test_another_value_is_shown() -> None:
    """A wrong value is shown beside the right one."""
    with pytest.raises(AssertionError, match=r"^Run 'fetch-0' completed with 1, not with 2$"):
        assert_completed(future_of(Completed(1)), 2)


def test_a_failure_is_shown_as_the_cause() -> None:
    """A run that failed instead is named with its state, and its exception is the cause."""
    message = (
        r"^Run 'fetch-0' was to complete, but it ended in Failed\(\) "
        r"\(ValueError: no such city: Atlantis\)$"
    )
    with pytest.raises(AssertionError, match=message) as caught:
        assert_completed(future_of(Failed(BOOM)))
    assert caught.value.__cause__ is BOOM


def test_a_wait_that_ran_out_of_time_is_told() -> None:
    """What `wait(timeout)` returns for a run that goes on is no completed run."""
    with pytest.raises(AssertionError, match=r"had not ended when the wait for it was over$"):
        assert_completed(future_of().wait(0))


def test_a_future_is_waited_for_in_sync_code() -> None:
    """In a sync flow, the future of a run that goes on is waited for."""

    @flow
    def waiting() -> int:
        with Gate() as gate:
            ticket = gate.ticket

            @task
            def held() -> int:
                ticket.wait()
                return 1

            future = held.submit()

            def let_go() -> None:
                gate.await_arrival()
                gate.open()

            threading.Thread(target=let_go).start()
            return assert_completed(future, 1)

    assert waiting() == 1


@pytest.mark.anyio
async def test_a_future_is_not_waited_for_in_async_code() -> None:
    """In an event loop, which must not be blocked, a run that goes on is an error with the fix."""
    message = r"^Run 'fetch-0' was to complete, but has not ended: Pending\(\)\. .*`await future\."
    with pytest.raises(AssertionError, match=message):
        assert_completed(future_of())
    assert assert_completed(future_of(Completed(1))) == 1


# ------------------------------------------------------------------------- failed


def test_a_failed_run_gives_its_exception() -> None:
    """`assert_failed` returns the exception, whose type is the one that was asked for."""
    error = assert_failed(fail.run(), ValueError, match="no such city")
    assert_type(error, ValueError)
    assert error is BOOM
    assert_type(assert_failed(fail.run()), BaseException)


def test_a_run_that_timed_out_has_failed() -> None:
    """A time-out is a kind of failure, with a TimeoutError."""
    assert assert_failed(TimedOut(message="too late"), TimeoutError).args == ("too late",)


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (Completed(5), "it completed with 5"),
        (Crashed(message="lost"), r"it ended in Crashed\('lost'\) \(RunCrashedError: lost\)"),
        (Cancelled(message="no"), r"it ended in Cancelled\('no'\) \(RunCancelledError: no\)"),
        (UpstreamFailed(cause=BOOM), r"it ended in UpstreamFailed\(\) \(UpstreamFailedError"),
        (Failed(KeyError("k")), r"it ended in Failed\(\) \(KeyError: 'k'\)"),
        (Running(), r"has not ended: Running\(\)"),
        (None, "had not ended when the wait"),
    ],
    ids=str,
)
def test_what_is_no_such_failure_is_shown(
    state: Completed[int] | Crashed | Cancelled | UpstreamFailed | Failed[int] | Running | None,
    shown: str,
) -> None:
    """Whatever a run is in instead of the failure is in the message."""
    with pytest.raises(AssertionError, match=f"^The run was to fail with ValueError, but {shown}"):
        assert_failed(state, ValueError)


def test_a_message_that_does_not_match_is_shown() -> None:
    """The message of the exception is searched for a regular expression."""
    with pytest.raises(AssertionError, match=r"does not match 'Rome': ValueError: .*Atlantis$"):
        assert_failed(Failed(BOOM), ValueError, match="Rome")


# ------------------------------------------------------------------------- other states


def test_a_state_of_the_right_kind_is_returned() -> None:
    """`assert_state` returns the state, as one of the kind that was asked for."""
    state = assert_state(TimedOut(message="after 60 s"), TimedOut, match="60 s")
    assert_type(state, TimedOut)
    assert assert_state(UpstreamFailed(cause=BOOM), UpstreamFailed).cause is BOOM
    completed = assert_state(double.run(2), Completed)
    assert completed.value == 4


def test_unfinished_states_are_not_waited_for() -> None:
    """Asked for an unfinished state, it looks at what the run is in now."""
    future = future_of()
    assert_type(assert_state(future, Pending), Pending)
    future.set_running()
    assert_state(future, Running)
    with pytest.raises(AssertionError, match=r"was to be Pending, but has not ended: Running"):
        assert_state(future, Pending)


def test_a_state_of_another_kind_is_shown() -> None:
    """Another state, or another message, is shown."""
    with pytest.raises(AssertionError, match=r"^The run was to be TimedOut, but it completed wit"):
        assert_state(Completed(3), TimedOut)
    with pytest.raises(AssertionError, match=r"message does not match 'x': Completed\(\)$"):
        assert_state(Completed(3), Completed, match="x")


# ------------------------------------------------------------------------- the package


def test_modules_are_documented() -> None:
    """The public modules say what they are for."""
    assert inspect.getdoc(anabranch.flows.testing)
    assert inspect.getdoc(fixtures)


def test_the_public_names_are_there_and_documented() -> None:
    """Everything in `__all__` exists, has a docstring and says that it is from a public module."""
    names = anabranch.flows.testing.__all__
    assert names == sorted(names)
    for name in names:
        thing = getattr(anabranch.flows.testing, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), name
            assert "._" not in thing.__module__, name


@pytest.mark.slow
def test_the_kit_does_without_pytest() -> None:
    """Neither the flows nor their testing kit import pytest; only the fixtures do."""
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; import anabranch.flows; "
        "print('anabranch.flows.testing' in sys.modules); "
        "import anabranch.flows.testing; print('pytest' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50
    )
    assert done.stdout.split() == ["False", "False"]
