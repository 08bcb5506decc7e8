"""What happens to a flow run: the lifecycle of task runs, with the flow's body for the attempt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, cast

import anyio
import anyio.to_thread

from anabranch.flows._flow_run import ActiveFlowRun, Outcome, outcomes_in, values_to_fetch
from anabranch.futures import Completed, Failed, Future, RetryPolicy, State, TimedOut
from anabranch.futures.runner import (
    Attempt,
    Delay,
    describe,
    lifecycle,
    limit_by_thread,
    limited_async,
    sleep,
    sleep_async,
    state_of_error,
    timed_out,
)

#: Calls the flow's function.
Body: TypeAlias = Callable[[], object]


class _OutOfTime(BaseException):
    """Leaves the runner of an attempt in a hurry, as Ctrl-C does."""


def drive_flow(
    run: ActiveFlowRun, body: Body, retry: RetryPolicy, time_limit: float | None
) -> State[Any]:
    """Run a sync flow in the calling thread, with as many attempts as it takes.

    Args:
        run: Its run.
        body: Calls its function.
        retry: When it is tried again.
        time_limit: How long each attempt may take, in seconds.

    Returns:
        How the run ended. All that it submitted has ended as well.
    """
    steps = lifecycle(retry, time_limit)
    command = next(steps)
    while True:
        if isinstance(command, Delay):
            run.log_retry(command.state)
            sleep(command.seconds)
            command = steps.send(None)
        assert isinstance(command, Attempt), "a delay is followed by an attempt"
        state = _attempt(run, body, command)
        if run.is_unwanted():
            return state
        try:
            command = steps.send(state)
        except StopIteration as end:
            return cast("State[Any]", end.value)


def _attempt(run: ActiveFlowRun, body: Body, attempt: Attempt) -> State[Any]:
    run.begin_attempt(attempt.number)
    is_left = False

    def finish() -> tuple[object, list[Outcome]]:
        nonlocal is_left
        try:
            returned = body()
            run.scope.join()
            outcomes = outcomes_in(returned)
            for outcome in outcomes:
                if isinstance(outcome, Future):
                    outcome.join()
            return returned, outcomes
        finally:
            is_left = True

    try:
        with run.runner:
            with run.entered():
                if attempt.time_limit is None:
                    returned, outcomes = finish()
                else:
                    returned, outcomes = _in_time(finish, attempt.time_limit)
            state = run.conclude(returned, outcomes)
            for value in values_to_fetch(outcomes):
                value.result()
    except _OutOfTime:
        run.scope.join_or_abandon()  # Only subflows may be left.
        if not is_left:
            run.log_abandoned_body()
        return _timed_out(run, attempt)
    except Exception as error:  # Whatever the body raised, the runner has ended its runs by now.
        run.scope.join()  # As above.
        return Failed(error, message=describe(error))
    return state


def _in_time(
    finish: Callable[[], tuple[object, list[Outcome]]], seconds: float
) -> tuple[object, list[Outcome]]:
    def captured() -> State[Any]:
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
) -> State[Any]:
    """Run an async flow in the calling async task; see `drive_flow`."""
    steps = lifecycle(retry, time_limit)
    command = next(steps)
    while True:
        if isinstance(command, Delay):
            run.log_retry(command.state)
            await sleep_async(command.seconds)
            command = steps.send(None)
        assert isinstance(command, Attempt), "a delay is followed by an attempt"
        state = await _attempt_async(run, body, command)
        if run.is_unwanted():
            return state
        try:
            command = steps.send(state)
        except StopIteration as end:
            return cast("State[Any]", end.value)


async def _attempt_async(
    run: ActiveFlowRun, body: Callable[[], Awaitable[object]], attempt: Attempt
) -> State[Any]:
    run.begin_attempt(attempt.number)

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
                    finished = await limited_async(finish, attempt.time_limit)
                    if finished is None:
                        raise _OutOfTime
                    returned, outcomes = finished
            state = run.conclude(returned, outcomes)
            for value in values_to_fetch(outcomes):
                await anyio.to_thread.run_sync(value.result)
    except _OutOfTime:
        await run.scope.join_or_abandon_async()  # Only subflows may be left.
        return _timed_out(run, attempt)
    except Exception as error:  # Whatever the body raised, the runner has ended its runs by now.
        with anyio.CancelScope(shield=True):
            await run.scope.join_async()  # As above.
        return Failed(error, message=describe(error))
    return state


def _timed_out(run: ActiveFlowRun, attempt: Attempt) -> TimedOut:
    assert attempt.time_limit is not None, "its time is up"
    return timed_out(run.flow_run, attempt.time_limit)
