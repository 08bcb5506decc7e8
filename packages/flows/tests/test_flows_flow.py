"""Flows: what they return, the state that they end in, and their runners."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator

import anyio
import pytest
import trio

from anabranch.flows import (
    AsyncFlow,
    Cancellation,
    Cancelled,
    Completed,
    ConcurrentTaskRunner,
    Failed,
    Flow,
    Future,
    SequentialTaskRunner,
    State,
    TaskRunner,
    UpstreamFailedError,
    flow,
    lift,
    quote,
    task,
)
from anabranch.futures import NotSubmittableError, RunnerNotStartedError, TaskRun
from anabranch.futures.testing import Gate, Ticket

NEVER = TaskRun("0" * 32, "never", "never")


@task
def add(x: int, y: int = 0) -> int:
    """Add two numbers."""
    return x + y


@task
async def add_async(x: int, y: int = 0) -> int:
    """Add two numbers, asynchronously."""
    return x + y


@task
def fail(message: str) -> int:
    """Raise."""
    raise LookupError(message)


@flow
def adding(x: int) -> int:
    """Add in a flow."""
    return add.submit(x, 1).result()


@flow
async def adding_async(x: int) -> int:
    """Add in an async flow."""
    return await add_async.submit(add.submit(x, 1), 1)


class TestCalling:
    def test_a_flow_returns_what_its_function_returns(self) -> None:
        """A call returns exactly what the function returned."""
        assert adding(1) == 2
        assert type(adding) is Flow
        assert adding.name == "adding"
        assert flow(fail_and_hide).name == "fail-and-hide"

    @pytest.mark.anyio
    async def test_an_async_flow_is_awaited(self) -> None:
        """An async flow runs in the caller's event loop, on trio and on asyncio."""
        assert type(adding_async) is AsyncFlow
        assert await adding_async(1) == 3
        assert (await adding_async.run(1)).result() == 3

    def test_a_flow_runs_in_the_callers_thread(self) -> None:
        """The body of a sync flow runs where it was called."""
        assert flow(threading.get_ident)() == threading.get_ident()

    def test_a_sync_flow_works_inside_a_running_loop(self) -> None:
        """A sync flow runs where a loop runs already, with async tasks in a loop beside it."""

        async def main() -> int:
            return flow(lambda: add_async.submit(1).result())()

        assert trio.run(main) == 1
        assert asyncio.run(main()) == 1

    @pytest.mark.parametrize("backend", ["trio", "asyncio"])
    def test_the_backend_is_the_loop_beside_a_sync_flow(self, backend: str) -> None:
        """`backend` chooses the event loop that a sync flow's async tasks run on."""

        @task
        async def which() -> str:
            return "trio" if trio.lowlevel.in_trio_run() else "asyncio"

        body = flow(lambda: which.submit().result())
        assert body.with_options(backend=backend)() == backend  # type: ignore[arg-type]  # A str.
        sequential = body.with_options(backend=backend, task_runner=SequentialTaskRunner)  # type: ignore[arg-type]  # A str.
        assert sequential() == backend

    def test_arguments_that_do_not_fit_are_refused(self) -> None:
        """Arguments that do not bind are refused before anything starts."""
        with pytest.raises(TypeError, match=r"adding\(\) cannot be called so.*'x'"):
            adding()  # type: ignore[call-arg]  # That is the point.

    def test_nothing_is_left_running(self) -> None:
        """When a flow has ended, its threads have too."""
        before = set(threading.enumerate())
        assert flow(lambda: [add.submit(1), add_async.submit(2)])()
        assert set(threading.enumerate()) == before


def fail_and_hide() -> None:
    """Fail, and say nothing."""
    fail.submit("hidden")


def two_failures() -> None:
    """Fail twice and succeed once."""
    fail.submit("one")
    fail.submit("two")
    add.submit(1)


def upstream_failure() -> None:
    """Fail once, with two runs behind."""
    add.submit(add.submit(fail.submit("root")))


