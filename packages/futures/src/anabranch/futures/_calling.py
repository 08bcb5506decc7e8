"""Calling the function of a run, in a scope, and the state that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Never, TypeVar

from anabranch.futures._clock import SYSTEM_CLOCK, current_clock
from anabranch.futures._future import Future
from anabranch.futures._scope import RunScope, current_scope
from anabranch.futures._states import FINAL_STATES, Completed, Crashed, Failed, State, describe
from anabranch.futures._timers import held_clock
from anabranch.futures._typing import AnyFunction
from anabranch.futures._work import TaskRun

R = TypeVar("R")


def call_here(  # type: ignore[explicit-any]  # Only the function knows what it returns.
    function: AnyFunction[object],
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    task_run: TaskRun,
    surrounding: RunScope | None,
) -> State[Any]:
    """Make the only attempt of a task run in the calling thread, as a part of what runs there.

    It is what `run_item` comes to for most direct calls, without an item.

    Args:
        function: What to call.
        args: Its positional arguments, without futures or marks in them.
        kwargs: Its keyword arguments.
        task_run: The run.
        surrounding: The current scope.
    """
    if surrounding is None:
        scope = RunScope(None, task_run)
    else:
        scope = RunScope(surrounding.flow_run, task_run, 1, surrounding.runner, surrounding.owner)
    if current_clock.get() is SYSTEM_CLOCK:
        return call_inside(surrounding, scope, function, args, kwargs)
    with held_clock():
        return call_inside(surrounding, scope, function, args, kwargs)


def call_inside(
    surrounding: RunScope | None,
    scope: RunScope,
    function: AnyFunction[object],
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
) -> State[R]:
    """`call_in` a scope that is a part of another."""
    if surrounding is None:
        return call_in(scope, function, args, kwargs)
    surrounding.nest(scope)
    try:
        return call_in(scope, function, args, kwargs)
    finally:
        surrounding.unnest(scope)


def call_in(
    scope: RunScope,
    function: AnyFunction[object],
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
) -> State[R]:
    """Call a sync function in a scope; returns the state that came of it."""
    token = current_scope.set(scope)
    scope.call = (function, args, kwargs)
    try:
        # Not `with scope`, which takes as long as calling a short function.
        try:
            returned = function(*args, **kwargs)
            if isinstance(returned, Future):
                returned.join()
                returned = returned.final_state()
            has_work = scope.has_work()
        except BaseException as error:
            scope.leave(error)
            raise
        if has_work:
            scope.leave(None)
        return state_of_returned(returned)
    except BaseException as error:  # However a run ends is data for whoever waits for it.
        return state_of_error(error)
    finally:
        current_scope.reset(token)


def state_of_returned(returned: object) -> State[R]:
    """Return the state of a run that returned this: a state stands for itself."""
    if type(returned) in FINAL_STATES:
        return returned  # type: ignore[return-value]  # A cast would be a call.
    return Completed(returned)  # type: ignore[arg-type]  # As above.


def state_of_error(error: BaseException) -> State[Never]:
    """Return the state that a run ends in when it raises ``error``.

    An ordinary exception is the run's failure. Anything else, such as SystemExit, was not meant
    for the engine, and counts as a crash.
    """
    if isinstance(error, Exception):
        return Failed(error, message=describe(error))
    return Crashed(exception=error, message=f"The run was ended by {describe(error)}")
