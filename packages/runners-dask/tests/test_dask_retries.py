"""Attempts on Dask: one budget for a run's own failures and for the loss of its worker."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import attrs
import dask
import distributed
import pytest
from dask_tasks import dispatch, increment, until

from anabranch.futures import (
    Cancellation,
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Future,
    Retrying,
    RetryPolicy,
    Running,
    State,
    TaskRun,
    TaskRunner,
    UpstreamFailed,
    lift,
    wait,
)
from anabranch.futures.runner import (
    CancelTimer,
    EventLoop,
    current_clock,
    current_scope,
)
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.dask import DaskTaskRunner
from anabranch.runners.dask._cancelling import Canceller
from anabranch.runners.dask._run import DaskRun
from anabranch.runners.dask._stopping import stop_of

pytestmark = pytest.mark.slow

_SLOTS = 2

#: So long that nobody waits for it, in seconds.
_LONG = 3_600.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    """The cluster of the runner."""
    with distributed.LocalCluster(
        n_workers=_SLOTS, threads_per_worker=1, dashboard_address=":0"
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def runner(cluster: distributed.LocalCluster) -> Iterator[TaskRunner]:
    """A started runner, and the only one of the module."""
    with DaskTaskRunner(cluster_class=lambda: cluster) as runner:
        yield runner


@attrs.define
class Heard:
    """What a listener is told."""

    states: list[Running | Retrying] = attrs.Factory(list)

    def __call__(self, run: TaskRun, state: Running | Retrying) -> None:
        self.states.append(state)

    def names(self) -> list[str]:
        return [state.name for state in self.states]


def is_retrying(future: Future[Any]) -> bool:
    return isinstance(future.state, Retrying)


def executions(log: Path) -> list[int]:
    """Return the numbers of the attempts that were made."""
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def _write_down(log: Path) -> int:
    scope = current_scope.get()
    assert scope is not None
    number = scope.context.attempt
    with log.open("a") as file:
        file.write(f"{number}\n")
    return number


def play(log: Path, script: str) -> str:
    """Do at each attempt what its letter says: fail, die, exit, or return the attempts so far."""
    return _act(script[_write_down(log) - 1], script)


async def play_async(log: Path, script: str) -> str:
    """`play`, in an event loop."""
    await anyio.lowlevel.checkpoint()
    return play(log, script)


def _act(letter: str, script: str) -> str:
    match letter:
        case "f":
            raise ValueError("no")
        case "d":
            os._exit(1)
        case "x":
            raise SystemExit("out")
    return script


def play_at(ticket: Ticket, log: Path, script: str) -> str:
    """`play`, having waited at a gate."""
    ticket.wait()
    return play(log, script)


def take(value: object, log: Path) -> object:
    """Write down that this is executed, and return the value."""
    _write_down(log)
    return value


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


def die_once_then_make(log: Path, arrivals: Path) -> Traveller:
    if _write_down(log) == 1:
        os._exit(1)
    return Traveller(arrivals)


class ManualClock:
    """Keeps timers until a test lets their time come."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[[], object]]] = []

    def now(self) -> float:
        return 0.0

    def call_later(self, seconds: float, callback: Callable[[], object]) -> CancelTimer:
        timer = (seconds, callback)
        self.timers.append(timer)
        return lambda: self.timers.remove(timer) if timer in self.timers else None

    def hold(self) -> None:
        pass

    def release(self) -> None:
        pass

    def watch(self, loop: EventLoop) -> None:
        pass

    def fire(self) -> None:
        """Let the time of all timers come."""
        timers, self.timers = self.timers, []
        for _, callback in timers:
            callback()


@pytest.fixture
def clock() -> ManualClock:
    """A clock for what is submitted with `on_clock`."""
    return ManualClock()


def on_clock(clock: ManualClock, submit: Callable[[], Future[Any]]) -> Future[Any]:
    """Submit something that goes by another clock than this thread."""
    token = current_clock.set(clock)
    try:
        return submit()
    finally:
        current_clock.reset(token)


# ---------------------------------------------------------------------------- own failures


