"""Stopping runs that a worker process executes, and refusing those that are on their way."""

from __future__ import annotations

import threading
from collections import deque
from functools import wraps
from typing import TYPE_CHECKING, Final, cast, final

import anyio

from anabranch.futures import Cancelled
from anabranch.futures.runner import (
    AnyCoroutine,
    AnyFunction,
    EventLoop,
    current_scope,
    running_loop,
    sleep_async,
    start_thread,
)

if TYPE_CHECKING:
    from anabranch.futures import State
    from anabranch.futures.runner import RunScope

_WHILE_RUNNING: Final = "The run was cancelled while it was running."

#: How many runs that are not here a process remembers as unwanted, for they may be on their way.
_MEMORY: Final = 10_000

# By the ids of the runs: those that this process is executing, and those that it has been told
# to stop before they came. A process may hold several workers.
_stops: dict[str, Stop] = {}
_early: deque[str] = deque()


def stop_runs(run_ids: list[str]) -> None:
    """Stop runs that this process is executing, as far as can be, and refuse those to come."""
    for run_id in run_ids:
        new = Stop()
        stop = _stops.setdefault(run_id, new)  # In one step: the run may be about to begin.
        if stop is new:
            _early.append(run_id)
        stop()
    while len(_early) > _MEMORY:
        _stops.pop(_early.popleft(), None)


def stop_of(run_id: str) -> Stop:
    """Return what stops a run that this process is about to execute."""
    return _stops.setdefault(run_id, Stop())


def forget_stop(run_id: str) -> None:
    """Take note that this process is through with a run."""
    _stops.pop(run_id, None)


@final
class Stop:
    """Stops one run, from any thread: an async one at any time, others between two attempts.

    Attributes:
        is_wanted: Whether the run is to be stopped.
    """

    def __init__(self) -> None:
        self.is_wanted = False
        self._wanted = threading.Event()
        self._target: tuple[EventLoop, anyio.CancelScope] | None = None
        self._scope: RunScope | None = None

    def __call__(self) -> None:
        self.is_wanted = True
        self._wanted.set()
        self._cancel_children()
        if (target := self._target) is not None:
            loop, scope = target
            loop.call_soon(scope.cancel)

    def reach(self, scope: RunScope) -> None:
        """Have what the run submits, and what it has submitted, cancelled with it."""
        self._scope = scope
        if self.is_wanted:
            self._cancel_children()

    def _cancel_children(self) -> None:
        scope = self._scope
        if scope is not None:
            # Not here, in the event loop of a worker: whoever waits for them may want it.
            start_thread(threading.Thread(target=scope.cancel, daemon=True))

    def guard(
        self, function: AnyFunction[AnyCoroutine[object]]
    ) -> AnyFunction[AnyCoroutine[object]]:
        """Return an async function that this can stop; it then returns the state for that."""

        @wraps(function)
        async def stoppable(*args: object, **kwargs: object) -> object | State[object]:
            with self._stoppable():
                return await function(*args, **kwargs)
            if (attempt := current_scope.get()) is not None:
                attempt.cancel()
            return Cancelled(message=_WHILE_RUNNING)

        return stoppable

    def rest(self, seconds: float) -> None:
        """Block this thread for so many seconds, or until the run is to be stopped."""
        self._wanted.wait(min(seconds, threading.TIMEOUT_MAX))

    async def rest_async(self, seconds: float) -> None:
        """`rest`, in an event loop."""
        with self._stoppable():
            await sleep_async(seconds)

    def _stoppable(self) -> anyio.CancelScope:
        scope = anyio.CancelScope()
        self._target = cast("EventLoop", running_loop()), scope
        if self.is_wanted:  # It may have come before there was anything to stop.
            scope.cancel()
        return scope
