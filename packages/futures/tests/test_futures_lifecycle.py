"""The lifecycle's drivers, and scopes: how runs end, and what they wait for before."""

from __future__ import annotations

import gc
import threading
import weakref

import anyio
import anyio.lowlevel
import attrs
import pytest

from anabranch.futures import (
    Backend,
    Cancellation,
    Cancelled,
    Completed,
    Crashed,
    Failed,
    FlowRun,
    Future,
    RunContext,
    State,
    TaskRun,
    WorkItem,
    allow_failure,
)
from anabranch.futures.runner import (
    RunScope,
    StoredValue,
    current_scope,
    make_item,
    resolve_arguments,
    run_item,
    run_item_async,
    run_item_in_new_loop,
    running_loop,
    state_of_error,
)

BOOM = LookupError("boom")
RUN = TaskRun("1", "run", "task")
FLOW = FlowRun("2", "humongous-mink", "flow")


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run async tests on both kinds of event loop."""
    return str(request.param)


class FakeRun(Future[int]):
    """A run that notes that it was cancelled, and then ends by itself if it is told to."""

    def __init__(self, name: str = "child", *, ends_when_cancelled: bool = True) -> None:
        super().__init__(TaskRun(name, name, name))
        self.cancelled = threading.Event()
        self.ends_when_cancelled = ends_when_cancelled

    def cancel(self) -> Cancellation:
        """Note the request, and obey it."""
        self.cancelled.set()
        if self.ends_when_cancelled:
            self.set_final(Cancelled())
        return Cancellation.CANCELLED


class EndingWhenAwaited(FakeRun):
    """A run that ends, in another thread, once something waits for it."""

    def __init__(self, name: str = "child") -> None:
        super().__init__(name)
        self.was_waited_for = False

    def park(self, timeout: float | None = None) -> None:
        """Have the run end, and wait for it."""
        self.awaited()
        super().park(timeout)

    def awaited(self) -> None:
        """Have the run end."""
        self.was_waited_for = True
        threading.Thread(target=self.set_final, args=(Completed(1),)).start()


@attrs.define
class Accounts:
    """Keeps account of the runs in a scope."""

    ended: list[Future[object]] = attrs.Factory(list)

    def child_ended(self, child: Future[object]) -> None:
        """Take note of a run that has ended."""
        assert child.done()
        self.ended.append(child)


def scope_here() -> RunScope:
    """Return the scope of the code that calls this."""
    scope = current_scope.get()
    assert scope is not None
    return scope


def add(x: int, y: int) -> int:
    """Return the sum."""
    return x + y


async def add_async(x: int, y: int) -> int:
    """Return the sum, after letting the loop turn once."""
    await anyio.lowlevel.checkpoint()
    return x + y


def item_of(function: object, *args: object, **kwargs: object) -> WorkItem[object]:
    """Make the item of a call."""
    assert callable(function)
    return make_item(function, args, kwargs, task_run=RUN, flow_run=FLOW)


def completed(value: int) -> Future[int]:
    """Make a future that has completed."""
    future: Future[int] = Future(TaskRun("a", "a", "a"))
    future.set_final(Completed(value))
    return future


# ------------------------------------------------------------------------- in a thread


def test_a_run_completes_with_what_the_function_returns() -> None:
    """The driver calls the function with the values of its arguments."""
    state = run_item(item_of(add, completed(1), y=[2][0]))
    assert isinstance(state, Completed)
    assert state.value == 3


def test_a_run_fails_with_what_the_function_raises() -> None:
    """An exception is the run's failure, described in the state's message."""

    def fail() -> None:
        raise BOOM

    state = run_item(item_of(fail))
    assert isinstance(state, Failed)
    assert state.exception is BOOM
    assert state.message == "LookupError: boom"


@pytest.mark.parametrize("error", [KeyboardInterrupt("now"), SystemExit(3), GeneratorExit()])
def test_what_was_not_meant_for_the_engine_is_a_crash(error: BaseException) -> None:
    """SystemExit and the like are no failure of the task's: the run has crashed."""

    def leave() -> None:
        raise error

    state = run_item(item_of(leave))
    assert isinstance(state, Crashed)
    assert state.exception is error
    assert str(state.message).startswith(f"The run was ended by {type(error).__name__}")


