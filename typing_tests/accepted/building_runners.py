"""What writers of runners and engines use: the names of `anabranch.futures.runner`."""

from __future__ import annotations

import contextvars
import inspect
import logging
import pickle
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Never, TypeVar, assert_type

import anyio

from anabranch.futures import (
    Backend,
    Clock,
    Completed,
    FlowRun,
    Future,
    Retrying,
    RetryPolicy,
    RunContext,
    Running,
    State,
    SystemClock,
    TaskRun,
    TaskRunner,
    TimedOut,
    UpstreamFailed,
    WorkItem,
)
from anabranch.futures.runner import (
    FINAL_STATES,
    LOOK_INSIDE,
    NO_LOOPS,
    NO_RETRIES,
    SYSTEM_CLOCK,
    AnyCoroutine,
    AnyFunction,
    AroundSubmit,
    AsTheyEnd,
    AtomicCount,
    Attempt,
    BlockingSection,
    CallSignature,
    CancelTimer,
    Command,
    CurrentClock,
    Delay,
    Dumps,
    EventLoop,
    FunctionCall,
    Hold,
    InFlight,
    InOrder,
    Keeper,
    Lease,
    Lifecycle,
    Listener,
    LogLevels,
    LogSink,
    LoopThread,
    Packed,
    PackedRecord,
    Pause,
    Progress,
    Report,
    Reporter,
    ReportTaker,
    RunError,
    RunnerHost,
    RunScope,
    RunStop,
    Scan,
    ScopeOwner,
    SerialThread,
    Shipment,
    Slot,
    StoredValue,
    TimeLimiter,
    Unpicklable,
    attempt_scope,
    blocking_section,
    bring_over,
    call_here,
    check_time_limit,
    children,
    current_clock,
    current_hold,
    current_lease,
    current_scope,
    default_backend,
    deliver_record,
    describe,
    failure_behind,
    find_unpicklable,
    forwarded_logs,
    grace,
    held_clock,
    in_task,
    is_async_function,
    is_interruption,
    lent,
    lent_async,
    lifecycle,
    lifecycle_of,
    limit_by_thread,
    limited_async,
    make_attempt,
    make_attempt_async,
    make_attempt_in_time,
    make_item,
    mark_library,
    new_hold,
    new_run_id,
    new_run_serial,
    only_attempt,
    pack,
    paused,
    pickled_if_small,
    publish,
    rebuild,
    resolve_arguments,
    resolve_arguments_async,
    root_cause,
    run_item,
    run_item_async,
    run_item_in_new_loop,
    run_shipment,
    running_loop,
    scan,
    scan_call,
    set_blocking_section,
    sleep,
    sleep_async,
    start_thread,
    state_of_error,
    substitute,
    timed_out,
    unpicklable_error,
    upstream_failure,
    watched_loop,
    when_ready,
    with_retries,
)
from anabranch.runners.local import SequentialTaskRunner
from typing_tests.functions import aplain, plain

R = TypeVar("R")

run = TaskRun(new_run_id(), "plain-1", "plain")
item: WorkItem[float] = make_item(plain, (1,), {"y": "a"}, run)
async_item: WorkItem[bytes] = make_item(aplain, (1,), {}, run)


class Parked(BlockingSection):
    """Counts the waits."""

    waits = 0

    def wait(self, future: Future[object], timeout: float | None = None) -> None:
        self.waits += 1
        super().wait(future, timeout)


class Place:
    """A lease and the owner of a scope, by its methods alone."""

    def belongs_to(self, run: Future[object]) -> None:
        assert not run.done()

    def lend(self) -> None:
        return None

    def take_back(self) -> Future[object] | None:
        return None

    def child_ended(self, child: Future[object]) -> None:
        assert child.done()


class OnWorker(StoredValue[int]):
    """A value that lies elsewhere."""

    def _fetch(self) -> int:
        return 42


def constants() -> None:
    """Constants have the types of what they stand for."""
    assert_type(NO_LOOPS, frozenset[int])
    assert_type(NO_RETRIES, RetryPolicy)
    assert_type(NO_RETRIES.delay_before(1), float)
    assert_type(SYSTEM_CLOCK, SystemClock)
    assert_type(SYSTEM_CLOCK.now(), float)
    assert_type(LOOK_INSIDE, object)
    assert_type(type(Completed(1)) in FINAL_STATES, bool)


# ---------------------------------------------------------------------------- items


