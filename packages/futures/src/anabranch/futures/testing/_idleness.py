"""Whether an event loop is idle: no task of it could run, and no thread works for one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias, final

import anyio
import anyio.to_thread

from anabranch.futures._loops import EventLoop, mark_library

#: Is told, in the loop's thread, how many worker threads are at work for an idle loop's tasks.
Report: TypeAlias = Callable[[int], object]


def ask(loop: EventLoop, report: Report) -> bool:
    """Have ``report`` called as soon as no task of a loop could run.

    Returns:
        Whether the loop is still there.
    """
    if loop.backend == "trio":
        return loop.enter(partial(_spawn_trio_look, report))
    return loop.enter(_AsyncioLook(report))


def _spawn_trio_look(report: Report) -> None:
    try:
        sys.modules["trio"].lowlevel.spawn_system_task(_look_in_trio, report)
    except RuntimeError:  # The loop is about to end, and takes no more tasks.
        report(0)


async def _look_in_trio(report: Report) -> None:
    mark_library("trio")
    try:
        await anyio.wait_all_tasks_blocked()
    finally:  # A loop that ends cancels this, and counts as idle until it is gone.
        report(anyio.to_thread.current_default_thread_limiter().borrowed_tokens)


@final
class _AsyncioLook:
    """Goes round with an asyncio loop until there is nothing else for the loop to do."""

    def __init__(self, report: Report) -> None:
        self._report: Final = report
        self._quiet_turns = 0

    def __call__(self) -> None:
        loop = asyncio.get_running_loop()
        # Loops that are not written in Python do not show it. There, some turns have to do.
        ready = getattr(loop, "_ready", None)
        if ready:
            self._quiet_turns = 0
        else:
            self._quiet_turns += 1
        # Two turns: between them, the loop takes in what has come from outside.
        if self._quiet_turns < (2 if ready is not None else _BLIND_TURNS):
            loop.call_soon(self)
        else:
            self._report(_threads_at_work(loop))


_BLIND_TURNS: Final = 20


def _threads_at_work(loop: asyncio.AbstractEventLoop) -> int:
    mark_library("asyncio")
    borrowed = anyio.to_thread.current_default_thread_limiter().borrowed_tokens
    executor = getattr(loop, "_default_executor", None)  # For `asyncio.to_thread`.
    threads = getattr(executor, "_threads", ())
    idle = getattr(getattr(executor, "_idle_semaphore", None), "_value", len(threads))
    return borrowed + max(0, len(threads) - idle)