@pytest.mark.parametrize("function", [play, play_async])
def test_dask_retries_failures_on_the_worker(
    runner: TaskRunner, tmp_path: Path, function: Callable[..., Any]
) -> None:
    """A run that fails is tried again within its budget, and its client sees each attempt."""
    log, heard = tmp_path / "log", Heard()
    future = dispatch(
        runner, function, log, "ffr", retry=RetryPolicy(3, delay=0.001), listener=heard
    )
    assert future.result() == "ffr"
    assert executions(log) == [1, 2, 3]
    names = ["Running", "Retrying", "Running", "Retrying", "Running"]
    assert heard.names() == names
    assert [state.name for state in future.history] == ["Pending", *names, "Completed"]
    message = str(heard.states[1].message)
    assert message == "Attempt 1 of 4 ended in state Failed('ValueError: no'); " + (
        "the next one follows in 0.001 s"
    )


@pytest.mark.parametrize("function", [play, play_async])
def test_dask_gives_up_when_the_budget_is_spent(
    runner: TaskRunner, tmp_path: Path, function: Callable[..., Any]
) -> None:
    """A run that fails each time ends in its own last failure, and so do its dependants."""
    log = tmp_path / "log"
    future = dispatch(runner, function, log, "fff", retry=RetryPolicy(2))
    dependant = runner.submit(increment, lift(future))
    with pytest.raises(ValueError, match="no"):
        future.result()
    assert isinstance(future.state, Failed)
    assert executions(log) == [1, 2, 3]
    state = dependant.wait()
    assert isinstance(state, UpstreamFailed)
    assert isinstance(state.cause, ValueError)


def test_dask_does_not_retry_what_wants_to_exit(runner: TaskRunner, tmp_path: Path) -> None:
    """SystemExit in a run is not retried, neither on its worker nor by the client."""
    log = tmp_path / "log"
    future = dispatch(runner, play, log, "xr", retry=RetryPolicy(3))
    assert isinstance(future.wait(), Crashed)
    assert executions(log) == [1]


def test_dask_asks_the_condition_on_the_worker(runner: TaskRunner, tmp_path: Path) -> None:
    """A condition that says no ends the run after the attempt that it was asked about."""
    log = tmp_path / "log"
    policy = RetryPolicy(3, condition=lambda state: "yes" in str(state))
    assert isinstance(dispatch(runner, play, log, "fr", retry=policy).wait(), Failed)
    assert executions(log) == [1]


# ---------------------------------------------------------------------------- losses


def test_dask_has_one_budget_for_failures_and_losses(runner: TaskRunner, tmp_path: Path) -> None:
    """Attempts made before a loss count, even if one dies at once: four for three retries."""
    log, heard = tmp_path / "log", Heard()
    future = dispatch(runner, play, log, "fdfr", retry=RetryPolicy(3), listener=heard)
    assert future.result() == "fdfr"
    assert executions(log) == [1, 2, 3, 4]
    assert heard.names() == ["Running", "Retrying"] * 3 + ["Running"]
    assert "Attempt 2 of 4 ended in state Crashed('The Dask worker" in str(heard.states[3])


@pytest.mark.parametrize(("script", "kind"), [("fdf", Failed), ("dfd", Crashed)])
def test_dask_ends_a_run_whose_last_attempt_fails(
    runner: TaskRunner, tmp_path: Path, script: str, kind: type[State[Any]]
) -> None:
    """However failures and losses mix, a run is attempted once more than it has retries."""
    log = tmp_path / "log"
    future = dispatch(runner, play_async, log, script, retry=RetryPolicy(2))
    dependant = runner.submit(increment, lift(future))
    state = future.wait()
    assert isinstance(state, kind)
    assert executions(log) == [1, 2, 3]
    after = dependant.wait()
    assert isinstance(after, UpstreamFailed)
    assert isinstance(state, Failed | Crashed)
    assert after.cause is state.exception


def test_dask_asks_the_condition_about_a_loss(runner: TaskRunner, tmp_path: Path) -> None:
    """The policy's condition is asked about the Crashed state, by the client."""
    log = tmp_path / "log"
    asked: list[State[object]] = []

    def is_no_loss(state: State[object]) -> bool:
        asked.append(state)
        return not isinstance(state, Crashed)

    future = dispatch(runner, play, log, "dr", retry=RetryPolicy(3, condition=is_no_loss))
    state = future.wait()
    assert isinstance(state, Crashed)
    assert "died while it had the run" in str(state)
    assert executions(log) == [1]
    assert asked == [state]