def arguments() -> None:
    """Arguments are searched for futures, and rebuilt around them, as objects."""
    future: Future[int] = Future(run)
    future.set_final(Completed(1))
    assert_type(children([1]), Iterable[object] | None)
    assert_type(scan([future]).upstreams, tuple[Future[object], ...])
    assert_type(scan([future]).tolerated, tuple[Future[object], ...])
    assert_type(scan_call((future,), {"y": 2}).is_plain, bool)
    rebuilt = rebuild((1,), {"y": [2]}, lambda value: LOOK_INSIDE if value == [2] else value)
    assert_type(rebuilt, tuple[tuple[object, ...], dict[str, object]])
    assert_type(rebuild((), {}, str), tuple[tuple[object, ...], dict[str, object]])
    args, kwargs = substitute((future,), {}, lambda each: each.result(), lambda each: each.state)
    assert_type(args, tuple[object, ...])
    assert_type(kwargs, dict[str, object])
    assert_type(substitute((), {}, str, str), tuple[tuple[object, ...], dict[str, object]])


def items() -> None:
    """An item of any function is one of any value, which a declaration narrows."""
    assert_type(make_item(plain, (1,), {}, run), WorkItem[Any])
    assert_type(make_item(plain, (), {"x": 1}, run, time_limit=2.5), WorkItem[Any])
    made = make_item(plain, (), {}, run, runner_options={"dask": {"priority": 10}})
    assert_type(made.runner_options, Mapping[str, Mapping[str, object]])
    assert_type(item, WorkItem[float])
    assert_type(with_retries(item, 2, logging.getLogger(__name__)), WorkItem[float])
    assert_type(item.task_run, TaskRun)
    assert_type(item.upstreams, tuple[Future[object], ...])
    assert_type(is_async_function(aplain), bool)
    assert_type(new_run_id(), str)
    assert_type(new_run_serial(), int)
    assert_type(TaskRun(new_run_serial(), "plain", "plain", number=1).id, str)
    assert_type(check_time_limit(2.5), float | None)
    assert_type(CallSignature(plain, "plain").parameters, Mapping[str, inspect.Parameter])


def listeners(listener: Listener, state: Running | Retrying) -> None:
    """A listener takes a run and what it has become."""
    assert_type(listener(run, state), object)
    assert_type(item.listener, Listener | None)
    told: list[str] = []
    made = make_item(plain, (1,), {}, run, listener=lambda run, state: told.append(state.name))
    assert_type(made, WorkItem[Any])


def dependencies() -> None:
    """A run that waits for others goes on, or fails with them."""
    future: Future[int] = Future(run)
    future.set_final(Completed(1))
    assert_type(failure_behind(future), UpstreamFailed | None)
    assert_type(upstream_failure(item), UpstreamFailed | None)
    when_ready(item, str, lambda failure: assert_type(failure, UpstreamFailed))
    when_ready(item, str, lambda failure: assert_type(failure.cause, BaseException), [future])


# ---------------------------------------------------------------------------- the lifecycle


def steps() -> None:
    """A lifecycle asks for attempts and delays, and is told the states they came to."""
    steps = lifecycle(RetryPolicy(1, 0.5), time_limit=2.5)
    assert_type(steps, Lifecycle)
    command = next(steps)
    assert_type(command, Command)
    assert_type(lifecycle().send(None), Command)
    match command:
        case Attempt(number, time_limit):
            assert_type(command, Attempt)
            assert_type((number, time_limit), tuple[int, float | None])
        case Delay(seconds, state):
            assert_type(command, Delay)
            assert_type((seconds, state), tuple[float, Retrying])
    assert_type(steps.send(timed_out(run, 2.5)), Command)
    assert_type(steps.send(None), Command)
    assert_type(lifecycle_of(item), Lifecycle)
    assert_type(lifecycle_of(item, first_attempt=2), Lifecycle)
    assert_type(only_attempt(item), Attempt | None)
    assert_type(Attempt(1).time_limit, float | None)
    assert_type(Delay(2.5, Retrying()).state, Retrying)


def driven(steps: Lifecycle) -> Lifecycle:
    """A lifecycle returns how the run ended."""
    return assert_type((yield from steps), State[object])


def attempts() -> None:
    """An attempt has the state of the item's value."""
    first = Attempt(1, 30.0)
    assert_type(make_attempt(item, first, None), State[float])
    assert_type(make_attempt(item, first, None, attempt_scope(item, first, None)), State[float])
    assert_type(make_attempt_in_time(item, first, None), State[float])
    assert_type(make_attempt_in_time(item, first, None, limit_by_thread), State[float])
    assert_type(attempt_scope(item, first, None), RunScope)
    assert_type(timed_out(run, 2.5), TimedOut)
    assert_type(timed_out(FlowRun("", "a", "b"), 2.5), TimedOut)
    assert_type(resolve_arguments(item), tuple[tuple[object, ...], Mapping[str, object]])


