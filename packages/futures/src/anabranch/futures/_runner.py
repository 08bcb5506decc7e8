"""The contract of task runners, and all of it that does not depend on where tasks run."""

from __future__ import annotations

import abc
import enum
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    nullcontext,
    suppress,
)
from types import TracebackType
from typing import Final, ParamSpec, Protocol, Self, TypeVar, final, overload

import anyio
import attrs

from anabranch.futures._clock import SYSTEM_CLOCK, current_clock
from anabranch.futures._counting import AtomicCount
from anabranch.futures._exceptions import (
    NotSubmittableError,
    RunnerAlreadyStartedError,
    RunnerNotStartedError,
    WouldDeadlockError,
)
from anabranch.futures._future import Future
from anabranch.futures._hosting import RunnerHost
from anabranch.futures._items import make_item
from anabranch.futures._scope import current_scope, grace
from anabranch.futures._signals import is_interruption
from anabranch.futures._signature import signature_of
from anabranch.futures._states import Cancelled
from anabranch.futures._typing import AnyCoroutine, AnyFunction
from anabranch.futures._unwrapping import unwrapped
from anabranch.futures._work import (
    Backend,
    TaskRun,
    WorkItem,
    new_run_id,
)

P = ParamSpec("P")
R = TypeVar("R")


class AroundSubmit(Protocol):
    """Is called with an item and with what submits it, and returns the future of that."""

    def __call__(
        self, item: WorkItem[R], submit: Callable[[WorkItem[R]], Future[R]], /
    ) -> Future[R]: ...


#: How many runs that were given up are warned of, each by its name.
_WARNED_OF: Final = 20

_ENDED: Final = "is not started any more: its with block has ended"


class ConcurrencyType(enum.Enum):
    """How the tasks of a runner relate in time."""

    SEQUENTIAL = "sequentially"
    """One at a time."""
    CONCURRENT = "concurrently"
    """Many at a time, in one process."""
    PARALLEL = "in parallel"
    """Many at a time, in several processes."""


@final
@attrs.frozen
class RunnerStatistics:
    """What a runner has done and is doing: a snapshot.

    Attributes:
        submitted: How many runs were submitted since the runner started.
        pending: How many of them have not started.
        running: How many of them are being executed.
        abandoned: How many were given up since then while a thread was at them that could not be
            stopped.
    """

    submitted: int
    pending: int
    running: int
    abandoned: int = 0