def test_a_failure_is_not_kept_by_its_own_traceback() -> None:
    """What a run failed with, and its arguments, go with its state, without a collection."""

    class Error(Exception):
        pass

    def fail() -> None:
        raise Error

    gc.collect()
    gc.disable()
    try:
        state = run_item(make_item(fail, (), {}, task_run=RUN))
        assert isinstance(state, Failed)
        error = weakref.ref(state.exception)
        del state
        assert error() is None
    finally:
        gc.enable()


def test_a_call_that_does_not_fit_fails_the_run() -> None:
    """A TypeError of the call itself is a failure like another."""
    state = run_item(item_of(add, 1))
    assert isinstance(state, Failed)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'y'"):
        state.result()


def test_a_tolerated_failure_is_an_argument() -> None:
    """The exception of a future marked with allow_failure is handed over as a value."""
    failed: Future[int] = Future(TaskRun("a", "a", "a"))
    failed.set_final(Failed(BOOM))
    state = run_item(item_of(lambda value: value, allow_failure(failed)))
    assert state.result() is BOOM


def test_a_running_function_knows_where_it_is() -> None:
    """The scope tells which run of which flow this is, which attempt, and where it submits to."""
    seen: list[RunScope] = []
    run_item(item_of(lambda: seen.append(scope_here())))
    assert seen[0].context == RunContext(FLOW, RUN, attempt=1)
    assert seen[0].runner is None
    assert current_scope.get() is None, "the scope ends with the run"


def test_a_run_reports_to_the_account_of_its_submitter() -> None:
    """The owner of the submitter's scope is the owner of the run's."""
    accounts = Accounts()
    token = current_scope.set(RunScope(FLOW, owner=accounts))
    try:
        state = run_item(item_of(lambda: scope_here().owner))
    finally:
        current_scope.reset(token)
    assert state.result() is accounts


def test_a_run_joins_what_it_submitted() -> None:
    """A run does not end before the runs that were submitted in it."""
    child = EndingWhenAwaited()
    state = run_item(item_of(lambda: scope_here().adopt(child)))
    assert isinstance(state, Completed)
    assert child.was_waited_for
    assert child.done()
    assert not child.was_observed(), "joining is no look at the outcome"


def test_a_run_that_fails_cancels_what_it_submitted() -> None:
    """A failing run has its children stopped before it ends."""
    child = FakeRun()

    def parent() -> None:
        scope_here().adopt(child)
        raise BOOM

    state = run_item(item_of(parent))
    assert isinstance(state, Failed)
    assert child.cancelled.is_set()
    assert child.done()


def test_a_child_that_fails_does_not_fail_its_parent() -> None:
    """Whether a child's failure matters is for the parent to say."""
    child = FakeRun()

    def parent() -> int:
        scope_here().adopt(child)
        child.set_final(Failed(BOOM))
        return 1

    assert run_item(item_of(parent)).result() == 1


# ------------------------------------------------------------------------- as an async task


@pytest.mark.anyio
async def test_async_runs_complete_and_fail() -> None:
    """The async driver awaits the coroutine, and tells how it ended."""
    state = await run_item_async(item_of(add_async, completed(1), 2))
    assert state.result() == 3

    async def fail() -> None:
        await anyio.lowlevel.checkpoint()
        raise BOOM

    state = await run_item_async(item_of(fail))
    assert isinstance(state, Failed)
    assert state.exception is BOOM
    assert state.message == "LookupError: boom"


@pytest.mark.anyio
async def test_an_async_run_ended_by_system_exit_has_crashed() -> None:
    """SystemExit in an async task is a crash of the run, and stops nothing else."""

    async def leave() -> None:
        raise SystemExit(3)

    state = await run_item_async(item_of(leave))
    assert isinstance(state, Crashed)
    assert isinstance(state.exception, SystemExit)