def runs() -> None:
    """To run an item gives the state of its value."""
    assert_type(run_item(item), State[float])
    assert_type(run_item(item, first_attempt=2, limiter=limit_by_thread, rest=sleep), State[float])
    assert_type(run_item_in_new_loop(async_item), State[bytes])
    assert_type(run_item_in_new_loop(async_item, rest=sleep_async), State[bytes])
    assert_type(call_here(plain, (1,), {}, run, current_scope.get()), State[Any])


def progress(progress: Progress, runner: TaskRunner) -> None:
    """Progress is told what a run is in between its attempts."""
    assert_type(progress, Progress)
    assert_type(progress(Retrying()), object)
    assert_type(run_item(item, runner, progress=progress), State[float])
    told: list[str] = []
    assert_type(run_item(item, progress=lambda state: told.append(state.name)), State[float])


async def async_runs() -> None:
    """The same holds in event loops."""
    assert_type(await run_item_async(async_item), State[bytes])
    assert_type(await run_item_async(async_item, rest=sleep_async), State[bytes])
    assert_type(await make_attempt_async(async_item, Attempt(1), None), State[bytes])
    args, kwargs = await resolve_arguments_async(async_item)
    assert_type((args, kwargs), tuple[tuple[object, ...], Mapping[str, object]])
    assert_type((await resolve_arguments_async(async_item))[0], tuple[object, ...])


def states() -> None:
    """States come of errors, and tell of them."""
    error = LookupError("gone")
    assert_type(state_of_error(error), State[Never])
    of_number: State[int] = state_of_error(error)
    assert not isinstance(of_number, Completed)
    assert_type(root_cause(of_number), BaseException)
    assert_type(describe(error), str)
    assert_type(is_interruption(error), bool)
    assert_type(is_interruption(None), bool)
    assert_type(OnWorker().get(), int)
    stored: Completed[int] = Completed(OnWorker())
    assert_type(stored.value, int)
    assert_type(StoredValue[int]().is_local, bool)


# ---------------------------------------------------------------------------- waits and time


def sections() -> None:
    """The waits of a thread go through a section."""
    before = set_blocking_section(Parked())
    assert_type(blocking_section(), BlockingSection | None)
    assert_type(set_blocking_section(before), BlockingSection | None)


def pauses() -> None:
    """A hold is let go while a thread waits."""
    future: Future[int] = Future(run)
    future.set_final(Completed(1))
    pause = Pause(Hold(SYSTEM_CLOCK))
    assert_type(pause, Pause)
    future.add_done_callback(pause.end)
    hold = Hold(SYSTEM_CLOCK)
    with paused(hold, future) as nothing:
        assert_type(nothing, None)
        assert_type(future.result(), int)
    assert_type(paused(hold, future).__enter__, Callable[[], None])


def leases() -> None:
    """A lease is whatever has its methods."""
    lease: Lease = Place()
    assert_type(lease.take_back(), Future[object] | None)
    assert_type(current_lease.get(), Lease | None)
    with lent(lease) as nothing:
        assert_type(nothing, None)
        assert_type(current_lease.set(None), contextvars.Token[Lease | None])


async def async_leases() -> None:
    """The same holds in event loops."""
    async with lent_async(Place()) as nothing:
        assert_type(nothing, None)


def clocks() -> None:
    """The current clock is one of any kind, and the machine's cannot be held."""
    clock: Clock = current_clock.get()
    assert_type(current_clock.get(), Clock)
    assert_type(current_clock.of(contextvars.copy_context()), Clock)
    token = current_clock.set(SYSTEM_CLOCK)
    assert_type(token, contextvars.Token[Clock | None])
    current_clock.reset(token)
    assert_type(clock.call_later(0, str), CancelTimer)
    assert_type(SYSTEM_CLOCK.call_later(60, str)(), None)
    assert_type(new_hold(SYSTEM_CLOCK), Hold | None)
    assert_type(current_hold.get(), Hold | None)
    assert_type(current_hold.set(Hold(SYSTEM_CLOCK)), contextvars.Token[Hold | None])
    current_hold.set(None)
    with held_clock() as nothing:
        assert_type(nothing, None)


