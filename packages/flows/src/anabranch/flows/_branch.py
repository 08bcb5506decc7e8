"""Branches: scopes inside a flow or a task whose runs come back together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self, cast, final

import anyio

from anabranch.flows._flow_run import owner_of
from anabranch.flows._logging import log_flow_run
from anabranch.futures import (
    Cancellation,
    Cancelled,
    Completed,
    Future,
    NotSubmittableError,
    RunCancelledError,
    RunTimedOutError,
    State,
    UpstreamFailedError,
    WouldDeadlockError,
)
from anabranch.futures.runner import (
    EventLoop,
    RunScope,
    check_time_limit,
    current_clock,
    current_scope,
    running_loop,
)


@final
class _BranchScope(RunScope):
    """A scope that tells its branch of its own children's failures, and not of theirs."""

    __slots__ = ("_child_failed",)

    def __init__(self, parent: RunScope, child_failed: Callable[[Future[object]], object]) -> None:
        super().__init__(parent.context, parent.runner, parent.owner, is_async=parent.is_async)
        self.call = parent.call
        self._child_failed = child_failed

    def child_ended(self, child: Future[object]) -> None:
        super().child_ended(child)
        if not isinstance(child.final_state(), Completed | Cancelled):
            self._child_failed(child)

    def stop(self, message: str) -> None:
        """Cancel all that is under way in it, and do without those that cannot be stopped."""
        self._is_cancelled = True
        for scope in reversed(list(self._nested)):
            scope.cancel()
        for child in reversed(self.children()):
            if child.cancel() is not Cancellation.CANNOT_STOP:
                continue
            if child.abandon(Cancelled(message=message)) and self.runner is not None:
                self.runner.note_abandoned(child.task_run)


