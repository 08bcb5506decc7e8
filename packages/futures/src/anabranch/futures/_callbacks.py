"""Calling those who want to know that a run has ended."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from anabranch.futures._future import Future

_logger = logging.getLogger("anabranch.futures")

#: Is called with a run's future when the run has ended.
Callback: TypeAlias = "Callable[[Future[Any]], object]"  # type: ignore[explicit-any]  # Of any value.


class Keeper(Protocol):
    """Holds runs until they have ended."""

    def release(self, run: Future[object]) -> None:
        """Let go of a run that has ended, and know that if called again.

        It is called before whoever waits for the run goes on, and should be quick.
        """


def release_from(keepers: tuple[Keeper, ...], run: Future[object]) -> None:
    """Tell those who hold a run that it has ended."""
    try:
        for keeper in keepers:
            keeper.release(run)
    except Exception:  # What they tell in turn is never in the way of a run.
        _logger.exception("Taking note of the end of run %r failed", run.task_run.name)


class _Thread(threading.local):
    """What each thread has yet to call."""

    draining: deque[tuple[Callback, Future[object]]] | None = None


_thread = _Thread()


def call(callback: Callback, future: Future[object]) -> None:
    try:
        callback(future)
    except Exception:  # A subscriber is never in the way of a run.
        _logger.exception("A callback of run %r failed", future.task_run.name)


def call_all(future: Future[object], callbacks: list[Callback]) -> None:
    """Call callbacks, and those of the runs that they end, one after the other.

    Were they nested, a long chain of runs that fail one by another would overflow the stack.
    """
    pending = _thread.draining
    if pending is not None:
        pending.extend([(callback, future) for callback in callbacks])
        return
    _thread.draining = pending = deque([(callback, future) for callback in callbacks])
    try:
        while pending:
            call(*pending.popleft())
    finally:
        _thread.draining = None
        if pending:  # Ctrl-C in a callback. Those behind it wake others, who would wait for ever.
            _drain_rest(pending)


def _drain_rest(pending: deque[tuple[Callback, Future[object]]]) -> None:
    by_future: dict[Future[object], list[Callback]] = {}
    for callback, future in pending:
        by_future.setdefault(future, []).append(callback)
    for future, callbacks in by_future.items():
        call_all(future, callbacks)