async def loops() -> None:
    """A running loop is watched and entered from other threads."""
    with watched_loop() as nothing:
        assert_type(nothing, None)
    assert_type(running_loop(), EventLoop | None)
    if (loop := running_loop()) is not None:
        assert_type(loop.backend, Backend)
        assert_type(loop.thread_id, int)
        assert_type(loop.call_soon(str), bool)
    assert_type(in_task(), bool)


def loop_threads() -> None:
    """A thread has a loop of its own, which runs one async function."""

    async def main(ready: Callable[[], None]) -> None:
        ready()
        await anyio.sleep(0)

    thread = LoopThread(main, backend=default_backend())
    thread.start()
    thread.join()
    assert_type(thread.is_alive(), bool)
    assert_type(LoopThread(main, backend="asyncio").is_alive(), bool)
    assert_type(default_backend(), Backend)
    assert_type(contextvars.copy_context().run(mark_library, "trio"), None)
    assert_type(EventLoop("asyncio", print).backend, Backend)


def hosts(runner: TaskRunner) -> None:
    """A host keeps the start of a runner open."""
    host = RunnerHost(runner, runner.start)
    assert_type(host, RunnerHost)
    host.open()
    host.close(None, in_a_hurry=False)


def limits() -> None:
    """What takes too long has no value."""
    assert_type(limit_by_thread(lambda: 1, 30.0), int | None)

    def in_time(function: Callable[[], State[object]], seconds: float) -> State[object] | None:
        return function() if seconds else None

    limiter: TimeLimiter = in_time
    assert_type(limiter(lambda: Completed(1), 2.5), State[object] | None)
    assert_type(run_item(item, limiter=limiter), State[float])


def other_limiters(limiter: TimeLimiter) -> None:
    """A time limiter is a function of an attempt and of seconds."""
    assert_type(limiter, TimeLimiter)


async def async_limits() -> None:
    """The same holds in event loops."""

    async def one() -> int:
        await sleep_async(0)
        return 1

    assert_type(await limited_async(one, 30.0), int | None)
    assert_type(await limited_async(lambda: sleep_async(0), 30.0), None)


def threads() -> None:
    """Threads start, count, and do one thing after the other."""
    thread = threading.Thread(target=str)
    assert_type(contextvars.copy_context().run(start_thread, thread), None)
    thread.join()
    serial = SerialThread("accepted")
    assert_type(serial.call(lambda: 1), int)
    assert_type(serial.call(lambda: sleep(0)), None)
    assert_type(serial.close(), bool)
    assert_type(SerialThread("accepted").close(1.0), bool)
    count = AtomicCount()
    assert_type(count.add(), int)
    assert_type(int(AtomicCount()), int)


# ---------------------------------------------------------------------------- many runs


def in_flight() -> None:
    """Runs in flight are taken out with the type they were put in with."""
    future: Future[int] = Future(run)
    future.set_final(Completed(1))
    for runs in (InOrder[int](), AsTheyEnd[int]()):
        runs.add(future)
        assert_type(runs.is_next_done(), bool)
        assert_type(runs.join(), Future[int] | None)
        assert_type(runs.join(timeout=0.5), Future[int] | None)
    assert_type(InOrder[int]().clear(), list[Future[int]])
    assert_type(AsTheyEnd[int]().clear(), list[Future[int]])


async def async_in_flight(runs: InFlight[int]) -> None:
    """The same holds in event loops, for either order."""
    assert_type(await runs.join_async(), Future[int] | None)
    either: InFlight[int] = InOrder() if len(runs) else AsTheyEnd()
    assert_type(either.clear(), list[Future[int]])
    assert_type(runs, InFlight[int])


def scopes() -> None:
    """A scope tells what surrounds running code, and is left as itself."""
    scope = RunScope(None, run, owner=Place())
    assert_type(scope.owner, ScopeOwner | None)
    assert_type(RunScope().context, RunContext)
    assert_type(scope.children(), list[Future[object]])
    with RunScope(task_run=run) as inside:
        assert_type(inside, RunScope)
        assert_type(inside.runner, TaskRunner | None)
    assert_type(current_scope.get(), RunScope | None)
    assert_type(grace(), float)


async def async_scopes() -> None:
    """The same holds in event loops."""
    async with RunScope(task_run=run, is_async=True) as inside:
        assert_type(inside, RunScope)


# ---------------------------------------------------------------------------- other processes


