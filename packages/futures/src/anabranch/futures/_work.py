"""What is run: the unit of work that a runner is given, and the context that travels with it."""

from __future__ import annotations

import contextvars
import inspect
import itertools
import os
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeAlias, TypeVar, final

import attrs

from anabranch.futures._retries import NO_RETRIES, RetryPolicy
from anabranch.futures._typing import AnyFunction

if TYPE_CHECKING:
    from anabranch.futures._future import Future
    from anabranch.futures._states import Retrying, Running

R_co = TypeVar("R_co", covariant=True)

#: The event loops that async tasks can run on.
Backend: TypeAlias = Literal["trio", "asyncio"]


@final
class _RunIds:
    """Ids that are unique among machines and processes, for a fraction of a uuid4's time.

    A run gets a serial number; few are asked for more.
    """

    def __init__(self) -> None:
        self._serials = itertools.count()
        self.next_serial: Final = self._serials.__next__
        # Each with the first serial number that it is for.
        self._prefixes: list[tuple[int, str]] = []
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._prefixes.append((self.next_serial(), os.urandom(10).hex()))

    def id_of(self, serial: int) -> str:
        """Return the id that a serial number stands for, in the process that it was given in."""
        first, prefix = self._prefixes[-1]
        if serial < first:  # It was given before a fork.
            prefix = next(prefix for first, prefix in reversed(self._prefixes) if serial >= first)
        return f"{prefix}{serial:012x}"


_ids: Final = _RunIds()

#: Returns what `TaskRun` takes for the id of a new run, and makes an id of when it is asked for it.
new_run_serial: Final = _ids.next_serial


def new_run_id() -> str:
    """Return a new run id: 32 hexadecimal digits."""
    return _ids.id_of(_ids.next_serial())


@final
class TaskRun:
    """Which run of which task this is: immutable, hashable and picklable.

    Every run makes one, so it makes no text before that is asked for; and freezing it by attrs
    would triple what it costs.

    Args:
        id: The run's id, or a `new_run_serial`.
        name: What logs call the run.
        task_name: The name of the task that is run.
        tags: The tags of the task and of what surrounded its submission.
        number: Is appended to the name if given, after a dash.
    """

    __slots__ = ("_id", "_name", "_number", "_tags", "_task_name")

    def __init__(
        self,
        id: str | int,
        name: str,
        task_name: str,
        tags: frozenset[str] = frozenset(),
        number: int | None = None,
    ) -> None:
        self._id = id
        self._name = name
        self._task_name = task_name
        self._tags = tags
        self._number = number

    @property
    def id(self) -> str:
        """Unique for each run: 32 hexadecimal digits."""
        return self._id if isinstance(self._id, str) else _ids.id_of(self._id)

    @property
    def name(self) -> str:
        """What logs call the run, such as ``say_hello-811087cd-0``."""
        return self._name if self._number is None else f"{self._name}-{self._number}"

    @property
    def task_name(self) -> str:
        """The name of the task that is run."""
        return self._task_name

    @property
    def tags(self) -> frozenset[str]:
        """The tags of the task and of what surrounded its submission."""
        return self._tags

    def _fields(self) -> tuple[str, str, str, frozenset[str]]:
        return self.id, self.name, self.task_name, self.tags

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TaskRun):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __reduce__(self) -> tuple[object, ...]:
        return TaskRun, self._fields()

    def __repr__(self) -> str:
        id_, name, task_name, tags = self._fields()
        return f"TaskRun(id={id_!r}, name={name!r}, task_name={task_name!r}, tags={tags!r})"


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


@attrs.frozen
class RunContext:
    """Who is running: small, immutable and picklable, so that it can be given away.

    Attributes:
        flow_run: The flow run that all of this belongs to, if there is one.
        task_run: The task run, or None in a flow's own body.
        attempt: Counts the attempts of the task run from 1.
    """

    flow_run: FlowRun | None = None
    task_run: TaskRun | None = None
    attempt: int = 1


#: Is told which run has become Running or Retrying.
Listener: TypeAlias = "Callable[[TaskRun, Running | Retrying], object]"


NO_RUNNER_OPTIONS: Final[Mapping[str, Mapping[str, object]]] = {}


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
        runner_options: What runners are told besides, by their names, as in
            ``{"dask": {"priority": 10}}``. Each takes what is under its own name, and ignores what
            is said to others.
    """

    function: AnyFunction[object]
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
    runner_options: Mapping[str, Mapping[str, object]] = NO_RUNNER_OPTIONS


def is_async_function(function: AnyFunction[object]) -> bool:
    """Whether calling ``function`` gives a coroutine; looks through partials and callables."""
    if inspect.iscoroutinefunction(function):
        return True
    if isinstance(function, FunctionType):
        return False  # As most are; and the question is not cheap.
    called = getattr(function, "__call__", None)  # noqa: B004 - the method itself is wanted
    return inspect.iscoroutinefunction(called)
