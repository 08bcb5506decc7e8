"""Where drivers get their time from."""

from __future__ import annotations

import time
from typing import Protocol, final

import anyio


class Clock(Protocol):
    """Time as the engine sees it: what a driver is given, so that a test can own time.

    `now` is monotonic and counts seconds from an arbitrary origin.
    """

    def now(self) -> float:
        """Return the seconds since this clock's origin."""

    def sleep(self, seconds: float) -> None:
        """Block this thread for so many seconds."""

    async def sleep_async(self, seconds: float) -> None:
        """Suspend this async task for so many seconds."""


@final
class SystemClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        """Return the seconds since this clock's origin."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block this thread for so many seconds."""
        time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Suspend this async task for so many seconds."""
        await anyio.sleep(seconds)
