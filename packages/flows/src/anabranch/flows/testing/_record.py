"""What a recording runner has seen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias, TypeVar, final

import attrs

from anabranch.flows._run_names import bound_parameters
from anabranch.flows._task import BaseTask
from anabranch.futures import (
    Completed,
    FlowRun,
    Future,
    Pending,
    Retrying,
    Running,
    State,
    TaskRun,
    WorkItem,
)
from anabranch.futures.runner import SYSTEM_CLOCK, current_clock, resolve_arguments, state_of_error

R = TypeVar("R")

#: Names runs: a task, or the name of a task or of a run.
Which: TypeAlias = str | BaseTask[..., object]  # type: ignore[explicit-any]  # Whatever it takes.


@final
@attrs.frozen
class RunEvent:
    """A run has come into a state.

    Attributes:
        time: When, in seconds on the run's clock: since a `VirtualClock` was entered, or, on the
            machine's, since the recorder was made.
        task_run: Which run it is.
        state: What it has come into.
    """

    time: float
    task_run: TaskRun
    state: State[object] | Pending | Running | Retrying

    def __str__(self) -> str:
        return f"{self.time:10.3f} s | {self.task_run.name} | {self.state}"


@final
@attrs.frozen(eq=False)
class RecordedRun:
    """One submitted run, as far as it has come.

    Attributes:
        task_run: The run's id and names.
        flow_run: The flow run that it belongs to, if any.
        parameters: The function's parameters and what they were, with defaults applied. Instead of
            futures there are the values that the function got, unless it cannot have been called.
        events: The states that the run has been in, with times, the latest last.
    """

    task_run: TaskRun
    flow_run: FlowRun | None
    parameters: Mapping[str, object]
    events: tuple[RunEvent, ...]

    @property
    def name(self) -> str:
        """The run's name, such as ``say_hello-811087cd-0``."""
        return self.task_run.name

    @property
    def task_name(self) -> str:
        """The name of the task."""
        return self.task_run.task_name

    @property
    def state(self) -> State[object] | Pending | Running | Retrying:
        """The state that the run was last in."""
        return self.events[-1].state

    @property
    def states(self) -> list[str]:
        """The names of the states that the run has been in, such as ``"Running"``."""
        return [event.state.name for event in self.events]

    @property
    def attempts(self) -> int:
        """How many attempts have been made."""
        return sum(isinstance(event.state, Running) for event in self.events)

    @property
    def started(self) -> float | None:
        """When the first attempt began; None if there was none. See `RunEvent.time`."""
        return next((each.time for each in self.events if isinstance(each.state, Running)), None)

    @property
    def ended(self) -> float | None:
        """When the run ended; None if it has not. See `RunEvent.time`."""
        last = self.events[-1]
        return last.time if last.state.is_final() else None


class Entry:
    """One run in a record; guarded by the record's lock."""

    __slots__ = ("events", "future", "item")

    def __init__(self, item: WorkItem[object]) -> None:
        self.item: Final = item
        self.future: Future[object] | None = None
        self.events: list[RunEvent] = []

    def has_ended(self) -> bool:
        return self.events[-1].state.is_final()

    def snapshot(self) -> RecordedRun:
        item = self.item
        args, kwargs = item.args, item.kwargs
        if all(each.done() for each in (*item.upstreams, *item.tolerated)) and all(
            isinstance(each.final_state(), Completed) for each in item.upstreams
        ):
            args, kwargs = resolve_arguments(item)
        parameters = bound_parameters(item.function, args, kwargs)
        return RecordedRun(item.task_run, item.flow_run, parameters, tuple(self.events))


@final
class Record:
    """The runs that a recording runner and its duplicates were given, in order; thread-safe."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._entries: list[Entry] = []
        # Those that have not been seen to end.
        self._open: dict[Entry, None] = {}
        self._events: list[RunEvent] = []
        self._origin: Final = time.monotonic()

    def submit(self, item: WorkItem[R], submit: Callable[[WorkItem[R]], Future[R]]) -> Future[R]:
        """Submit an item, and record what becomes of it."""
        entry = Entry(item)
        listener = item.listener

        def listen(run: TaskRun, state: Running | Retrying) -> None:
            self._note(entry, state)
            if listener is not None:
                listener(run, state)

        # What has ended by now has done so before this.
        self._settle()
        with self._lock:
            self._entries.append(entry)
            self._open[entry] = None
        self._note(entry, Pending())
        try:
            future = submit(attrs.evolve(item, listener=listen))
        except BaseException as error:  # Ctrl-C, or SystemExit in a task that runs in place.
            self._note(entry, state_of_error(error))
            raise
        entry.future = future
        future.add_done_callback(lambda _: self._settle([entry]))
        return future

    def _note(self, entry: Entry, state: State[object] | Pending | Running | Retrying) -> None:
        item = entry.item
        clock = SYSTEM_CLOCK if item.variables is None else current_clock.of(item.variables)
        now = clock.now() - (self._origin if clock is SYSTEM_CLOCK else 0)
        event = RunEvent(now, item.task_run, state)
        with self._lock:
            if entry.events and entry.has_ended():
                return
            entry.events.append(event)
            self._events.append(event)
            if state.is_final():
                self._open.pop(entry, None)

    def _settle(self, entries: Iterable[Entry] | None = None) -> None:
        """Take note of ends. A run counts as ended just before its callbacks are called."""
        if entries is None:
            with self._lock:
                entries = list(self._open)
        for entry in entries:
            if entry.future is not None and entry.future.done():
                self._note(entry, entry.future.final_state())

    def runs(self) -> tuple[RecordedRun, ...]:
        self._settle()
        with self._lock:
            entries = list(self._entries)
        return tuple(entry.snapshot() for entry in entries)

    def events(self) -> tuple[RunEvent, ...]:
        self._settle()
        with self._lock:
            return tuple(self._events)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._open.clear()
            self._events.clear()


def name_of(which: Which) -> str:
    """Return what a task or a run is called."""
    return which if isinstance(which, str) else which.name


def is_of(run: TaskRun, name: str) -> bool:
    """Whether a run, or its task, is called so."""
    return name in (run.task_name, run.name)
