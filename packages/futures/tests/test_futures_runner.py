"""The base of task runners, with a runner whose runs the tests complete themselves."""

from __future__ import annotations

import copy
import functools
import logging
import pickle
import signal
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TypeVar, cast

import anyio
import anyio.lowlevel
import pytest
import trio.testing

from anabranch.futures import (
    Backend,
    Cancellation,
    Cancelled,
    Completed,
    ConcurrencyType,
    Failed,
    Future,
    RunnerAlreadyStartedError,
    RunnerNotStartedError,
    TaskRun,
    TaskRunner,
    WorkItem,
)
from anabranch.futures.runner import running_loop

R = TypeVar("R")

BOOM = LookupError("boom")
BACKENDS: list[Backend] = ["trio", "asyncio"]


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run async tests on both kinds of event loop."""
    return str(request.param)


class ManualRun(Future[R]):
    """A run that ends when it is told to, when it is cancelled, or when something waits for it."""

    def __init__(self, item: WorkItem[R], *, stubborn: bool = False) -> None:
        super().__init__(item.task_run)
        self.item = item
        self.stubborn = stubborn
        self.ends_when_awaited = False

    def cancel(self) -> Cancellation:
        """End, unless stubborn."""
        if self.stubborn:
            return Cancellation.CANNOT_STOP
        self.set_final(Cancelled())
        return Cancellation.CANCELLED

    def awaited(self) -> None:
        if self.ends_when_awaited:
            threading.Thread(target=self.set_final, args=(Completed(None),)).start()


class ManualTaskRunner(TaskRunner):
    """Runs nothing by itself."""

    def __init__(self, label: str = "plain", *, options: list[int] | None = None) -> None:
        super().__init__()
        self.label = label
        self.options = options or []
        self.runs: list[ManualRun[object]] = []
        self.log: list[str] = []

    @property
    def concurrency_type(self) -> ConcurrencyType:
        """Concurrent."""
        return ConcurrencyType.CONCURRENT

    def _settings(self) -> Mapping[str, object]:
        return {"label": self.label, "options": self.options}

    async def _start(self, exit_stack: AsyncExitStack) -> None:
        loop = running_loop()
        assert loop is not None
        self.log.append(f"started on {loop.backend}")
        # Task groups wrap what leaves them into exception groups, as those of real runners do.
        await exit_stack.enter_async_context(anyio.create_task_group())
        await exit_stack.enter_async_context(anyio.create_task_group())
        exit_stack.callback(
            lambda: self.log.append(f"ended with {[run.done() for run in self.runs]}")
        )

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        run = ManualRun(item)
        self.runs.append(cast("ManualRun[object]", run))
        return run


class OtherTaskRunner(ManualTaskRunner):
    """Another kind of runner."""


def add(x: int, y: int = 0) -> int:
    """Return the sum."""
    return x + y


# ------------------------------------------------------------------------- settings


def test_a_runner_has_names() -> None:
    """The short name leaves out what all runners share; the long one is the class's."""
    runner = ManualTaskRunner("a", options=[1])
    assert runner.name == "manual"
    assert str(runner) == "ManualTaskRunner"
    assert repr(runner) == "ManualTaskRunner(label='a', options=[1])"
    assert runner.logger.name == "anabranch.task_runner.manual"


def test_runners_are_equal_by_class_and_settings() -> None:
    """Equal settings make equal runners with equal hashes, though settings are not hashable."""
    runner = ManualTaskRunner("a", options=[1])
    assert runner == ManualTaskRunner("a", options=[1])
    assert hash(runner) == hash(ManualTaskRunner("a", options=[1]))
    assert runner != ManualTaskRunner("b", options=[1])
    assert runner != OtherTaskRunner("a", options=[1])
    assert runner != "ManualTaskRunner"


def test_a_duplicate_is_equal_and_not_started() -> None:
    """A duplicate has the settings, and nothing else, of its original."""
    runner = ManualTaskRunner("a")
    with runner:
        twin = runner.duplicate()
        assert type(twin) is ManualTaskRunner
        assert twin == runner
        assert twin is not runner
        with pytest.raises(RunnerNotStartedError, match="has not been started"):
            twin.submit(add, 1)


