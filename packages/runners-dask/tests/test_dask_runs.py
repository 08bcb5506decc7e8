"""What becomes of single runs, on one cluster for all."""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import attrs
import dask.base
import distributed
import pytest

from anabranch.futures import (
    Backend,
    Cancellation,
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Future,
    ResultUnavailableError,
    RunCancelledError,
    TaskRun,
    TaskRunner,
    UpstreamFailed,
    allow_failure,
    gather,
    lift,
    wait,
)
from anabranch.futures.runner import RunScope, current_scope, make_item, new_run_id
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.dask import DaskTaskRunner
from anabranch.runners.dask._cancelling import Canceller
from anabranch.runners.dask._fetching import Fetcher
from anabranch.runners.dask._native import NativeFuture
from anabranch.runners.dask._run import DaskRun

pytestmark = pytest.mark.slow

_SLOTS = 2


@attrs.frozen
class Started:
    """A started runner, and the cluster that it made."""

    runner: TaskRunner
    cluster: distributed.LocalCluster

    @property
    def scheduler(self) -> distributed.Scheduler:
        """The cluster's scheduler, which is in this process."""
        scheduler = self.cluster.scheduler
        assert isinstance(scheduler, distributed.Scheduler)
        return scheduler


@pytest.fixture(scope="module")
def started() -> Iterator[Started]:
    made: list[distributed.LocalCluster] = []

    def make(**kwargs: Any) -> distributed.LocalCluster:  # noqa: ANN401 - whatever it takes
        made.append(distributed.LocalCluster(**kwargs))
        return made[0]

    kwargs = {"n_workers": _SLOTS, "threads_per_worker": 1, "dashboard_address": ":0"}
    with DaskTaskRunner(cluster_class=make, cluster_kwargs=kwargs) as runner:
        yield Started(runner, made[0])


@pytest.fixture(scope="module")
def runner(started: Started) -> TaskRunner:
    return started.runner


@pytest.fixture(autouse=True)
def idle(started: Started) -> None:
    """Wait until no worker is busy: the scheduler may give all that comes then to another one."""
    workers = started.scheduler.workers
    until(lambda: not any(worker.processing for worker in workers.values()))


def key_of(future: Future[Any]) -> str:
    """Return the run's key on Dask."""
    return f"{future.task_run.name}-{future.task_run.id}"


def until(condition: Callable[[], bool]) -> None:
    """Wait for what must come true soon, and tells nobody when it does."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        threading.Event().wait(0.002)


def after(
    runner: TaskRunner, awaited: list[Future[Any]], function: Callable[..., Any], *args: object
) -> Future[Any]:
    """Submit a call that waits for runs without taking their values."""
    run_id = new_run_id()
    run = TaskRun(run_id, f"after-{run_id[-8:]}", "after")
    return runner.dispatch(make_item(function, args, {}, task_run=run, wait_for=tuple(awaited)))


def increment(number: int) -> int:
    return number + 1


def same(value: object) -> object:
    return value


def as_list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


def fail() -> int:
    raise ValueError("no")


def fail_at_length() -> int:
    raise ValueError("no" * 20_000)


def touch(path: Path) -> None:
    path.touch()


def exists(path: Path) -> bool:
    return path.exists()


def wait_at(ticket: Ticket, value: int = 0) -> int:
    ticket.wait()
    return value


def touch_after(ticket: Ticket, path: Path) -> None:
    ticket.wait()
    path.touch()


async def wait_for_ever(ticket: Ticket, path: Path) -> None:
    try:
        await anyio.to_thread.run_sync(ticket.wait)
        await anyio.sleep_forever()
    finally:
        path.touch()


class Unpicklable:
    """Cannot be pickled."""

    def __reduce__(self) -> tuple[object, ...]:
        raise RuntimeError("not me")


def _explode() -> None:
    raise SystemExit("not here")


class Explosive:
    """Cannot be unpickled in the client's process, nor elsewhere."""

    def __reduce__(self) -> tuple[object, ...]:
        return _explode, ()


