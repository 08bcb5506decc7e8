"""What happens to a task run, written once and without IO, and the drivers that make it happen.

`lifecycle` is a generator: it yields what is to be done next and is sent how that went. It knows
no thread, no event loop and no clock. A driver does what it asks for. `run_item` does so in the
calling thread and `run_item_async` in the calling async task; both are used inside the workers of
Dask and Ray as well. A runner that holds neither while a run waits for its next attempt drives the
lifecycle itself, with `make_attempt` and `make_attempt_async`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar, cast, final

import anyio
import anyio.to_thread
import attrs

from anabranch.futures._arguments import substitute
from anabranch.futures._calling import call_in, call_inside, state_of_error, state_of_returned
from anabranch.futures._clock import SYSTEM_CLOCK, current_clock, current_hold
from anabranch.futures._exceptions import RunTimedOutError
from anabranch.futures._future import Future
from anabranch.futures._loops import EventLoop, default_backend, running_loop
from anabranch.futures._retries import NO_RETRIES, RetryPolicy
from anabranch.futures._scope import RunScope, current_scope
from anabranch.futures._states import (
    Cancelled,
    Completed,
    Failed,
    Retrying,
    Running,
    State,
    TimedOut,
    describe,
)
from anabranch.futures._time_limits import TimeLimiter, limit_by_thread, limited_async
from anabranch.futures._timers import held_clock, sleep, sleep_async
from anabranch.futures._work import FlowRun, TaskRun, WorkItem

if TYPE_CHECKING:
    from anabranch.futures._runner import TaskRunner

R = TypeVar("R")

_logger = logging.getLogger("anabranch.futures")

_BETWEEN_ATTEMPTS: Final = "The run was cancelled between two attempts."


@final
@attrs.frozen
class Attempt:
    """Asks the driver to call the function once; it sends back the state that came of it.

    Attributes:
        number: Counts the attempts of the run from 1.
        time_limit: How long it may take, in seconds; None for as long as it takes.
    """

    number: int
    time_limit: float | None = None


@final
@attrs.frozen
class Delay:
    """Asks the driver to let some time pass; it sends back nothing.

    Attributes:
        seconds: How much.
        state: What the run is in meanwhile.
    """

    seconds: float
    state: Retrying


#: What a lifecycle begins with, most often, and ends after.
FIRST_ATTEMPT: Final = Attempt(1)

#: What a lifecycle may ask of its driver.
Command: TypeAlias = Attempt | Delay

#: A lifecycle under way.
Lifecycle: TypeAlias = Generator[Command, "State[object] | None", "State[object]"]

#: Is told that a run waits for another attempt, and then that it makes it.
Progress: TypeAlias = Callable[[Running | Retrying], object]


def lifecycle(
    retry: RetryPolicy = NO_RETRIES, time_limit: float | None = None, first_attempt: int = 1
) -> Lifecycle:
    """Yield what is to be done for one task run, step by step.

    Args:
        retry: When the run is tried again.
        time_limit: How long each attempt may take, in seconds.
        first_attempt: The number of the attempt to begin with; those before it were lost.

    Yields:
        The next thing to do. The driver sends back how it went.

    Returns:
        How the run ended.
    """
    number = first_attempt
    while True:
        state = yield Attempt(number, time_limit)
        assert state is not None, "the driver answers an attempt with a state"
        try:
            if not retry.wants_retry(number, state):
                return state
            seconds = retry.delay_before(number)
        except BaseException as error:  # The policy is the user's code.
            assert not isinstance(state, Completed), "nothing is asked of those that completed"
            if error is not state.exception:  # Which a condition that asks for the result raises.
                error.__cause__ = state.exception
            if not isinstance(error, Exception):
                return state_of_error(error)
            return Failed(error, message=f"The retry policy failed: {describe(error)}")
        message = (
            f"Attempt {number} of {retry.retries + 1} ended in state {state}; "
            f"the next one follows in {seconds:g} s"
        )
        yield Delay(seconds, Retrying(message=message))
        number += 1


def lifecycle_of(item: WorkItem[object], first_attempt: int = 1) -> Lifecycle:
    """Return the lifecycle of an item."""
    return lifecycle(item.retry, item.time_limit, first_attempt)


def only_attempt(item: WorkItem[object]) -> Attempt | None:
    """Return the one attempt that makes the lifecycle of an item, if there can be no other.

    Its outcome is the run's. So it is with most runs, and driving a generator to find that out
    costs more than many a function.
    """
    if item.retry is not NO_RETRIES:
        return None
    return FIRST_ATTEMPT if item.time_limit is None else Attempt(1, item.time_limit)


# ---------------------------------------------------------------------------- drivers


def run_item(
    item: WorkItem[R],
    runner: TaskRunner | None = None,
    *,
    first_attempt: int = 1,
    progress: Progress | None = None,
    limiter: TimeLimiter = limit_by_thread,
    rest: Callable[[float], object] | None = None,
) -> State[R]:
    """Drive the lifecycle of a sync item in the calling thread.

    Args:
        item: What to run. The futures among its arguments have ended.
        runner: Where the function's own submissions go.
        first_attempt: The number of the attempt to begin with.
        progress: Told when the run waits for another attempt, and when it makes it.
        limiter: Keeps an attempt within its time limit.
        rest: Lets so many seconds pass between two attempts; by default no longer than until what
            surrounds the run is cancelled. It may be over sooner, for ``progress`` to raise
            something, which comes out of here.

    Returns:
        How the run ended. Whatever the function raised is in it.
    """
    if current_clock.get() is not SYSTEM_CLOCK and current_hold.get() is None:
        with held_clock():
            return _drive(item, runner, first_attempt, progress, limiter, rest)
    if first_attempt == 1 and (attempt := only_attempt(item)) is not None:
        return make_attempt_in_time(item, attempt, runner, limiter)
    return _drive(item, runner, first_attempt, progress, limiter, rest)


def _drive(
    item: WorkItem[R],
    runner: TaskRunner | None,
    first_attempt: int,
    progress: Progress | None,
    limiter: TimeLimiter,
    rest: Callable[[float], object] | None,
) -> State[R]:
    steps = lifecycle_of(item, first_attempt)
    surrounding = current_scope.get()  # Of which the run is a part, if there is any.
    rest = rest or (sleep if surrounding is None else surrounding.rest)
    answer: State[object] | None = None
    try:
        command = next(steps)
        while True:
            match command:
                case Attempt():
                    if command.number > first_attempt and progress is not None:
                        progress(Running())
                    answer = make_attempt_in_time(item, command, runner, limiter)
                case Delay(seconds, state):
                    if surrounding is not None and surrounding.is_cancelled:
                        return Cancelled(message=_BETWEEN_ATTEMPTS)
                    if progress is not None:
                        progress(state)
                    try:
                        rest(seconds)
                    except BaseException as error:  # Ctrl-C, as in an attempt.
                        return state_of_error(error)
                    if surrounding is not None and surrounding.is_cancelled:
                        return Cancelled(message=_BETWEEN_ATTEMPTS)
                    answer = None
            command = steps.send(answer)
    except StopIteration as end:
        answer = None  # A failure's traceback leads back to this frame, and would be a cycle.
        return cast("State[R]", end.value)


async def run_item_async(
    item: WorkItem[R],
    runner: TaskRunner | None = None,
    *,
    first_attempt: int = 1,
    progress: Progress | None = None,
    rest: Callable[[float], object] = sleep_async,
) -> State[R]:
    """Drive the lifecycle of an async item as an async task; cancelling it cancels the run.

    See `run_item`. What ``progress`` and ``rest`` return is awaited if it can be.
    """
    if first_attempt == 1 and (attempt := only_attempt(item)) is not None:
        return await make_attempt_async(item, attempt, runner)
    steps = lifecycle_of(item, first_attempt)
    answer: State[object] | None = None
    try:
        command = next(steps)
        while True:
            match command:
                case Attempt():
                    if command.number > first_attempt and progress is not None:
                        await _told(progress(Running()))
                    answer = await make_attempt_async(item, command, runner)
                case Delay(seconds, state):
                    if progress is not None:
                        await _told(progress(state))
                    await _told(rest(seconds))
                    answer = None
            command = steps.send(answer)
    except StopIteration as end:
        return cast("State[R]", end.value)


async def _told(returned: object) -> None:
    if isinstance(returned, Awaitable):
        await returned


def run_item_in_new_loop(
    item: WorkItem[R],
    runner: TaskRunner | None = None,
    *,
    first_attempt: int = 1,
    progress: Progress | None = None,
    rest: Callable[[float], object] = sleep_async,
) -> State[R]:
    """Drive the lifecycle of an async item in an event loop made for it in the calling thread."""
    drive = partial(
        run_item_async, item, runner, first_attempt=first_attempt, progress=progress, rest=rest
    )
    return anyio.run(drive, backend=item.backend or default_backend())


# ---------------------------------------------------------------------------- attempts


def make_attempt(
    item: WorkItem[R], attempt: Attempt, runner: TaskRunner | None, scope: RunScope | None = None
) -> State[R]:
    """Call the function of a sync item once, in the calling thread, however long it takes.

    Args:
        item: What to run.
        attempt: Which attempt this is.
        runner: Where the function's own submissions go.
        scope: The `attempt_scope` to do so in; if None a new one, inside the current one.

    Returns:
        The state that came of it.
    """
    try:
        args, kwargs = resolve_arguments(item)
    except BaseException as error:  # A value may be gone from where it was.
        return state_of_error(error)
    if scope is not None:
        return call_in(scope, item.function, args, kwargs)
    return call_inside(
        current_scope.get(), attempt_scope(item, attempt, runner), item.function, args, kwargs
    )


def make_attempt_in_time(
    item: WorkItem[R],
    attempt: Attempt,
    runner: TaskRunner | None,
    limiter: TimeLimiter = limit_by_thread,
) -> State[R]:
    """`make_attempt`, within the time limit if there is one."""
    if attempt.time_limit is None:
        return make_attempt(item, attempt, runner)
    surrounding, scope = current_scope.get(), attempt_scope(item, attempt, runner)
    scope.has_deadline = True
    if surrounding is not None:
        surrounding.nest(scope)
    try:
        state = limiter(lambda: make_attempt(item, attempt, runner, scope), attempt.time_limit)
        if state is not None:
            return cast("State[R]", state)
        end: State[R] = timed_out(item.task_run, attempt.time_limit)
    except BaseException as error:  # Ctrl-C in this thread, while another makes the attempt.
        end = state_of_error(error)
    finally:
        if surrounding is not None:
            surrounding.unnest(scope)
    scope.stop(f"Run {item.task_run.name!r}, which submitted it, was given up.")
    if runner is not None:
        runner.note_abandoned(item.task_run)
    elif limiter is limit_by_thread:
        _logger.warning("Abandoned run %r, which could not be stopped", item.task_run.name)
    return end


async def make_attempt_async(
    item: WorkItem[R], attempt: Attempt, runner: TaskRunner | None
) -> State[R]:
    """Call the function of an async item once, within its time limit if there is one.

    See `make_attempt`.
    """
    clock = current_clock.get()
    if clock is not SYSTEM_CLOCK:
        current_hold.set(None)
        clock.watch(cast(EventLoop, running_loop()))
    if (limit := attempt.time_limit) is None:
        return await _attempt_async(item, attempt, runner)
    state = await limited_async(partial(_attempt_async, item, attempt, runner), limit)
    return timed_out(item.task_run, limit) if state is None else state


async def _attempt_async(
    item: WorkItem[R], attempt: Attempt, runner: TaskRunner | None
) -> State[R]:
    scope = attempt_scope(item, attempt, runner)
    token = current_scope.set(scope)
    try:
        async with scope:
            args, kwargs = item.args, item.kwargs
            if not item.is_plain:
                args, kwargs = await resolve_arguments_async(item)
            scope.call = (item.function, args, kwargs)
            returned: object = await cast("Awaitable[R]", item.function(*args, **kwargs))
            if isinstance(returned, Future):
                await returned.join_async()
                returned = returned.final_state()
            return state_of_returned(returned)
    except anyio.get_cancelled_exc_class():
        raise  # The loop's own business; whoever cancelled this task knows how the run ended.
    except BaseExceptionGroup as group:
        # What a task's own children raise while they are cancelled comes beside the cancellation.
        _, own = group.split(anyio.get_cancelled_exc_class())
        if own is None:
            raise
        return state_of_error(own)
    except BaseException as error:  # However a run ends is data for whoever waits for it.
        return state_of_error(error)
    finally:
        current_scope.reset(token)


def attempt_scope(item: WorkItem[R], attempt: Attempt, runner: TaskRunner | None) -> RunScope:
    """Return the scope for one attempt of an item, below the current one."""
    parent = current_scope.get()  # The submitter's, in the same process; else there is none.
    return RunScope(
        item.flow_run,
        item.task_run,
        attempt.number,
        runner,
        None if parent is None else parent.owner,
        is_async=item.is_async,
    )


def timed_out(run: TaskRun | FlowRun, seconds: float) -> TimedOut:
    """Return the state of a run that has exceeded its time limit."""
    message = f"Run {run.name!r} did not end within its time limit of {seconds:g} s"
    return TimedOut(exception=RunTimedOutError(message), message=message)


# ---------------------------------------------------------------------------- arguments


def resolve_arguments(item: WorkItem[R]) -> tuple[tuple[object, ...], Mapping[str, object]]:
    """Return an item's arguments with the values of its futures, all of which have ended."""
    if item.is_plain:
        return item.args, item.kwargs
    return substitute(
        item.args,
        item.kwargs,
        lambda future: future.final_state().result(),
        lambda future: future.final_state().result(raise_on_failure=False),
    )


async def resolve_arguments_async(
    item: WorkItem[R],
) -> tuple[tuple[object, ...], Mapping[str, object]]:
    """`resolve_arguments`, fetching what lies elsewhere without blocking the loop."""
    for future in (*item.upstreams, *item.tolerated):
        state = future.final_state()
        if isinstance(state, Completed) and not state.is_local:
            await anyio.to_thread.run_sync(state.result)
    return resolve_arguments(item)