@pytest.mark.parametrize(
    "copied", [lambda runner: pickle.loads(pickle.dumps(runner)), copy.copy, copy.deepcopy]
)
def test_copies_are_equal_and_say_if_they_are_of_a_started_runner(
    copied: Callable[[ManualTaskRunner], ManualTaskRunner],
) -> None:
    """A copy has the settings; one of a started runner says that it has no connection to it."""
    runner = ManualTaskRunner("a")
    before = copied(runner)
    assert before == runner
    with pytest.raises(RunnerNotStartedError, match="this ManualTaskRunner has not been started"):
        before.submit(add, 1)
    with runner:
        during = copied(runner)
    assert during == runner
    with pytest.raises(
        RunnerNotStartedError,
        match=r"Cannot submit 'add-\w{8}': this ManualTaskRunner is a pickled copy of a started",
    ):
        during.submit(add, 1)
    with during:
        during.submit(add, 1).set_final(Completed(1))


def test_a_runner_is_abstract() -> None:
    """A runner that does not say where work goes cannot be made."""
    with pytest.raises(TypeError, match="abstract"):
        TaskRunner()  # type: ignore[abstract]  # That is the point.


# ------------------------------------------------------------------------- taking work


def test_submit_makes_an_item() -> None:
    """The runner is given the call, under a name made of the function's and of the run's id."""
    with ManualTaskRunner() as runner:
        future = runner.submit(add, 1, y=2)
        item = runner.runs[0].item
        assert future is runner.runs[0]
        future.set_final(Completed(3))
    assert (item.function, item.args, item.kwargs) == (add, (1,), {"y": 2})
    assert item.task_run.task_name == "add"
    assert item.task_run.name == f"add-{item.task_run.id[-8:]}"
    assert not item.is_async


class Adder:
    """Is called like a function."""

    def __call__(self, x: int) -> int:
        """Return the number."""
        return x


@pytest.mark.parametrize(
    ("function", "name"),
    [(functools.partial(add, 1), "partial"), (Adder(), "Adder"), (max, "max"), (int, "int")],
)
def test_submit_takes_all_kinds_of_callables(function: Callable[..., int], name: str) -> None:
    """Partials, objects, classes and builtins without a signature are named as well as can be."""
    with ManualTaskRunner() as runner:
        runner.submit(function, 1)
        assert runner.runs[0].task_run.task_name == name
        runner.runs[0].set_final(Completed(1))


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, r"add\(\) cannot be called so: missing a required argument: 'x'"),
        ((1, 2, 3), {}, r"add\(\) cannot be called so: too many positional arguments"),
        ((1,), {"z": 1}, r"add\(\) cannot be called so: got an unexpected keyword argument 'z'"),
    ],
)
def test_submit_refuses_arguments_that_do_not_fit(
    args: tuple[int, ...], kwargs: dict[str, int], message: str
) -> None:
    """A call that cannot succeed is refused where it is written, and never becomes a run."""
    with ManualTaskRunner() as runner:
        submit: Callable[..., Future[int]] = runner.submit
        with pytest.raises(TypeError, match=message):
            submit(add, *args, **kwargs)
        assert runner.runs == []
        assert runner.statistics().submitted == 0


def test_work_is_refused_outside_a_start() -> None:
    """Before and after, submitting raises with the run's name and the way to start."""
    runner = ManualTaskRunner()
    hint = r"Submit inside `with ManualTaskRunner\(\) as runner:`, or inside a flow"
    with pytest.raises(
        RunnerNotStartedError,
        match=rf"^Cannot submit 'add-\w{{8}}': this ManualTaskRunner has not been started\. {hint}",
    ):
        runner.submit(add, 1)
    with runner:
        pass
    with pytest.raises(
        RunnerNotStartedError, match=rf"is not started any more: its with block has ended\. {hint}"
    ):
        runner.submit(add, 1)


def test_statistics_count_what_there_is_to_do() -> None:
    """The snapshot counts what was submitted, what waits and what is being executed."""
    with ManualTaskRunner() as runner:
        assert str(runner.statistics()) == (
            "RunnerStatistics(submitted=0, pending=0, running=0, abandoned=0)"
        )
        for _ in range(3):
            runner.submit(add, 1)
        one, two, three = runner.runs
        one.set_running()
        two.set_running()
        two.set_final(Completed(1))
        before = runner.statistics()
        assert (before.submitted, before.pending, before.running) == (3, 1, 1)
        one.set_final(Completed(1))
        three.set_final(Failed(BOOM))
        after = runner.statistics()
        assert (after.submitted, after.pending, after.running) == (3, 0, 0)
        assert before.running == 1, "a snapshot does not change"


def test_each_start_counts_anew() -> None:
    """The count of submissions begins with the start."""
    runner = ManualTaskRunner()
    for _ in range(2):
        with runner:
            runner.submit(add, 1).set_final(Completed(1))
            assert runner.statistics().submitted == 1