def _arrive(log: Path) -> Traveller:
    with log.open("a") as file:
        file.write(f"{os.getpid()}\n")
    return Traveller(log)


class Traveller:
    """Writes down in which process it is unpickled."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def __reduce__(self) -> tuple[object, ...]:
        return _arrive, (self.log,)

    def arrivals(self) -> list[int]:
        return [int(line) for line in self.log.read_text().split()] if self.log.exists() else []


def make_traveller(log: Path) -> Traveller:
    return Traveller(log)


@dataclasses.dataclass
class Record:
    content: object


# ---------------------------------------------------------------------------- values


def test_a_value_stays_on_its_worker_until_it_is_asked_for(
    runner: TaskRunner, tmp_path: Path
) -> None:
    """The client learns how a run ended without the value; asking for it brings it over once."""
    log = tmp_path / "log"
    future = runner.submit(make_traveller, log)
    state = future.wait()
    assert isinstance(state, Completed)
    assert not state.is_local
    assert Traveller(log).arrivals() == []
    value = future.result()
    assert state.is_local
    assert value is future.result()
    assert Traveller(log).arrivals() == [os.getpid()]


def test_values_of_upstreams_do_not_pass_through_the_client(
    runner: TaskRunner, tmp_path: Path
) -> None:
    """A run on the value of another gets it from the worker, at any depth of containers."""
    log = tmp_path / "log"
    first = runner.submit(make_traveller, log)
    second = runner.submit(same, {"a": [Record((lift(first), 1))]})
    assert isinstance(second.wait(), Completed)
    assert os.getpid() not in Traveller(log).arrivals()


def test_values_with_allowed_failure_do_not_pass_through_the_client(
    runner: TaskRunner, tmp_path: Path
) -> None:
    """Nor does the value of a run whose failure would have been allowed."""
    log = tmp_path / "log"
    second = runner.submit(same, [allow_failure(runner.submit(make_traveller, log))])
    assert isinstance(second.wait(), Completed)
    assert os.getpid() not in Traveller(log).arrivals()


def test_waiting_for_a_run_does_not_move_its_value(runner: TaskRunner, tmp_path: Path) -> None:
    """What waits for runs without wanting their values is held back, and no value travels."""
    log = tmp_path / "log"
    with Gate() as gate:
        held = runner.submit(functools.partial(_wait_and_make, gate.ticket), log)
        gate.await_arrival()
        dependants = [after(runner, [held], increment, number) for number in range(4)]
        assert not any(each.done() for each in dependants)
        gate.open()
        assert [each.result() for each in dependants] == [1, 2, 3, 4]
    assert isinstance(held.state, Completed)
    assert Traveller(log).arrivals() == []


def _wait_and_make(ticket: Ticket, log: Path) -> Traveller:
    ticket.wait()
    return Traveller(log)


def test_what_waits_for_a_run_that_fails_never_starts(runner: TaskRunner, tmp_path: Path) -> None:
    """A run that waits for one that fails is UpstreamFailed with the root cause, unstarted."""
    with Gate() as gate:
        held = runner.submit(_wait_and_fail, gate.ticket)
        gate.await_arrival()
        dependant = after(runner, [held], touch, tmp_path / "ran")
        gate.open()
        state = dependant.wait()
    assert isinstance(state, UpstreamFailed)
    assert isinstance(state.cause, ValueError)
    assert not (tmp_path / "ran").exists()


def _wait_and_fail(ticket: Ticket) -> None:
    ticket.wait()
    raise ValueError("no")


def test_a_dropped_future_frees_the_value(started: Started) -> None:
    """The runner keeps nothing of a finished run whose future is dropped, and neither does Dask."""
    tasks = started.scheduler.tasks
    future = started.runner.submit(same, b"x" * 1000)
    assert future.result() == b"x" * 1000
    key = key_of(future)
    assert key in tasks
    del future
    until(lambda: key not in tasks)


def test_a_failed_run_frees_everything(started: Started) -> None:
    """Of a failed run nothing stays on Dask, even while its future is kept."""
    future = started.runner.submit(fail)
    dependant = started.runner.submit(increment, lift(future))
    wait([future, dependant])
    keys = [key_of(each) for each in (future, dependant)]
    until(lambda: not any(key in started.scheduler.tasks for key in keys))


def test_dask_shows_the_tasks_name(started: Started) -> None:
    """The key's text up to the first dash, which Dask shows as the name, is the task's name."""
    future = started.runner.submit(increment, 1)
    future.wait()
    key = key_of(future)
    assert started.scheduler.tasks[key].prefix.name == "increment"


# ---------------------------------------------------------------------------- functions


@contextmanager
def held_loop(runner: TaskRunner) -> Iterator[None]:
    """Hold the loop of a runner's client, so that nothing is sent."""
    assert isinstance(runner, DaskTaskRunner)
    is_held, may_go_on = threading.Event(), threading.Event()

    def hold() -> None:
        is_held.set()
        may_go_on.wait()

    runner._connection._client.loop.add_callback(hold)  # type: ignore[union-attr]  # It has started.
    is_held.wait()
    try:
        yield
    finally:
        may_go_on.set()


