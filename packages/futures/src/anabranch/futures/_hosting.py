"""Event loops for runners in code that has none: the loop lives beside it, in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import TYPE_CHECKING, Final, final

import anyio

from anabranch.futures._clock import current_clock
from anabranch.futures._loops import EventLoop, LoopThread, running_loop
from anabranch.futures._parking import standing_by

if TYPE_CHECKING:
    from anabranch.futures._runner import TaskRunner


#: How long a loop that is asked to end may stand still before it is abandoned, in seconds.
_PATIENCE: Final = 1.0


@final
class RunnerHost:
    """Keeps an async context of a runner open in a loop thread of its own.

    Args:
        runner: The runner.
        context: Opens the context, such as the runner's own start.
    """

    def __init__(
        self, runner: TaskRunner, context: Callable[[], AbstractAsyncContextManager[object]]
    ) -> None:
        self._runner = runner
        self._context = context
        name = f"anabranch-{runner.name}"
        self._thread = LoopThread(self._main, backend=runner.backend, name=name)
        self._loop: EventLoop | None = None
        self._user_left: anyio.Event
        self._scope: anyio.CancelScope
        self._is_unwanted = False
        self._error: BaseException | None = None
        self._user_is_back: Callable[[], None] | None = None

    def open(self) -> None:
        """Start the loop, and wait until the context is open."""
        try:
            self._thread.start()
        except BaseException:  # What the context raised, or
            if self._thread.is_alive():  # Ctrl-C in this thread, as it waits.
                self._leave_in_a_hurry()
            raise

    def close(self, error: BaseException | None, *, in_a_hurry: bool) -> None:
        """Leave the context, and wait until the loop has ended.

        Args:
            error: What the context is left by, if by an exception.
            in_a_hurry: Whether to do without the loop if it stands still.
        """
        # The loop thread raises the user's exception too. What that adds to the traceback is taken
        # off again, for the user's thread is the one that shows it.
        traceback = None if error is None else error.__traceback__
        self._error = leaving = _passable(error)
        try:
            with standing_by() as self._user_is_back:
                if self._loop is not None:
                    # It is the loop that is at work meanwhile, as it cancels and joins.
                    current_clock.get().watch(self._loop)
                    self._loop.call_soon(self._user_left.set)
                if not in_a_hurry or self._ends():
                    self._thread.join()
        except BaseException as raised:  # What the context was left by, or
            if self._thread.is_alive():  # Ctrl-C in this thread, as it waits.
                self._leave_in_a_hurry()
                raise
            if raised is not leaving:
                raise
            raised.__traceback__ = traceback
        finally:
            self._error = None

    def _leave_in_a_hurry(self) -> None:
        self._is_unwanted = True
        if self._loop is not None:
            self._loop.call_soon(self._scope.cancel)
        self._ends()

    def _ends(self) -> bool:
        """Wait until the loop has ended, and say so; unless it stands still: then give it up."""
        while self._thread.is_alive():
            # A second Ctrl-C must not leave half of it behind.
            with suppress(KeyboardInterrupt):
                if not self._thread.wait(_PATIENCE) and not self._loop_turns():
                    message = "Abandoned the event loop of the runner: a task blocks it"
                    self._runner.logger.warning(message)
                    return False
        return True

    def _loop_turns(self) -> bool:
        turned = threading.Event()
        if self._loop is not None:
            self._loop.call_soon(turned.set)
        return self._loop is None or turned.wait(_PATIENCE) or not self._thread.is_alive()

    async def _main(self, ready: Callable[[], None]) -> None:
        self._user_left = anyio.Event()
        self._scope = anyio.CancelScope()
        self._loop = running_loop()
        if self._is_unwanted:  # There was no loop to say so in yet.
            return
        try:
            with self._scope:
                async with self._context():
                    ready()
                    await self._user_left.wait()
                    if self._error is not None:
                        raise self._error
        finally:
            if self._user_is_back is not None:
                self._user_is_back()


def _passable(error: BaseException | None) -> BaseException | None:
    """Return an exception that a coroutine can raise in place of this one."""
    return RuntimeError() if isinstance(error, StopIteration | StopAsyncIteration) else error
