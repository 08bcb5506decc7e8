"""Keeping an attempt within its time limit on a worker."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, cast, final

from anabranch.futures.runner import limit_by_thread

if TYPE_CHECKING:
    from anabranch.futures import State

T = TypeVar("T")


class _Executor(Protocol):
    _threads: set[threading.Thread]

    def _adjust_thread_count(self) -> None: ...


class _PoolState(Protocol):
    """What a thread of a worker's pool knows of itself."""

    executor: _Executor
    proceed: bool


class _Pool(Protocol):
    thread_state: _PoolState
    threads_lock: threading.Lock


def limit_on_worker(function: Callable[[], State[T]], seconds: float) -> State[T] | None:
    """Call a function in a thread of its own, and give it up when the time is over.

    To Dask that thread is the one of the worker's pool that waits for it here, and has its place:
    `worker_client` and `secede` work as they do without a time limit.

    Args:
        function: What to call. It raises nothing.
        seconds: How long it may take.

    Returns:
        What the function returned; None if the time was over first.
    """
    place = _Place()

    def work() -> State[T]:
        place.take()
        try:
            return function()
        finally:
            place.leave()

    try:
        return limit_by_thread(work, seconds)
    finally:
        place.give_back()


@final
class _Place:
    """The place of this thread in its pool, which another thread takes for a while."""

    def __init__(self) -> None:
        self._pool: Final = cast("_Pool", importlib.import_module("distributed.threadpoolexecutor"))
        self._owner: Final = threading.current_thread()
        self._task: Final = dict(_task_state())
        self._executor: Final = getattr(self._pool.thread_state, "executor", None)
        self._holder: threading.Thread | None = None
        self._is_over = False

    def take(self) -> None:
        """Put the calling thread into the place of the other."""
        _task_state().update(self._task)
        executor = self._executor
        if executor is None:
            return
        self._pool.thread_state.executor = executor
        self._pool.thread_state.proceed = True
        with self._pool.threads_lock:
            if not self._is_over and self._owner in executor._threads:
                self._holder = threading.current_thread()
                self._swap(executor, self._owner, self._holder)

    def give_back(self) -> None:
        """Put the calling thread, whose place it was, back into it, if it is there."""
        executor = self._executor
        if executor is None:
            return
        with self._pool.threads_lock:
            self._is_over = True
            if self._holder is None:
                return
            if self._holder in executor._threads:
                self._swap(executor, self._holder, self._owner)
            else:  # It has left the pool, and another thread has come.
                self._pool.thread_state.proceed = False

    def leave(self) -> None:
        """Take note that the calling thread ends: nobody else would, once it has been given up."""
        executor = self._executor
        if executor is None:
            return
        with self._pool.threads_lock:
            thread = threading.current_thread()
            if self._is_over and thread in executor._threads:  # It came back to the pool.
                executor._threads.remove(thread)
                executor._adjust_thread_count()

    @staticmethod
    def _swap(executor: _Executor, old: threading.Thread, new: threading.Thread) -> None:
        executor._threads.remove(old)
        executor._threads.add(new)


def _task_state() -> dict[str, object]:
    """Return what Dask keeps of the task that the calling thread executes, for changing."""
    worker = importlib.import_module("distributed.worker")
    return cast("dict[str, object]", worker.thread_state.__dict__)