class Graphs(distributed.SchedulerPlugin):
    """Keeps the keys of each graph that comes in."""

    name = "graphs"

    def __init__(self) -> None:
        self.keys: list[set[str]] = []

    def update_graph(self, *_: Any, **graph: Any) -> None:  # noqa: ANN401 - as Dask has it
        """Take note of a graph."""
        self.keys.append(set(graph["keys"]))


@contextmanager
def graphs_of(started: Started) -> Iterator[list[int]]:
    """Note how many keys each graph has that comes in."""
    plugin = Graphs()
    sizes: list[int] = []
    started.scheduler.add_plugin(plugin)
    try:
        yield sizes
    finally:
        started.scheduler.remove_plugin(plugin.name)
        sizes.extend(len(keys) for keys in plugin.keys)


def test_what_is_submitted_together_is_sent_together(started: Started) -> None:
    """Runs that come in while the client is busy are one graph, up to a size."""
    with graphs_of(started) as graphs:
        with held_loop(started.runner):
            futures = [started.runner.submit(increment, number) for number in range(50)]
            large = [started.runner.submit(len, b"x" * 3_000_000) for _ in range(3)]
        assert [future.result() for future in futures] == list(range(1, 51))
        assert [future.result() for future in large] == [3_000_000] * 3
    assert graphs == [52, 1]


def test_what_is_submitted_in_a_block_is_one_graph(started: Started) -> None:
    """So are the runs of a map, and those that each depend on one of them."""
    runner = started.runner
    with graphs_of(started) as graphs:
        with runner.together():
            first = [runner.submit(increment, number) for number in range(1_000)]
        with runner.together():
            second = [runner.submit(increment, lift(future)) for future in first]
        assert [future.result() for future in second] == list(range(2, 1_002))
    assert graphs == [1_000, 1_000]


def test_what_is_refused_together_is_submitted_alone(started: Started) -> None:
    """A key that Dask has lost costs no run that does not depend on it."""
    runner = started.runner
    first = [runner.submit(increment, number) for number in range(3)]
    wait(first)
    # Behind the client's back, which submits what depends on it all the same.
    wanted_by = started.scheduler.tasks[key_of(first[1])].who_wants
    assert wanted_by is not None
    (client,) = wanted_by
    started.scheduler.client_releases_keys([key_of(first[1])], client=client.client_key)
    with runner.together():
        second = [runner.submit(increment, lift(future)) for future in first]
    assert second[0].result() == 2
    assert second[2].result() == 4
    assert isinstance(second[1].wait(), Crashed)


