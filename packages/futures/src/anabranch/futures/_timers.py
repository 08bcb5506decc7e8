"""Letting time pass on the current clock."""

from __future__ import annotations

from anabranch.futures._future import Future
from anabranch.futures._work import TaskRun

_NOTHING = TaskRun("", "the end of a delay", "delay")


def sleep(seconds: float) -> None:
    """Block this thread until so many seconds have passed on the current clock."""
    if seconds > 0:
        # A wait for something that never comes: a test's clock knows how to count waits.
        Future[None](_NOTHING).join(timeout=seconds)


async def sleep_async(seconds: float) -> None:
    """Wait in an event loop until so many seconds have passed on the current clock."""
    if seconds > 0:
        await Future[None](_NOTHING).join_async(timeout=seconds)
