"""Places under limits: who has them, who waits for them, and who lends them while it waits."""

from __future__ import annotations

import enum
import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterable
from contextvars import Context, copy_context
from typing import Final, final

from anabranch.futures import Completed, Future, TaskRun

# Guards everything below. Nobody else's code is called while it is held.
_lock: Final = threading.Lock()

# Tells requests of the same rank apart: the first come are the first served.
_numbers: Final = itertools.count()

# Where more runs than this have places, nobody asks which event loops they need: one will end.
_FEW: Final = 16


class Rank(enum.IntEnum):
    """Who is served before whom."""

    BACK = 0
    """A run that has waited for another one and wants to go on."""
    NESTED = 1
    """A run that a run has submitted or called. If new ones went before it, parents would pile
    up, each waiting for its child."""
    NEW = 2
    """Any other."""


@final
class Limit:
    """How many runs with a tag may be at work at a time, in one flow run or in the process.

    Attributes:
        tag: The tag.
        capacity: How many; None for as many as there are.
        holders: The places of those that are at work.
        groups: Those who wait for a place here.
        awaited: Those of them for which a thread or an async task waits.
    """

    __slots__ = ("__weakref__", "awaited", "capacity", "groups", "holders", "tag")

    def __init__(self, tag: str, capacity: int | None) -> None:
        self.tag: Final = tag
        self.capacity = capacity
        self.holders: Final[set[Places]] = set()
        self.groups: Final[set[_Group]] = set()
        self.awaited: Final[set[PlaceRequest]] = set()

    def has_room(self) -> bool:
        """Whether one more may be at work."""
        return self.capacity is None or len(self.holders) < self.capacity

    def set_capacity(self, capacity: int | None) -> list[PlaceRequest]:
        """Change how many may be at work; those that are, go on.

        Returns:
            Those that have been given places, and are to be told.
        """
        with _lock:
            self.capacity = capacity
            return _serve((self,))


@final
class _Group:
    """Requests for places under the same limits: if the first has to wait, so have the others.

    What is looked at when a run ends are the groups, and never all who wait.
    """

    __slots__ = ("limits", "queues")

    def __init__(self, limits: frozenset[Limit]) -> None:
        self.limits: Final = limits
        self.queues: Final = tuple(OrderedDict[PlaceRequest, None]() for _ in Rank)

    def first(self) -> PlaceRequest | None:
        return next((next(iter(queue)) for queue in self.queues if queue), None)

    def has_room(self) -> bool:
        return all(limit.has_room() for limit in self.limits)


_groups: Final[dict[frozenset[Limit], _Group]] = {}


@final
class PlaceRequest(Future[None]):
    """Completes when a run has been given its places.

    Attributes:
        places: What is asked for.
        rank: Who is served before it.
        number: Who of the same rank is served before it.
        contexts: The context variables of those who have begun to wait for this.
    """

    __slots__ = ("contexts", "number", "places", "rank")

    def __init__(self, places: Places) -> None:
        super().__init__(TaskRun("", f"a place for {places.run.name}", "tag limits"))
        self.places: Final = places
        self.rank = Rank.NEW
        self.number = 0
        self.contexts: list[Context] = []

    def needed_loops(self) -> frozenset[int]:
        """Return the threads of the event loops without which no place can become free."""
        with _lock:
            full = [list(limit.holders) for limit in self.places.limits if not limit.has_room()]
        needed = frozenset[int]()
        for holders in full:
            if 0 < len(holders) <= _FEW:
                needed |= frozenset.intersection(*(each.needed_loops() for each in holders))
        return needed

    def awaited(self) -> None:
        """Tell those that have the places, now and from now on, that they are waited for."""
        with _lock:
            if not self.places.are_wanted_by(self):
                return
            self.contexts.append(copy_context())
            holders: list[Places] = []
            for limit in self.places.limits:
                limit.awaited.add(self)
                if not limit.has_room():
                    holders.extend(limit.holders)
        for places in holders:
            places.tell_awaited()


class _Status(enum.Enum):
    NONE = enum.auto()
    WANTED = enum.auto()
    HELD = enum.auto()
    OVER = enum.auto()


