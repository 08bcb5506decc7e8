"""Limits on how many runs with a tag execute at a time.

All gates are in the process that submits: a run is handed to its runner right away, but with one
more thing to wait for, its places. So limits work alike on every runner.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final, TypeVar
from weakref import WeakValueDictionary

import attrs

from anabranch.flows._places import Limit, PlaceRequest, Places, Rank, tell
from anabranch.futures import Completed, Future, TaskRun, TaskRunner, WorkItem, WouldDeadlockError
from anabranch.futures.runner import (
    current_lease,
    current_scope,
    in_task,
    lent,
    lent_async,
    when_ready,
)

R = TypeVar("R")
T = TypeVar("T")

# For changes of what follows.
_lock: Final = threading.Lock()

_of_process: Final[dict[str, Limit]] = {}

# Limits that were removed while runs held places, who are to count if there is a new one.
_removed: Final[WeakValueDictionary[str, Limit]] = WeakValueDictionary()

_of_flows: Final[ContextVar[Mapping[str, tuple[Limit, ...]]]] = ContextVar(
    "_of_flows", default=MappingProxyType({})
)


def set_tag_limit(tag: str, limit: int | None) -> None:
    """Limit how many task runs with a tag execute at a time, in all flows of this process.

    At most so many are at work, submitted or called, on whichever runners: each has a place, and
    gives it back when it has ended. Those that were submitted and wait for a place are Pending and
    hold no thread. They are served in their order; what a run has submitted or called itself goes
    before that. A run with several tags takes its places under all limits together.

    A run that waits for another run gives its places back for as long, and takes them again before
    it goes on, ahead of those that have not started. So a run may wait for one with the same tag.
    An async run is one that waits as long as any part of it does. Between two attempts a submitted
    run keeps its places. A thread that was given up, having used up its time, has none.

    The limit holds for what is submitted or called from now on. A change of it holds for those that
    wait already as well. For the runs of one flow run there is ``@flow(tag_limits=...)``.

    Args:
        tag: The tag.
        limit: How many runs; None for no limit.

    Raises:
        TypeError: The tag is no string, or the limit no whole number.
        ValueError: The limit is less than 1.
    """
    call = f"set_tag_limit({tag!r}, {limit!r})"
    _check_tag(call, tag)
    if limit is not None:
        _check_limit(call, limit, "; None takes the limit away")
    with _lock:
        found = _of_process.get(tag) or _removed.get(tag)
        if limit is not None:
            found = _of_process[tag] = found or Limit(tag, limit)
        elif found is not None:
            _removed[tag] = found
            _of_process.pop(tag, None)
        served = [] if found is None else found.set_capacity(limit)
    tell(served)


def checked_tag_limits(where: str, limits: object) -> dict[str, int]:
    """Return the limits of a flow.

    Args:
        where: What errors say that the limits were given to.
        limits: The tags and their limits.

    Raises:
        TypeError: They are no mapping of strings to whole numbers.
        ValueError: A limit is less than 1.
    """
    if not isinstance(limits, Mapping):
        raise TypeError(
            f"{where} got tag_limits={limits!r}; give tags and numbers, as in "
            "tag_limits={'database': 2}"
        )
    for tag, limit in limits.items():
        _check_tag(f"{where} got tag_limits={limits!r}", tag)
        _check_limit(f"{where} got tag_limits={limits!r}", limit, "")
    return dict(limits)


def _check_tag(where: str, tag: object) -> None:
    if not isinstance(tag, str):
        raise TypeError(f"{where}: tags are strings, such as {str(tag)!r}")


def _check_limit(where: str, limit: object, besides: str) -> None:
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise TypeError(f"{where}: the limit is a whole number, such as 2{besides}")
    if limit < 1:
        raise ValueError(f"{where}: the limit is at least 1, or no run would ever start{besides}")


@contextmanager
def tag_limits_of_flow(limits: Mapping[str, int]) -> Generator[None]:
    """Surround the body of a flow run with limits of its own, beside those of flows around it."""
    if not limits:
        yield
        return
    outer = _of_flows.get()
    own = {tag: (*outer.get(tag, ()), Limit(tag, limit)) for tag, limit in limits.items()}
    token = _of_flows.set({**outer, **own})
    try:
        yield
    finally:
        _of_flows.reset(token)


def _limits_for(tags: frozenset[str]) -> frozenset[Limit]:
    of_flows = _of_flows.get()
    if not (of_flows or _of_process):
        return frozenset()
    found: list[Limit] = []
    for tag in tags:
        found.extend(of_flows.get(tag, ()))
        if (limit := _of_process.get(tag)) is not None:
            found.append(limit)
    return frozenset(found)


def _own_rank() -> Rank:
    scope = current_scope.get()
    is_nested = scope is not None and scope.task_run is not None
    return Rank.NESTED if is_nested else Rank.NEW


# ---------------------------------------------------------------------------- runs


def submit_within_limits(item: WorkItem[R], runner: TaskRunner) -> Future[R]:
    """Submit a run that starts when it has its places, and gives them back when it has ended.

    Args:
        item: What to run.
        runner: Where to submit it.
    """
    lease = current_lease.get()
    if lease is None and not item.task_run.tags:  # As with most.
        return runner.dispatch(item)
    # The run that is calling waits for one that is executed here and now. But in an event loop only
    # what can have its places at once runs in place: to wait for one's own afterwards would block
    # the loop, which those that have got them may need.
    if lease is not None and not in_task() and runner.runs_in_place(item):
        with lent(lease):
            return _submit(item, runner)
    return _submit(item, runner)


def _submit(item: WorkItem[R], runner: TaskRunner) -> Future[R]:
    run = item.task_run
    limits = _limits_for(run.tags) if run.tags else None
    if not limits:
        return runner.dispatch(item)
    places = Places(run, limits)
    assert item.variables is not None, "items are made with the context variables"
    item.variables.run(current_lease.set, places)
    request = PlaceRequest(places)
    rank = _own_rank()

    def ask() -> None:
        if places.ask(request, rank):
            request.set_final(Completed(None))

    # Only when all else is there: a run must not hold the place that its upstream waits for.
    when_ready(item, ask, _ignore)
    if not request.done():
        item = attrs.evolve(item, tolerated=(*item.tolerated, request))
    try:
        future = runner.dispatch(item)
    except BaseException:  # There is no run.
        places.close()
        raise
    places.follow(future)
    return future


def _ignore(_: object) -> None:
    return None


def call_within_limits(run: TaskRun, execute: Callable[[], T]) -> T:
    """Execute a run in the calling thread, once it has its places.

    Raises:
        WouldDeadlockError: They are held by runs that need this thread's event loop.
    """
    limits = _limits_for(run.tags) if run.tags else None
    if not limits:
        return execute()
    places = Places(run, limits)
    lease = current_lease.get()
    if lease is None:
        return _call(places, execute)
    if isinstance(lease, Places) and limits <= lease.limits and in_task():
        # The caller's loop stands still meanwhile, and those that it lent its places to might need
        # it. So it lends them to this one alone.
        return execute()
    # Even if they need places under other limits: two runs that keep theirs might each wait for
    # what the other keeps.
    with lent(lease):
        return _call(places, execute)


def _call(places: Places, execute: Callable[[], T]) -> T:
    request = PlaceRequest(places)
    try:
        if not places.ask(request, _own_rank()):
            if threading.get_ident() in request.needed_loops():
                raise _would_deadlock(places)
            request.join()
        token = current_lease.set(places)
        try:
            return execute()
        finally:
            current_lease.reset(token)
    finally:
        places.close()


def _would_deadlock(places: Places) -> WouldDeadlockError:
    tags = ", ".join(sorted({repr(limit.tag) for limit in places.limits}))
    return WouldDeadlockError(
        f"Run {places.run.name!r} would wait here for ever for a place under the limit of {tags}: "
        "this thread's event loop has to run those that have the "
        "places. Submit it and `await` its future, or make it an async task"
    )


async def call_within_limits_async(run: TaskRun, execute: Callable[[], Awaitable[T]]) -> T:
    """Execute a run in the calling async task, once it has its places."""
    limits = _limits_for(run.tags) if run.tags else None
    if not limits:
        return await execute()
    places = Places(run, limits, frozenset({threading.get_ident()}))
    lease = current_lease.get()
    if lease is None:
        return await _call_async(places, execute)
    async with lent_async(lease):
        return await _call_async(places, execute)


async def _call_async(places: Places, execute: Callable[[], Awaitable[T]]) -> T:
    request = PlaceRequest(places)
    try:
        if not places.ask(request, _own_rank()):
            await request.join_async()
        token = current_lease.set(places)
        try:
            return await execute()
        finally:
            current_lease.reset(token)
    finally:
        places.close()
