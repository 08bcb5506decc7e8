"""What is run: the unit of work that a runner is given, and the context that travels with it."""

from __future__ import annotations

import contextvars
import inspect
import itertools
import os
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Generic, Literal, TypeAlias, TypeVar

import attrs

from anabranch.futures._retries import NO_RETRIES, RetryPolicy

if TYPE_CHECKING:
    from anabranch.futures._future import Future
    from anabranch.futures._states import Retrying, Running

R_co = TypeVar("R_co", covariant=True)

#: The event loops that async tasks can run on.
Backend: TypeAlias = Literal["trio", "asyncio"]


class _RunIds:
    """Ids that are unique among machines and processes, for a fraction of a uuid4's time."""

    def __init__(self) -> None:
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        prefix = os.urandom(10).hex()
        # Nothing of this is Python's own code, which two threads could enter at once.
        self._ids = map(f"{prefix}%012x".__mod__, itertools.count())

    def __call__(self) -> str:
        return next(self._ids)


#: Returns a new run id: 32 hexadecimal digits.
new_run_id = _RunIds()


# Not frozen by attrs, nor is `RunContext`: that would triple the cost of what each run makes.
@attrs.define(unsafe_hash=True, weakref_slot=False)
class TaskRun:
    """Which run of which task this is."""

    _id: str
    _name: str
    _task_name: str
    _tags: frozenset[str] = frozenset()

    @property
    def id(self) -> str:
        """Unique for each run: 32 hexadecimal digits."""
        return self._id

    @property
    def name(self) -> str:
        """What logs call the run, such as ``say_hello-811087cd-0``."""
        return self._name

    @property
    def task_name(self) -> str:
        """The name of the task that is run."""
        return self._task_name

    @property
    def tags(self) -> frozenset[str]:
        """The tags of the task and of what surrounded its submission."""
        return self._tags


@attrs.frozen
class FlowRun:
    """Which run of which flow this is.

    Attributes:
        id: Unique for each run: 32 hexadecimal digits.
        name: What logs call the run, such as ``humongous-mink``.
        flow_name: The name of the flow that is run.
        tags: The tags that were in force when the flow was called.
    """

    id: str
    name: str
    flow_name: str
    tags: frozenset[str] = frozenset()


@attrs.define(unsafe_hash=True, weakref_slot=False)
class RunContext:
    """Who is running: small, immutable and picklable, so that it travels with the work."""

    _flow_run: FlowRun | None = None
    _task_run: TaskRun | None = None
    _attempt: int = 1

    @property
    def flow_run(self) -> FlowRun | None:
        """The flow run that all of this belongs to, if there is one."""
        return self._flow_run

    @property
    def task_run(self) -> TaskRun | None:
        """The task run, or None in a flow's own body."""
        return self._task_run

    @property
    def attempt(self) -> int:
        """Counts the attempts of the task run from 1."""
        return self._attempt


#: Is told which run has become Running or Retrying.
Listener: TypeAlias = "Callable[[TaskRun, Running | Retrying], object]"


@attrs.define(eq=False, weakref_slot=False)
class WorkItem(Generic[R_co]):
    """One call of one function, ready to be run by any runner.

    The item knows nothing of where it will run. Its arguments may hold futures, at any depth of
    containers; a runner that takes the item sees to it that the function gets their values. Make
    one with `make_item`, which finds those futures. Nobody changes an item: to do so on the way,
    `attrs.evolve` it.

    Attributes:
        function: What to call: a plain function or a coroutine function.
        args: Positional arguments.
        kwargs: Keyword arguments.
        is_async: Whether calling the function gives a coroutine.
        task_run: The run's id and names.
        flow_run: The flow run that it belongs to, if any.
        upstreams: The futures that must complete first: those among the arguments, and those that
            the submitter named besides.
        tolerated: The futures that must end first, however they end.
        is_plain: Whether the arguments can be handed on as they are, holding neither futures nor
            marks such as `quote`.
        backend: The event loop for a coroutine, where the runner has to bring one.
        variables: The submitter's context variables, for runners in the same process.
        retry: When the run is tried again.
        time_limit: How long each attempt may take, in seconds; None for as long as it takes.
        listener: Told in the submitter's process whenever the run becomes Running or Retrying. It
            must be quick and must not raise.
    """

    function: Callable[..., object]
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    task_run: TaskRun
    is_async: bool = False
    flow_run: FlowRun | None = None
    upstreams: tuple[Future[object], ...] = ()
    tolerated: tuple[Future[object], ...] = ()
    is_plain: bool = True
    backend: Backend | None = None
    variables: contextvars.Context | None = None
    retry: RetryPolicy = NO_RETRIES
    time_limit: float | None = None
    listener: Listener | None = None


def is_async_function(function: Callable[..., object]) -> bool:
    """Whether calling ``function`` gives a coroutine; looks through partials and callables."""
    if inspect.iscoroutinefunction(function):
        return True
    if isinstance(function, FunctionType):
        return False  # As most are; and the question is not cheap.
    called = getattr(function, "__call__", None)  # noqa: B004 - the method itself is wanted
    return inspect.iscoroutinefunction(called)
