"""The attempts of runs in Ray: how often they are made, how long they take, and what is told."""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import anyio
import pytest
from ray.experimental import internal_kv

from anabranch.futures import (
    Cancellation,
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Future,
    Retrying,
    RetryPolicy,
    RunCrashedError,
    Running,
    RunTimedOutError,
    State,
    TaskRun,
    TimedOut,
    UpstreamFailed,
    lift,
)
from anabranch.futures.runner import (
    NO_RETRIES,
    CancelTimer,
    EventLoop,
    current_clock,
    current_scope,
    make_item,
    new_run_id,
)
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.ray import RayTaskRunner

pytestmark = pytest.mark.slow

#: A time limit in which a run can begin on a busy machine, in seconds.
LIMIT = 0.3


@pytest.fixture(scope="module")
def runner() -> Iterator[RayTaskRunner]:
    """A started runner on two CPUs, and the only one of the module."""
    with RayTaskRunner(init_kwargs={"num_cpus": 2}) as runner:
        yield runner


class ManualClock:
    """A clock whose timers go off when a test says so."""

    def __init__(self) -> None:
        self.timers: queue.SimpleQueue[tuple[float, Callable[[], object]]] = queue.SimpleQueue()

    def now(self) -> float:
        """Return no time in particular."""
        return 0.0

    def call_later(self, seconds: float, callback: Callable[[], object]) -> CancelTimer:
        """Keep the timer for the test. Calling it off always comes too late."""
        self.timers.put((seconds, callback))
        return lambda: None

    def hold(self) -> None:
        """Stand still, as ever."""

    def release(self) -> None:
        """Stand still, as ever."""

    def watch(self, loop: EventLoop) -> None:
        """Stand still, as ever."""


@pytest.fixture
def clock() -> Iterator[ManualClock]:
    """A clock for what the test submits, whose timers go off when it says so."""
    clock = ManualClock()
    token = current_clock.set(clock)
    yield clock
    current_clock.reset(token)


def start(
    runner: RayTaskRunner,
    function: Callable[..., Any],
    *args: object,
    retry: RetryPolicy = NO_RETRIES,
    time_limit: float | None = None,
    listener: Callable[[TaskRun, Running | Retrying], object] | None = None,
) -> Future[Any]:
    """Submit a function, with a say in how often it is tried and how long it may take."""
    run_id = new_run_id()
    run = TaskRun(run_id, f"{function.__name__}-{run_id[-8:]}", function.__name__)
    item = make_item(
        function,
        args,
        {},
        task_run=run,
        retry=retry,
        time_limit=time_limit,
        listener=listener,
    )
    return runner.dispatch(item)


def note(notes: Path) -> int:
    """Note this process, and return the number of the attempt, as the run's context has it."""
    with notes.open("a") as file:
        file.write(f"{os.getpid()}\n")
    scope = current_scope.get()
    assert scope is not None
    return scope.context.attempt


def processes(notes: Path) -> list[int]:
    """Return the processes that have noted themselves, one for each execution."""
    return [int(line) for line in notes.read_text().splitlines()]


def follow(notes: Path, script: str, ticket: Ticket | None = None) -> int:
    """Do what the script says for this attempt; return the attempt's number.

    Its letters: f fails, x ends the process at once, w waits at the gate, any other returns.
    """
    attempt = note(notes)
    assert attempt == len(processes(notes)), "every execution is an attempt, and counted"
    match script[attempt - 1]:
        case "f":
            raise ValueError(f"attempt {attempt}")
        case "x":
            os._exit(1)
        case "w" if ticket is not None:
            ticket.wait()
    return attempt


async def follow_async(notes: Path, script: str) -> int:
    """`follow`, in an event loop."""
    return follow(notes, script)


def same(value: object) -> object:
    """Return the value."""
    return value


def names(future: Future[object]) -> str:
    """Return the first letters of the states that a run has been in, after a check of the times."""
    times = [each.timestamp for each in future.history]
    assert times == sorted(times)
    return " ".join(each.name for each in future.history[1:])


# ---------------------------------------------------------------------------- on the worker


