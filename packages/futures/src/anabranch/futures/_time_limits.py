"""Keeping an attempt within its time limit."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeAlias, TypeVar, cast

import anyio

from anabranch.futures._blocking import blocking_section, paused, set_blocking_section
from anabranch.futures._clock import current_clock, current_hold, new_hold
from anabranch.futures._future import Future
from anabranch.futures._loops import EventLoop, mark_library, running_loop
from anabranch.futures._signals import start_thread
from anabranch.futures._states import Completed, State
from anabranch.futures._work import TaskRun

T = TypeVar("T")

#: Calls a function and returns what it returns; None if that takes longer than so many seconds.
TimeLimiter: TypeAlias = Callable[[Callable[[], "State[object]"], float], "State[object] | None"]

_ATTEMPT: Final = TaskRun("", "an attempt with a time limit", "attempt")


def limit_by_thread(function: Callable[[], T], seconds: float) -> T | None:
    """Call a function in a thread of its own, and give it up when the time is over.

    Nothing can stop a thread from outside. One that is given up goes on until its function returns,
    and is a daemon, so that it does not hold the interpreter's exit.

    Args:
        function: What to call. It raises nothing.
        seconds: How long it may take.

    Returns:
        What the function returned; None if the time was over first.
    """
    outcome: Future[T] = Future(_ATTEMPT)
    # The thread works in the place of the calling one, which only waits.
    section = blocking_section()
    own_hold = current_hold.get()
    clock = current_clock.get()
    hold = None if own_hold is None else new_hold(clock)

    def work() -> None:
        mark_library(None)  # Not even if the calling thread runs an event loop.
        set_blocking_section(section)
        current_hold.set(hold)
        outcome.set_final(Completed(function()))
        end_hold()

    def expire() -> None:
        outcome.set_final(_OUT_OF_TIME)
        end_hold()

    def end_hold() -> None:
        if hold is not None:
            hold.end()

    thread = threading.Thread(
        target=partial(contextvars.copy_context().run, work),
        name=f"{threading.current_thread().name}-limited",
        daemon=True,
    )
    cancel_timer = clock.call_later(seconds, expire)
    try:
        start_thread(thread)
        if own_hold is None:
            outcome.park()
        else:
            with paused(own_hold, outcome):
                outcome.park()
    except BaseException:  # Ctrl-C in this thread: the other is given up.
        end_hold()
        raise
    finally:
        cancel_timer()
    state = outcome.final_state()
    return None if state is _OUT_OF_TIME else state.result()


_OUT_OF_TIME: Final = Completed(None)


async def limited_async(function: Callable[[], Awaitable[T]], seconds: float) -> T | None:
    """Await what a function returns, and cancel it when the time is over.

    Args:
        function: What to call.
        seconds: How long it may take.

    Returns:
        What it returned; None if the time was over first, even if it then did not let itself be
        cancelled.
    """
    loop = cast(EventLoop, running_loop())
    with anyio.CancelScope() as scope:
        cancel_timer = current_clock.get().call_later(seconds, lambda: loop.call_soon(scope.cancel))
        try:
            returned = await function()
        finally:
            cancel_timer()
        return None if scope.cancel_called else returned
    return None