class TestFinalStates:
    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            (lambda: 3, "Completed()"),
            (lambda: None, "Completed('All states completed.')"),
            (lambda: add.submit(1), "Completed('All states completed.')"),
            (lambda: [add.submit(1), add.run(2)], "Completed('All states completed.')"),
            (lambda: {"a": (add.submit(1), 3)}, "Completed('All states completed.')"),
            (lambda: add.submit(1).result(), "Completed()"),
            (fail_and_hide, "Failed('1/1 states failed.')"),
            (two_failures, "Failed('2/3 states failed.')"),
            (upstream_failure, "Failed('3/3 states failed.')"),
            (lambda: [fail.submit("a"), add.submit(1)], "Failed('1/2 states failed.')"),
            (lambda: fail.submit("a").result(), "Failed('LookupError: a')"),
            (lambda: adding(1) and None, "Completed('All states completed.')"),
        ],
    )
    def test_the_state_is_derived_as_documented(
        self, body: Callable[[], object], expected: str
    ) -> None:
        """Futures and states make an aggregate, None the sum of all runs, data is the value."""
        for runner in (SequentialTaskRunner, ConcurrentTaskRunner):
            state = flow(task_runner=runner)(body).run()
            assert str(state) == expected

    def test_one_failure_is_raised_as_it_is(self) -> None:
        """A flow that failed because of one run raises that run's exception."""
        with pytest.raises(LookupError, match="hidden"):
            flow(fail_and_hide)()

    def test_several_failures_are_raised_as_a_group(self) -> None:
        """A flow that failed because of several runs raises a group of their exceptions."""
        with pytest.raises(ExceptionGroup, match=r"2/3 states failed\.") as raised:
            flow(two_failures)()
        assert sorted(map(str, raised.value.exceptions)) == ["one", "two"]

    def test_runs_behind_a_failure_are_not_failures_of_their_own(self) -> None:
        """Of a failed chain, only the root's exception is raised."""
        with pytest.raises(LookupError, match="root"):
            flow(upstream_failure)()

    def test_what_was_returned_stays_with_a_failed_state(self) -> None:
        """An aggregate failure carries what the flow returned."""
        state: State[Future[int]] = flow(lambda: fail.submit("a")).run()
        assert isinstance(state, Failed)
        assert isinstance(state.returned, Future)

    def test_a_failure_that_nobody_saw_is_told(self, caplog: pytest.LogCaptureFixture) -> None:
        """A flow that returns data warns of failed runs whose end nobody looked at."""

        def body() -> int:
            fail.submit("unseen")
            fail.submit("seen").wait()
            return 3

        assert flow(body)() == 3
        warnings = [each for each in caplog.records if each.levelname == "WARNING"]
        assert len(warnings) == 1
        assert "Failed without anyone having looked" in warnings[0].getMessage()
        assert warnings[0].getMessage().count("'fail-") == 1

    def test_cancelled_runs_make_a_cancelled_flow(self) -> None:
        """A flow all of whose unfinished runs were cancelled is cancelled."""
        blocked: Future[int] = Future(NEVER)

        def body() -> None:
            add.submit(blocked).cancel()
            add.submit(1)

        state = flow(body).run()
        assert isinstance(state, Cancelled)
        assert str(state) == "Cancelled('1/2 states cancelled.')"

    def test_ctrl_c_cancels_and_comes_out(self) -> None:
        """KeyboardInterrupt ends a flow at once: pending runs are cancelled, and it comes out."""
        blocked: Future[int] = Future(NEVER)
        pending: list[Future[int]] = []

        @flow
        def interrupted() -> None:
            pending.append(add.submit(blocked))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert isinstance(pending[0].state, Cancelled)

    def test_an_exception_cancels_what_is_pending(self) -> None:
        """A flow that raises cancels the runs that have not started, and joins the others."""
        pending: list[Future[int]] = []
        with Gate() as gate:

            @task
            def slow(ticket: Ticket) -> int:
                ticket.wait()
                return 1

            @flow
            def failing() -> None:
                running = slow.submit(gate.ticket)
                gate.await_arrival()
                pending.extend([running, add.submit(running)])
                threading.Thread(target=_open_when_done, args=(gate, pending[1])).start()
                raise LookupError("the flow's own")

            state = failing.run()
        assert isinstance(state, Failed)
        assert str(state.exception) == "the flow's own"
        assert isinstance(pending[0].state, Completed)
        assert isinstance(pending[1].state, Cancelled)


