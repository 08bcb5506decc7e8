"""What happens to a flow run: the lifecycle of task runs, with the flow's body for the attempt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias, cast

import anyio
import anyio.to_thread

from anabranch.flows._accounts import Outcome, outcomes_in, values_to_fetch
from anabranch.flows._flow_run import ActiveFlowRun
from anabranch.futures import (
    Cancelled,
    Completed,
    Failed,
    Future,
    Retrying,
    RetryPolicy,
    Running,
    State,
    TimedOut,
)
from anabranch.futures.runner import (
    Attempt,
    Delay,
    bring_over,
    describe,
    lifecycle,
    limit_by_thread,
    limited_async,
    state_of_error,
    timed_out,
)

#: Calls the flow's function.
Body: TypeAlias = Callable[[], object]


#: Is told that the run waits for another attempt, and then that it makes it.
Progress: TypeAlias = Callable[[Running | Retrying], None]
AsyncProgress: TypeAlias = Callable[[Running | Retrying], Awaitable[None]]


class _OutOfTime(BaseException):
    """Leaves the runner of an attempt in a hurry, as Ctrl-C does."""


def drive_flow(
    run: ActiveFlowRun,
    body: Body,
    retry: RetryPolicy,
    time_limit: float | None,
    progress: Progress,
) -> State[object]:
    """Run a sync flow in the calling thread, with as many attempts as it takes.

    Args:
        run: Its run.
        body: Calls its function.
        retry: When it is tried again.
        time_limit: How long each attempt may take, in seconds.
        progress: Told of each attempt but the first, and of the delay before it.

    Returns:
        How the run ended. All that it submitted has ended as well.
    """
    steps = lifecycle(retry, time_limit)
    command = next(steps)
    while True:
        if isinstance(command, Delay):
            progress(command.state)
            run.rest(command.seconds)
            command = steps.send(None)
        assert isinstance(command, Attempt), "a delay is followed by an attempt"
        if run.is_unwanted():
            return _cancelled_before(command)
        run.begin_attempt(command.number)
        try:
            if command.number > 1:
                progress(Running())
            state = _attempt(run, body, command)
        finally:
            run.end_attempt()
        if run.is_unwanted():
            return state
        try:
            command = steps.send(state)
        except StopIteration as end:
            return cast("State[object]", end.value)


def _attempt(run: ActiveFlowRun, body: Body, attempt: Attempt) -> State[object]:
    is_inside = False

    def finish() -> tuple[object, list[Outcome]]:
        nonlocal is_inside
        is_inside = True
        try:
            returned = body()
        finally:
            is_inside = False
        run.scope.join()
        outcomes = outcomes_in(returned)
        for outcome in outcomes:
            if isinstance(outcome, Future):
                outcome.join()
        return returned, outcomes

    try:
        with run.runner:
            with run.entered():
                if attempt.time_limit is None:
                    returned, outcomes = finish()
                else:
                    returned, outcomes = _in_time(run, finish, attempt.time_limit)
            state = run.accounts.conclude(returned, outcomes)
            bring_over(values := values_to_fetch(outcomes))
            for value in values:
                value.result()
    except _OutOfTime:
        run.scope.join_or_abandon()  # Only subflows may be left.
        return _timed_out(run, attempt)
    except Exception as error:  # Whatever the body raised, the runner has ended its runs by now.
        run.scope.join()  # As above.
        return Failed(error, message=describe(error))
    except BaseException:  # Ctrl-C and the like.
        run.scope.join_or_abandon()  # As above.
        raise
    finally:
        if is_inside:  # In another thread: it is out of time, or this one was interrupted.
            run.log_abandoned_body()
    return state


def _in_time(
    run: ActiveFlowRun, finish: Callable[[], tuple[object, list[Outcome]]], seconds: float
) -> tuple[object, list[Outcome]]:
    run.scope.has_deadline = True

    def captured() -> State[object]:
        try:
            return Completed(finish())
        except BaseException as error:  # Raised again in the thread that waits.
            return state_of_error(error)

    state = limit_by_thread(captured, seconds)
    if state is None:
        raise _OutOfTime
    return cast("tuple[object, list[Outcome]]", state.result())


async def drive_flow_async(
    run: ActiveFlowRun,
    body: Callable[[], Awaitable[object]],
    retry: RetryPolicy,
    time_limit: float | None,
    progress: AsyncProgress,
) -> State[object]:
    """Run an async flow in the calling async task; see `drive_flow`."""
    steps = lifecycle(retry, time_limit)
    command = next(steps)
    while True:
        if isinstance(command, Delay):
            await progress(command.state)
            await run.rest_async(command.seconds)
            command = steps.send(None)
        assert isinstance(command, Attempt), "a delay is followed by an attempt"
        if run.is_unwanted():
            return _cancelled_before(command)
        run.begin_attempt(command.number)
        try:
            if command.number > 1:
                await progress(Running())
            state = await _attempt_async(run, body, command)
        finally:
            run.end_attempt()
        if run.is_unwanted():
            return state
        try:
            command = steps.send(state)
        except StopIteration as end:
            return cast("State[object]", end.value)


async def _attempt_async(
    run: ActiveFlowRun, body: Callable[[], Awaitable[object]], attempt: Attempt
) -> State[object]:
    async def finish() -> tuple[object, list[Outcome]]:
        returned = await body()
        await run.scope.join_async()
        outcomes = outcomes_in(returned)
        for outcome in outcomes:
            if isinstance(outcome, Future):
                await outcome.join_async()
        return returned, outcomes

    try:
        async with run.runner.start():
            with run.entered():
                if attempt.time_limit is None:
                    returned, outcomes = await finish()
                else:
                    returned, outcomes = await _in_time_async(finish, attempt.time_limit)
            state = run.accounts.conclude(returned, outcomes)
            if values := values_to_fetch(outcomes):
                await anyio.to_thread.run_sync(bring_over, values)
            for value in values:
                await anyio.to_thread.run_sync(value.result)
    except _OutOfTime:
        await run.scope.join_or_abandon_async()  # Only subflows may be left.
        return _timed_out(run, attempt)
    except Exception as error:  # Whatever the body raised, the runner has ended its runs by now.
        with anyio.CancelScope(shield=True):
            await run.scope.join_async()  # As above.
        return Failed(error, message=describe(error))
    except BaseException:  # Cancelled, or Ctrl-C.
        await run.scope.join_or_abandon_async()  # As above.
        raise
    return state


async def _in_time_async(
    finish: Callable[[], Awaitable[tuple[object, list[Outcome]]]], seconds: float
) -> tuple[object, list[Outcome]]:
    async def captured() -> State[object]:
        try:
            return Completed(await finish())
        except Exception as error:  # Raised again, unless the time was over by then.
            return state_of_error(error)

    state = await limited_async(captured, seconds)
    if state is None:
        raise _OutOfTime
    return cast("tuple[object, list[Outcome]]", state.result())


def _cancelled_before(attempt: Attempt) -> Cancelled:
    when = "before it started" if attempt.number == 1 else "between two attempts"
    return Cancelled(message=f"The run was cancelled {when}.")


def _timed_out(run: ActiveFlowRun, attempt: Attempt) -> TimedOut:
    assert attempt.time_limit is not None, "its time is up"
    return timed_out(run.flow_run, attempt.time_limit)
