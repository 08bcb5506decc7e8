"""Scopes inside scopes: what is joined, cancelled, stopped and refused."""

from __future__ import annotations

import contextvars
import threading
from typing import Never

import anyio
import pytest

from anabranch.futures import (
    Cancellation,
    Cancelled,
    Completed,
    ConcurrencyType,
    Future,
    NotSubmittableError,
    RetryPolicy,
    State,
    TaskRun,
    TaskRunner,
    WorkItem,
    WouldDeadlockError,
)
from anabranch.futures.runner import RunScope, current_scope, make_item, run_item


class Run(Future[object]):
    """A run that ends when it is told to."""

    def __init__(self, name: str = "run", answer: Cancellation = Cancellation.CANCELLED) -> None:
        super().__init__(TaskRun(name.rjust(32, "0"), name, name))
        self.answer = answer
        self.was_cancelled = False

    def cancel(self) -> Cancellation:
        self.was_cancelled = True
        if self.answer is Cancellation.CANCELLED:
            self.set_final(Cancelled())
        return self.answer


class EndingWhenAwaited(Run):
    """A run that ends as soon as a thread waits for it."""

    def park(self, timeout: float | None = None) -> None:
        self.set_final(Completed(1))


class Runner(TaskRunner):
    """A runner whose runs never start."""

    @property
    def concurrency_type(self) -> ConcurrencyType:
        return ConcurrencyType.SEQUENTIAL

    def _submit(self, item: WorkItem[object]) -> Run:  # type: ignore[override]  # Of any value.
        return Run(item.task_run.name)


def fail() -> Never:
    raise ValueError("again")


def nested() -> tuple[RunScope, RunScope]:
    """Return a scope, and one inside it."""
    outer, inner = RunScope(), RunScope()
    outer.nest(inner)
    return outer, inner


def test_joining_joins_those_inside() -> None:
    """A scope ends only when the runs in the scopes inside it have ended, too."""
    outer, inner = nested()
    first, second = EndingWhenAwaited("first"), EndingWhenAwaited("second")
    with outer:
        outer.adopt(first)
        inner.adopt(second)
    assert first.done()
    assert second.done()


@pytest.mark.anyio
async def test_joining_in_a_loop_joins_those_inside() -> None:
    """So does a scope that is left in an event loop."""
    outer, inner = nested()
    run = Run()
    inner.adopt(run)
    async with anyio.create_task_group() as group:

        async def leave() -> None:
            async with outer:
                pass
            assert run.done()

        group.start_soon(leave)
        await anyio.wait_all_tasks_blocked()
        run.set_final(Completed(1))


def test_cancelling_reaches_those_inside() -> None:
    """A scope that is cancelled cancels those inside, and those that come."""
    outer, inner = nested()
    run = Run()
    inner.adopt(run)
    outer.cancel()
    assert run.was_cancelled
    late = RunScope()
    outer.nest(late)
    assert late.is_cancelled


def test_a_scope_that_was_left_is_let_go() -> None:
    """What has been left is not cancelled any more, and letting go twice does no harm."""
    outer, inner = nested()
    outer.unnest(inner)
    outer.unnest(inner)
    outer.cancel()
    assert not inner.is_cancelled


def test_stopping_does_without_what_cannot_be_stopped() -> None:
    """Runs that cannot be stopped are over and counted; for those that will stop one waits."""
    runner = Runner()
    outer = RunScope(runner=runner)
    inner = RunScope(runner=runner)
    outer.nest(inner)
    stuck, stopping = Run("a", Cancellation.CANNOT_STOP), Run("b", Cancellation.WILL_STOP)
    deep = Run("c", Cancellation.CANNOT_STOP)
    for scope, run in ((outer, stuck), (outer, stopping), (inner, deep)):
        scope.adopt(run)
    outer.stop("Time is up.")
    assert str(stuck.state) == str(deep.state) == "Cancelled('Time is up.')"
    assert outer.children() == [stopping]
    assert runner.statistics().abandoned == 2