def test_submissions_of_many_threads_are_counted() -> None:
    """Submitting is thread-safe."""
    with ManualTaskRunner() as runner:
        with ThreadPoolExecutor(8) as pool:
            for future in pool.map(lambda _: runner.submit(add, 1), range(200)):
                future.set_final(Completed(1))
        assert runner.statistics().submitted == 200
        assert runner.statistics().pending == 0


def test_a_runner_does_not_run_in_place_unless_it_says_so() -> None:
    """By default a submission returns before the run ends."""
    with ManualTaskRunner() as runner:
        future = runner.submit(add, 1)
        assert not runner.runs_in_place(runner.runs[0].item)
        future.set_final(Completed(1))


# ------------------------------------------------------------------------- starting


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_plain_with_brings_the_loop_asked_for(backend: Backend) -> None:
    """The runner's backend says which event loop is brought along."""
    runner = ManualTaskRunner()
    runner.backend = backend
    with runner as entered:
        assert entered is runner
    assert runner.log == [f"started on {backend}", "ended with []"]


@pytest.mark.anyio
async def test_an_async_start_uses_the_callers_loop(anyio_backend: str) -> None:
    """In async code the runner starts in the running loop."""
    runner = ManualTaskRunner()
    async with runner.start() as entered:
        assert entered is runner
        runner.submit(add, 1).set_final(Completed(1))
    assert runner.log == [f"started on {anyio_backend}", "ended with [True]"]


@pytest.mark.anyio
async def test_a_started_runner_is_not_started_again() -> None:
    """A second start, of either kind, is refused, and the first goes on."""
    runner = ManualTaskRunner()
    hint = r"This ManualTaskRunner is started already\. .*use runner\.duplicate\(\)"
    async with runner.start():
        with pytest.raises(RunnerAlreadyStartedError, match=hint):
            async with runner.start():
                pytest.fail("it started")
        with pytest.raises(RunnerAlreadyStartedError, match=hint), runner:
            pytest.fail("it started")
        runner.submit(add, 1).set_final(Completed(1))


class FailingTaskRunner(ManualTaskRunner):
    """Cannot be started, but undoes what it has begun."""

    async def _start(self, exit_stack: AsyncExitStack) -> None:
        await super()._start(exit_stack)
        raise BOOM


@pytest.mark.anyio
async def test_a_failing_start_comes_out_and_is_undone() -> None:
    """The exception comes out as it is, what was begun is undone, and nothing is started."""
    runner = FailingTaskRunner()
    with pytest.raises(LookupError, match=r"^boom$") as caught:
        async with runner.start():
            pytest.fail("it started")
    assert caught.value is BOOM
    assert runner.log[-1] == "ended with []"
    with pytest.raises(RunnerNotStartedError, match="has not been started"):
        runner.submit(add, 1)


def test_a_failing_start_comes_out_of_a_plain_with() -> None:
    """In sync code the exception comes out in the caller's thread."""
    runner = FailingTaskRunner()
    with pytest.raises(LookupError, match=r"^boom$") as caught, runner:
        pytest.fail("it started")
    assert caught.value is BOOM
    assert runner.log[-1] == "ended with []"


# ------------------------------------------------------------------------- leaving


@pytest.mark.anyio
async def test_leaving_joins_every_run() -> None:
    """The block does not end before the runs have, and what they ran on is there until then."""
    runner = ManualTaskRunner()
    async with runner.start():
        future = runner.submit(add, 1)
        runner.runs[0].ends_when_awaited = True
    assert future.done()
    assert not future.was_observed(), "joining is no look at the outcome"
    assert runner.log[-1] == "ended with [True]"


def test_leaving_a_plain_with_joins_every_run() -> None:
    """In sync code, too."""
    with ManualTaskRunner() as runner:
        future = runner.submit(add, 1)
        runner.runs[0].ends_when_awaited = True
    assert future.done()
    assert runner.log[-1] == "ended with [True]"


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [LookupError, KeyboardInterrupt, SystemExit])
async def test_an_exception_of_the_body_comes_out_as_it_is(kind: type[BaseException]) -> None:
    """Neither wrapped into groups nor changed: its cause is its own, and it has no context."""
    error, cause = kind("the body's own"), KeyError("the cause")
    with pytest.raises(kind, match=r"^the body's own$") as caught:
        async with ManualTaskRunner().start():
            raise error from cause
    assert caught.value is error
    assert error.__cause__ is cause
    assert error.__context__ is None