@pytest.mark.parametrize("function", [follow, follow_async])
def test_ray_worker_tries_again_what_fails(
    runner: RayTaskRunner, tmp_path: Path, function: Callable[..., Any]
) -> None:
    """A run that fails is tried again by its worker, and the future tells of each attempt."""
    told: list[str] = []
    notes = tmp_path / "notes"
    future = start(
        runner,
        function,
        notes,
        "ff.",
        retry=RetryPolicy(3, delay=[0.01, 0.02]),
        listener=lambda _, state: told.append(state.name),
    )
    assert future.result() == 3
    assert names(future) == "Running Retrying Running Retrying Running Completed"
    assert told == ["Running", "Retrying", "Running", "Retrying", "Running"]
    assert future.history[2].message == (
        "Attempt 1 of 4 ended in state Failed('ValueError: attempt 1'); "
        "the next one follows in 0.01 s"
    )
    assert len(set(processes(notes))) == 1


def test_ray_run_without_retries_has_a_history_too(runner: RayTaskRunner, tmp_path: Path) -> None:
    """Once a run has ended, its history says when it was running."""
    future = start(runner, follow, tmp_path / "notes", ".")
    assert future.result() == 1
    assert names(future) == "Running Completed"


def test_ray_run_fails_when_its_budget_is_used_up(runner: RayTaskRunner, tmp_path: Path) -> None:
    """A run is executed once more than it has retries, and ends with its last failure."""
    notes = tmp_path / "notes"
    future = start(runner, follow, notes, "fff", retry=RetryPolicy(1))
    dependant = runner.submit(same, lift(future))
    with pytest.raises(ValueError, match="attempt 2"):
        future.result()
    assert names(future) == "Running Retrying Running Failed"
    assert isinstance(dependant.wait(), UpstreamFailed)
    assert len(processes(notes)) == 2


def refuse(state: State[object]) -> NoReturn:
    """Be a broken policy."""
    raise LookupError("no idea")


def test_ray_run_whose_policy_fails_has_failed(runner: RayTaskRunner, tmp_path: Path) -> None:
    """A retry condition that raises ends the run, and is not asked twice."""
    notes = tmp_path / "notes"
    for script in ("f", "x"):
        notes.unlink(missing_ok=True)
        future = start(runner, follow, notes, script, retry=RetryPolicy(2, condition=refuse))
        state = future.wait()
        assert isinstance(state, Failed)
        assert state.message == "The retry policy failed: LookupError: no idea"
        assert len(processes(notes)) == 1


def test_ray_names_a_policy_that_cannot_be_pickled(runner: RayTaskRunner, tmp_path: Path) -> None:
    """A retry condition that cannot travel fails its run with an error that names it."""
    lock = threading.Lock()
    policy = RetryPolicy(1, condition=lambda _: lock.locked())
    with pytest.raises(TypeError, match=r"Run 'follow-\w+' cannot be sent.*its retry policy"):
        start(runner, follow, tmp_path / "notes", ".", retry=policy).result()


# ---------------------------------------------------------------------------- lost workers


@pytest.mark.parametrize(
    ("script", "retries", "expected"),
    [
        ("fxf.", 3, "Running Retrying Running Retrying Running Retrying Running Completed"),
        ("fxf.", 2, "Running Retrying Running Retrying Running Failed"),
        ("xx.", 2, "Running Retrying Running Retrying Running Completed"),
        ("xxx.", 2, "Running Retrying Running Retrying Running Crashed"),
        ("ffx.", 2, "Running Retrying Running Retrying Running Crashed"),
        ("xff", 1, "Running Retrying Running Failed"),
    ],
)
def test_ray_counts_failures_and_losses_together(
    runner: RayTaskRunner, tmp_path: Path, script: str, retries: int, expected: str
) -> None:
    """Whatever ends the attempts of a run, there is one more of them than it has retries."""
    notes = tmp_path / "notes"
    future = start(runner, follow, notes, script, retry=RetryPolicy(retries))
    dependant = runner.submit(same, lift(future))
    state = future.wait()
    assert names(future) == expected
    executions = expected.count("Running")
    assert len(processes(notes)) == executions
    if isinstance(state, Completed):
        assert future.result() == executions
        assert dependant.result() == executions
    else:
        following = dependant.wait()
        assert isinstance(following, UpstreamFailed)
        assert future.task_run.name in (following.message or "")