@pytest.mark.anyio
async def test_cancelling_an_async_driver_cancels_the_run() -> None:
    """A cancellation goes through the function and out of the driver, which tells no state."""
    seen: list[str] = []

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("cleaned up")

    states: list[State[object]] = []

    async def drive() -> None:
        states.append(await run_item_async(item_of(wait)))

    async with anyio.create_task_group() as group:
        group.start_soon(drive)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert seen == ["cleaned up"]
    assert states == []


@pytest.mark.anyio
async def test_an_async_run_has_a_scope_too() -> None:
    """An async function knows where it is, and its scope ends with it."""
    before = current_scope.get()

    async def where() -> RunContext:
        return scope_here().context

    state = await run_item_async(item_of(where))
    assert state.result() == RunContext(FLOW, RUN, attempt=1)
    assert current_scope.get() is before


@pytest.mark.anyio
async def test_an_async_run_joins_what_it_submitted() -> None:
    """An async run does not end before the runs that were submitted in it."""
    child = EndingWhenAwaited()

    async def parent() -> None:
        scope_here().adopt(child)

    state = await run_item_async(item_of(parent))
    assert isinstance(state, Completed)
    assert child.was_waited_for
    assert child.done()


@pytest.mark.anyio
async def test_an_async_run_that_fails_cancels_what_it_submitted() -> None:
    """A failing async run has its children stopped, and waits for them."""
    child = FakeRun()

    async def parent() -> None:
        scope_here().adopt(child)
        raise BOOM

    state = await run_item_async(item_of(parent))
    assert isinstance(state, Failed)
    assert child.cancelled.is_set()
    assert child.done()


class FarValue(StoredValue[int]):
    """A value that remembers which thread fetched it."""

    thread: int | None = None

    def _fetch(self) -> int:
        self.thread = threading.get_ident()
        return 5


@pytest.mark.anyio
async def test_values_are_brought_over_outside_the_loop() -> None:
    """An async run gets values that lie elsewhere without blocking its event loop."""
    far = FarValue()
    future: Future[int] = Future(TaskRun("a", "a", "a"))
    future.set_final(Completed(far))
    state = await run_item_async(item_of(add_async, future, 1))
    assert state.result() == 6
    assert far.thread not in (None, threading.get_ident())