def test_dask_waits_for_the_next_attempt_after_a_loss(
    runner: TaskRunner, tmp_path: Path, clock: ManualClock
) -> None:
    """Between two attempts the future is Retrying, for the policy's delay on the current clock."""
    log, heard = tmp_path / "log", Heard()
    options = {"retry": RetryPolicy(1, delay=[_LONG]), "listener": heard}
    future = on_clock(clock, lambda: dispatch(runner, play, log, "dr", **options))
    until(lambda: bool(clock.timers))
    assert isinstance(future.state, Retrying)
    assert [seconds for seconds, _ in clock.timers] == [_LONG]
    assert [runner.submit(increment, number).result() for number in range(4)] == [1, 2, 3, 4]
    assert executions(log) == [1]
    clock.fire()
    assert future.result() == "dr"
    assert executions(log) == [1, 2]
    assert heard.names() == ["Running", "Retrying", "Running"]


def test_dask_has_dependants_wait_for_the_verdict(runner: TaskRunner, tmp_path: Path) -> None:
    """Dependants of a run that is lost and retried run once, on the value of its last attempt."""
    log, arrivals = tmp_path / "log", tmp_path / "arrivals"
    future = dispatch(runner, die_once_then_make, log, arrivals, retry=RetryPolicy(1))
    logs = [tmp_path / name for name in ("one", "two", "three")]
    one = dispatch(runner, take, [future], logs[0])
    two = dispatch(runner, take, one, logs[1], retry=RetryPolicy(1))
    three = dispatch(runner, take, 3, logs[2], wait_for=(future, two))
    wait([future, one, two, three])
    assert all(isinstance(each.state, Completed) for each in (future, one, two, three))
    assert [executions(each) for each in (log, *logs)] == [[1, 2], [1], [1], [1]]
    assert os.getpid() not in executions(arrivals), "the value has passed through the client"


def test_dask_retries_a_run_on_a_value_that_was_lost_too(
    runner: TaskRunner, tmp_path: Path
) -> None:
    """A run whose worker dies with the value that it takes is retried, and gets the value anew."""
    log = tmp_path / "log"
    future = dispatch(runner, play, log, lift(runner.submit(str, "dr")), retry=RetryPolicy(1))
    assert future.result() == "dr"
    assert executions(log) == [1, 2]


def test_dask_waits_for_a_lost_worker_as_long_as_it_takes(tmp_path: Path) -> None:
    """The only worker of a local cluster is restarted, however soon Dask would give it up."""
    log = tmp_path / "log"
    kwargs = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "0 s"}),
        DaskTaskRunner(cluster_kwargs=kwargs) as runner,
    ):
        assert dispatch(runner, play, log, "dr", retry=RetryPolicy(1)).result() == "dr"
    assert executions(log) == [1, 2]


# ---------------------------------------------------------------------------- cancelling


@pytest.mark.parametrize("function", [play, play_async])
def test_dask_cancels_a_run_that_waits_on_its_worker(
    runner: TaskRunner,
    cluster: distributed.LocalCluster,
    tmp_path: Path,
    function: Callable[..., Any],
) -> None:
    """A run that is cancelled between two attempts makes no other, and frees its worker."""
    logs, heard = [tmp_path / str(slot) for slot in range(_SLOTS)], Heard()
    futures = [
        dispatch(runner, function, log, "fr", retry=RetryPolicy(1, delay=_LONG), listener=heard)
        for log in logs
    ]
    for future in futures:
        until(partial(is_retrying, future))
        assert future.cancel() is Cancellation.CANCELLED
        assert isinstance(future.state, Cancelled)
        assert "between two attempts" in str(future.state)
    scheduler = cast("distributed.Scheduler", cluster.scheduler)
    # Else it may give all that comes next to one worker.
    until(lambda: not any(worker.processing for worker in scheduler.workers.values()))
    with Gate() as gate:
        others = [dispatch(runner, play_at, gate.ticket, tmp_path / "o", "r") for _ in logs]
        for _ in others:
            gate.await_arrival()
        gate.open()
        wait(others)
    assert [executions(log) for log in logs] == [[1], [1]]
    assert heard.names().count("Running") == _SLOTS


def test_dask_cancels_a_run_that_waits_after_a_loss(
    runner: TaskRunner, tmp_path: Path, clock: ManualClock
) -> None:
    """A run that is cancelled while its client waits to submit it anew is not submitted."""
    log = tmp_path / "log"
    policy = RetryPolicy(1, delay=_LONG)
    future = on_clock(clock, lambda: dispatch(runner, play, log, "dr", retry=policy))
    dependant = runner.submit(increment, lift(future))
    until(lambda: bool(clock.timers))
    ((_, resume),) = clock.timers
    assert future.cancel() is Cancellation.CANCELLED
    assert isinstance(future.state, Cancelled)
    assert isinstance(dependant.state, UpstreamFailed)
    assert clock.timers == []
    resume()  # As if it had been about to be called.
    assert runner.submit(increment, 1).result() == 2
    assert executions(log) == [1]