class TaskRunner(abc.ABC):
    """Decides where and when submitted work runs.

    A runner is settings until it is started, and it runs work until it is left:

    - in async code ``async with runner.start():``,
    - elsewhere ``with runner:``, which brings an event loop in a thread beside the caller's.

    Leaving it waits for all that was submitted; leaving it by an exception cancels first. A flow
    does this with a duplicate of its runner, once for each run.

    To make a runner, implement `_submit` and `concurrency_type`, `_start` for the resources that it
    needs, and `_settings` if its constructor takes any. `anabranch.futures.testing` has the
    behaviours that it must show.

    Attributes:
        logger: Where the runner logs, ``anabranch.task_runner.<name>``.
        backend: Which event loop to bring along in a plain ``with``; None takes trio where it is
            installed. A flow sets it for its own duplicate.
        around_submit: For test kits and tools: called with each item and what submits it, in place
            of the latter, which it calls once and whose future it returns.
    """

    def __init__(self) -> None:
        self.logger: Final = logging.getLogger(f"anabranch.task_runner.{self.name}")
        self.backend: Backend | None = None
        self.around_submit: AroundSubmit | None = None
        self._unavailable: str | None = "has not been started"
        # What a run that has ended may refer to for ever.
        self._token: Final = object()
        self._lock = threading.Lock()
        self._submitted = AtomicCount()
        self._abandoned = 0
        # In the order of their submission.
        self._unfinished: dict[Future[object], None] = {}
        self._host: RunnerHost | None = None

    # ------------------------------------------------------------------ to implement

    @property
    @abc.abstractmethod
    def concurrency_type(self) -> ConcurrencyType:
        """How the tasks of this runner relate in time."""

    @abc.abstractmethod
    def _submit(self, item: WorkItem[R]) -> Future[R]:
        """Have an item run, and return its future at once.

        Called in any thread, while the runner is started.
        """

    async def _start(self, exit_stack: AsyncExitStack) -> None:  # noqa: B027 - nothing, for many
        """Get ready to run work; what has to be undone goes on the exit stack.

        When the stack unwinds, every run has ended.
        """

    def _settings(self) -> Mapping[str, object]:
        """Return the keyword arguments that make an equal runner."""
        return {}

    @property
    def keeps_to_clock(self) -> bool:
        """Whether its runs go by the submitter's clock; only the machine's reaches other processes.

        A runner that does not is refused where a test has another clock.
        """
        return self.concurrency_type is not ConcurrencyType.PARALLEL

    # ------------------------------------------------------------------ settings

    @property
    def name(self) -> str:
        """The runner's short name, such as ``"dask"``."""
        return type(self).__name__.lower().removesuffix("taskrunner")

    def duplicate(self) -> Self:
        """Return a runner of the same settings that has not been started."""
        return type(self)(**self._settings())

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._settings() == other._settings()

    def __hash__(self) -> int:
        return hash(type(self))  # Settings need not be hashable.

    def __getstate__(self) -> object:
        return dict(self._settings()), self._unavailable is None

    def __setstate__(self, state: tuple[dict[str, object], bool]) -> None:
        settings, was_started = state
        type(self).__init__(self, **settings)
        if was_started:
            self._unavailable = "is a pickled copy of a started one, which it has no connection to"

    def __str__(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings().items())
        return f"{type(self).__name__}({settings})"

    # ------------------------------------------------------------------ being started

    @asynccontextmanager
    async def start(self) -> AsyncGenerator[Self]:
        """Get ready to run work, in the event loop of the caller.

        Leaving the context waits until every submitted run has ended; leaving it by an exception
        cancels them first, and lets that exception out as it is.

        Raises:
            RunnerAlreadyStartedError: The runner is started already.
            RuntimeError: It does not keep to the clock that a test has set.
        """
        self._refuse_second_start()
        self._refuse_test_clock()
        self._reset_counts()
        async with unwrapped(AsyncExitStack()) as exit_stack:
            await self._start(exit_stack)
            exit_stack.push_async_exit(self._finish)
            self._unavailable = None
            yield self

    def __enter__(self) -> Self:
        self._refuse_test_clock()  # Here, where that clock is known.
        host = RunnerHost(self, self.start)
        host.open()
        self._host = host
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        host, self._host = self._host, None
        if host is not None:
            host.close(error, in_a_hurry=is_interruption(error))

    def _refuse_second_start(self) -> None:
        if self._unavailable is None:
            raise RunnerAlreadyStartedError(
                f"This {self} is started already. Each start needs a runner of its own: "
                "use runner.duplicate()"
            )

    def _refuse_test_clock(self) -> None:
        clock = current_clock.get()
        if clock is not SYSTEM_CLOCK and not self.keeps_to_clock:
            raise RuntimeError(
                f"Cannot start this {self} on a {type(clock).__name__}: it runs tasks where that "
                "clock does not reach, so delays would take their real time and time limits none. "
                "Use a runner of this process in the test, as in "
                "`my_flow.with_options(task_runner=ConcurrentTaskRunner())`, or do without the "
                "clock"
            )

    def _reset_counts(self) -> None:
        self._submitted = AtomicCount()
        self._abandoned = 0

    def _enter_in_place(self) -> None:
        """For a runner that needs no event loop: count as started, in a plain ``with``."""
        self._refuse_second_start()
        self._reset_counts()
        self._unavailable = None

    def _leave_in_place(self, error: BaseException | None) -> None:
        """Undo `_enter_in_place`, when all that was submitted has ended or been abandoned."""
        try:
            if error is not None:
                self._cancel_all()
            if is_interruption(error):
                self._join_or_abandon()
            else:
                self._join_in_place()
        except BaseException:  # Ctrl-C while it waits.
            self._cancel_all()
            self._join_or_abandon()
            raise
        finally:
            self._end()

    def _join_in_place(self) -> None:
        while self._unfinished:
            for future in list(self._unfinished):
                future.join()
                self.release(future)

    def _join_or_abandon(self) -> None:
        deadline = time.monotonic() + grace()
        # Whoever is in a hurry is a human: a test's clock might stand still for what is stuck.
        token = current_clock.set(SYSTEM_CLOCK)
        try:
            for future in list(self._unfinished):
                with suppress(WouldDeadlockError):  # It runs in this thread's own event loop.
                    future.join(max(0.0, deadline - time.monotonic()))
        finally:
            current_clock.reset(token)
            self._abandon_rest()

    async def _finish(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                try:
                    await self._join()
                except BaseException:  # Cancelled, or interrupted.
                    await self._cancel_and_join(in_a_hurry=True)
                    raise
            else:
                await self._cancel_and_join(in_a_hurry=is_interruption(error))
        finally:
            self._end()

    def _end(self) -> None:
        self._unavailable = _ENDED
        if self._abandoned > _WARNED_OF:
            count = self._abandoned
            self.logger.warning("Abandoned %d runs in all, which could not be stopped", count)

    def release(self, run: Future[object]) -> None:
        """For futures: let go of a run that has ended."""
        self._unfinished.pop(run, None)

    def _cancel_all(self) -> None:
        # The last first: cancelled before what it depends on, each is told of its own end.
        for future in reversed(list(self._unfinished)):
            future.cancel()

    async def _join(self) -> None:
        while self._unfinished:
            for future in list(self._unfinished):
                await future.join_async()
                self.release(future)

    async def _cancel_and_join(self, *, in_a_hurry: bool) -> None:
        self._cancel_all()
        with anyio.CancelScope(shield=True) as scope:
            if in_a_hurry:
                scope.deadline = anyio.current_time() + grace()
            await self._join()
        self._abandon_rest()

    def _abandon_rest(self) -> None:
        for future in list(self._unfinished):
            if future.abandon(Cancelled(message="The run could not be stopped.")):
                self.note_abandoned(future.task_run)

    def note_abandoned(self, run: TaskRun) -> None:
        """For runners and engines: count a run that was given up, and say so in the log.

        That is one that is over for everybody but the thread that is at it. The first ones are
        warned of, the others told at level DEBUG; how many there were is said when the runner is
        left.
        """
        with self._lock:
            self._abandoned += 1
            level = logging.WARNING if self._abandoned <= _WARNED_OF else logging.DEBUG
        self.logger.log(level, "Abandoned run %r, which could not be stopped", run.name)

    # ------------------------------------------------------------------ taking work

    @overload
    def submit(
        self,
        function: Callable[P, AnyCoroutine[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Future[R]: ...
    @overload
    def submit(
        self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[R]: ...
    def submit(
        self, function: AnyFunction[object], /, *args: object, **kwargs: object
    ) -> Future[object]:
        """Have ``function(*args, **kwargs)`` run, and return its future.

        Works like the ``submit`` of `concurrent.futures`, for async functions as well, and takes
        futures among the arguments (as ``lift(future)``, for type checkers).

        Args:
            function: A plain function or a coroutine function.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The future of the call.

        Raises:
            RunnerNotStartedError: The runner is not started.
            TypeError: The arguments do not fit the function.
        """
        name = getattr(function, "__name__", None) or type(function).__name__
        signature_of(function, name).check(args, kwargs)
        run_id = new_run_id()
        return self.dispatch(
            make_item(
                function,
                args,
                kwargs,
                task_run=TaskRun(run_id, f"{name}-{run_id[-8:]}", name),
            )
        )

    def dispatch(self, item: WorkItem[R]) -> Future[R]:
        """Have an item run, and return its future; what `submit` comes down to.

        Inside a run of this runner, the new run becomes a child of it.

        Raises:
            RunnerNotStartedError: The runner is not started.
            NotSubmittableError: The branch that this code runs in has ended.
        """
        if self._unavailable is not None:
            raise RunnerNotStartedError(
                f"Cannot submit {item.task_run.name!r}: this {self} {self._unavailable}. "
                f"Submit inside `with {self}() as runner:`, or inside a flow that has it as its "
                "task_runner"
            )
        scope = current_scope.get()
        if scope is not None and scope.ended is not None:
            raise NotSubmittableError(f"Cannot submit {item.task_run.name!r}: {scope.ended}")
        # Not even a runner that would execute it here and now is to begin with an unwanted run.
        submit = _cancel if scope is not None and scope.is_cancelled else self._submit
        around = self.around_submit
        future = submit(item) if around is None else around(item, submit)
        self._submitted.add()
        if future.admitted_by is not self._token:
            self.admit(future)
        if scope is not None and (scope.is_cancelled or scope.ended) and scope.runner is self:
            future.cancel()  # The scope has been cancelled or left just now.
        return future

    def admit(self, future: Future[object]) -> None:
        """For runners: take note of a run before it can start.

        `dispatch` does so with what `_submit` returns; but Ctrl-C may come in between, and leave a
        run behind that nobody knows of, and nobody ends. Or it may end, and nobody is told.
        """
        future.admitted_by = self._token
        self._unfinished[future] = None
        scope = current_scope.get()
        if scope is not None and scope.runner is self:
            future.keep(scope.expect(future))
        else:
            future.keep((self,))

    def together(self) -> AbstractContextManager[None]:
        """For engines: surround submissions that belong together, such as those of a ``map``.

        A runner may hand them over all at once, at the end of the block. So a run that is submitted
        in it is not to be waited for in it.
        """
        return nullcontext()

    def undelivered(self) -> Future[None] | None:
        """For runners: return what ends when all have heard of what was cancelled up to now.

        That is for runs that may begin in other processes: until word has come there, they do so if
        what they depend on ends well. A cancelled scope waits for it for a moment before it ends.

        Returns:
            A future that is no run; None if there is nothing to wait for.
        """
        return None

    def runs_in_place(self, item: WorkItem[R]) -> bool:
        """Whether dispatching an item here means to execute it before `dispatch` returns."""
        return False

    def statistics(self) -> RunnerStatistics:
        """Return what the runner has done and is doing."""
        states = [future.is_running() for future in list(self._unfinished)]
        running = sum(states)
        submitted = int(self._submitted)
        return RunnerStatistics(submitted, len(states) - running, running, self._abandoned)


def _cancel(item: WorkItem[R]) -> Future[R]:
    future: Future[R] = Future(item.task_run)
    future.set_final(Cancelled(message="What submitted the run had been cancelled."))
    return future
