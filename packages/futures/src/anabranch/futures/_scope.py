"""Scopes: every run joins the runs that were submitted in it before it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeAlias

import anyio

from anabranch.futures._states import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anabranch.futures._future import Future
    from anabranch.futures._runner import TaskRunner
    from anabranch.futures._work import RunContext


#: How long running threads are waited for when what they belong to is left in a hurry (by Ctrl-C,
#: or because what surrounds it was cancelled), in seconds.
GRACE: Final = 0.5

#: A function, and what it was called with.
FunctionCall: TypeAlias = "tuple[Callable[..., object], tuple[object, ...], Mapping[str, object]]"


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

    Attributes:
        context: Which run this is the scope of.
        runner: Where work submitted in this scope goes; None where that is nowhere.
        owner: Whoever keeps account of the runs in this scope and below, such as a flow run. It is
            told of each child once, when it has ended and before the scope ends.
        is_async: Whether the code that is running is async, and would block its loop by waiting.
        call: What is being run, and with which arguments; None until they are there.
    """

    __slots__ = (
        "_children",
        "_is_cancelled",
        "_lock",
        "_nested",
        "call",
        "context",
        "is_async",
        "owner",
        "runner",
    )

    def __init__(
        self,
        context: RunContext,
        runner: TaskRunner | None = None,
        owner: ScopeOwner | None = None,
        *,
        is_async: bool = False,
    ) -> None:
        self.context = context
        self.runner = runner
        self.owner = owner
        self.is_async = is_async
        self.call: FunctionCall | None = None
        self._is_cancelled = False
        self._nested: dict[RunScope, None] = {}
        self._children: dict[Future[object], None] = {}
        self._lock = threading.RLock()

    def adopt(self, future: Future[object]) -> None:
        """Make a run a child of this scope until it ends."""
        self._children[future] = None
        future.add_done_callback(self._release)
        if self._is_cancelled:  # Only just now: the runner takes nothing for a cancelled scope.
            future.cancel()

    def _release(self, child: Future[object]) -> None:
        # The callback of a run that has ended and the join that waited for it race to this. The
        # lock makes the loser wait until the winner has told of the end: a flow that has joined
        # its runs has also counted them.
        with self._lock:
            if child in self._children:
                del self._children[child]
                self.child_ended(child)

    def child_ended(self, child: Future[object]) -> None:
        """Take note of a child that has ended; for scopes of other kinds to extend."""
        if self.owner is not None:
            self.owner.child_ended(child)

    def children(self) -> list[Future[object]]:
        """Return the runs submitted in this scope that have not ended."""
        return list(self._children)

    def join(self) -> None:
        """Block until every run submitted in this scope has ended."""
        while self._children:
            for child in self.children():
                child.join()
                self._release(child)

    async def join_async(self) -> None:
        """Wait until every run submitted in this scope has ended."""
        while self._children:
            for child in self.children():
                await child.join_async()
                self._release(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.cancel()
        try:
            self.join()
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
        if not self._children:
            return  # What follows costs more than most runs.
        try:
            if error is None or isinstance(error, Exception):
                with anyio.CancelScope(shield=error is not None):
                    await self.join_async()
            else:
                await self.join_or_abandon_async()
        except BaseException:  # Cancelled while it waits.
            self.cancel()
            await self.join_or_abandon_async()
            raise

    def join_or_abandon(self, grace: float = GRACE) -> None:
        """Block until every child has ended, or those that are left cannot be stopped.

        Args:
            grace: How long to wait for them, in seconds.
        """
        deadline = time.monotonic() + grace
        for child in self.children():
            child.join(max(0.0, deadline - time.monotonic()))
        self._abandon_rest()

    async def join_or_abandon_async(self, grace: float = GRACE) -> None:
        """`join_or_abandon`, in an event loop; not to be cancelled."""
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + grace):
            await self.join_async()
        self._abandon_rest()

    def _abandon_rest(self) -> None:
        while self._children:
            for child in self.children():
                is_abandoned = child.abandon(Cancelled(message="The run could not be stopped."))
                if is_abandoned and self.runner is not None:
                    self.runner.note_abandoned(child.task_run)
                self._release(child)

    @property
    def is_cancelled(self) -> bool:
        """Whether what is submitted here is cancelled at once."""
        return self._is_cancelled

    def cancel(self) -> None:
        """Ask for every run submitted in this scope to be stopped, now and from now on."""
        self._is_cancelled = True
        for scope in reversed(list(self._nested)):
            scope.cancel()
        # The last first: cancelled before what it depends on, each is told of its own end.
        for child in reversed(self.children()):
            child.cancel()

    @contextmanager
    def nesting(self, scope: RunScope) -> Iterator[None]:
        """Surround what runs in a scope inside this one: it is cancelled with this one."""
        self._nested[scope] = None
        if self._is_cancelled:
            scope.cancel()
        try:
            yield
        finally:
            del self._nested[scope]


#: The scope of the code that is running, or None outside any run.
current_scope: ContextVar[RunScope | None] = ContextVar("current_scope", default=None)
