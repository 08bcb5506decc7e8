"""What a connection leaves on a scheduler while it is open, and how that is taken away."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol, cast, final

from anabranch.futures.runner import describe
from anabranch.runners.dask._native import import_sync

if TYPE_CHECKING:
    from anabranch.runners.dask._native import Client

_logger = logging.getLogger("anabranch.task_runner.dask")

#: The last event of a topic.
_END: Final = ["end"]

#: How long a scheduler may take to forget a topic, in seconds.
_PROMPT: Final = 5.0

#: How long after that it forgets it once more, each time, in seconds.
_LATER: Final = (1.0, 10.0, 100.0)

_numbers = itertools.count(1)

EventListener = Callable[[tuple[float, object]], None]


@final
class Topic:
    """The events that workers send to one connection, and the name under which they do.

    A client may be used by several connections at once, and be there for longer than they are.

    Args:
        client: The client.
        listener: Told of each event, in the client's loop.
    """

    def __init__(self, client: Client, listener: EventListener) -> None:
        self.name: Final = f"anabranch-{client.id}-{next(_numbers)}"
        self._client: Final = client
        self._listener: EventListener | None = listener
        client.subscribe_topic(self.name, self._hear)

    def _hear(self, event: tuple[float, object]) -> None:
        if event[1] in (_END, tuple(_END)):
            # Not earlier: an event that it has no function for ends a client's connection.
            _handlers(self._client).pop(self.name, None)
        elif self._listener is not None:
            self._listener(event)

    def end(self) -> None:
        """Have no more events sent, and the scheduler forget those that were; blocks."""
        self._listener = None
        with suppress(RuntimeError):  # A client that is closed has no loop any more.
            if self._client.status == "running":
                import_sync()(self._client.loop, self.end_async)

    def keep_few(self) -> None:
        """Have the scheduler not keep events for those who come later: nobody does; blocks."""

        async def keep() -> None:
            await self._client.run_on_scheduler(_keep_few, self.name)

        with suppress(Exception):  # It may have been told to refuse foreign code.
            import_sync()(self._client.loop, keep)

    async def end_async(self) -> None:
        """`end`, in the client's loop."""
        self._listener = None
        if self._client.status != "running":
            return
        forget = self._client.run_on_scheduler(_forget, self.name, self._client.id)
        try:
            await asyncio.wait_for(forget, _PROMPT)
        except Exception as error:  # It may have been told to refuse foreign code.
            _logger.debug("The Dask scheduler keeps old events: %s", describe(error))
            with suppress(Exception):  # It may be closed by now.
                self._client.unsubscribe_topic(self.name)


def _handlers(client: Client) -> MutableMapping[str, object]:
    """Return the functions of a client for events, of which it drops none by itself."""
    return cast("MutableMapping[str, object]", getattr(client, "_event_handlers", {}))


class _KnownTopic(Protocol):
    events: deque[object]


class _Broker(Protocol):
    _topics: MutableMapping[str, _KnownTopic]


class _Loop(Protocol):
    def call_later(self, delay: float, callback: Callable[[], object]) -> object: ...


class TopicsScheduler(Protocol):
    """What is used of a scheduler here."""

    task_metadata: MutableMapping[str, object]
    loop: _Loop
    _broker: _Broker

    def log_event(self, topic: str, msg: object) -> None: ...

    def unsubscribe_topic(self, topic: str, client: str) -> None: ...


def _keep_few(topic: str, dask_scheduler: TopicsScheduler) -> None:
    keep_few_events(dask_scheduler, topic)


def keep_few_events(scheduler: TopicsScheduler, topic: str) -> None:
    """Have a scheduler, whose process this is, keep no more than the last event of a topic."""
    with suppress(AttributeError):  # There is no other way to say so.
        scheduler._broker._topics[topic].events = deque(maxlen=1)


def _forget(topic: str, client: str, dask_scheduler: TopicsScheduler) -> None:
    dask_scheduler.task_metadata.pop(topic, None)
    dask_scheduler.log_event(topic, _END)
    dask_scheduler.unsubscribe_topic(topic, client)

    def drop() -> None:
        dask_scheduler._broker._topics.pop(topic, None)

    drop()
    # Runs that could not be stopped go on for a while: what one says makes the topic anew.
    for seconds in _LATER:
        dask_scheduler.loop.call_later(seconds, drop)