def test_annotations_are_those_of_the_submission(started: Started) -> None:
    """What is sent together goes by what `dask.annotate` said where each run was submitted."""
    with Gate() as gate:
        with held_loop(started.runner):
            plain = [started.runner.submit(wait_at, gate.ticket)]
            with dask.base.annotate(priority=7):
                urgent = [started.runner.submit(wait_at, gate.ticket) for _ in range(2)]
            plain.append(started.runner.submit(wait_at, gate.ticket))
        keys = {key_of(future) for future in (*plain, *urgent)}
        until(lambda: keys <= started.scheduler.tasks.keys())
        by_key = {str(key): task for key, task in started.scheduler.tasks.items()}
        priorities = {
            future.task_run.id: by_key[f"{future.task_run.name}-{future.task_run.id}"].priority
            for future in (*plain, *urgent)
        }
        gate.open()
        wait([*plain, *urgent])
    found = [priorities[future.task_run.id] for future in (*plain, *urgent)]
    assert [priority and priority[0] for priority in found] == [0, 0, -7, -7]


def test_a_run_that_is_cancelled_before_it_is_sent_is_not_sent(
    started: Started, tmp_path: Path
) -> None:
    """What was submitted beside it is, in its order, and so is what depends on that."""
    with held_loop(started.runner):
        first = started.runner.submit(touch, tmp_path / "first")
        unwanted = started.runner.submit(touch, tmp_path / "unwanted")
        assert unwanted.cancel() is Cancellation.CANCELLED
        dependant = started.runner.submit(same, lift(first))
    assert dependant.result() is None
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_small_records_come_along(runner: TaskRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a small record takes no request; what is larger is fetched, and whole as well."""
    fetched = list[str]()
    fetch = Fetcher.__call__

    def fetch_and_tell(self: Fetcher, native: NativeFuture) -> object:
        fetched.append(native.key)
        return fetch(self, native)

    monkeypatch.setattr(Fetcher, "__call__", fetch_and_tell)
    assert runner.submit(Record, {"a": [1]}).result() == Record({"a": [1]})
    assert fetched == []
    assert runner.submit(Record, "x" * 1_000).result() == Record("x" * 1_000)
    assert len(fetched) == 1


def test_values_of_many_runs_come_together(
    runner: TaskRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading the values of a list takes a request for many of them, not one for each."""
    requests = list[int]()
    bring = Fetcher._gather

    async def count(self: Fetcher, keys: list[str]) -> Any:  # noqa: ANN401 - as it is
        requests.append(len(keys))
        return await bring(self, keys)

    monkeypatch.setattr(Fetcher, "_gather", count)
    futures = gather([runner.submit(bytes, 1_000 + number) for number in range(100)])
    assert [len(value) for value in futures.result()] == list(range(1_000, 1_100))
    assert requests == [64, 36]


def test_one_value_that_cannot_be_had_spoils_no_other(runner: TaskRunner) -> None:
    """It raises for who reads it; the rest of a list is there."""
    good = [runner.submit(bytes, 1_000) for _ in range(3)]
    bad = runner.submit(Explosive)
    futures = gather([*good, bad])
    with pytest.raises(ResultUnavailableError, match="SystemExit"):
        futures.result()
    assert [len(each.result()) for each in good] == [1_000] * 3


def test_lambdas_and_closures_travel(runner: TaskRunner) -> None:
    """Functions that cannot be imported on the worker are sent as they are."""
    offset = 5
    assert runner.submit(lambda number: number + offset, 1).result() == 6


def test_a_function_is_sent_as_it_is_now_if_it_may_change(runner: TaskRunner) -> None:
    """A callable with state of its own is pickled for every run, not only for the first."""

    class Adder:
        offset = 0

        def __call__(self, number: int) -> int:
            return number + self.offset

    adder = Adder()
    assert runner.submit(adder, 1).result() == 1
    adder.offset = 2
    assert runner.submit(adder, 1).result() == 3


def test_a_closure_is_sent_as_it_is_now(runner: TaskRunner) -> None:
    """What a closure refers to may have changed since it was submitted before."""
    offset, others = 1, [10]

    def add(number: int) -> int:
        return number + offset + sum(others)

    assert runner.submit(add, 0).result() == 11
    offset = 2
    others.append(100)
    assert runner.submit(add, 0).result() == 112


def test_builtins_travel(runner: TaskRunner) -> None:
    """A builtin function can be submitted, with keywords too."""
    assert runner.submit(pow, 2, 10).result() == 1024
    assert runner.submit(sorted, [3, 1, 2], reverse=True).result() == [3, 2, 1]


def test_a_string_that_happens_to_be_a_key_stays_a_string(runner: TaskRunner) -> None:
    """Dask replaces strings that are keys by values; arguments of runs are kept from that."""
    first = runner.submit(increment, 1)
    first.wait()
    key = key_of(first)
    assert runner.submit(same, [key]).result() == [key]


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_async_tasks_run_on_the_loop_that_was_chosen(runner: TaskRunner, backend: Backend) -> None:
    """An async task runs in a new event loop of the chosen kind on its worker."""

    async def which() -> str:
        import sniffio  # noqa: PLC0415 - on the worker

        await anyio.lowlevel.checkpoint()
        return sniffio.current_async_library()

    run_id = new_run_id()
    run = TaskRun(run_id, f"which-{run_id[-8:]}", "which")
    item = make_item(which, (), {}, task_run=run, backend=backend)
    assert runner.dispatch(item).result() == backend


# ---------------------------------------------------------------------------- failures


def test_a_failure_comes_back_as_it_was_raised(runner: TaskRunner) -> None:
    """The exception has its own type, and a note of where it was raised."""
    future = runner.submit(fail)
    with pytest.raises(ValueError, match="no") as info:
        future.result()
    (note,) = info.value.__notes__
    assert "another process" in note
    assert "def fail" in note or 'raise ValueError("no")' in note


def test_a_long_message_comes_back_whole(runner: TaskRunner) -> None:
    """Dask cuts long exceptions short; the failures of runs are kept from that."""
    error = runner.submit(fail_at_length).exception()
    assert isinstance(error, ValueError)
    assert len(str(error)) == 40_000


def test_an_argument_that_cannot_be_pickled_is_named(runner: TaskRunner) -> None:
    """The error for an argument that cannot be pickled names the run and the argument."""
    future = runner.submit(same, Unpicklable())
    with pytest.raises(TypeError, match=r"Run 'same-.*' cannot be sent.*'value'.*not me"):
        future.result()


def test_a_function_that_cannot_be_pickled_is_named(runner: TaskRunner) -> None:
    """The error for a function that cannot be pickled names what is to blame in it."""
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"its function, which refers to 'lock', .*as an argument"):
        runner.submit(lambda: lock).result()


