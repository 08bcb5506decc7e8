"""The recording runner: it behaves as another one, and records what that is given."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Literal, TypeVar, cast

import anyio
import pytest
import sniffio

from anabranch.flows import (
    Completed,
    ConcurrentTaskRunner,
    Failed,
    Future,
    SequentialTaskRunner,
    TaskRun,
    TaskRunner,
    allow_failure,
    branch,
    flow,
    tags,
    task,
)
from anabranch.flows.testing import RecordingTaskRunner, VirtualClock, assert_failed
from anabranch.futures import ConcurrencyType, RunnerNotStartedError, WorkItem

R = TypeVar("R")

HOUR = 3600.0
RUNNERS: list[type[TaskRunner]] = [SequentialTaskRunner, ConcurrentTaskRunner]


@pytest.fixture(params=RUNNERS, ids=lambda runner: runner.__name__)
def recorder(request: pytest.FixtureRequest) -> RecordingTaskRunner:
    """Return a recorder around each local runner."""
    return RecordingTaskRunner(request.param)


@task
def fetch(city: str, tries: int = 1) -> int:
    """Measure a city's name."""
    return len(city) * tries


@task
async def add(a: int, b: int) -> int:
    """Add two numbers in async code."""
    await anyio.lowlevel.checkpoint()
    return a + b


@task
def fail() -> int:
    """Fail."""
    raise LookupError("gone")


@flow
def weather(cities: list[str]) -> int:
    """Add up two cities."""
    first, second = (fetch.submit(city) for city in cities)
    return add.submit(first, second).result()


# ------------------------------------------------------------------------- what is recorded


def test_runs_are_recorded_with_their_parameters_and_states(recorder: RecordingTaskRunner) -> None:
    """Each run is there with its names, its parameters by their values, and its states."""
    assert weather.with_options(task_runner=recorder)(["Oslo", "Quito"]) == 9
    oslo, quito, total = recorder.runs()
    assert [each.task_name for each in recorder.runs()] == ["fetch", "fetch", "add"]
    assert oslo.name == f"fetch-{fetch.key}-0"
    assert oslo.parameters == {"city": "Oslo", "tries": 1}
    assert quito.parameters == {"city": "Quito", "tries": 1}
    assert total.parameters == {"a": 4, "b": 5}
    assert total.flow_run is not None
    assert total.flow_run.flow_name == "weather"
    assert recorder.states("add") == ["Pending", "Running", "Completed"]
    assert isinstance(total.state, Completed)
    assert total.state.value == 9
    assert total.attempts == 1


def test_runs_are_found_by_task_and_by_name(recorder: RecordingTaskRunner) -> None:
    """A task, its name and a run's name all lead to runs."""
    weather.with_options(task_runner=recorder)(["Oslo", "Quito"])
    assert len(recorder.runs(fetch)) == len(recorder.runs("fetch")) == 2
    assert recorder.run(f"fetch-{fetch.key}-1").parameters["city"] == "Quito"
    assert recorder.run(add).task_name == "add"
    assert recorder.runs("nothing") == ()


@pytest.mark.anyio
async def test_async_flows_are_recorded(recorder: RecordingTaskRunner) -> None:
    """The same in async code, on both loops."""

    @flow(task_runner=recorder)
    async def report() -> int:
        return await add.submit(fetch.submit("Oslo"), 1)

    assert await report() == 5
    assert recorder.order() == ["fetch", "add"]
    assert recorder.states("fetch") == ["Pending", "Running", "Completed"]
    assert recorder.run("add").parameters == {"a": 4, "b": 1}


def test_retries_are_recorded_with_virtual_times(recorder: RecordingTaskRunner) -> None:
    """Each attempt and each wait is there, at its time on the virtual clock."""
    calls = 0

    @task(name="flaky", retries=2, retry_delay=HOUR)
    def flaky() -> int:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise LookupError(calls)
        return calls

    @flow(task_runner=recorder)
    def report() -> int:
        return flaky.submit().result()

    with VirtualClock():
        assert report() == 3
    run = recorder.run(flaky)
    assert [(event.time, event.state.name) for event in run.events] == [
        (0, "Pending"),
        (0, "Running"),
        (0, "Retrying"),
        (HOUR, "Running"),
        (HOUR, "Retrying"),
        (2 * HOUR, "Running"),
        (2 * HOUR, "Completed"),
    ]
    assert run.attempts == 3
    assert (run.started, run.ended) == (0, 2 * HOUR)
    assert recorder.events == run.events