def _open_when_done(gate: Gate, future: Future[int]) -> None:
    future.wait()
    gate.open()


class TestRunners:
    def test_the_default_is_concurrent(self) -> None:
        """A flow without a runner has a ConcurrentTaskRunner."""
        assert adding.task_runner == ConcurrentTaskRunner()

    def test_a_runner_is_given_as_instance_class_or_callable(self) -> None:
        """All three ways of naming a runner lead to the same one."""
        for given in (SequentialTaskRunner(), SequentialTaskRunner, lambda: SequentialTaskRunner()):
            assert flow(task_runner=given)(fail_and_hide).task_runner == SequentialTaskRunner()

    def test_the_runner_can_be_changed(self) -> None:
        """The runner can be assigned anew, or changed in a copy of the flow."""
        changed = adding.with_options(task_runner=SequentialTaskRunner)
        assert changed.task_runner == SequentialTaskRunner()
        assert adding.task_runner == ConcurrentTaskRunner()
        changed.task_runner = ConcurrentTaskRunner(max_workers=2)
        assert changed.task_runner == ConcurrentTaskRunner(max_workers=2)
        assert changed.with_options(name="x").task_runner == ConcurrentTaskRunner(max_workers=2)
        assert changed(1) == 2

    @pytest.mark.parametrize("value", ["dask", 3, int, None])
    def test_what_is_no_runner_is_refused(self, value: object) -> None:
        """What is no runner and makes none is refused, with what is one."""
        options = {"task_runner": value}
        with pytest.raises(
            TypeError, match=r"no task runner: .*task_runner=SequentialTaskRunner\(\)"
        ):
            flow(**options)  # type: ignore[call-overload]  # That is the point.

    def test_runs_at_the_same_time_have_runners_of_their_own(self) -> None:
        """A flow can run several times at once, as each run has a duplicate of its runner."""
        runner = ConcurrentTaskRunner()

        @flow(task_runner=runner)
        def outer(depth: int) -> int:
            return depth if depth == 3 else outer(depth + 1)

        assert outer(0) == 3
        with pytest.raises(RunnerNotStartedError, match="has not been started"):
            runner.submit(pow, 1, 2)

    def test_a_task_that_outlives_its_flow_cannot_submit(self) -> None:
        """Code that kept a flow's context beyond its end is told that the runner has ended."""
        import contextvars  # noqa: PLC0415 - for one test

        kept: list[contextvars.Context] = []
        flow(lambda: kept.append(contextvars.copy_context()))()
        with pytest.raises(RunnerNotStartedError, match="not started any more"):
            kept[0].run(add.submit, 1)


