"""The CPU that a run holds, and others may have while it waits.

Ray gives it to others while the main thread of a worker waits for something in Ray, and for nothing
else. So what is waited for gives a signal at the relay, and the main thread waits for that.
"""

from __future__ import annotations

import contextvars
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, TypeVar, cast, final

import ray

from anabranch.futures.runner import AnyFunction, BlockingSection, current_lease, start_thread

if TYPE_CHECKING:
    from anabranch.futures import Future
    from anabranch.runners.ray._interrupts import Interrupts
    from anabranch.runners.ray._native import Ref
    from anabranch.runners.ray._relay import RelayHandle

T = TypeVar("T")


@final
class _Absence:
    """Lets others have the CPU, from when it is `spent` until it is `ended`, by any thread."""

    def __init__(self, relay: RelayHandle) -> None:
        self._relay: Final = relay
        self._name: Final = f"back-{uuid.uuid4().hex}"
        self._once: Final = threading.Lock()
        self._ref: Ref | None = relay.wait_for.remote(self._name)

    def spend(self, timeout: float | None = None) -> None:
        """Block the main thread until this is ended, or the time is over."""
        ref = self._ref
        if ref is not None:
            wait = cast("AnyFunction[object]", ray.wait)
            wait([ref], timeout=timeout, fetch_local=False)

    def end(self, _: object = None) -> None:
        """Have the main thread go on; the first call does it."""
        if self._once.acquire(blocking=False):
            self._ref = None
            self._relay.give.remote(self._name)


@final
class Yielding(BlockingSection):
    """Has a run leave its CPU to others for as long as it waits for another run.

    Args:
        relay: Finds the relay.
        interrupts: What may interrupt the wait.
    """

    def __init__(self, relay: Callable[[], RelayHandle], interrupts: Interrupts) -> None:
        self._relay: Final = relay
        self._interrupts: Final = interrupts

    def wait(self, future: Future[object], timeout: float | None = None) -> None:
        """Return when ``future`` is done, or the time is over."""
        future.awaited()
        if timeout is not None and timeout <= 0:
            return
        deadline = None if timeout is None else time.monotonic() + timeout
        self._leave_until(future, timeout)
        # Without a relay it keeps the CPU.
        future.park(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def _leave_until(self, future: Future[object], timeout: float | None) -> None:
        if future.done():
            return
        with suppress(Exception):  # The relay is gone, or Ray is.
            absence = _Absence(self._relay())
            self._interrupts.wake = absence.end
            future.add_done_callback(absence.end)
            try:
                absence.spend(timeout)
            finally:
                self._interrupts.wake = None
                future.remove_done_callback(absence.end)
                absence.end()


@final
class _YieldingLease:
    """Has the main thread leave the CPU while parts of an async run wait for other runs."""

    def __init__(
        self, relay: Callable[[], RelayHandle], leave: Callable[[_Absence], object]
    ) -> None:
        self._relay: Final = relay
        self._leave: Final = leave
        self._waiting = 0
        self._absence: _Absence | None = None

    # In one event loop: no two of these at a time.

    def belongs_to(self, run: Future[object]) -> None:
        """Nothing: the run is known by its process."""

    def lend(self) -> None:
        """Leave the CPU, if that has not been done."""
        self._waiting += 1
        if self._waiting == 1:
            with suppress(Exception):  # The relay is gone, or Ray is.
                self._absence = _Absence(self._relay())
                self._leave(self._absence)

    def take_back(self) -> None:
        """Take the CPU again, unless other parts of the run still wait."""
        self._waiting -= 1
        if not self._waiting and self._absence is not None:
            self._absence.end()
            self._absence = None


def call_beside(function: Callable[[], T], relay: Callable[[], RelayHandle]) -> T:
    """Call what runs an event loop in a thread beside this one, which leaves the CPU when need be.

    Args:
        function: What to call.
        relay: Finds the relay.
    """
    absences: SimpleQueue[_Absence | None] = SimpleQueue()
    returned: list[T] = []
    raised: list[BaseException] = []

    def work() -> None:
        current_lease.set(_YieldingLease(relay, absences.put))
        try:
            returned.append(function())
        except BaseException as error:  # It belongs to the thread that waits.
            raised.append(error)
        finally:
            absences.put(None)

    context = contextvars.copy_context()
    thread = threading.Thread(target=partial(context.run, work), name="anabranch-ray-loop")
    thread.daemon = True
    start_thread(thread)
    while (absence := absences.get()) is not None:
        with suppress(Exception):
            absence.spend()
    thread.join()
    if raised:
        try:
            raise raised[0]
        finally:
            raised.clear()  # An exception that refers to its frames would be a cycle.
    return returned[0]