def test_times_on_the_machine_s_clock_start_with_the_recorder(
    recorder: RecordingTaskRunner,
) -> None:
    """Without a virtual clock, times are the seconds since the recorder was made."""
    weather.with_options(task_runner=recorder)(["Oslo", "Quito"])
    times = [event.time for event in recorder.events]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] < 600


def test_a_run_behind_a_failed_one_has_no_attempt(recorder: RecordingTaskRunner) -> None:
    """It is recorded as never started, with its arguments as they were given."""

    @flow(task_runner=recorder)
    def report() -> None:
        first = fail.submit()
        add.submit(first, 1)

    assert_failed(report.run(), LookupError)
    run = recorder.run("add")
    assert run.states == ["Pending", "UpstreamFailed"]
    assert run.attempts == 0
    assert run.started is None
    assert isinstance(run.parameters["a"], Future)
    assert recorder.order() == ["fail"]
    assert isinstance(recorder.run("fail").state, Failed)


def test_tolerated_failures_are_recorded_as_given(recorder: RecordingTaskRunner) -> None:
    """A run that takes a failure has the exception for its parameter."""

    @task
    def show(error: object) -> str:
        return repr(error)

    @flow(task_runner=recorder)
    def report() -> str:
        return show.submit(allow_failure(fail.submit())).result()

    assert report() == "LookupError('gone')"
    assert isinstance(recorder.run("show").parameters["error"], LookupError)


def test_nested_submissions_are_recorded(recorder: RecordingTaskRunner) -> None:
    """What tasks submit is recorded like all else, after what submitted it."""

    @task
    def parent() -> int:
        return fetch.submit("Oslo").result()

    @flow(task_runner=recorder)
    def report() -> int:
        return parent.submit().result()

    assert report() == 4
    assert [each.task_name for each in recorder.runs()] == ["parent", "fetch"]
    assert recorder.order() == ["parent", "fetch"]
    names = [(event.task_run.task_name, event.state.name) for event in recorder.events]
    assert names.index(("fetch", "Completed")) < names.index(("parent", "Completed"))


def test_mapped_runs_streams_and_branches_are_recorded(recorder: RecordingTaskRunner) -> None:
    """However runs are submitted, the recorder sees them."""

    @flow(task_runner=recorder)
    def report() -> list[int]:
        with branch():
            mapped = fetch.map(["Oslo", "Rome"])
        with tags("streamed"):
            streamed = list(fetch.imap(["Quito", "La Paz"]))
        return mapped.result() + streamed

    assert report() == [4, 4, 5, 6]
    assert [each.parameters["city"] for each in recorder.runs(fetch)] == [
        "Oslo",
        "Rome",
        "Quito",
        "La Paz",
    ]
    assert "streamed" in recorder.runs()[2].task_run.tags


def test_direct_calls_are_not_recorded(recorder: RecordingTaskRunner) -> None:
    """A task that is called directly is no business of a runner's."""

    @flow(task_runner=recorder)
    def report() -> int:
        return fetch("Oslo")

    assert report() == 4
    assert recorder.runs() == ()


def test_flow_attempts_and_subflows_share_one_record(recorder: RecordingTaskRunner) -> None:
    """All duplicates of a recorder add to it: each attempt's, and each flow's that has it."""
    calls = 0

    @flow(task_runner=recorder)
    def inner() -> int:
        return fetch.submit("Rome").result()

    @flow(task_runner=recorder, retries=1)
    def outer() -> int:
        nonlocal calls
        calls += 1
        fetch.submit("Oslo").wait()
        if calls == 1:
            raise LookupError(calls)
        return inner()

    assert outer() == 4
    assert [each.parameters["city"] for each in recorder.runs()] == ["Oslo", "Oslo", "Rome"]
    recorder.clear()
    assert recorder.runs() == ()
    assert recorder.events == ()


def test_a_run_that_ends_the_program_is_recorded() -> None:
    """What a task raises for the thread that it runs in is recorded as a crash."""

    @task
    def leave() -> None:
        raise SystemExit(3)

    recorder = RecordingTaskRunner()

    @flow(task_runner=recorder)
    def report() -> None:
        leave.submit()

    with pytest.raises(SystemExit):
        report()
    assert recorder.states("leave") == ["Pending", "Running", "Crashed"]