class TestSubflows:
    def test_a_subflow_has_its_own_runner(self) -> None:
        """A flow called in a flow runs on its own runner."""

        @task
        def thread() -> int:
            return threading.get_ident()

        inner = flow(task_runner=SequentialTaskRunner)(lambda: thread.submit().result())

        def outer() -> tuple[int, int]:
            return thread.submit().result(), inner()

        concurrent, sequential = flow(outer)()
        assert sequential == threading.get_ident()
        assert concurrent != sequential

    def test_a_failed_subflow_counts(self) -> None:
        """A subflow's failure counts among the runs of the flow that called it."""

        def outer() -> None:
            flow(fail_and_hide).run()
            add.submit(1)

        state = flow(outer).run()
        assert str(state) == "Failed('1/2 states failed.')"

    def test_submitted_subflows_run_at_the_same_time(self) -> None:
        """Submitted subflows run beside each other, each with its own runner."""
        barrier = threading.Barrier(2, timeout=30)

        @flow
        def meeting(x: int) -> int:
            barrier.wait()
            return add.submit(x, 1).result()

        def outer() -> list[int]:
            first = add.submit(1)
            return [each.result() for each in (meeting.submit(first), meeting.submit(5))]

        assert flow(outer)() == [2, 6]

    def test_an_async_subflow_can_be_submitted_from_sync_code(self) -> None:
        """A submitted async flow runs in an event loop of its own."""
        assert flow(lambda: adding_async.submit(1).result())() == 3

    def test_a_submitted_subflow_is_joined_and_counted_once(self) -> None:
        """A flow waits for the subflows that it submitted, and each counts once."""

        def outer() -> None:
            flow(fail_and_hide).submit()
            adding.submit(1)

        assert str(flow(outer).run()) == "Failed('1/2 states failed.')"

    @pytest.mark.parametrize("call", ["run", "submit"])
    def test_a_subflow_that_never_starts_counts_without_a_failure_of_its_own(
        self, call: str
    ) -> None:
        """A subflow behind a failure counts, called or submitted; the failure is the root's."""

        def outer() -> None:
            getattr(adding, call)(lift(fail.submit("gone")))

        state = flow(outer).run()
        assert str(state) == "Failed('2/2 states failed.')"
        with pytest.raises(LookupError, match="gone"):
            state.result()

    def test_a_subflow_for_which_there_is_no_thread_crashes(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A subflow whose thread cannot be started ends, and so does the flow; hooks are called."""
        ends: list[str] = []

        @flow(flow_run_name="beside", on_crashed=lambda *end: ends.append(str(end[-1])))
        def subflow() -> None:
            """Never start."""

        start = threading.Thread.start

        def start_few(thread: threading.Thread) -> None:
            if thread.name == "beside":
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_few)
        state = flow(lambda: subflow.submit()).run()
        message = "The run could not be started: RuntimeError: can't start new thread"
        assert ends == [f"Crashed({message!r})"] or ends == [f'Crashed("{message}")']
        with pytest.raises(RuntimeError, match="can't start new thread"):
            state.result()

    def test_submitting_a_flow_outside_a_flow_is_refused(self) -> None:
        """There is nothing to join a flow that is submitted outside any."""
        with pytest.raises(NotSubmittableError, match=r"'adding'.*@flow.*directly"):
            adding.submit(1)


class TestStructure:
    @pytest.mark.anyio
    async def test_an_outer_cancellation_reaches_the_runs(self) -> None:
        """A cancel scope around an async flow cancels the runs in it."""
        futures: list[Future[None]] = []
        started = anyio.Event()

        @task
        async def forever() -> None:
            started.set()
            await anyio.sleep_forever()

        @flow
        async def endless() -> None:
            futures.append(forever.submit())
            await futures[0]

        async def cancel_when_started(scope: anyio.CancelScope) -> None:
            await started.wait()
            scope.cancel()

        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                group.start_soon(cancel_when_started, scope)
                await endless()
        assert scope.cancelled_caught
        assert isinstance(futures[0].state, Cancelled)

    @pytest.mark.anyio
    async def test_the_flows_own_exception_comes_out_unwrapped(self) -> None:
        """What an async flow raises is not wrapped in a group."""

        @flow
        async def failing() -> None:
            add_async.submit(1)
            raise LookupError("the flow's own")

        with pytest.raises(LookupError, match="the flow's own"):
            await failing()


class TestLeaving:
    def test_a_failing_flow_cancels_its_submitted_subflows(self) -> None:
        """A flow that raises cancels what its subflows have not started, and joins them."""
        inner: list[Future[int]] = []
        waiting = threading.Event()

        @flow
        def subflow() -> int:
            inner.append(add.submit(lift(Future(NEVER))))
            waiting.set()
            return inner[0].result()

        @flow
        def failing() -> None:
            beside.append(subflow.submit())
            waiting.wait()
            raise LookupError("the flow's own")

        beside: list[Future[int]] = []
        with pytest.raises(LookupError, match="the flow's own"):
            failing()
        assert isinstance(inner[0].state, Cancelled)
        assert isinstance(beside[0].state, Failed)

    @pytest.mark.anyio
    async def test_a_failing_async_flow_stops_its_submitted_subflows(self) -> None:
        """An async flow that raises stops its async subflows, without blocking its loop."""
        waiting = threading.Event()
        beside: list[Future[None]] = []

        @flow
        async def endless() -> None:
            waiting.set()
            await anyio.sleep_forever()

        @flow
        async def failing() -> None:
            beside.append(endless.submit())
            await anyio.to_thread.run_sync(waiting.wait)
            raise LookupError("the flow's own")

        with pytest.raises(LookupError, match="the flow's own"):
            await failing()
        assert isinstance(beside[0].state, Cancelled)

    def test_an_interrupted_flow_joins_its_submitted_subflows(self) -> None:
        """Ctrl-C cancels the subflows beside a flow as well, and waits for them to end."""
        waiting = threading.Event()
        beside: list[Future[int]] = []

        @flow
        def subflow() -> int:
            pending = add.submit(lift(Future(NEVER)))
            waiting.set()
            return pending.result()

        @flow
        def interrupted() -> None:
            beside.append(subflow.submit())
            waiting.wait()
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert beside[0].done()
        assert "could not be stopped" not in str(beside[0].state)

    @pytest.mark.anyio
    async def test_a_cancelled_flow_joins_its_submitted_subflows(self) -> None:
        """An async flow that is cancelled has its async subflows stopped when it has ended."""
        waiting, ended = threading.Event(), threading.Event()

        @flow
        async def endless() -> None:
            try:
                waiting.set()
                await anyio.sleep_forever()
            finally:
                ended.set()

        @flow
        async def cancelled() -> None:
            endless.submit()
            await anyio.to_thread.run_sync(waiting.wait)
            scope.cancel()
            await anyio.sleep_forever()

        with anyio.CancelScope() as scope:
            await cancelled()
        assert ended.is_set()

    def test_a_pending_subflow_can_be_cancelled(self) -> None:
        """A subflow that waits for its arguments is over at once when it is cancelled."""

        @flow
        def outer() -> str:
            future = adding.submit(Future(NEVER))
            assert future.cancel() is Cancellation.CANCELLED
            return str(future.state)

        assert outer() == "Cancelled('The run was cancelled before it started.')"

    @pytest.mark.anyio
    async def test_failures_of_tasks_do_not_harm_suspended_code(self) -> None:
        """An exception that has been raised before leads to frames that go on; they are left so."""

        @task
        async def raise_again(error: Exception) -> None:
            raise error

        @flow
        async def suspended() -> str:
            try:
                await add_async.submit(fail.submit("gone"))
            except UpstreamFailedError as error:
                state = await raise_again.submit(error).wait_async()
                return type(state).__name__
            return "nothing was raised"

        assert await suspended() == "Failed"

    def test_a_stop_iteration_comes_out_as_it_is(self) -> None:
        """StopIteration, which no coroutine can raise, leaves a flow like any other exception."""

        @flow
        def exhausted() -> object:
            return next(iter([]))

        with pytest.raises(StopIteration):
            exhausted()


class TestReturning:
    def test_a_list_of_futures_counts_each(self) -> None:
        """What `map` returns is the sum of its runs, like a list of them."""
        state = flow(lambda: half.map(range(5))).run()
        assert str(state) == "Failed('2/5 states failed.')"

    def test_a_looked_at_list_was_seen(self, caplog: pytest.LogCaptureFixture) -> None:
        """Looking at a list of futures counts as looking at each of them."""

        @flow
        def careful() -> int:
            with contextlib.suppress(ValueError):
                half.map([1, 2]).result()
            return 3

        assert careful() == 3
        assert not [each for each in caplog.records if each.levelname == "WARNING"]

    def test_deep_data_is_returned(self) -> None:
        """How deep the data is that a flow returns does not matter."""
        deep: list[object] = []
        for _ in range(5_000):
            deep = [deep]
        assert flow(lambda: deep)() is deep

    @pytest.mark.parametrize("runner", [SequentialTaskRunner, ConcurrentTaskRunner])
    def test_a_task_that_returns_a_state_or_a_future_ends_as_that(
        self, runner: type[TaskRunner]
    ) -> None:
        """A task that returns a state ends in it; one that returns a future is joined with it."""

        @task
        def by_state(x: int) -> object:
            return half.run(x)

        @task
        def by_future(x: int) -> object:
            return half.submit(x)

        @flow(task_runner=runner)
        def body() -> list[object]:
            assert isinstance(by_state.submit(3).wait(), Failed)
            assert isinstance(by_future.submit(3).wait(), Failed)
            return [by_state.submit(4).result(), by_future.submit(8).result()]

        assert body() == [2, 4]


@task
def half(x: int) -> int:
    """Halve an even number."""
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x // 2


class TestDecorating:
    def test_direct_calls_resolve_futures(self) -> None:
        """A flow called with futures waits for them, and does not run if one has failed."""

        @flow
        def outer() -> tuple[int, str]:
            state = adding.run(lift(fail.submit("gone")))
            return adding(lift(add.submit(1, 1))), str(state).split("(")[0]

        assert outer() == (3, "UpstreamFailed")

    def test_generators_are_refused(self) -> None:
        """A generator would run when its flow has ended, so it is refused with a way out."""

        def numbers() -> Iterator[int]:
            yield 1

        with pytest.raises(TypeError, match=r"generator numbers\(\).*Return a list"):
            flow(numbers)

    def test_a_parameter_named_wait_for_is_refused(self) -> None:
        """A parameter whose name `.submit()` needs is refused at decoration."""

        def clash(wait_for: int) -> int:
            return wait_for

        with pytest.raises(TypeError, match=r"'clash' has a parameter named 'wait_for'"):
            flow(clash)

    def test_a_callable_makes_one_runner(self) -> None:
        """A callable that makes the runner is called once."""
        made: list[TaskRunner] = []

        def make() -> TaskRunner:
            made.append(SequentialTaskRunner())
            return made[-1]

        decorated = flow(task_runner=make)(lambda: None)
        decorated()
        assert len(made) == 1

    def test_a_flow_is_pickled_by_name(self) -> None:
        """A flow that its module knows comes back as itself; a changed copy comes back equal."""
        assert pickle.loads(pickle.dumps(adding)) is adding
        copy = pickle.loads(pickle.dumps(adding.with_options(name="other")))
        assert (copy.name, copy(1)) == ("other", 2)


def test_what_a_subflow_waits_for_is_begun_however_many_wait_for_the_subflow() -> None:
    """A run that a submitted subflow waits for is begun though many of its runner wait already."""
    waiting = threading.Semaphore(0)
    wanted: list[Future[int]] = []
    go = threading.Event()

    @flow(task_runner=SequentialTaskRunner())
    def inner() -> int:
        go.wait()
        return wanted[0].result()

    @task
    def wait_for(beside: list[Future[int]]) -> int:
        waiting.release()
        return beside[0].result()

    @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
    def outer() -> int:
        beside = [inner.submit()]
        runs = [wait_for.submit(quote(beside)) for _ in range(17)]
        for _ in runs:
            assert waiting.acquire(timeout=10)
        wanted.append(add.submit(1))
        go.set()
        return sum(run.result(timeout=10) for run in runs)

    assert outer() == 17


class Value:
    """Something to hold on to."""


@contextlib.contextmanager
def no_collections() -> Iterator[None]:
    """Have nothing let go of by the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_a_finished_flow_keeps_nothing() -> None:
    """What a flow was called with, and what it returned, is let go of without a collection."""

    @flow
    def passing(value: Value) -> list[Value]:
        return [value]

    @flow
    async def passing_async(value: Value) -> list[Value]:
        return [value]

    @flow
    def submitting(value: Value) -> int:
        return len(passing.submit(value).result())

    with no_collections():
        value = Value()
        there = weakref.ref(value)
        passing(value)
        anyio.run(passing_async, value)
        submitting(value)
        assert passing.run(value).result() == [value]
        del value
        assert there() is None


def test_a_failed_direct_call_keeps_nothing() -> None:
    """What was in the frames of a task that failed is let go of with its exception."""
    there: list[weakref.ref[Value]] = []

    @task
    def failing() -> None:
        value = Value()
        there.append(weakref.ref(value))
        raise LookupError("gone")

    with no_collections():
        failing.run()
        with contextlib.suppress(LookupError):
            failing()
        assert [each() for each in there] == [None, None]