def test_an_argument_that_cannot_be_unpickled_is_told_from_a_failure(runner: TaskRunner) -> None:
    """A run whose arguments fall apart on the worker has crashed, saying which worker."""

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return int, ("not a number",)

    state = runner.submit(same, Bomb()).wait()
    assert isinstance(state, Crashed)
    assert "could not be unpacked on the Dask worker tcp://" in str(state)
    assert "not a number" in str(state)


def test_a_failed_upstream_ends_what_waits_for_others_too(
    runner: TaskRunner, tmp_path: Path
) -> None:
    """A run fails with its upstream at once, even while it waits for a foreign run."""
    foreign: Future[int] = Future(TaskRun("0" * 32, "foreign", "foreign"))
    dependant = runner.submit(same, [runner.submit(fail), foreign])
    state = dependant.wait()
    assert isinstance(state, UpstreamFailed)
    assert isinstance(state.cause, ValueError)


def test_allowed_failures_of_runs_elsewhere_are_values(runner: TaskRunner) -> None:
    """A failure that is allowed is handed on, whether it happened here or elsewhere."""
    foreign: Future[int] = Future(TaskRun("0" * 32, "foreign", "foreign"))
    future = runner.submit(same, [allow_failure(foreign), allow_failure(runner.submit(fail))])
    foreign.set_final(Failed(KeyError("elsewhere")))
    assert [type(each) for each in as_list(future.result())] == [KeyError, ValueError]


# ---------------------------------------------------------------------------- other runners


