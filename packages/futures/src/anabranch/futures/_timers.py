"""Letting time pass on the current clock, and telling it that code is at work."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import cast

from anabranch.futures._clock import SYSTEM_CLOCK, current_clock, current_hold, new_hold
from anabranch.futures._future import Future
from anabranch.futures._loops import EventLoop, running_loop
from anabranch.futures._scope import REST


def sleep(seconds: float) -> None:
    """Block this thread until so many seconds have passed on the current clock."""
    if seconds > 0:
        Future[None](REST).join(timeout=seconds)


async def sleep_async(seconds: float) -> None:
    """Wait in an event loop until so many seconds have passed on the current clock."""
    if seconds > 0:
        await Future[None](REST).join_async(timeout=seconds)


@contextmanager
def held_clock() -> Generator[None]:
    """Hold the current clock while sync code is at work, unless that is part of what holds it."""
    hold = None if current_hold.get() is not None else new_hold(current_clock.get())
    if hold is None:
        yield
        return
    token = current_hold.set(hold)
    try:
        yield
    finally:
        current_hold.reset(token)
        hold.end()


@contextmanager
def watched_loop() -> Generator[None]:
    """Have the current clock watch the running loop, in place of any hold, for async code."""
    clock = current_clock.get()
    if clock is SYSTEM_CLOCK:
        yield
        return
    clock.watch(cast(EventLoop, running_loop()))
    hold = current_hold.get()
    token = current_hold.set(None)
    if hold is not None:
        hold.pause()
    try:
        yield
    finally:
        current_hold.reset(token)
        if hold is not None:
            hold.resume()
