"""Branches: scopes inside a flow or a task whose runs come back together."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, cast, final

import anyio

from anabranch.flows._accounts import BranchAccounts, accounts_of
from anabranch.flows._logging import log_flow_run
from anabranch.futures import (
    Cancelled,
    Completed,
    Future,
    NotSubmittableError,
    RunCancelledError,
    RunTimedOutError,
    UpstreamFailed,
    UpstreamFailedError,
    WouldDeadlockError,
)
from anabranch.futures.runner import (
    EventLoop,
    RunScope,
    check_time_limit,
    current_clock,
    current_scope,
    root_cause,
    running_loop,
)

if TYPE_CHECKING:
    from anabranch.futures.runner import CancelTimer


@final
class Branch:
    """A scope inside a flow or a task: what is submitted in it joins at its end; see `branch`.

    Attributes:
        name: What logs and errors call the branch.
    """

    def __init__(self, name: str | None, *, fail_fast: bool, timeout: float | None) -> None:
        if not isinstance(name, str | None):
            raise TypeError(
                f"branch({name!r}): the name is a string; for a time limit write branch(timeout=60)"
            )
        self.name: Final = name or "unnamed"
        self._fail_fast: Final = fail_fast
        self._timeout: Final = check_time_limit(timeout)
        self._lock: Final = threading.Lock()
        self._was_entered = False
        self._was_cancelled = False
        # What the branch is to raise, decided once; both are looked at under the lock.
        self._failure: BaseException | None = None
        self._is_expired = False
        self._is_over = False
        # There once the time is up; set when all has been done about it.
        self._has_stopped: threading.Event | None = None
        # While it is open.
        self._parent: RunScope | None = None
        self._scope: _BranchScope | None = None
        self._token: Token[RunScope | None] | None = None
        self._cancel_timer: CancelTimer | None = None
        # The body of an async branch, which can be interrupted.
        self._body: tuple[EventLoop, anyio.CancelScope] | None = None

    # ------------------------------------------------------------------ in threads

    def __enter__(self) -> Self:
        parent = self._claim()
        if parent.is_async and running_loop() is not None:
            raise WouldDeadlockError(
                f"Leaving `with branch(...)` would block this thread's event loop, which has to "
                f"run what branch {self.name!r} waits for. Use `async with branch(...)`"
            )
        self._open(parent, is_async=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:  # True after `cancel`. `bool` would have checkers doubt every branch's body.
        leaving = error
        try:
            self._opened().__exit__(kind, error, traceback)
        except BaseException as raised:  # Ctrl-C while it waited.
            leaving = raised
        finally:
            self._close()
        return self._conclude(error, leaving)

    # ------------------------------------------------------------------ in event loops

    async def __aenter__(self) -> Self:
        parent = self._claim()
        body = anyio.CancelScope()
        self._body = (cast("EventLoop", running_loop()), body)
        self._open(parent, is_async=True)
        body.__enter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:  # As of `__exit__`.
        scope, leaving = self._opened(), error
        assert self._body is not None, "the branch was entered by `async with`"
        # Only the body is interrupted by the branch itself. While that waits for its runs, all
        # that is heard is what comes from outside.
        try:
            if self._body[1].__exit__(kind, error, traceback):
                leaving = None
        except BaseException as rest:  # What came beside the interruption.
            leaving = rest
        self._body = None
        try:
            await scope.__aexit__(
                None if leaving is None else type(leaving),
                leaving,
                None if leaving is None else leaving.__traceback__,
            )
        except BaseException as raised:  # Cancelled while it waited.
            leaving = raised
        finally:
            self._close()
        return self._conclude(error, leaving)

    # ------------------------------------------------------------------ both

    def _claim(self) -> RunScope:
        parent = current_scope.get()
        if parent is None:
            raise NotSubmittableError(
                f"Branch {self.name!r} was opened outside any flow, where there is nothing to "
                "submit to. Open it in a function decorated with @flow or @task"
            )
        with self._lock:
            if self._was_entered:
                raise RuntimeError(
                    f"Branch {self.name!r} was entered before; each `with` needs a branch of its "
                    "own: `with branch(...):`"
                )
            self._was_entered = True
        return parent

    def _open(self, parent: RunScope, *, is_async: bool) -> None:
        self._parent = parent
        self._scope = scope = _BranchScope(parent, self, is_async=is_async)
        self._token = current_scope.set(scope)
        if self._timeout is not None:
            scope.has_deadline = True
        parent.nest(scope)
        if self._was_cancelled:
            scope.cancel()
        if self._timeout is not None:
            try:
                timer = current_clock.get().call_later(self._timeout, self._expire)
            except BaseException:  # There are no more threads to be had, or Ctrl-C.
                self._close()
                raise
            self._cancel_timer = timer

    def _opened(self) -> _BranchScope:
        assert self._scope is not None, "the branch has been entered"
        return self._scope

    def _close(self) -> None:
        with self._lock:
            self._is_over = True
        if self._has_stopped is not None:  # The runs that were given up have been counted, too.
            self._has_stopped.wait()
        if self._cancel_timer is not None:
            self._cancel_timer()
        scope, token = self._scope, self._token
        if scope is not None and self._parent is not None:
            self._parent.unnest(scope)
            scope.end(
                f"branch {self.name!r}, in which it is submitted, has ended. A thread or an async "
                "task that was started in a branch belongs to it: have it end inside, or start it "
                "before the branch"
            )
        if token is not None:
            # Entered in another context, it stays the current scope there, and takes nothing.
            with suppress(ValueError):
                current_scope.reset(token)
        self._cancel_timer = self._scope = self._parent = self._token = self._body = None

    def cancel(self) -> None:
        """Ask for everything in the branch to be stopped, its body as well if that is async.

        The branch then ends without an error of its own. It can be called at any time, in any
        thread; what is submitted in the branch afterwards never starts.
        """
        self._was_cancelled = True
        scope = self._scope
        if scope is not None:
            scope.cancel()

    def _interrupt(self) -> None:
        """Have the body cancelled, if it is async."""
        if (body := self._body) is not None:
            loop, cancel_scope = body
            if threading.get_ident() == loop.thread_id:
                cancel_scope.cancel()
            else:
                loop.call_soon(cancel_scope.cancel)

    # ------------------------------------------------------------------ what ends it early

    def _note_end(self, child: Future[object], scope: RunScope) -> bool:
        """Take note of the end of a child.

        Returns:
            Whether the branch has failed by it, so that its scope is to be cancelled.
        """
        state = child.final_state()
        if isinstance(state, Completed):
            return False
        if isinstance(state, Cancelled) or (
            isinstance(root_cause(state), RunCancelledError)
            and (scope.is_cancelled or isinstance(state, UpstreamFailed))
        ):
            if scope.is_cancelled:
                child.observe()  # The branch has seen to it.
            return False
        if not self._fail_fast:
            return False
        with self._lock:
            if self._failure is not None or self._is_expired or self._is_over:
                return False
            self._failure = state.exception
        child.observe()
        name = child.task_run.name
        _log(scope, "Run %r failed: branch %r cancels the others", name, self.name)
        return True

    def _expire(self) -> None:
        scope = self._scope
        with self._lock:
            if scope is None or self._is_over:
                return
            self._is_expired = True
            self._has_stopped = threading.Event()
        message = "Branch %r has used up its %g s: it cancels its runs"
        try:
            _log(scope, message, self.name, self._timeout)
            scope.stop(f"Branch {self.name!r} ran out of time.")
        finally:
            self._has_stopped.set()

    def _conclude(self, error: BaseException | None, leaving: BaseException | None) -> bool:
        """Leave the branch, which has been closed, as a context manager does.

        Args:
            error: What its body was left by.
            leaving: What is left of that, or has come instead.

        Returns:
            Whether the body's error is over with.
        """
        failure, self._failure = self._failure, None
        own = failure
        if own is None and self._is_expired:
            own = RunTimedOutError(
                f"Branch {self.name!r} did not end within its time limit of {self._timeout:g} s"
            )
        if own is None and not self._was_cancelled and leaving is None and error is not None:
            own = RunCancelledError(f"Branch {self.name!r} was cancelled by what surrounds it")
        try:
            if own is not None and (leaving is None or _comes_of_cancelling(leaving, failure)):
                leaving = own
            elif self._was_cancelled and leaving is not None and _comes_of_cancelling(leaving):
                leaving = None
            if leaving is None:
                return error is not None
            if leaving is error:
                return False
            # Not its context: what it comes of was a consequence of it.
            context = leaving.__context__
            try:
                raise leaving
            finally:
                leaving.__context__ = context
                context = None
        finally:
            # An exception that refers to its frames would be a cycle.
            del failure, own, error, leaving


@final
class _BranchScope(RunScope):
    """A scope that tells its branch of its own children's ends, and has its body interrupted."""

    __slots__ = ("_accounts", "_branch", "_has_failed")

    def __init__(self, parent: RunScope, branch: Branch, *, is_async: bool) -> None:
        around = accounts_of(parent)
        self._accounts = None if around is None else BranchAccounts(around)
        super().__init__(
            parent.flow_run,
            parent.task_run,
            parent.attempt,
            parent.runner,
            self._accounts,
            is_async=is_async,
        )
        self.call = parent.call
        self._branch = branch
        self._has_failed = False

    def child_ended(self, child: Future[object]) -> None:
        super().child_ended(child)
        if self._branch._note_end(child, self):
            self._has_failed = True

    def release(self, run: Future[object]) -> None:
        super().release(run)
        if self._has_failed and not self.is_cancelled:  # Out here, where no lock is held.
            self.cancel()

    def cancel(self) -> None:
        self._note_cancellation()
        super().cancel()
        self._branch._interrupt()

    def stop(self, message: str) -> None:
        self._note_cancellation()
        super().stop(message)
        self._branch._interrupt()

    def _note_cancellation(self) -> None:
        if self._accounts is not None:
            self._accounts.are_cancelled = True


def _comes_of_cancelling(error: BaseException, failure: BaseException | None = None) -> bool:
    """Whether an error says no more than that runs were cancelled, be it because of a failure."""

    def says_so(each: BaseException) -> bool:
        if each is failure or isinstance(each, RunCancelledError):
            return True
        if not isinstance(each, UpstreamFailedError):
            return False
        return failure is not None or isinstance(each.__cause__, RunCancelledError)

    if isinstance(error, BaseExceptionGroup):
        return error.split(says_so)[1] is None
    return says_so(error)


def _log(scope: RunScope, message: str, *args: object) -> None:
    if scope.flow_run is not None:
        log_flow_run(scope.flow_run, message, *args, level=logging.WARNING)


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
        TypeError: ``timeout`` is no number, or ``name`` no string.
        ValueError: ``timeout`` is not more than 0.
        NotSubmittableError: On entering: this is not inside a flow or a task.
        WouldDeadlockError: On entering by ``with``: this is async code.
    """
    return Branch(name, fail_fast=fail_fast, timeout=timeout)
