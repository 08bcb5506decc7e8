"""Event loops, entered from any thread through a door that never blocks.

No blocking portals: on trio inside trio their exit waits for ever, and a round trip through one
costs fifty times what entering a loop directly does.

Importing an async library takes longer than most flows, and one that has not been imported runs no
loop. So they are only looked up here; while another thread is importing one, it may be there and
have nothing in it.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Final, final

import anyio

from anabranch.futures._signals import start_thread, wait
from anabranch.futures._work import Backend

#: Advances with every entry into any event loop, so that a test's clock sees whether there was one
#: while it looked whether all loops are idle.
entries: Final = itertools.count()


@final
class EventLoop:
    """One running event loop, as seen from other threads; equal to all others of the same loop.

    Attributes:
        backend: Which kind of loop it is.
        thread_id: The thread that the loop runs in.
    """

    __slots__ = ("_call_soon", "backend", "thread_id")

    def __init__(
        self, backend: Backend, call_soon: Callable[[Callable[[], object]], object]
    ) -> None:
        self.backend: Final = backend
        self.thread_id: Final = threading.get_ident()
        self._call_soon: Final = call_soon

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EventLoop) and self._call_soon == other._call_soon

    def __hash__(self) -> int:
        return hash(self._call_soon)

    def call_soon(self, function: Callable[[], object]) -> bool:
        """Have the loop call ``function``, in its own thread.

        Thread-safe, and does not wait. The function must not raise.

        Returns:
            Whether the loop is still there to call it.
        """
        next(entries)
        return self.enter(function)

    def enter(self, function: Callable[[], object]) -> bool:
        """`call_soon` for a test's clock, whose own entries put nothing to work."""
        try:
            self._call_soon(function)
        except RuntimeError:  # Both libraries' word for a loop that has ended.
            return False
        return True


def in_task() -> bool:
    """Whether the calling code is an async task, and not merely called by an event loop."""
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)
    if lowlevel is not None and lowlevel.in_trio_task():
        return True
    current_task = getattr(sys.modules.get("asyncio"), "current_task", None)
    try:
        return current_task is not None and current_task() is not None
    except RuntimeError:
        return False


def mark_library(backend: Backend | None) -> None:
    """Have libraries that ask what they run in told so, in the current context variables.

    Code that runs with the context variables of an async task may run in another loop, or in none;
    but that variable is where sniffio, and so anyio, look first.
    """
    sniffio = sys.modules.get("sniffio")
    library = None if sniffio is None else getattr(sniffio, "current_async_library_cvar", None)
    if library is not None and library.get() != backend:
        library.set(backend)


def running_loop() -> EventLoop | None:
    """Return the event loop that runs in this thread, if there is one."""
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)
    if lowlevel is not None and lowlevel.in_trio_run():
        return EventLoop("trio", lowlevel.current_trio_token().run_sync_soon)
    get_running_loop = getattr(sys.modules.get("asyncio"), "get_running_loop", None)
    try:
        loop = None if get_running_loop is None else get_running_loop()
    except RuntimeError:
        return None
    return None if loop is None else EventLoop("asyncio", loop.call_soon_threadsafe)


def default_backend() -> Backend:
    """Return ``"trio"`` where trio is installed, as it is with the flows, else ``"asyncio"``."""
    return "trio" if importlib.util.find_spec("trio") else "asyncio"


@final
class LoopThread:
    """An event loop in a daemon thread of its own that runs one async function.

    The function says that it is ready to be used by calling what it is given; until then, `start`
    waits. When it returns or raises, the loop and the thread end.

    Args:
        main: The async function; it is called with ``ready``.
        backend: The kind of event loop.
        name: The thread's name.
    """

    def __init__(
        self,
        main: Callable[[Callable[[], None]], Awaitable[None]],
        *,
        backend: Backend | None = None,
        name: str = "anabranch-loop",
    ) -> None:
        self._main = main
        self._backend: Backend = backend or default_backend()
        self._settled = threading.Event()
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread, and wait until the function is ready.

        Raises:
            BaseException: What the function raised instead of getting ready.
        """
        start_thread(self._thread)
        wait(self._settled)
        if self._error is not None:
            self.join()

    def is_alive(self) -> bool:
        """Whether the function has not ended."""
        return not self._ended.is_set()

    def wait(self, timeout: float) -> bool:
        """Wait until the function has ended, or the time is over; returns whether it has."""
        return self._ended.wait(timeout)

    def join(self) -> None:
        """Wait until the function has ended.

        Raises:
            BaseException: What it raised.
        """
        # Not by joining the thread: interrupted by Ctrl-C in that, it would count as ended.
        wait(self._ended)
        self._thread.join()
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # An exception that refers to its frames would be a cycle.

    def _run(self) -> None:
        try:
            anyio.run(self._main, self._settled.set, backend=self._backend)
        except BaseException as error:  # Whatever it is belongs to the thread that joins.
            self._error = error
        finally:
            self._ended.set()
            self._settled.set()