@pytest.mark.anyio
async def test_an_exception_group_of_the_body_comes_out_as_it_is() -> None:
    """A group that the user raised is not taken apart."""
    group = ExceptionGroup("the body's own", [BOOM])
    with pytest.raises(ExceptionGroup, match="the body's own") as caught:
        async with ManualTaskRunner().start():
            raise group
    assert caught.value is group


def test_an_exception_of_a_plain_with_comes_out_as_it_is() -> None:
    """It is the same exception, and its traceback shows the user's code only."""
    error, cause = LookupError("the body's own"), KeyError("the cause")
    with pytest.raises(LookupError) as caught, ManualTaskRunner():
        raise error from cause
    assert caught.value is error
    assert error.__cause__ is cause
    assert error.__context__ is None
    files, traceback = set[str](), error.__traceback__
    while isinstance(traceback, TracebackType):
        files.add(traceback.tb_frame.f_code.co_filename)
        traceback = traceback.tb_next
    assert files == {__file__}


class ChildFailsTaskRunner(ManualTaskRunner):
    """Has something of its own fail when it is left."""

    async def _start(self, exit_stack: AsyncExitStack) -> None:
        group = await exit_stack.enter_async_context(anyio.create_task_group())

        async def fail() -> None:
            raise OSError("the runner's own")

        exit_stack.callback(group.start_soon, fail)


@pytest.mark.anyio
async def test_failures_of_the_runner_beside_the_bodys_are_not_lost() -> None:
    """If the runner itself fails while it is left by an exception, both come out in a group."""
    with pytest.raises(ExceptionGroup) as caught:
        async with ChildFailsTaskRunner().start():
            raise BOOM
    assert caught.group_contains(LookupError, match=r"^boom$")
    assert caught.group_contains(OSError, match=r"^the runner's own$")


@pytest.mark.anyio
async def test_leaving_by_an_exception_cancels_and_joins() -> None:
    """Runs are cancelled; those that cannot be are waited for; then the exception comes out."""
    runner = ManualTaskRunner()

    async def body() -> None:
        async with runner.start():
            runner.submit(add, 1)
            submit_stubborn(runner)
            runner.runs[1].ends_when_awaited = True
            raise BOOM

    with pytest.raises(LookupError, match=r"^boom$"):
        await body()
    assert isinstance(runner.runs[0].state, Cancelled)
    assert isinstance(runner.runs[1].state, Completed)
    assert runner.log[-1] == "ended with [True, True]"


@pytest.mark.anyio
@pytest.mark.parametrize("moment", ["body", "join"])
async def test_an_outer_cancellation_cancels_the_runs(moment: str) -> None:
    """A cancel scope around the runner cancels its runs, in its body and while it joins."""
    runner = ManualTaskRunner()
    async with anyio.create_task_group() as group:

        async def body() -> None:
            async with runner.start():
                runner.submit(add, 1)
                if moment == "body":
                    await anyio.sleep_forever()

        group.start_soon(body)
        await anyio.wait_all_tasks_blocked()
        assert not runner.runs[0].done()
        group.cancel_scope.cancel()
    assert isinstance(runner.runs[0].state, Cancelled)
    assert runner.log[-1] == "ended with [True]"


def submit_stubborn(runner: ManualTaskRunner) -> Future[int]:
    """Submit a run that cannot be cancelled."""
    future = runner.submit(add, 2)
    runner.runs[-1].stubborn = True
    return future


def run_with_own_time(main: Callable[[], Awaitable[None]]) -> None:
    """Run on trio with a clock that jumps to the next deadline when nothing else can happen."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    anyio.run(main, backend="trio", backend_options={"clock": clock})


def test_runs_that_cannot_be_stopped_are_abandoned_in_a_hurry(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Left by Ctrl-C, the runner waits a moment, then gives up the rest and names it."""
    runner = ManualTaskRunner()

    async def body() -> None:
        async with runner.start():
            submit_stubborn(runner)
            raise KeyboardInterrupt

    async def main() -> None:
        began = anyio.current_time()
        with pytest.raises(KeyboardInterrupt):
            await body()
        assert 0 < anyio.current_time() - began < 10

    with caplog.at_level(logging.WARNING, logger=runner.logger.name):
        run_with_own_time(main)
    run = runner.runs[0]
    assert isinstance(run.state, Cancelled)
    assert run.state.message == "The run could not be stopped."
    assert [record.getMessage() for record in caplog.records] == [
        f"Abandoned run {run.task_run.name!r}, which could not be stopped"
    ]