def test_futures_of_a_local_runner_are_waited_for(runner: TaskRunner) -> None:
    """A run on the futures of another runner starts when they have ended, with their values."""
    foreign: Future[int] = Future(TaskRun("0" * 32, "foreign", "foreign"))
    dependant = runner.submit(increment, lift(foreign))
    behind = runner.submit(increment, lift(dependant))
    beside = after(runner, [dependant], increment, 0)
    assert not dependant.done()
    foreign.set_final(Completed(3))
    assert (dependant.result(), behind.result(), beside.result()) == (4, 5, 1)


def test_futures_of_another_dask_runner_are_fetched(runner: TaskRunner) -> None:
    """A value that lies on another cluster is brought over, and not in a thread of Dask's."""
    kwargs = {"processes": False, "n_workers": 1, "threads_per_worker": 1}
    with DaskTaskRunner(cluster_kwargs={**kwargs, "dashboard_address": ":0"}) as other:
        first = other.submit(increment, 1)
        assert runner.submit(increment, lift(first)).result() == 3
        names = {thread.name for thread in threading.enumerate()}
        assert "anabranch-dask-helper" in names
    back = runner.submit(increment, 1)
    assert isinstance(back.wait(), Completed)


# ---------------------------------------------------------------------------- running, cancelling


def test_a_run_is_seen_to_start(runner: TaskRunner) -> None:
    """The client learns when a worker begins with a run, and counts it."""
    before = runner.statistics()
    with Gate() as gate:
        future = runner.submit(wait_at, gate.ticket)
        gate.await_arrival()
        until(future.is_running)
        assert runner.statistics().running == before.running + 1
        gate.open()
        future.wait()


def test_a_running_function_cannot_be_stopped(runner: TaskRunner) -> None:
    """Cancelling a function that a worker is executing changes nothing, and says so."""
    with Gate() as gate:
        future = runner.submit(wait_at, gate.ticket, 3)
        gate.await_arrival()
        until(future.is_running)
        assert future.cancel() is Cancellation.CANNOT_STOP
        gate.open()
        assert future.result() == 3


def test_a_running_async_task_is_stopped_on_its_worker(runner: TaskRunner, tmp_path: Path) -> None:
    """Cancelling an async task that a worker is executing ends it there, running its cleanup."""
    path = tmp_path / "cleaned up"
    gate = Gate()
    future = runner.submit(wait_for_ever, gate.ticket, path)
    gate.await_arrival()
    until(future.is_running)
    gate.open()
    assert future.cancel() is Cancellation.WILL_STOP
    assert isinstance(future.wait(), Cancelled)
    assert path.exists()
    with pytest.raises(RunCancelledError, match="cancelled while it was running"):
        future.result()


def test_a_cancelled_run_never_runs(started: Started, tmp_path: Path) -> None:
    """Runs cancelled right after their submission never start once there is room for them."""
    runner, tasks = started.runner, started.scheduler.tasks
    with Gate() as gate:
        blockers = [runner.submit(wait_at, gate.ticket) for _ in range(_SLOTS)]
        for _ in blockers:
            gate.await_arrival()
        futures = [runner.submit(touch, tmp_path / str(number)) for number in range(20)]
        assert {future.cancel() for future in futures} == {Cancellation.CANCELLED}
        assert all(isinstance(future.state, Cancelled) for future in futures)
        last = runner.submit(increment, 1)
        until(lambda: key_of(last) in tasks)  # So it knew the others as well.
        until(lambda: not any(key_of(future) in tasks for future in futures))
        gate.open()
        assert last.result() == 2
    assert list(tmp_path.iterdir()) == []