def shipments() -> None:
    """An item travels as a shipment, apart from the futures behind its slots."""
    packed = pack(item, lambda future: future.done())
    assert_type(packed, Packed)
    assert_type(packed.shipment, Shipment)
    assert_type(packed.slots, list[Future[object]])
    assert_type(Packed(packed.shipment, []).shipment.first_attempt, int)
    assert_type(pack(item, Future[object].done), Packed)
    assert_type(Slot(0).index, int)
    assert_type(run_shipment(plain, packed.shipment), object)
    assert_type(run_shipment(plain, packed.shipment, [1], limiter=limit_by_thread), object)
    bare = Shipment((1,), {}, True, run, None, False, None, time_limit=2.5)
    assert_type(bare.is_simple(), bool)
    assert_type(Shipment((1,), {}, True, run, None, False, "trio").backend, Backend | None)


def errors() -> None:
    """An error tells the state of its run, whatever the run's value would have been."""
    failed: State[int] = state_of_error(LookupError("gone"))
    error = RunError.of(run, failed)
    assert_type(RunError.of(run, failed, pickle.dumps), RunError)
    assert_type(error.state(), State[Never])
    assert_type(error.state_of(run), State[Never])
    assert_type(error.exception(), BaseException)
    assert_type(error.with_history((1,)).history, tuple[object, ...])


def pickles() -> None:
    """What cannot be pickled is found."""
    lock = threading.Lock()
    assert_type(find_unpicklable(print, (lock,), {}, pickle.dumps), Unpicklable | None)
    error = TypeError("no")
    assert_type(Unpicklable("argument 'x'", error, is_function=False).error, Exception)
    assert_type(unpicklable_error("a", "Ray", print, (1,), {}, pickle.dumps, error), TypeError)
    assert_type(pickled_if_small(1), bytes | None)


def named_types(scope: RunScope) -> None:
    """What functions and attributes take and give can be named."""
    found: Scan = scan_call((1,), {})
    clock: CurrentClock = current_clock
    dumps: Dumps = pickle.dumps
    keeper: Keeper = SequentialTaskRunner()
    assert_type(found.upstreams, tuple[Future[object], ...])
    assert_type(clock.get(), Clock)
    assert_type(dumps(1), bytes)
    assert_type(keeper.release(Future(run)), None)
    assert_type(scope.call, FunctionCall | None)


def around(runner: TaskRunner, function: AnyFunction[int]) -> None:
    """What stands around submitting is for items of every type."""

    def submit(item: WorkItem[R], onwards: Callable[[WorkItem[R]], Future[R]], /) -> Future[R]:
        return onwards(item)

    assert_type(runner.around_submit, AroundSubmit | None)
    runner.around_submit = submit
    assert_type(function(1, x=2), int)


async def coroutines() -> None:
    """What a coroutine gives is all that is said of it."""
    coroutine: AnyCoroutine[bytes] = aplain(1)
    assert_type(await coroutine, bytes)


def publishing() -> None:
    """A package publishes its globals."""
    publish(assert_type(globals(), dict[str, Any]), ["Place"])


def elsewhere(owner: ScopeOwner, run: TaskRun, state: State[object]) -> None:
    """What runs elsewhere log, and what becomes of the runs below them, comes home."""
    records: list[PackedRecord] = []
    levels = LogLevels.of_this_process()
    assert_type(levels, LogLevels)
    sink = LogSink(levels, records.append, run.id, run.name)
    assert_type(sink.wants(logging.makeLogRecord({"levelno": 20})), bool)
    with forwarded_logs(sink) as nothing:
        assert_type(nothing, None)
    for record in records:
        deliver_record(record)
    reports: list[Report] = []
    reporter = Reporter(reports.append, pickle.dumps)
    assert_type(reporter.flow, None)
    reporter.note_end(run, state)
    scope_owner: ScopeOwner = reporter
    assert_type(RunScope(None, run, 1, None, scope_owner), RunScope)
    take = ReportTaker(owner)
    for report in reports:
        take(report)
    bring_over([state])
    reporter.finish()


async def stopping(
    function: AnyFunction[AnyCoroutine[object]], scope: RunScope, runner: TaskRunner
) -> None:
    """What stops a run in a worker process is called, in any thread."""
    stop = RunStop()
    stop.reach(scope)
    guarded = stop.guard(function)
    assert_type(guarded, AnyFunction[AnyCoroutine[object]])
    stop()
    assert_type(stop.is_wanted, bool)
    stop.rest(1.0)
    await stop.rest_async(1.0)
    assert_type(runner.undelivered(), Future[None] | None)