BACKENDS: list[Backend] = ["trio", "asyncio"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_async_item_in_a_loop_of_its_own(backend: Backend) -> None:
    """Where there is no loop, one of the kind that the item asks for is made for it."""

    async def which() -> str:
        loop = running_loop()
        assert loop is not None
        return loop.backend

    item = make_item(which, (), {}, task_run=RUN, backend=backend)
    assert run_item_in_new_loop(item).result() == backend


# ------------------------------------------------------------------------- states of errors


def test_ordinary_exceptions_are_failures() -> None:
    """An exception group of ordinary exceptions is an ordinary exception."""
    group = ExceptionGroup("several", [BOOM])
    assert isinstance(state_of_error(BOOM), Failed)
    assert isinstance(state_of_error(group), Failed)
    assert isinstance(state_of_error(BaseExceptionGroup("several", [SystemExit()])), Crashed)


def test_plain_arguments_are_not_copied() -> None:
    """Without futures, the function gets the very arguments."""
    item = item_of(add, [1], y={2})
    args, kwargs = resolve_arguments(item)
    assert args is item.args
    assert kwargs is item.kwargs


# ------------------------------------------------------------------------- scopes


def test_a_scope_joins_children_that_come_while_it_joins() -> None:
    """A run submitted while the scope waits for another is joined as well."""
    scope = RunScope()
    late = EndingWhenAwaited("late")

    class Submitting(EndingWhenAwaited):
        def park(self, timeout: float | None = None) -> None:
            scope.adopt(late)
            super().park(timeout)

    with scope:
        scope.adopt(Submitting("first"))
    assert late.done()
    assert scope.children() == []


def test_a_scope_forgets_children_that_have_ended() -> None:
    """A scope keeps no run that has ended, so that it does not grow."""
    scope = RunScope()
    child, done = FakeRun(), completed(1)
    scope.adopt(child)
    scope.adopt(done)
    assert scope.children() == [child]
    child.set_final(Completed(1))
    assert scope.children() == []


def test_a_scope_tells_its_owner_of_each_end_once() -> None:
    """The owner hears of every child once, before the scope ends."""
    accounts = Accounts()
    early, late = FakeRun("early"), EndingWhenAwaited("late")
    with RunScope(owner=accounts) as scope:
        scope.adopt(early)
        scope.adopt(late)
        early.set_final(Completed(1))
        assert accounts.ended == [early]
    assert accounts.ended == [early, late]


def test_leaving_a_scope_by_an_exception_cancels_and_joins() -> None:
    """Every child is asked to stop and then waited for; the exception comes out as it is."""
    obedient, stubborn = FakeRun("obedient"), FakeRun("stubborn", ends_when_cancelled=False)

    def give_in() -> None:
        stubborn.cancelled.wait()
        stubborn.set_final(Completed(1))

    threading.Thread(target=give_in).start()
    scope = RunScope()
    scope.adopt(obedient)
    scope.adopt(stubborn)
    with pytest.raises(LookupError, match="boom") as caught, scope:
        raise BOOM
    assert caught.value is BOOM
    assert isinstance(obedient.state, Cancelled)
    assert isinstance(stubborn.state, Completed)


def test_cancelling_a_scope_asks_every_child() -> None:
    """Cancel reaches all children that have not ended."""
    children = [FakeRun(str(number)) for number in range(3)]
    scope = RunScope()
    for child in children:
        scope.adopt(child)
    scope.cancel()
    assert all(child.cancelled.is_set() for child in children)
    assert scope.children() == []


@pytest.mark.anyio
async def test_an_async_scope_is_left_by_an_exception() -> None:
    """An async scope, too, cancels its children, waits for them and lets the exception out."""
    child = FakeRun(ends_when_cancelled=False)

    def give_in() -> None:
        child.cancelled.wait()
        child.set_final(Completed(1))

    threading.Thread(target=give_in).start()
    scope = RunScope()
    scope.adopt(child)
    with pytest.raises(LookupError, match="boom") as caught:
        async with scope:
            raise BOOM
    assert caught.value is BOOM
    assert child.done()


@pytest.mark.anyio
async def test_an_async_scope_joins_even_if_it_is_cancelled_in_its_body() -> None:
    """A cancelled scope cancels its children, and does not end before them."""
    child = FakeRun(ends_when_cancelled=False)
    async with anyio.create_task_group() as group:

        async def body() -> None:
            async with RunScope() as scope:
                scope.adopt(child)
                await anyio.sleep_forever()

        group.start_soon(body)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
        assert child.cancelled.is_set()
        threading.Thread(target=child.set_final, args=(Completed(1),)).start()
    assert child.done()


@pytest.mark.anyio
async def test_an_async_scope_joins_even_if_it_is_cancelled_while_it_joins() -> None:
    """A scope that is cancelled while it waits for its children cancels them, and still joins."""
    child = FakeRun()
    async with anyio.create_task_group() as group:

        async def body() -> None:
            async with RunScope() as scope:
                scope.adopt(child)

        group.start_soon(body)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert child.cancelled.is_set()
    assert child.done()


def test_a_scope_whose_join_is_interrupted_cancels_its_children() -> None:
    """Ctrl-C while a scope joins stops the children before it comes out."""

    class Interrupted(FakeRun):
        def park(self, timeout: float | None = None) -> None:
            if not self.cancelled.is_set():
                raise KeyboardInterrupt
            super().park(timeout)

    child = Interrupted()
    with pytest.raises(KeyboardInterrupt), RunScope() as scope:
        scope.adopt(child)
    assert child.cancelled.is_set()
    assert child.done()