def test_cancelling_a_run_cancels_its_dependants(started: Started, tmp_path: Path) -> None:
    """What depends on a cancelled run never runs, and ends in UpstreamFailed at once."""
    runner = started.runner
    with Gate() as gate:
        blockers = [runner.submit(wait_at, gate.ticket) for _ in range(_SLOTS)]
        for _ in blockers:
            gate.await_arrival()
        first = runner.submit(increment, 1)
        chain: list[Future[Any]] = [first]
        for _ in range(50):
            chain.append(runner.submit(same, [chain[-1]]))
        chain.append(after(runner, [chain[-1]], touch, tmp_path / "ran"))
        assert first.cancel() is Cancellation.CANCELLED
        for future in chain[1:]:
            assert isinstance(future.state, UpstreamFailed)
            assert isinstance(future.state.cause, RunCancelledError)
        keys = {key_of(each) for each in chain}
        until(lambda: not keys & set(started.scheduler.tasks))
        gate.open()
        wait(blockers)
    assert not (tmp_path / "ran").exists()


def test_a_cancelled_scope_ends_when_its_runs_can_begin_nowhere(
    runner: TaskRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function that ends after the scope has nothing begun that waited for it."""
    told = list[str]()
    tell_workers = Canceller._tell_workers

    async def tell_and_note(
        self: Canceller, run_ids: list[str], workers: list[str] | None = None
    ) -> None:
        await tell_workers(self, run_ids, workers)
        told.extend(run_ids)

    monkeypatch.setattr(Canceller, "_tell_workers", tell_and_note)
    with Gate() as gate, RunScope(runner=runner) as scope:
        token = current_scope.set(scope)
        held = runner.submit(wait_at, gate.ticket)
        behind = after(runner, [held], touch, tmp_path / "ran")
        current_scope.reset(token)
        gate.await_arrival()
        scope.stop("Time is up.")
        scope.join()
        assert behind.task_run.id in told
        gate.open()
    assert runner.submit(increment, 1).result() == 2
    assert not (tmp_path / "ran").exists()


def test_forgetting_a_run_that_something_unwanted_depends_on_harms_no_other(
    started: Started, tmp_path: Path
) -> None:
    """The scheduler keeps the client, and its other runs, whatever it is asked to forget."""
    runner, tasks = started.runner, started.scheduler.tasks
    with Gate() as gate:
        blockers = [runner.submit(wait_at, gate.ticket, number) for number in range(_SLOTS)]
        for _ in blockers:
            gate.await_arrival()
        first = cast("DaskRun[int]", runner.submit(increment, 1))
        last = cast("DaskRun[Any]", after(runner, [first], touch, tmp_path / "ran"))
        until(lambda: key_of(last) in tasks)
        first._gate, last._gates = None, []
        until(lambda: not tasks[f"wait_for-{key_of(first)}"].who_wants)
        assert first._native is not None
        first._connection.cancel(first, first._native)
        until(lambda: not tasks[key_of(first)].who_wants)
        assert first.cancel() is Cancellation.CANCELLED
        assert isinstance(last.state, UpstreamFailed)
        gate.open()
        assert [each.result() for each in blockers] == [0, 1]


def test_a_run_cancelled_while_it_waits_for_others_never_gets_to_dask(
    runner: TaskRunner, tmp_path: Path
) -> None:
    """A run that is cancelled before it could be submitted to Dask is not submitted later."""
    foreign: Future[Path] = Future(TaskRun("0" * 32, "foreign", "foreign"))
    future = runner.submit(touch, lift(foreign))
    assert future.cancel() is Cancellation.CANCELLED
    foreign.set_final(Completed(tmp_path / "ran"))
    assert runner.submit(increment, 1).result() == 2
    assert not (tmp_path / "ran").exists()


def test_a_run_cancelled_on_the_cluster_is_cancelled(started: Started) -> None:
    """A key that somebody else cancels on the cluster ends its run in Cancelled."""
    with Gate() as gate:
        future = started.runner.submit(wait_at, gate.ticket)
        gate.await_arrival()
        key = key_of(future)
        scheduler = started.scheduler
        (client,) = [each.client_key for each in scheduler.tasks[key].who_wants or ()]
        scheduler.loop.add_callback(scheduler.stimulus_cancel, [key], client, True, "", "")
        state = future.wait()
        assert isinstance(state, Cancelled)
        assert "on the Dask cluster" in str(state)
        gate.open()
