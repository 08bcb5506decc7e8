"""Runs that wait for other runs: scheduled by completion callbacks, never by a waiting thread."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import TypeVar

from anabranch.futures._future import Future
from anabranch.futures._states import Completed, UpstreamFailed, root_cause
from anabranch.futures._work import WorkItem

R = TypeVar("R")


def upstream_failure(item: WorkItem[R]) -> UpstreamFailed | None:
    """Return the state that an item ends in because an upstream did not complete, if one did not.

    Upstreams that have not ended are passed over.
    """
    for future in item.upstreams:
        if future.done() and (failure := failure_behind(future)) is not None:
            return failure
    return None


def failure_behind(upstream: Future[object]) -> UpstreamFailed | None:
    """Return the state that a run ends in which depends on one that has ended, if not well.

    It tells of the run that failed first, however long the chain to it.
    """
    state = upstream.final_state()
    if isinstance(state, Completed):
        return None
    message = f"Run {upstream.task_run.name!r} upstream ended in state {state}"
    if isinstance(state, UpstreamFailed):
        message = state.message or message
    return UpstreamFailed(cause=root_cause(state), message=message)


def when_ready(
    item: WorkItem[R],
    execute: Callable[[], object],
    fail: Callable[[UpstreamFailed], object],
    waiting_for: Iterable[Future[object]] | None = None,
) -> None:
    """Go on with an item when the runs that it depends on have ended.

    Args:
        item: What depends on them.
        execute: Called once, when all of them have ended and all upstreams among them completed;
            at once, or in the thread in which the last of them ends.
        fail: Called instead as soon as an upstream has not completed; may be called again.
        waiting_for: Which runs to wait for; all that the item depends on if None.
    """
    if waiting_for is None:
        waiting_for = (*item.upstreams, *item.tolerated)
    missing = [each for each in waiting_for if not each.done()]
    if (failure := upstream_failure(item)) is not None:
        fail(failure)
        return
    if not missing:
        execute()
        return
    upstreams = frozenset(item.upstreams)
    number = itertools.count(1).__next__  # One of many threads gets each.
    last = len(missing)

    def ended(future: Future[object]) -> None:
        is_last = number() == last
        if future in upstreams and (failure := failure_behind(future)) is not None:
            fail(failure)
        elif is_last:
            # Another may have failed just now, and not have come to say so.
            failure = upstream_failure(item)
            execute() if failure is None else fail(failure)

    for future in missing:
        future.add_done_callback(ended)
