"""A task runner that records what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self, TypeVar, final

from anabranch.flows._flow import as_runner
from anabranch.flows.testing._record import Record, RecordedRun, RunEvent, Which, is_of, name_of
from anabranch.futures import (
    ConcurrencyType,
    Future,
    RunnerStatistics,
    Running,
    TaskRun,
    TaskRunner,
    WorkItem,
)
from anabranch.runners.local import SequentialTaskRunner

R = TypeVar("R")


@final
class RecordingTaskRunner(TaskRunner):
    """Runs tasks as another runner does, and records each submitted run.

        recorder = RecordingTaskRunner(ConcurrentTaskRunner())
        report.with_options(task_runner=recorder)()
        assert recorder.states("fetch") == ["Pending", "Running", "Completed"]

    Each run of a flow has a duplicate of the flow's runner. All duplicates of a recorder share one
    record, so the recorder that a test holds tells of all of them, and one recorder may serve many
    flows. What is recorded is what runners see: submitted and mapped task runs, also those that
    tasks submit. Tasks that are called directly, and flows, are not among it.

    The record keeps arguments and results, so this is for tests.

    Args:
        inner: The runner to run tasks with, as an instance or a class.

    Raises:
        TypeError: It is no runner.
    """

    def __init__(self, inner: TaskRunner | Callable[[], TaskRunner] = SequentialTaskRunner) -> None:
        self._inner: Final = as_runner(inner).duplicate()
        super().__init__()
        self._record_with(Record())

    def _record_with(self, record: Record) -> None:
        self._record = record
        self._inner.around_submit = record.submit

    # ------------------------------------------------------------------ what has been recorded

    @property
    def events(self) -> tuple[RunEvent, ...]:
        """Every state that a run has come into, with its time, in the order in which they did."""
        return self._record.events()

    def runs(self, which: Which | None = None) -> tuple[RecordedRun, ...]:
        """Return the runs in the order of their submission.

        Args:
            which: Those of a task only, or of this name. There may be none.
        """
        runs = self._record.runs()
        return runs if which is None else tuple(_those(runs, which))

    def run(self, which: Which) -> RecordedRun:
        """Return the one run of a task, or of this name.

        Raises:
            AssertionError: There is none, or more than one.
        """
        __tracebackhide__ = True
        found = self.runs(which)
        if len(found) != 1:
            raise AssertionError(
                f"There is not 1 run of {name_of(which)!r} but {self._told(found)}"
            )
        return found[0]

    def states(self, which: Which) -> list[str]:
        """Return the names of the states that the one run of a task has been in.

        Raises:
            AssertionError: There is none, or more than one.
        """
        __tracebackhide__ = True
        return self.run(which).states

    def order(self) -> list[str]:
        """Return the task of each run that has started, in the order in which they did."""
        started: dict[str, str] = {}
        for event in self.events:
            if isinstance(event.state, Running):
                started.setdefault(event.task_run.id, event.task_run.task_name)
        return list(started.values())

    def assert_ran_before(self, first: Which, second: Which) -> None:
        """Assert that all runs of one task had ended when the first of another started.

        Raises:
            AssertionError: They had not, or one of the two has not run at all.
        """
        __tracebackhide__ = True
        before, after = name_of(first), name_of(second)
        events = self.events
        starts: dict[str, int] = {}
        ends: dict[str, int] = {}
        for index, event in enumerate(events):
            if isinstance(event.state, Running):
                starts.setdefault(event.task_run.id, index)
            elif event.state.is_final():
                ends[event.task_run.id] = index
        runs = {event.task_run.id: event.task_run for event in events}
        earlier, later = _ids(runs, before) & starts.keys(), _ids(runs, after) & starts.keys()
        for name, ids in ((before, earlier), (after, later)):
            if not ids:
                raise AssertionError(f"No run of {name!r} has started, but {self._told()}")
        if not earlier <= ends.keys() or max(ends[each] for each in earlier) > min(
            starts[each] for each in later
        ):
            timeline = "\n".join(
                str(each)
                for each in events
                if is_of(each.task_run, before) or is_of(each.task_run, after)
            )
            raise AssertionError(f"{before!r} had not ended when {after!r} started:\n{timeline}")

    def clear(self) -> None:
        """Forget all that has been recorded."""
        self._record.clear()

    def _told(self, found: tuple[RecordedRun, ...] = ()) -> str:
        runs = found or self.runs()
        names = ", ".join(f"{each.name} ({each.state.name})" for each in runs) or "nothing"
        return f"{len(found)}: {names}" if found else f"none; recorded: {names}"

    # ------------------------------------------------------------------ being a runner

    @property
    def name(self) -> str:
        """The inner runner's short name."""
        return self._inner.name

    @property
    def concurrency_type(self) -> ConcurrencyType:
        """As of the inner runner."""
        return self._inner.concurrency_type

    @property
    def keeps_to_clock(self) -> bool:
        """As of the inner runner."""
        return self._inner.keeps_to_clock

    def _settings(self) -> Mapping[str, object]:
        return {"inner": self._inner}

    def duplicate(self) -> Self:
        """Return a recorder that has not been started and adds to the same record."""
        copy = super().duplicate()
        copy._record_with(self._record)
        return copy

    def __str__(self) -> str:
        return str(self._inner)

    async def _start(self, exit_stack: AsyncExitStack) -> None:
        self._inner.backend = self.backend
        await exit_stack.enter_async_context(self._inner.start())

    def __enter__(self) -> Self:
        self._refuse_second_start()
        self._inner.backend = self.backend
        self._inner.__enter__()
        self._enter_in_place()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._inner.__exit__(kind, error, traceback)
        finally:
            self._leave_in_place(None)  # It waits for nothing: all has ended.

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        return self._inner.dispatch(item)

    def runs_in_place(self, item: WorkItem[R]) -> bool:
        """As of the inner runner."""
        return self._inner.runs_in_place(item)

    def note_abandoned(self, run: TaskRun) -> None:
        """Count an abandoned run; see `TaskRunner.note_abandoned`."""
        self._inner.note_abandoned(run)

    def statistics(self) -> RunnerStatistics:
        """Return what the inner runner has done and is doing."""
        return self._inner.statistics()


def _those(runs: tuple[RecordedRun, ...], which: Which) -> list[RecordedRun]:
    name = name_of(which)
    return [each for each in runs if is_of(each.task_run, name)]


def _ids(runs: Mapping[str, TaskRun], name: str) -> set[str]:
    return {id for id, run in runs.items() if is_of(run, name)}