class RunnerElsewhere(Runner):
    """A runner whose processes hear of what was cancelled when `tell` is called, if it is.

    Attributes:
        word: What ends with that.
        was_asked: Set when somebody begins to wait for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.word: Future[None] = Future(TaskRun("0" * 32, "word", "word"))
        self.was_asked = threading.Event()

    def undelivered(self) -> Future[None]:
        self.was_asked.set()
        return self.word

    def tell(self) -> None:
        """Have those who wait for the word told."""
        self.was_asked.wait(10)
        self.word.set_final(Completed(None))


def test_a_cancelled_scope_ends_when_other_processes_have_heard_of_it() -> None:
    """What was cancelled here could still begin there, and would do so after the scope."""
    runner = RunnerElsewhere()
    teller = threading.Thread(target=runner.tell)
    with RunScope(runner=runner) as scope:
        scope.adopt(Run())
        teller.start()
        scope.cancel()
    assert runner.was_asked.is_set()
    assert runner.word.done()
    teller.join()


@pytest.mark.anyio
async def test_a_cancelled_scope_in_a_loop_ends_when_other_processes_have_heard_of_it() -> None:
    """So it is where the scope is left in an event loop, though all of its runs have ended."""
    runner = RunnerElsewhere()
    teller = threading.Thread(target=runner.tell)
    async with RunScope(runner=runner) as scope:
        scope.adopt(Run())
        teller.start()
        scope.cancel()
    assert runner.was_asked.is_set()
    assert runner.word.done()
    teller.join()


@pytest.mark.usefixtures("no_grace")
def test_a_scope_does_not_wait_for_ever_for_other_processes() -> None:
    """They may be stuck, or gone."""
    runner = RunnerElsewhere()
    with RunScope(runner=runner) as scope:
        scope.cancel()
    assert runner.was_asked.is_set()
    assert not runner.word.done()


def test_a_scope_that_was_not_cancelled_waits_for_nobody_else() -> None:
    """What others have cancelled is theirs to wait for."""
    runner = RunnerElsewhere()
    with RunScope(runner=runner):
        pass
    assert not runner.was_asked.is_set()


def test_stopping_leaves_alone_what_has_just_ended() -> None:
    """A run that ended by itself meanwhile is not counted as abandoned."""

    class Ending(Run):
        def cancel(self) -> Cancellation:
            self.set_final(Completed(1))
            return Cancellation.CANNOT_STOP

    runner = Runner()
    scope = RunScope(runner=runner)
    run = Ending()
    scope.adopt(run)
    scope.stop("Time is up.")
    assert isinstance(run.state, Completed)
    assert runner.statistics().abandoned == 0


def test_a_deadline_holds_for_what_is_inside() -> None:
    """Code inside a scope with a deadline is under it as well."""
    outer, inner = RunScope(), RunScope()
    outer.has_deadline = True
    outer.nest(inner)
    assert inner.has_deadline


def test_nothing_is_submitted_in_a_scope_that_has_ended() -> None:
    """It is refused with the reason, in the scopes inside too, before anything runs."""
    outer, inner = nested()
    runner = Runner()
    runner._enter_in_place()
    outer.end("the branch has ended")
    token = current_scope.set(inner)
    try:
        with pytest.raises(NotSubmittableError, match=r"'print-.*': the branch has ended"):
            runner.submit(print)
    finally:
        current_scope.reset(token)
    assert runner.statistics().submitted == 0
    late = Run()
    inner.adopt(late)
    assert late.was_cancelled


def test_an_interrupted_body_waits_for_a_while_only() -> None:
    """Left by Ctrl-C, a scope gives up what does not end in time, inside as well."""
    outer, inner = nested()
    waited = []

    class Stuck(Run):
        def park(self, timeout: float | None = None) -> None:
            waited.append(timeout)

    runs = [Stuck("a", Cancellation.CANNOT_STOP), Stuck("b", Cancellation.CANNOT_STOP)]
    outer.adopt(runs[0])
    inner.adopt(runs[1])
    with pytest.raises(KeyboardInterrupt), outer:
        raise KeyboardInterrupt
    assert all(isinstance(each.state, Cancelled) for each in runs)
    assert len(waited) == 2
    assert None not in waited


def test_a_wait_that_would_never_end() -> None:
    """A scope whose runs need this thread's own loop says so, and gives them up."""

    class Unreachable(Run):
        def join(self, timeout: float | None = None) -> None:
            raise WouldDeadlockError("this loop has to run it")

    run = Unreachable(answer=Cancellation.WILL_STOP)
    with pytest.raises(WouldDeadlockError, match="this loop"), RunScope() as scope:
        scope.adopt(run)
    assert isinstance(run.state, Cancelled)


@pytest.mark.usefixtures("no_grace")
@pytest.mark.anyio
async def test_an_error_comes_out_of_a_cancelled_join() -> None:
    """Cancelled while it joins for having failed, a scope is left by its own error."""
    run = Run(answer=Cancellation.CANNOT_STOP)
    with anyio.CancelScope() as around:
        with pytest.raises(ValueError, match="mine"):  # noqa: PT012 - the body of the scope
            async with RunScope() as scope:
                scope.adopt(run)
                around.cancel()
                raise ValueError("mine")
        assert isinstance(run.state, Cancelled)
        await anyio.sleep_forever()  # It is heard again here.
    assert around.cancelled_caught


@pytest.mark.parametrize("how", ["cancel", "stop"])
def test_a_scope_that_is_cancelled_wakes_what_rests_in_it(how: str) -> None:
    """A run in place whose next attempt is an hour away ends with what surrounds it."""
    outer, inner = nested()
    rests = threading.Event()
    item = make_item(
        fail, (), {}, task_run=TaskRun("0" * 32, "run", "run"), retry=RetryPolicy(1, delay=3600)
    )

    states: list[State[object]] = []

    def drive() -> None:
        current_scope.set(inner)
        states.append(run_item(item, progress=lambda _: rests.set()))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(drive,), daemon=True)
    thread.start()
    assert rests.wait(20)
    outer.cancel() if how == "cancel" else outer.stop("The flow is over.")
    thread.join(20)
    assert [type(state) for state in states] == [Cancelled]


@pytest.mark.anyio
async def test_a_scope_that_is_cancelled_wakes_async_rests() -> None:
    """A rest in an event loop is over when the scope is cancelled, or was before."""
    scope = RunScope()
    async with anyio.create_task_group() as group:
        group.start_soon(scope.rest_async, 3600)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
    await scope.rest_async(3600)
    scope.rest(3600)