def test_ray_leaves_no_records(runner: RayTaskRunner, tmp_path: Path) -> None:
    """What workers leave in Ray's own store in case that they are lost is removed."""
    start(runner, follow, tmp_path / "ends", "fx.", retry=RetryPolicy(2)).wait()
    start(runner, follow, tmp_path / "fails", "xff", retry=RetryPolicy(2)).wait()
    assert runner._session is not None
    runner._session._connection.helper.call(lambda: None)  # It is through with what came before.
    assert internal_kv._internal_kv_list(b"anabranch-run-", namespace=b"anabranch") == []


def test_ray_run_waits_here_for_another_worker(
    runner: RayTaskRunner, tmp_path: Path, clock: ManualClock
) -> None:
    """A run whose worker was killed waits on the submitter's clock; its dependants wait with it."""
    notes, later = tmp_path / "notes", tmp_path / "later"
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    with Gate() as gate:
        future = start(
            runner,
            follow,
            notes,
            "w.",
            gate.ticket,
            retry=RetryPolicy(1, delay=3600.0, condition=lambda each: isinstance(each, Crashed)),
            listener=lambda _, state: told.put(state.name),
        )
        dependant = runner.submit(follow_value, later, lift(future))
        gate.await_arrival()
        os.kill(processes(notes)[0], signal.SIGKILL)
        seconds, resume = clock.timers.get(timeout=30)
    assert seconds == 3600
    assert [told.get(), told.get()] == ["Running", "Retrying"]
    state = future.state
    assert isinstance(state, Retrying)
    assert state.message is not None
    assert "Attempt 1 of 2 ended in state Crashed('The worker died" in state.message
    assert not dependant.done()
    resume()
    assert dependant.result() == 2
    ended = future.final_state()
    assert isinstance(ended, Completed)
    assert not ended.is_local, "its value went from worker to worker"
    assert future.result() == 2
    assert len(processes(later)) == 1


def follow_value(notes: Path, value: int) -> int:
    """Note this execution, and return the value."""
    note(notes)
    return value


def test_ray_run_that_waits_for_another_worker_is_cancelled(
    runner: RayTaskRunner, tmp_path: Path, clock: ManualClock
) -> None:
    """Cancelled between two attempts, a run is over at once, and nothing is executed later."""
    notes = tmp_path / "notes"
    future = start(runner, follow, notes, "x.", retry=RetryPolicy(1, delay=1.0))
    _, resume = clock.timers.get(timeout=30)
    assert future.cancel() is Cancellation.CANCELLED
    state = future.state
    assert isinstance(state, Cancelled)
    assert state.message == "The run was cancelled between two attempts."
    resume()
    assert runner.submit(same, 1).result() == 1
    assert len(processes(notes)) == 1
    assert names(future) == "Running Retrying Cancelled"


def test_ray_asks_the_condition_about_a_lost_worker(runner: RayTaskRunner, tmp_path: Path) -> None:
    """A retry condition that does not want crashes is obeyed when a worker is lost."""
    notes = tmp_path / "notes"
    policy = RetryPolicy(2, condition=lambda state: not isinstance(state, Crashed))
    with pytest.raises(RunCrashedError, match="worker died"):
        start(runner, follow, notes, "x", retry=policy).result()
    assert len(processes(notes)) == 1


# ---------------------------------------------------------------------------- cancelling


def fail_when_stopped(notes: Path, ticket: Ticket) -> NoReturn:
    """Wait at a gate; fail if that is interrupted."""
    note(notes)
    try:
        ticket.wait()
        while True:
            threading.Event().wait(0.01)
    except KeyboardInterrupt:
        raise ValueError("interrupted") from None


def test_ray_run_is_cancelled_whatever_it_makes_of_it(
    runner: RayTaskRunner, tmp_path: Path
) -> None:
    """A cancelled run that ends with a failure of its own is not tried again."""
    notes = tmp_path / "notes"
    with Gate() as gate:
        future = start(runner, fail_when_stopped, notes, gate.ticket, retry=RetryPolicy(3))
        gate.await_arrival()
    assert future.cancel() is Cancellation.WILL_STOP
    assert isinstance(future.wait(), Cancelled)
    assert len(processes(notes)) == 1