def test_listeners_are_told_as_ever(recorder: RecordingTaskRunner) -> None:
    """Hooks of a task are called, whoever else listens."""
    told: list[str] = []

    def note(_: object, run: TaskRun, __: object) -> None:
        told.append(run.task_name)

    watched = fetch.with_options(on_running=note, on_completion=note)

    @flow(task_runner=recorder)
    def report() -> int:
        return watched.submit("Oslo").result()

    assert report() == 4
    assert told == ["fetch", "fetch"]
    assert recorder.states("fetch") == ["Pending", "Running", "Completed"]


class Pausing(TaskRunner):
    """Runs nothing: its runs end when the test says so, and tell the test first."""

    def __init__(self) -> None:
        super().__init__()
        self.futures: list[Future[int]] = []
        self.first_to_know: Callable[[object], object] = repr

    @property
    def concurrency_type(self) -> ConcurrencyType:
        return ConcurrencyType.CONCURRENT

    def duplicate(self) -> Pausing:
        return self

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        future: Future[R] = Future(item.task_run, listener=item.listener)
        future.add_done_callback(lambda each: self.first_to_know(each))
        self.futures.append(cast("Future[int]", future))
        return future


@pytest.mark.parametrize("looks_first", [True, False])
def test_an_end_is_recorded_before_anything_that_follows_it(looks_first: bool) -> None:
    """A run that has ended is so in the record, whoever is the first to be told of it."""
    inner = Pausing()
    recorder = RecordingTaskRunner(inner)
    seen: list[str] = []

    def follow(_: object) -> None:
        inner.first_to_know = repr
        if looks_first:
            seen.extend(recorder.runs()[0].states)
        runner.submit(fetch.function, "Rome")
        if not looks_first:
            seen.extend(recorder.runs()[0].states)

    with recorder as runner:
        runner.submit(fetch.function, "Oslo")
        inner.first_to_know = follow
        inner.futures[0].set_running()
        inner.futures[0].set_final(Completed(4))
        inner.futures[1].set_final(Completed(5))
    assert seen == ["Pending", "Running", "Completed"]
    first, second = recorder.runs()
    assert recorder.events == (*first.events, *second.events)


# ------------------------------------------------------------------------- assertions


def two_tasks(runner: TaskRunner, between: Callable[[Future[int]], object]) -> None:
    """Run fetch and add in a flow, doing something in between."""

    @flow(task_runner=runner)
    def report() -> None:
        first = fetch.submit("Oslo")
        between(first)
        add.submit(1, 2).wait()

    report()


def test_the_order_of_runs_is_asserted(recorder: RecordingTaskRunner) -> None:
    """What was waited for ran before what was submitted then, and not the other way round."""
    two_tasks(recorder, lambda first: first.result())
    recorder.assert_ran_before("fetch", "add")
    recorder.assert_ran_before(fetch, add)
    message = r"'add' had not ended when 'fetch' started:\n +\d+\.\d{3} s \| fetch-.* \| Pending"
    with pytest.raises(AssertionError, match=message):
        recorder.assert_ran_before("add", "fetch")


def test_runs_that_overlap_are_in_no_order() -> None:
    """A run that started while another went on was not before nor after it."""
    recorder = RecordingTaskRunner(ConcurrentTaskRunner())

    @task
    def parent() -> int:
        return fetch.submit("Oslo").result()

    @flow(task_runner=recorder)
    def report() -> int:
        return parent.submit().result()

    report()
    for first, second in ((parent, fetch), (fetch, parent)):
        with pytest.raises(AssertionError, match=r"had not ended when"):
            recorder.assert_ran_before(first, second)


def test_what_has_not_run_is_in_no_order(recorder: RecordingTaskRunner) -> None:
    """An order of runs that there are none of is an error that says what there was."""
    with pytest.raises(AssertionError, match=r"^No run of 'fetch' has started, .*: nothing$"):
        recorder.assert_ran_before("fetch", "add")
    two_tasks(recorder, lambda _: None)
    message = r"^No run of 'fly' has started, but none; recorded: fetch-\S+ \(Completed\), add-"
    with pytest.raises(AssertionError, match=message):
        recorder.assert_ran_before("fetch", "fly")


def test_one_run_means_one(recorder: RecordingTaskRunner) -> None:
    """Asked for the one run of a task that has none or several, it says what there is."""
    weather.with_options(task_runner=recorder)(["Oslo", "Quito"])
    message = r"^There is not 1 run of 'fetch' but 2: fetch-\S+-0 \(Completed\), fetch-\S+-1"
    with pytest.raises(AssertionError, match=message):
        recorder.run(fetch)
    with pytest.raises(AssertionError, match=r"^There is not 1 run of 'fly' but none; recorded: "):
        recorder.states("fly")


# ------------------------------------------------------------------------- being a runner


