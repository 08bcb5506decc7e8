"""Functions and tasks that do nothing, or next to nothing; workers import them from here."""

from __future__ import annotations

from anabranch.flows import task


def noop() -> None:
    """Do nothing."""


async def noop_async() -> None:
    """Do nothing."""


def same(value: int) -> int:
    """Return the value."""
    return value


noop_task = task(noop)
noop_async_task = task(noop_async)
same_task = task(same)
