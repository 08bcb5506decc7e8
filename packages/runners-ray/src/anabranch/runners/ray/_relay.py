"""Word between workers and the process of the flow, by way of an actor in Ray.

Ray brings calls to workers and values back, and nothing besides. So each connection of a flow's
process has a `Relay`: workers leave letters there, which the process takes, and wait there for
signals. It is reached wherever Ray is, by the Ray client too.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import threading
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import ClassVar, Final, Protocol, cast, final

import ray

from anabranch.futures.runner import SYSTEM_CLOCK, AnyFunction, CancelTimer, SerialThread
from anabranch.runners.ray._native import Ref, on_completed

_logger = logging.getLogger("anabranch.task_runner.ray")

NAMESPACE: Final = "anabranch"

#: How many signals are remembered that nobody waits for yet.
_MEMORY: Final = 10_000

#: How many calls may wait in an actor at a time; as many as there are runs that wait or may stop.
_CALLS: Final = 100_000

#: How long an actor is kept that nobody uses, in seconds.
_KEPT_FOR: Final = 30.0

#: How long after the actor was lost it is called again, in seconds. Ray makes it anew.
_PAUSE: Final = 0.2


class Relay:
    """The actor: keeps letters until they are taken, and has those wait who wait for signals."""

    def __init__(self) -> None:
        self._letters: deque[bytes] = deque()
        self._have_come = asyncio.Event()
        self._reader = ""
        self._signals: OrderedDict[str, asyncio.Event] = OrderedDict()
        self._awaited: set[str] = set()

    async def post(self, letters: bytes) -> None:
        """Keep some letters, together; they are safe when this returns."""
        self._letters.append(letters)
        self._have_come.set()

    async def take(self, reader: str) -> list[bytes]:
        """Return all letters that have come since, in their order, when there are any.

        Args:
            reader: Who takes them; none are left for those before.
        """
        if reader != self._reader:
            self._reader = reader
            self._have_come.set()
        while reader == self._reader and not self._letters:
            self._have_come.clear()
            await self._have_come.wait()
        if reader != self._reader:
            return []
        taken = list(self._letters)
        self._letters.clear()
        return taken

    async def wait_for(self, signal: str) -> None:
        """Return when a signal is given, or has been."""
        came = self._signals.setdefault(signal, asyncio.Event())
        self._awaited.add(signal)
        await came.wait()
        self._awaited.discard(signal)
        self._signals.pop(signal, None)

    async def give(self, signal: str) -> None:
        """Give a signal; each is given once."""
        self._signals.setdefault(signal, asyncio.Event()).set()
        while len(self._signals) - len(self._awaited) > _MEMORY:
            oldest = next(each for each in self._signals if each not in self._awaited)
            del self._signals[oldest]


class _Method(Protocol):
    def remote(self, *args: object) -> Ref: ...


class RelayHandle(Protocol):
    """The actor, as other processes call it."""

    post: _Method
    take: _Method
    wait_for: _Method
    give: _Method


class _Remote(Protocol):
    def __call__(self, **options: object) -> Callable[[type[Relay]], _ActorClass]: ...


class _ActorClass(Protocol):
    def remote(self) -> RelayHandle: ...

    def options(self, **options: object) -> _ActorClass: ...


def start_relay() -> tuple[str, RelayHandle]:
    """Have Ray start an actor for this process, and return its name and the actor.

    It ends with this process, or by `end_relay`.
    """
    name = f"anabranch-{uuid.uuid4().hex[:16]}"
    remote = cast("_Remote", ray.remote)
    actor = remote(num_cpus=0, max_restarts=-1, max_concurrency=_CALLS)(Relay)
    return name, actor.options(name=name, namespace=NAMESPACE).remote()


@final
class KeptRelay:
    """The relay of a connection that the user has made, for the next flow that uses it.

    Each costs a worker process. It ends a while after the last flow, and with the connection.
    """

    _lock: ClassVar = threading.Lock()
    _kept: ClassVar[tuple[object, str, RelayHandle] | None] = None
    _call_off: ClassVar[CancelTimer | None] = None

    @classmethod
    def take(cls, session: object) -> tuple[str, RelayHandle] | None:
        """Return the name and the actor of what was kept of a session, if anything was."""
        with cls._lock:
            kept, cls._kept = cls._kept, None
            if cls._call_off is not None:
                cls._call_off()
        return kept[1:] if kept is not None and kept[0] == session else None

    @classmethod
    def keep(
        cls, session: object, name: str, relay: RelayHandle, is_open: Callable[[], bool]
    ) -> None:
        """Keep a relay for a while.

        Args:
            session: What it belongs to.
            name: Its name.
            relay: The actor.
            is_open: Whether Ray can still be asked.
        """

        def end() -> None:
            with cls._lock:
                kept = cls._kept
                if kept is None or kept[1] != name:
                    return
                cls._kept = None
            if is_open():
                end_relay(relay)

        with cls._lock:
            cls._kept = session, name, relay
            cls._call_off = SYSTEM_CLOCK.call_later(_KEPT_FOR, end)


def end_relay(relay: RelayHandle) -> None:
    """Have Ray end an actor that this process has started."""
    with suppress(Exception):  # It is gone already, or Ray is.
        cast("AnyFunction[object]", ray.kill)(relay, no_restart=True)


@lru_cache(maxsize=8)
def find_relay(name: str) -> RelayHandle:
    """Return the actor of a process, in another one; blocks.

    Raises:
        ValueError: There is none.
    """
    return cast("AnyFunction[RelayHandle]", ray.get_actor)(name, NAMESPACE)


def is_gone(name: str) -> bool:
    """Whether the actor of a process is gone for good, and that process with it; blocks."""
    try:
        cast("AnyFunction[RelayHandle]", ray.get_actor)(name, NAMESPACE)
    except ValueError:
        return True
    except Exception:  # Nobody can tell just now.
        return False
    return False


@final
class Inbox:
    """Takes the letters from a relay, as long as it is open.

    Args:
        thread: In which letters are read.
        read: Reads what has been posted together.
    """

    _relay: RelayHandle

    def __init__(self, thread: SerialThread, read: Callable[[bytes], object]) -> None:
        self._thread: Final = thread
        self._read: Final = read
        self._is_open = True
        self._name: Final = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._fences: Final[dict[str, Callable[[], object]]] = {}

    def open(self, relay: RelayHandle) -> None:
        """Begin to take letters from a relay."""
        self._relay = relay
        self._thread.call_soon(self._take)

    def close(self) -> None:
        """Take no more."""
        self._is_open = False
        self._open_fences()

    def after_all(self, call: Callable[[], object]) -> None:
        """Have something called, in the thread, when all has been read that has been posted."""
        fence = uuid.uuid4().hex
        with self._lock:
            self._fences[fence] = call
        if not self._is_open:
            self._open_fences()
            return
        posted = self._relay.post.remote(pickle.dumps(fence))
        on_completed(posted, self._note_posted)

    def _note_posted(self, outcome: object) -> None:
        if isinstance(outcome, BaseException):  # Whatever the relay had is lost with it.
            self._open_fences()

    def _open_fences(self) -> None:
        with self._lock:
            calls = list(self._fences.values())
            self._fences.clear()
        for call in calls:
            self._thread.call_soon(call)

    def _take(self) -> None:
        if self._is_open:
            on_completed(self._relay.take.remote(self._name), self._note_taken)

    def _note_taken(self, taken: object) -> None:
        # In a thread of Ray's, where nothing may block.
        if not isinstance(taken, BaseException):
            self._thread.call_soon(partial(self._open, cast("Sequence[bytes]", taken)))
            self._thread.call_soon(self._take)
        elif self._is_open:
            self._open_fences()
            SYSTEM_CLOCK.call_later(_PAUSE, lambda: self._thread.call_soon(self._take))

    def _open(self, taken: Sequence[bytes]) -> None:
        for posted in taken:
            found: object = pickle.loads(posted)
            if isinstance(found, str):
                with self._lock:
                    call = self._fences.pop(found, None)
                if call is not None:
                    call()
            else:
                self._read(posted)
