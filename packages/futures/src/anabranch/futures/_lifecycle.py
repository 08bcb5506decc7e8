"""What happens to a task run, written once and without IO, and the drivers that make it happen.

`lifecycle` is a generator: it yields what is to be done next and is sent how that went. It knows
no thread, no event loop and no clock. A driver does what it asks for: `run_item` in the calling
thread, `run_item_async` as an async task; both are used alike by the local runners and inside the
workers of Dask and Ray.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator, Mapping
from typing import TYPE_CHECKING, Never, TypeAlias, TypeVar, cast, final

import anyio
import anyio.to_thread
import attrs

from anabranch.futures._arguments import substitute
from anabranch.futures._future import Future
from anabranch.futures._loops import default_backend
from anabranch.futures._scope import RunScope, current_scope
from anabranch.futures._states import (
    FINAL_STATES,
    Completed,
    Crashed,
    Failed,
    State,
    describe,
)
from anabranch.futures._work import RunContext, WorkItem

if TYPE_CHECKING:
    from anabranch.futures._runner import TaskRunner

R = TypeVar("R")


@final
@attrs.frozen
class Attempt:
    """Asks the driver to call the function once; it sends back the state that came of it."""

    number: int


#: What a lifecycle may ask of its driver.
Command: TypeAlias = Attempt


def lifecycle() -> Generator[Command, State[R], State[R]]:
    """Yield what is to be done for one task run, step by step.

    Yields:
        The next thing to do. The driver sends back how it went.

    Returns:
        How the run ended.
    """
    return (yield Attempt(number=1))


def run_item(item: WorkItem[R], runner: TaskRunner | None = None) -> State[R]:
    """Drive the lifecycle of a sync item in the calling thread.

    Args:
        item: What to run. The futures among its arguments have ended.
        runner: Where the function's own submissions go.

    Returns:
        How the run ended. Whatever the function raised is in it.
    """
    steps: Generator[Command, State[R], State[R]] = lifecycle()
    try:
        command = next(steps)
        while True:
            command = steps.send(_attempt(item, command, runner))
    except StopIteration as end:
        return cast("State[R]", end.value)


async def run_item_async(item: WorkItem[R], runner: TaskRunner | None = None) -> State[R]:
    """Drive the lifecycle of an async item as an async task; cancelling it cancels the run.

    See `run_item`.
    """
    steps: Generator[Command, State[R], State[R]] = lifecycle()
    try:
        command = next(steps)
        while True:
            command = steps.send(await _attempt_async(item, command, runner))
    except StopIteration as end:
        return cast("State[R]", end.value)


def run_item_in_new_loop(item: WorkItem[R], runner: TaskRunner | None = None) -> State[R]:
    """Drive the lifecycle of an async item in an event loop made for it in the calling thread."""
    backend = item.backend or default_backend()
    return anyio.run(run_item_async, item, runner, backend=backend)


def _attempt(item: WorkItem[R], command: Attempt, runner: TaskRunner | None) -> State[R]:
    scope = _open_scope(item, command, runner)
    token = current_scope.set(scope)
    try:
        with scope:
            args, kwargs = resolve_arguments(item)
            returned = item.function(*args, **kwargs)
            if isinstance(returned, Future):
                returned.join()
            return _state_of_returned(returned)
    except BaseException as error:  # However a run ends is data for whoever waits for it.
        return state_of_error(error)
    finally:
        current_scope.reset(token)


async def _attempt_async(
    item: WorkItem[R], command: Attempt, runner: TaskRunner | None
) -> State[R]:
    scope = _open_scope(item, command, runner)
    token = current_scope.set(scope)
    try:
        async with scope:
            args, kwargs = await resolve_arguments_async(item)
            coroutine = cast("Coroutine[object, object, R]", item.function(*args, **kwargs))
            returned: object = await coroutine
            if isinstance(returned, Future):
                await returned.join_async()
            return _state_of_returned(returned)
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


def _open_scope(item: WorkItem[R], command: Attempt, runner: TaskRunner | None) -> RunScope:
    parent = current_scope.get()  # The submitter's, in the same process; else there is none.
    context = RunContext(item.flow_run, item.task_run, command.number)
    return RunScope(context, runner, None if parent is None else parent.owner)


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


def _state_of_returned(returned: object) -> State[R]:
    """Return the state of a run that returned this: a state or a future stands for its outcome."""
    outcome = returned.final_state() if isinstance(returned, Future) else returned
    if isinstance(outcome, FINAL_STATES):
        return cast("State[R]", outcome)
    return Completed(cast("R", outcome))


def state_of_error(error: BaseException) -> State[Never]:
    """Return the state that a run ends in when it raises ``error``.

    An ordinary exception is the run's failure. Anything else, such as SystemExit, was not meant
    for the engine, and counts as a crash.
    """
    if isinstance(error, Exception):
        return Failed(error, message=describe(error))
    return Crashed(exception=error, message=f"The run was ended by {describe(error)}")
