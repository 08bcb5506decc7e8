"""Stopping a run that a worker process executes, from any thread of that process."""

from __future__ import annotations

import threading
from functools import wraps
from typing import TYPE_CHECKING, Final, cast, final

import anyio

from anabranch.futures._loops import running_loop
from anabranch.futures._scope import current_scope
from anabranch.futures._signals import start_thread
from anabranch.futures._states import Cancelled
from anabranch.futures._timers import sleep_async

if TYPE_CHECKING:
    from anabranch.futures._loops import EventLoop
    from anabranch.futures._scope import RunScope
    from anabranch.futures._states import State
    from anabranch.futures._typing import AnyCoroutine, AnyFunction

_WHILE_RUNNING: Final = "The run was cancelled while it was running."


@final
class RunStop:
    """Stops one run, from any thread: an async one at any time, others between two attempts.

    Calling it stops the run. What the run has submitted is cancelled with it.

    Attributes:
        is_wanted: Whether the run is to be stopped.
    """

    def __init__(self) -> None:
        self.is_wanted: bool = False
        self._wanted = threading.Event()
        self._target: tuple[EventLoop, anyio.CancelScope] | None = None
        self._scope: RunScope | None = None

    def __call__(self) -> None:
        """Stop the run, now or as soon as it comes to that."""
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