def test_ray_run_is_cancelled_while_its_worker_waits(runner: RayTaskRunner, tmp_path: Path) -> None:
    """A run that is cancelled between two attempts on its worker makes no other."""
    notes = tmp_path / "notes"
    with Gate() as gate:
        ticket = gate.ticket

        def wait_at_gate(_: int) -> float:
            ticket.wait()
            return 3600.0

        future = start(runner, follow, notes, "f.", retry=RetryPolicy(1, delay=wait_at_gate))
        gate.await_arrival()
    assert future.cancel() is Cancellation.WILL_STOP
    assert isinstance(future.wait(), Cancelled)
    assert len(processes(notes)) == 1


def test_ray_run_is_cancelled_while_its_loss_is_looked_into(
    runner: RayTaskRunner, tmp_path: Path, clock: ManualClock
) -> None:
    """A run that is cancelled just after its worker was lost is not tried again."""
    del clock  # No timer goes off.
    notes = tmp_path / "notes"
    asked, answered = threading.Event(), threading.Event()
    policy = RetryPolicy(1, condition=Asking(asked, answered))
    future = start(runner, follow, notes, "x.", retry=policy)
    assert asked.wait(30)
    assert future.cancel() is Cancellation.WILL_STOP
    answered.set()
    assert isinstance(future.wait(), Cancelled)
    assert names(future) == "Running Cancelled"
    assert len(processes(notes)) == 1


class Asking:
    """A retry condition that tells when it is asked here, and waits with its answer."""

    def __init__(self, asked: threading.Event, answered: threading.Event) -> None:
        self.asked = asked
        self.answered = answered

    def __call__(self, state: State[object]) -> bool:
        self.asked.set()
        return self.answered.wait(30)

    def __reduce__(self) -> tuple[Any, ...]:
        return bool, ()  # It means nothing elsewhere.


# ---------------------------------------------------------------------------- time limits


def sleep_too_long(notes: Path) -> None:
    """Sleep in C code, and note that this was interrupted."""
    note(notes)
    try:
        time.sleep(60)
    finally:
        notes.with_suffix(".cleaned-up").touch()


async def sleep_too_long_async(notes: Path) -> None:
    """Sleep in an event loop, and note that this was cancelled."""
    note(notes)
    try:
        await anyio.sleep(60)
    finally:
        notes.with_suffix(".cleaned-up").touch()


def timers() -> tuple[object, ...]:
    """Return what a time limit might have left behind in this process."""
    return os.getpid(), signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)


def refuse_to_end(notes: Path, ticket: Ticket) -> int:
    """Swallow whatever interrupts this, but for a second attempt."""
    if note(notes) == 2:
        return 2
    while True:
        try:
            ticket.wait()
            return 1
        except BaseException:
            continue


def swallow_one_interrupt(notes: Path) -> int:
    """Go on after an interrupt, and return soon after that."""
    note(notes)
    with contextlib.suppress(BaseException):
        time.sleep(60)
    return 1


def keep_the_interpreter(notes: Path) -> None:
    """Never come back from C code that lets nothing else run."""
    note(notes)
    collections.deque(itertools.repeat(0), maxlen=0)


@pytest.mark.parametrize("function", [sleep_too_long, sleep_too_long_async])
def test_ray_stops_an_attempt_whose_time_is_over(
    runner: RayTaskRunner, tmp_path: Path, function: Callable[..., Any]
) -> None:
    """An attempt is interrupted at its time limit, in its process, and counts as a failure."""
    notes = tmp_path / "notes"
    future = start(runner, function, notes, retry=RetryPolicy(1), time_limit=LIMIT)
    dependant = runner.submit(same, lift(future))
    with pytest.raises(RunTimedOutError, match=r"did not end within its time limit of 0\.3 s"):
        future.result()
    assert names(future) == "Running Retrying Running TimedOut"
    assert isinstance(dependant.wait(), UpstreamFailed)
    first, second = processes(notes)
    assert first == second
    assert notes.with_suffix(".cleaned-up").exists()
    assert runner.statistics().abandoned == 0