@final
class Places:
    """The places of one run: one under each limit that applies to it, or none at all.

    They are what the run lends: while a part of it waits for another run, others may have them.

    Args:
        run: The run.
        limits: The limits that apply to it.
        loops: The threads of the event loops that it needs, if it is called directly.
    """

    __slots__ = ("_future", "_loops", "_request", "_status", "_waits", "limits", "run")

    def __init__(
        self, run: TaskRun, limits: frozenset[Limit], loops: frozenset[int] = frozenset()
    ) -> None:
        self.run: Final = run
        self.limits: Final = limits
        self._loops: Final = loops
        self._future: Future[object] | None = None
        self._status = _Status.NONE
        self._request: PlaceRequest | None = None
        self._waits = 0

    # ------------------------------------------------------------------ for the run

    def ask(self, request: PlaceRequest, rank: Rank) -> bool:
        """Take the places; returns whether they could be had at once."""
        with _lock:
            # The run may have been cancelled; then nobody waits for them.
            return self._status is not _Status.OVER and self._ask(request, rank)

    def belongs_to(self, run: Future[object]) -> None:
        """Take note of the future of the run, which has been submitted."""
        with _lock:
            self._future = run
        _tell_holders((self,))

    def follow(self, future: Future[object]) -> None:
        """Let go of the places when the run has ended."""
        self.belongs_to(future)
        future.add_done_callback(self.close)

    def close(self, _: object = None) -> None:
        """Let go of the places, or of the wish for them: the run has ended."""
        with _lock:
            served = self._let_go(_Status.OVER)
            self._future = None
        tell(served)

    def lend(self) -> None:
        """Let others have the places: a part of the run has begun to wait."""
        with _lock:
            self._waits += 1
            served = [] if self._status is _Status.OVER else self._let_go(_Status.NONE)
        tell(served)

    def take_back(self) -> Future[object] | None:
        """Ask for the places again, unless another part of the run still waits.

        If every part that does not wait had to have them, one might keep from others what another
        part waits for.
        """
        with _lock:
            self._waits -= 1
            if self._waits or self._status is not _Status.NONE:
                return None
            request = PlaceRequest(self)
            return None if self._ask(request, Rank.BACK) else request

    # ------------------------------------------------------------------ for others

    def needed_loops(self) -> frozenset[int]:
        """Return the threads of the event loops that the run needs in order to end."""
        future = self._future
        return self._loops if future is None else future.needed_loops()

    def tell_awaited(self) -> None:
        """Tell the run, if it was submitted, that it is waited for."""
        future = self._future
        if future is not None:
            future.awaited()

    # ------------------------------------------------------------------ under the lock

    def are_wanted_by(self, request: PlaceRequest) -> bool:
        """Whether a request has not been granted or withdrawn."""
        return self._request is request

    def grant(self) -> None:
        """Take the places that have been asked for."""
        self._withdraw()
        self._take()

    def _ask(self, request: PlaceRequest, rank: Rank) -> bool:
        if all(limit.has_room() for limit in self.limits):
            self._take()
            return True
        self._status = _Status.WANTED
        self._request = request
        request.rank = rank
        request.number = next(_numbers)
        group = _groups.get(self.limits)
        if group is None:
            group = _groups[self.limits] = _Group(self.limits)
            for limit in self.limits:
                limit.groups.add(group)
        group.queues[rank][request] = None
        return False

    def _take(self) -> None:
        self._status = _Status.HELD
        for limit in self.limits:
            limit.holders.add(self)

    def _withdraw(self) -> PlaceRequest:
        request, self._request = self._request, None
        assert request is not None, "the places have been asked for"
        group = _groups[self.limits]
        del group.queues[request.rank][request]
        if group.first() is None:
            del _groups[self.limits]
            for limit in self.limits:
                limit.groups.remove(group)
        if request.contexts:
            for limit in self.limits:
                limit.awaited.remove(request)
        return request

    def _let_go(self, status: _Status) -> list[PlaceRequest]:
        before, self._status = self._status, status
        if before is _Status.HELD:
            for limit in self.limits:
                limit.holders.remove(self)
            return _serve(self.limits)
        if before is _Status.WANTED:
            request = self._withdraw()
            if request.rank is Rank.BACK:
                return [request]  # Whatever waits for it goes on without.
        return []


def _serve(limits: Iterable[Limit]) -> list[PlaceRequest]:
    """Give places to those who wait for one under these limits, as far as there are any."""
    served: list[PlaceRequest] = []
    while True:
        groups = {group for limit in limits for group in limit.groups if group.has_room()}
        firsts = [first for group in groups if (first := group.first()) is not None]
        if not firsts:
            return served
        request = min(firsts, key=lambda each: (each.rank, each.number))
        request.places.grant()
        served.append(request)


def tell(served: list[PlaceRequest]) -> None:
    """Wake those who have been given their places."""
    for request in served:
        request.set_final(Completed(None))
    if served:
        _tell_holders([request.places for request in served])


def _tell_holders(holders: Iterable[Places]) -> None:
    """Tell those that have just got places if somebody waits for them."""
    with _lock:
        told = [
            (places, context.copy())
            for places in holders
            for limit in places.limits
            for request in limit.awaited
            for context in request.contexts
        ]
    for places, context in told:
        context.run(places.tell_awaited)