@pytest.mark.parametrize("script", ["fr", "dr"])
def test_dask_does_not_retry_what_was_cancelled_while_it_ran(
    cluster: distributed.LocalCluster, runner: TaskRunner, tmp_path: Path, script: str
) -> None:
    """A function that was to be cancelled, and could not be, is not tried again."""
    log = tmp_path / "log"
    with Gate() as gate, distributed.Client(cluster, set_as_default=False) as client:
        future = dispatch(runner, play_at, gate.ticket, log, script, retry=RetryPolicy(3))
        gate.await_arrival()
        until(future.is_running)
        assert future.cancel() is Cancellation.CANNOT_STOP
        until(lambda: any(client.run(is_to_be_stopped, future.task_run.id).values()))
        gate.open()
        assert isinstance(future.wait(), Cancelled)
    assert executions(log) == [1]


def is_to_be_stopped(run_id: str) -> bool:
    return stop_of(run_id).is_wanted


def test_dask_ends_what_was_cancelled_before_its_worker_has_heard_of_it(
    runner: TaskRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was to be cancelled ends so even if the worker makes another attempt."""
    monkeypatch.setattr(Canceller, "stop", lambda *_: None)
    busy = threading.Event()
    with Gate() as gate, ExitStack() as stack:
        stack.callback(busy.set)
        policy = RetryPolicy(1)
        future = dispatch(runner, play_at, gate.ticket, tmp_path / "log", "fr", retry=policy)
        gate.await_arrival()
        until(future.is_running)
        assert isinstance(future, DaskRun)
        future._connection.helper.call_soon(busy.wait)  # So it does not come between the attempts.
        assert future.cancel() is Cancellation.CANNOT_STOP
        gate.open()
        assert isinstance(future.wait(), Cancelled)
    names = [state.name for state in future.history]
    assert names == ["Pending", "Running", "Retrying", "Cancelled"]


def test_dask_keeps_the_callbacks_of_runs_out_of_its_loop(
    runner: TaskRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A callback of a run that ends between two attempts may fetch the value of another."""
    monkeypatch.setattr(Canceller, "stop", lambda *_: None)  # The worker does not hear of it.
    value, fetched = runner.submit(increment, 1), list[object]()
    value.wait()
    with Gate() as gate:
        policy = RetryPolicy(1, delay=_LONG)
        future = dispatch(runner, play_at, gate.ticket, tmp_path / "log", "fr", retry=policy)
        gate.await_arrival()
        until(future.is_running)
        assert future.cancel() is Cancellation.CANNOT_STOP
        future.add_done_callback(lambda _: fetched.append(value.result()))
        gate.open()
        assert isinstance(future.wait(), Cancelled)
    until(lambda: fetched == [2])


async def wait_for_ever(ticket: Ticket) -> None:
    await anyio.to_thread.run_sync(ticket.wait)
    await anyio.sleep_forever()


def test_dask_does_not_retry_an_async_run_that_was_stopped(runner: TaskRunner) -> None:
    """An async run that is cancelled while it runs has been cancelled, whatever its policy."""
    heard = Heard()
    with Gate() as gate:
        options = {"retry": RetryPolicy(3), "listener": heard}
        future = dispatch(runner, wait_for_ever, gate.ticket, **options)
        gate.await_arrival()
        until(future.is_running)
        assert future.cancel() is Cancellation.WILL_STOP
        gate.open()
        assert isinstance(future.wait(), Cancelled)
    assert heard.names() == ["Running"]


def test_dask_keeps_nothing_of_a_run_that_was_retried(runner: TaskRunner, tmp_path: Path) -> None:
    """The future of a retried run that has ended keeps neither its arguments nor its upstreams."""
    upstream = runner.submit(str, "dr")
    future = dispatch(runner, play, tmp_path / "log", lift(upstream), retry=RetryPolicy(1))
    future.wait()
    kept = [getattr(future, name) for name in ("_parcel", "_timer", "_gate")]
    assert kept == [None] * 3
    assert [getattr(future, name) for name in ("_slots", "_gates", "_upstreams")] == [{}, [], ()]