@pytest.mark.parametrize("inner", RUNNERS)
def test_it_passes_for_the_inner_runner(inner: type[TaskRunner]) -> None:
    """Names, kind and settings are those of the inner runner."""
    plain, recorder = inner(), RecordingTaskRunner(inner())
    assert str(recorder) == str(plain)
    assert recorder.name == plain.name
    assert recorder.concurrency_type is plain.concurrency_type
    assert recorder.keeps_to_clock
    assert recorder == RecordingTaskRunner(inner)
    assert recorder.duplicate() == recorder
    assert hash(recorder.duplicate()) == hash(recorder)
    assert recorder != plain
    assert repr(recorder) == f"RecordingTaskRunner(inner={plain!r})"


def test_settings_of_the_inner_runner_are_kept() -> None:
    """Its duplicates, and copies of its pickle, have the inner runner's settings."""
    recorder = RecordingTaskRunner(ConcurrentTaskRunner(max_workers=3))
    assert "max_workers=3" in repr(recorder.duplicate().duplicate())
    copy = pickle.loads(pickle.dumps(recorder))
    assert copy == recorder
    assert copy.runs() == ()


def test_it_can_be_used_without_flows(recorder: RecordingTaskRunner) -> None:
    """In a plain `with` it takes functions, as other runners do, and counts them."""
    with recorder as runner:
        assert runner.submit(pow, 2, 10).result() == 1024
        assert runner.statistics().submitted == 1
    assert recorder.states("pow") == ["Pending", "Running", "Completed"]
    with pytest.raises(RunnerNotStartedError, match="is not started any more"):
        recorder.submit(pow, 2, 10)


def test_abandoned_runs_are_counted(recorder: RecordingTaskRunner) -> None:
    """What engines report of runs that were given up is in the statistics."""
    with recorder as runner:
        runner.note_abandoned(TaskRun("1", "fetch-0", "fetch"))
        assert runner.statistics().abandoned == 1


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_the_loop_is_the_one_that_the_flow_names(
    recorder: RecordingTaskRunner, backend: Literal["trio", "asyncio"]
) -> None:
    """The flow's choice of an event loop reaches the inner runner."""

    @task
    async def library() -> str:
        return sniffio.current_async_library()

    @flow(task_runner=recorder, backend=backend)
    def report() -> str:
        return library.submit().result()

    assert report() == backend


@pytest.mark.anyio
async def test_it_can_be_used_without_flows_in_async_code(recorder: RecordingTaskRunner) -> None:
    """So it does in async code, and leaving it by an exception cancels what it runs."""

    async def forever() -> None:
        await anyio.sleep_forever()

    async def leave() -> None:
        async with recorder.start() as runner:
            runner.submit(forever)
            raise LookupError

    with pytest.raises(LookupError):
        await leave()
    assert recorder.runs()[0].states[-1] == "Cancelled"


@pytest.mark.parametrize("inner", RUNNERS)
def test_leaving_a_flow_by_an_exception_cancels(inner: type[TaskRunner]) -> None:
    """Runs that wait for their next attempt are cancelled when the flow's body raises."""
    recorder = RecordingTaskRunner(inner)

    @task(retries=1, retry_delay=HOUR)
    async def lost() -> None:
        raise LookupError

    @flow(task_runner=recorder)
    async def report() -> None:
        future = lost.submit()
        while recorder.runs()[0].states[-1] != "Retrying":
            await anyio.lowlevel.checkpoint()
        assert not future.done()
        raise ValueError("enough")

    assert_failed(anyio.run(report.run, backend="trio"), ValueError, match="enough")
    assert recorder.states("lost") == ["Pending", "Running", "Retrying", "Cancelled"]


class Elsewhere(TaskRunner):
    """Says that it runs things in other processes."""

    @property
    def concurrency_type(self) -> ConcurrencyType:
        return ConcurrencyType.PARALLEL

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        raise NotImplementedError


def test_it_is_refused_with_a_runner_that_the_clock_does_not_reach() -> None:
    """A recorder keeps to the clock if the runner inside does."""
    recorder = RecordingTaskRunner(Elsewhere())
    assert not recorder.keeps_to_clock
    with VirtualClock(), pytest.raises(RuntimeError, match="Cannot start this Elsewhere"), recorder:
        pass


def test_what_is_no_runner_is_refused() -> None:
    """The inner runner must be one."""
    with pytest.raises(TypeError, match="is no task runner: give an instance or a class"):
        RecordingTaskRunner(int)  # type: ignore[arg-type]  # That is what is tested.