def test_ray_time_limits_leave_nothing_behind(runner: RayTaskRunner, tmp_path: Path) -> None:
    """The process of a run that timed out goes on, and nothing rings in it later."""
    notes = tmp_path / "notes"
    start(runner, sleep_too_long, notes, time_limit=LIMIT).wait()
    worker = processes(notes)[0]
    with Gate() as gate:
        found = [runner.submit(timers_at, gate.ticket) for _ in range(2)]
        for _ in found:
            gate.await_arrival()
    values = [each.result() for each in found]
    assert (worker, signal.SIG_DFL, (0.0, 0.0)) in values


def timers_at(ticket: Ticket) -> tuple[object, ...]:
    """Wait at a gate, then look for timers."""
    ticket.wait()
    return timers()


def test_ray_run_within_its_time_limit_completes(runner: RayTaskRunner, tmp_path: Path) -> None:
    """A time limit that is not reached has no effect, however long it is."""
    for limit in (30.0, 1e300):
        assert start(runner, same, limit, time_limit=limit).result() == limit
    assert start(runner, follow, tmp_path / "notes", ".", time_limit=30.0).result() == 1


def test_ray_run_that_swallows_the_interrupt_has_timed_out(
    runner: RayTaskRunner, tmp_path: Path
) -> None:
    """What a run returns after its time limit does not count."""
    state = start(runner, swallow_one_interrupt, tmp_path / "notes", time_limit=LIMIT).wait()
    assert isinstance(state, TimedOut)


def test_ray_ends_the_process_of_a_run_that_does_not_stop(
    runner: RayTaskRunner, tmp_path: Path
) -> None:
    """A run that goes on after its time limit is ended with its process, and has timed out."""
    notes = tmp_path / "notes"
    with Gate() as gate:
        future = start(runner, refuse_to_end, notes, gate.ticket, time_limit=LIMIT)
        dependant = runner.submit(same, lift(future))
        assert isinstance(future.wait(), TimedOut)
    assert names(future) == "Running TimedOut"
    following = dependant.wait()
    assert isinstance(following, UpstreamFailed)
    assert isinstance(following.cause, RunTimedOutError)
    assert len(processes(notes)) == 1


def test_ray_tries_again_when_a_run_did_not_stop(runner: RayTaskRunner, tmp_path: Path) -> None:
    """A run that was ended with its process is tried again as one that timed out."""
    notes = tmp_path / "notes"
    policy = RetryPolicy(1, condition=lambda state: isinstance(state, TimedOut))
    with Gate() as gate:
        future = start(runner, refuse_to_end, notes, gate.ticket, retry=policy, time_limit=LIMIT)
        assert future.result() == 2
    assert names(future) == "Running Retrying Running Completed"
    first, second = processes(notes)
    assert first != second


def test_ray_ends_a_process_that_cannot_even_tell(runner: RayTaskRunner, tmp_path: Path) -> None:
    """Code that lets nothing else run is ended too, and the run has crashed."""
    notes = tmp_path / "notes"
    state = start(runner, keep_the_interpreter, notes, time_limit=LIMIT).wait()
    assert isinstance(state, Crashed)
    assert runner.submit(same, 1).result() == 1


# ---------------------------------------------------------------------------- foreign code


def test_ray_outlives_what_its_callbacks_raise(
    runner: RayTaskRunner, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A listener or a callback that raises SystemExit is logged, and other runs end as ever."""

    def leave(*_: object) -> NoReturn:
        raise SystemExit("out")

    with caplog.at_level(logging.ERROR, "anabranch.task_runner.ray"):
        heard = start(runner, follow, tmp_path / "notes", ".", listener=leave)
        state = heard.wait()
        assert isinstance(state, Crashed)
        assert state.message == "Its end in Ray could not be read: SystemExit: out"
        with Gate() as gate:
            future = start(runner, follow, tmp_path / "more", "w", gate.ticket)
            future.add_done_callback(leave)
        assert future.result() == 1
        assert runner.submit(same, 2).result() == 2
    assert "could not be brought to its end" in caplog.text
