"""Scopes: every run joins the runs that were submitted in it before it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeAlias

import anyio

from anabranch.futures._callbacks import Keeper
from anabranch.futures._cancellation import Cancellation
from anabranch.futures._clock import SYSTEM_CLOCK, current_clock
from anabranch.futures._exceptions import WouldDeadlockError
from anabranch.futures._future import Future
from anabranch.futures._locks import SharedLocks
from anabranch.futures._states import Cancelled
from anabranch.futures._typing import AnyFunction
from anabranch.futures._work import RunContext, TaskRun

if TYPE_CHECKING:
    from collections.abc import Generator

    from anabranch.futures._runner import TaskRunner
    from anabranch.futures._work import FlowRun


_GRACE: Final = 0.5

# Held while a scope gets what few scopes need. That is made before: meanwhile the garbage collector
# may run code that comes to the same scope.
_making: Final = SharedLocks(1)

# Held while the owner of a scope takes note of an end, and takes locks of its own.
_locks: Final = SharedLocks()

#: What is waited for between two attempts. It never comes: a test's clock knows how to count waits.
REST: Final = TaskRun("", "the end of a delay", "delay")

_NOT_STOPPED: Final = "The run could not be stopped."

#: A function, and what it was called with.
FunctionCall: TypeAlias = tuple[AnyFunction[object], tuple[object, ...], Mapping[str, object]]


def grace() -> float:
    """For runners and engines: how long to wait for what cannot be stopped, in seconds.

    That is for running threads, when what they belong to is left in a hurry: by Ctrl-C, or because
    what surrounds it was cancelled. And it is for word of what was cancelled, on its way to other
    processes.
    """
    return _GRACE


class ScopeOwner(Protocol):
    """Keeps account of the runs in a scope and in the scopes below it."""

    def child_ended(self, child: Future[object]) -> None:
        """Take note of a run that has ended."""


class RunScope:
    """What surrounds running code: who runs, where it submits to, and what it has submitted.

    The body of a flow run and the function of a task run each execute in a scope of their own. A
    run submitted in a scope is its child until it ends, and the scope does not end before that.
    Leaving it (it is a context manager, sync and async) joins the children; leaving it by an
    exception cancels them first. What is submitted in a cancelled scope is cancelled as well.

    Scopes nest where code runs in place: a branch in what surrounds it, a task that is called
    directly in its caller's. To join, to cancel or to stop a scope is to do so to those inside it.

    Attributes:
        flow_run: The flow run that all of this belongs to; None if there is none.
        task_run: The task run that this is the scope of; None in a flow's own body.
        attempt: Which attempt of the run this is the scope of, counted from 1.
        runner: Where work submitted in this scope goes; None where that is nowhere.
        owner: Whoever keeps account of the runs in this scope and below, such as a flow run. It is
            told of each child once, when it has ended and before the scope ends.
        is_async: Whether the code that is running is async, and would block its loop by waiting.
        call: What is being run, and with which arguments; None until they are there.
        has_deadline: Whether the code that is running may have to go on before a run has ended that
            it waits for. If so, no thread that waits here may execute that run itself.
        ended: Why nothing can be submitted here any more; None while it can.
        is_cancelled: Whether what is submitted here is cancelled at once.
    """

    __slots__ = (
        "_children",
        "_keepers",
        "_nested",
        "_rests",
        "attempt",
        "call",
        "ended",
        "flow_run",
        "has_deadline",
        "is_async",
        "is_cancelled",
        "owner",
        "runner",
        "task_run",
    )

    def __init__(
        self,
        flow_run: FlowRun | None = None,
        task_run: TaskRun | None = None,
        attempt: int = 1,
        runner: TaskRunner | None = None,
        owner: ScopeOwner | None = None,
        *,
        is_async: bool = False,
    ) -> None:
        self.flow_run: FlowRun | None = flow_run
        self.task_run: TaskRun | None = task_run
        self.attempt: int = attempt
        self.runner: TaskRunner | None = runner
        self.owner: ScopeOwner | None = owner
        self.is_async: bool = is_async
        self.call: FunctionCall | None = None
        self.has_deadline: bool = False
        self.ended: str | None = None
        self.is_cancelled: bool = False
        # Most runs have none of these, so each is made when the first one comes.
        self._nested: dict[RunScope, None] | None = None
        self._rests: dict[Future[None], None] | None = None
        # Each with what is held while the scope is told of its end.
        self._children: dict[Future[object], threading.RLock] | None = None
        self._keepers: tuple[Keeper, ...] = ()

    @property
    def context(self) -> RunContext:
        """Which run this is the scope of, as something to keep or to give away."""
        return RunContext(self.flow_run, self.task_run, self.attempt)

    def adopt(self, future: Future[object]) -> None:
        """Make a run a child of this scope until it ends."""
        self.expect(future)
        future.keep((self,))
        if self.is_cancelled or self.ended is not None:  # Just now.
            future.cancel()

    def expect(self, future: Future[object]) -> tuple[Keeper, ...]:
        """Make a run a child of this scope.

        Returns:
            Who is to be told when it has ended: the scope's runner, if there is one, and the scope.
        """
        children = self._children
        if children is None:
            made: dict[Future[object], threading.RLock] = {}
            with _making.take():
                self._keepers = (self,) if self.runner is None else (self.runner, self)
                if self._children is None:
                    self._children = made
                children = self._children
        children[future] = _locks.take()
        return self._keepers

    def release(self, run: Future[object]) -> None:
        """Let go of a child that has ended."""
        children = self._children
        lock = None if children is None else children.get(run)
        if children is None or lock is None:
            return
        # The end of a run and the join that waited for it race to this. The lock makes the loser
        # wait until the winner has told of the end: a flow that has joined its runs has also
        # counted them. It is no lock of the scope: at one, the threads of a pool would stop each
        # other at each run.
        with lock:
            if run in children:
                try:
                    self.child_ended(run)
                finally:
                    del children[run]

    def child_ended(self, child: Future[object]) -> None:
        """Take note of a child that has ended; for scopes of other kinds to extend.

        It is called under a lock, so it must not act on other runs.
        """
        if self.owner is not None:
            self.owner.child_ended(child)

    def children(self) -> list[Future[object]]:
        """Return the runs submitted in this scope whose ends have not been taken note of."""
        return list(self._children or ())

    # ------------------------------------------------------------------ scopes inside this one

    def nest(self, scope: RunScope) -> None:
        """Surround what is about to run in a scope inside this one."""
        if self.has_deadline:
            scope.has_deadline = True
        nested = self._nested
        if nested is None:
            made: dict[RunScope, None] = {}
            with _making.take():
                if self._nested is None:
                    self._nested = made
                nested = self._nested
        nested[scope] = None
        if self.is_cancelled:
            scope.cancel()

    def unnest(self, scope: RunScope) -> None:
        """Let go of a scope inside this one that has been left."""
        if self._nested is not None:
            self._nested.pop(scope, None)

    def end(self, reason: str) -> None:
        """Take nothing more, here and inside: this scope has been left.

        Args:
            reason: What those are told who submit something all the same, as a sentence.
        """
        self.ended = reason
        for scope in self._inside():  # Threads may be in there that outlive this scope.
            scope.end(reason)

    def _inside(self) -> list[RunScope]:
        return list(self._nested or ())

    # ------------------------------------------------------------------ joining

    def has_work(self) -> bool:
        """Whether anything that was submitted here, or in a scope inside this one, goes on."""
        if self._children:
            return True
        return bool(self._nested) and any(scope.has_work() for scope in self._inside())

    def join(self) -> None:
        """Block until every run submitted in this scope has ended."""
        while self.has_work():
            for child in self.children():
                child.join()
                self.release(child)
            for scope in self._inside():
                scope.join()
        if (word := self._undelivered()) is not None:
            word.park(grace())

    async def join_async(self) -> None:
        """Wait until every run submitted in this scope has ended."""
        while self.has_work():
            for child in self.children():
                await child.join_async()
                self.release(child)
            for scope in self._inside():
                await scope.join_async()
        if (word := self._undelivered()) is not None:
            await word.park_async(grace())

    def _undelivered(self) -> Future[None] | None:
        # Runs that ended here by being cancelled could still begin elsewhere, after the scope.
        return self.runner.undelivered() if self.is_cancelled and self.runner is not None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave(error)

    def leave(self, error: BaseException | None) -> None:
        """Join the children, or cancel them first if there is an error: what leaving a scope is."""
        if error is not None:
            self.cancel()
        try:
            if error is None or isinstance(error, Exception):
                self.join()
            else:
                self.join_or_abandon()
        except BaseException:  # Ctrl-C while it waits.
            self.cancel()
            self.join_or_abandon()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.cancel()
        if not (self.has_work() or self.is_cancelled):
            return  # What follows costs more than most runs.
        try:
            if error is None or isinstance(error, Exception):
                await self.join_async()
            else:
                await self.join_or_abandon_async()
        except BaseException as raised:  # Cancelled while it waits.
            self.cancel()
            await self.join_or_abandon_async()
            if error is None or not isinstance(raised, anyio.get_cancelled_exc_class()):
                raise
            # The error that this is left by says more, and whatever cancelled it is heard again at
            # the next await.

    def join_or_abandon(self) -> None:
        """Block until every child has ended, or the time of grace is over, and give up the rest."""
        deadline = time.monotonic() + grace()
        # Whoever is in a hurry is a human: a test's clock might stand still for what is stuck.
        token = current_clock.set(SYSTEM_CLOCK)
        try:
            self._join_until(deadline)
        finally:
            current_clock.reset(token)
            self._abandon_rest()

    def _join_until(self, deadline: float) -> None:
        for child in self.children():
            try:
                child.join(max(0.0, deadline - time.monotonic()))
            except WouldDeadlockError:  # It runs in this thread's own event loop.
                continue
        for scope in self._inside():
            scope._join_until(deadline)

    async def join_or_abandon_async(self) -> None:
        """`join_or_abandon`, in an event loop; not to be cancelled."""
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + grace()):
            await self.join_async()
        self._abandon_rest()

    def _abandon_rest(self) -> None:
        while self._children:
            for child in self.children():
                self._abandon(child, _NOT_STOPPED)
                self.release(child)
        for scope in self._inside():
            scope._abandon_rest()

    def _abandon(self, child: Future[object], message: str) -> None:
        if child.abandon(Cancelled(message=message)) and self.runner is not None:
            self.runner.note_abandoned(child.task_run)

    # ------------------------------------------------------------------ cancelling

    def cancel(self) -> None:
        """Ask for every run submitted in this scope to be stopped, now and from now on."""
        self._mark_cancelled()
        for scope in reversed(self._inside()):
            scope.cancel()
        # The last first: cancelled before what it depends on, each is told of its own end.
        for child in reversed(self.children()):
            child.cancel()

    def stop(self, message: str) -> None:
        """`cancel`, and do without the runs that cannot be stopped.

        Args:
            message: Of the state that those end in.
        """
        self._mark_cancelled()
        for scope in reversed(self._inside()):
            scope.stop(message)
        for child in reversed(self.children()):
            if child.cancel() is Cancellation.CANNOT_STOP:
                self._abandon(child, message)

    def _mark_cancelled(self) -> None:
        self.is_cancelled = True
        for rest in list(self._rests or ()):
            rest.set_final(Cancelled())

    # ------------------------------------------------------------------ resting

    def rest(self, seconds: float) -> None:
        """Block this thread for so many seconds; no longer once the scope is cancelled."""
        if seconds > 0:
            with self._resting() as rest:
                rest.join(seconds)

    async def rest_async(self, seconds: float) -> None:
        """`rest`, in an event loop."""
        if seconds > 0:
            with self._resting() as rest:
                await rest.join_async(seconds)

    @contextmanager
    def _resting(self) -> Generator[Future[None]]:
        rest: Future[None] = Future(REST)
        made: dict[Future[None], None] = {}
        with _making.take():
            if self._rests is None:
                self._rests = made
            rests = self._rests
        rests[rest] = None
        if self.is_cancelled:
            rest.set_final(Cancelled())
        try:
            yield rest
        finally:
            del rests[rest]


#: The scope of the code that is running, or None outside any run.
current_scope: ContextVar[RunScope | None] = ContextVar("current_scope", default=None)
