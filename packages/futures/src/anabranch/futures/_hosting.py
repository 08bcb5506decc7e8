"""A started runner for code that has no event loop: the loop lives beside it, in a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, final

import anyio

from anabranch.futures._loops import EventLoop, LoopThread, running_loop
from anabranch.futures._work import Backend

if TYPE_CHECKING:
    from anabranch.futures._runner import TaskRunner


@final
class RunnerHost:
    """Starts a runner in a loop thread of its own, and leaves it as its user leaves."""

    def __init__(self, runner: TaskRunner, backend: Backend | None) -> None:
        self._runner = runner
        self._thread = LoopThread(self._main, backend=backend, name=f"anabranch-{runner.name}")
        self._loop: EventLoop | None = None
        self._user_left: anyio.Event
        self._error: BaseException | None = None

    def open(self) -> None:
        """Start the runner, and wait until it is started."""
        self._thread.start()

    def close(self, error: BaseException | None) -> None:
        """Leave the runner, and wait until it has ended.

        Args:
            error: What its user was left by, if by an exception; the runner is left by the same.
        """
        # The loop thread raises the user's exception too. What that adds to the traceback is taken
        # off again, for the user's thread is the one that shows it.
        traceback = None if error is None else error.__traceback__
        self._error = error
        if self._loop is not None:
            self._loop.call_soon(self._user_left.set)
        try:
            self._thread.join()
        except BaseException as raised:
            if raised is not error:
                raise
            error.__traceback__ = traceback
        finally:
            self._error = None

    async def _main(self, ready: Callable[[], None]) -> None:
        self._user_left = anyio.Event()
        async with self._runner.start():
            self._loop = running_loop()
            ready()
            await self._user_left.wait()
            if self._error is not None:
                raise self._error