def test_of_many_abandoned_runs_some_are_named(caplog: pytest.LogCaptureFixture) -> None:
    """The log has the names of the first twenty, and how many there were in all."""
    runner = ManualTaskRunner()

    async def main() -> None:
        async with runner.start():
            for _ in range(50):
                submit_stubborn(runner)
            raise KeyboardInterrupt

    with (
        caplog.at_level(logging.WARNING, logger=runner.logger.name),
        pytest.raises(KeyboardInterrupt),
    ):
        run_with_own_time(main)
    assert runner.statistics().abandoned == 50
    *named, total = caplog.messages
    assert named == [
        f"Abandoned run {run.task_run.name!r}, which could not be stopped"
        for run in runner.runs[:20]
    ]
    assert total == "Abandoned 50 runs in all, which could not be stopped"


def test_a_runner_left_by_an_ordinary_exception_is_in_no_hurry() -> None:
    """Left by an exception, the runner waits as long as its runs take."""
    runner = ManualTaskRunner()

    async def body() -> None:
        async with runner.start():
            submit_stubborn(runner)
            raise BOOM

    async def main() -> None:
        async with anyio.create_task_group() as group:

            async def end_late() -> None:
                await anyio.sleep(3600)
                runner.runs[0].set_final(Completed(1))

            group.start_soon(end_late)
            with pytest.raises(LookupError, match="boom"):
                await body()
            assert isinstance(runner.runs[0].state, Completed)

    run_with_own_time(main)


class InterruptingRun(ManualRun[R]):
    """A run during whose join the user presses Ctrl-C, until something happens."""

    def __init__(self, item: WorkItem[R]) -> None:
        super().__init__(item)
        self.noticed = threading.Event()
        self.user = threading.Thread(target=self._interrupt)

    def awaited(self) -> None:
        """Interrupt the main thread, which is waiting for the runner's end."""
        self.user.start()

    def cancel(self) -> Cancellation:
        """Notice that Ctrl-C had an effect."""
        self.noticed.set()
        return super().cancel()

    def _interrupt(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        while True:
            # Now and then Python overlooks a signal that comes just as a thread begins to wait.
            signal.pthread_kill(main, signal.SIGINT)
            if self.noticed.wait(timeout=0.5):
                return


class InterruptedTaskRunner(ManualTaskRunner):
    """Has runs that do not end by themselves."""

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        run = InterruptingRun(item)
        self.runs.append(cast("ManualRun[object]", run))
        return run

    def end(self) -> None:
        """Undo what the test has done."""
        for run in self.runs:
            assert isinstance(run, InterruptingRun)
            run.noticed.set()
            run.user.join()
            run.set_final(Cancelled())


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals between threads here")
@pytest.mark.parametrize("backend", BACKENDS)
def test_ctrl_c_while_a_plain_with_joins_cancels_the_runs(backend: Backend) -> None:
    """A user who interrupts the end of the block has the runs cancelled, and nothing goes on."""
    runner = InterruptedTaskRunner()
    runner.backend = backend
    with pytest.raises(KeyboardInterrupt), runner:
        runner.submit(add, 1)
    try:
        assert isinstance(runner.runs[0].state, Cancelled)
        assert runner.log[-1] == "ended with [True]"
    finally:
        runner.end()


@pytest.mark.anyio
async def test_runs_submitted_while_the_runner_joins_are_joined() -> None:
    """Work may be submitted until the last run has ended, and is waited for."""
    runner = ManualTaskRunner()
    late: list[Future[int]] = []

    def submit_another(_: object) -> None:
        late.append(runner.submit(add, 2))
        runner.runs[1].ends_when_awaited = True

    async with runner.start():
        runner.submit(add, 1).add_done_callback(submit_another)
        runner.runs[0].ends_when_awaited = True
    assert late[0].done()


def test_a_runner_keeps_no_run_that_has_ended() -> None:
    """The runner lets go of a run when it ends, so that the user's handle owns its value."""
    with ManualTaskRunner() as runner:
        future = runner.submit(add, 1)
        assert runner.statistics().pending == 1
        future.set_final(Completed(1))
        assert not runner._unfinished


def test_the_runs_of_an_item_are_the_ones_dispatched() -> None:
    """An item that an engine made is taken as it is."""
    run = TaskRun("1" * 32, "say_hello-811087cd-0", "say_hello")
    item: WorkItem[int] = WorkItem(add, (1,), {}, run)
    with ManualTaskRunner() as runner:
        future = runner.dispatch(item)
        assert future.task_run is run
        assert runner.runs[0].item is item
        future.set_final(Completed(1))