@final
class Branch:
    """A scope inside a flow or a task: what is submitted in it joins at its end; see `branch`.

    Attributes:
        name: What logs and errors call the branch.
    """

    def __init__(self, name: str | None, *, fail_fast: bool, timeout: float | None) -> None:
        self.name: Final = name or "unnamed"
        self._fail_fast: Final = fail_fast
        self._timeout: Final = check_time_limit(timeout)
        self._lock: Final = threading.Lock()
        self._is_over = False
        self._is_expired = False
        self._failed: Future[object] | None = None
        self._scope: _BranchScope | None = None
        self._exit_stack: Final = ExitStack()
        # Of an async branch: its body can be interrupted.
        self._body: tuple[EventLoop, anyio.CancelScope] | None = None

    # ------------------------------------------------------------------ in threads

    def __enter__(self) -> Self:
        scope = self._open()
        if scope.is_async:
            self._close()
            raise WouldDeadlockError(
                f"Leaving `with branch(...)` would block this thread's event loop, which has to "
                f"run what branch {self.name!r} waits for. Use `async with branch(...)`"
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        leaving = error
        try:
            self._opened().__exit__(kind, error, traceback)
        except BaseException as raised:  # Ctrl-C while it waited.
            leaving = raised
            raise
        finally:
            self._close()
            self._raise_own(leaving)

    # ------------------------------------------------------------------ in event loops

    async def __aenter__(self) -> Self:
        self._open()
        loop = cast("EventLoop", running_loop())
        self._body = (loop, anyio.CancelScope())
        self._body[1].__enter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        assert self._body is not None, "the branch was entered by `async with`"
        _, cancel_scope = self._body
        leaving = error
        try:
            await self._opened().__aexit__(kind, error, traceback)
        except BaseException as raised:  # Cancelled while it waited.
            leaving = raised
        self._close()
        is_own = bool(
            cancel_scope.__exit__(
                None if leaving is None else type(leaving),
                leaving,
                None if leaving is None else leaving.__traceback__,
            )
        )
        self._raise_own(None if is_own else leaving)
        if leaving is not None and leaving is not error and not is_own:
            raise leaving
        return is_own

    # ------------------------------------------------------------------ both

    def _open(self) -> RunScope:
        parent = current_scope.get()
        if parent is None:
            raise NotSubmittableError(
                f"Branch {self.name!r} was opened outside any flow, where there is nothing to "
                "submit to. Open it in a function decorated with @flow or @task"
            )
        if self._scope is not None:
            raise RuntimeError(
                f"Branch {self.name!r} was entered before; each `with` needs a branch of its own: "
                "`with branch(...):`"
            )
        self._scope = scope = _BranchScope(parent, self._child_failed)
        self._exit_stack.enter_context(parent.nesting(scope))
        if self._timeout is not None:
            self._exit_stack.callback(current_clock.get().call_later(self._timeout, self._expire))
        token = current_scope.set(scope)
        self._exit_stack.callback(current_scope.reset, token)
        return scope

    def _opened(self) -> _BranchScope:
        assert self._scope is not None, "the branch has been entered"
        return self._scope

    def _close(self) -> None:
        with self._lock:
            self._is_over = True
        self._exit_stack.close()

    def cancel(self) -> None:
        """Ask for everything in the branch to be stopped, its body as well if that is async."""
        self._opened().cancel()
        self._interrupt_body()

    def _interrupt_body(self) -> None:
        if self._body is not None:
            loop, cancel_scope = self._body
            loop.call_soon(cancel_scope.cancel)

    def _child_failed(self, child: Future[object]) -> None:
        if not self._fail_fast:
            return
        with self._lock:
            if self._is_over or self._failed is not None or self._is_expired:
                return
            self._failed = child
        child.observe()
        name = child.task_run.name
        self._log("Run %r failed: branch %r cancels the others", name, self.name)
        self.cancel()

    def _expire(self) -> None:
        with self._lock:
            if self._is_over:
                return
            self._is_expired = self._failed is None
        self._log("Branch %r has used up its %g s: it cancels its runs", self.name, self._timeout)
        self._opened().stop(f"Branch {self.name!r} ran out of time.")
        self._interrupt_body()

    def _log(self, message: str, *args: object) -> None:
        owner = owner_of(self._opened())
        if owner is not None:
            log_flow_run(owner.flow_run, message, *args, level=logging.WARNING)

    def _raise_own(self, leaving: BaseException | None) -> None:
        """Raise what the branch itself has to say, unless its body was left by something else."""
        # To have waited for what the branch then cancelled is no failure of the body's own.
        if leaving is not None and not isinstance(leaving, RunCancelledError | UpstreamFailedError):
            return
        if self._failed is not None:
            error = _exception_of(self._failed.final_state())
            if error is not leaving:
                raise error
        elif self._is_expired:
            raise RunTimedOutError(
                f"Branch {self.name!r} did not end within its time limit of {self._timeout:g} s"
            )


def _exception_of(state: State[object]) -> BaseException:
    assert not isinstance(state, Completed), "a run that completed is no failure"
    return state.exception


def branch(
    name: str | None = None, *, fail_fast: bool = False, timeout: float | None = None
) -> Branch:
    """Open a scope inside a flow or a task: what is submitted in it joins at its end.

        with branch(fail_fast=True, timeout=60):
            fetch.map(pages)
            index.submit()
        # Here every one of them has ended.

    In async code it is ``async with branch(...)``. Like a flow, a branch is left only when all of
    its runs have ended. Left by an exception, it cancels them first. So does whatever cancels the
    code around it: an anyio cancel scope or deadline reaches the runs, wherever they execute.

    By itself a failed run fails nothing but what depends on it: its future tells. With
    ``fail_fast`` the first one that fails has all others cancelled, the body interrupted if it is
    async, and its exception raised at the end of the branch.

    A thread that is at a run cannot be stopped. A branch waits for it, except when its time is up
    or when it is cancelled from outside: then the run ends as Cancelled, and the thread is
    abandoned, counted and named in the log.

    Args:
        name: What logs and errors call the branch.
        fail_fast: Whether the first failure cancels the rest.
        timeout: How long the branch may take, body included, in seconds. When the time is up, its
            runs are cancelled and the end of the branch raises `RunTimedOutError`.

    Returns:
        The branch, to be entered once by ``with`` or ``async with``.

    Raises:
        TypeError: ``timeout`` is no number.
        ValueError: ``timeout`` is not more than 0.
        NotSubmittableError: On entering: this is not inside a flow or a task.
        WouldDeadlockError: On entering by ``with``: this is async code.
    """
    return Branch(name, fail_fast=fail_fast, timeout=timeout)
