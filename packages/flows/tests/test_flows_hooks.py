"""Hooks: when they are called, with what, and that they are never in the way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from anabranch.flows import (
    AsyncTask,
    Cancelled,
    ConcurrentTaskRunner,
    Crashed,
    FlowRun,
    Running,
    SequentialTaskRunner,
    State,
    Task,
    TaskRun,
    TaskRunner,
    flow,
    flow_run,
    task,
)
from anabranch.futures.testing import Gate, Ticket

RUNNERS = [SequentialTaskRunner, ConcurrentTaskRunner]
ENDS = ["on_completion", "on_failure", "on_crashed", "on_cancellation"]


class Recorder:
    """Hooks that note what they are called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self.threads: set[int] = set()

    def hook(self, name: str) -> Callable[[Any, TaskRun | FlowRun, Any], None]:
        """Return a hook for this option."""

        def note(subject: Any, run: TaskRun | FlowRun, state: Any) -> None:  # noqa: ANN401 - as users may
            self.threads.add(threading.get_ident())
            self.calls.append((name, subject.name, state.name))

        return note

    def options(self) -> dict[str, Any]:
        """Return an option for every kind of hook."""
        return {name: self.hook(name) for name in ["on_running", *ENDS]}


def end_as(kind: str) -> str:
    """End in one way or another."""
    match kind:
        case "fail":
            raise LookupError("gone")
        case "crash":
            return CRASH  # type: ignore[return-value]  # A state stands for itself.
        case "cancel":
            return Cancelled()  # type: ignore[return-value]  # As above.
    return kind


async def end_as_async(kind: str) -> str:
    """End in one way or another."""
    return end_as(kind)


CRASH: State[str] = Crashed(message="lost")

EXPECTED = {
    "well": ("on_completion", "Completed"),
    "fail": ("on_failure", "Failed"),
    "crash": ("on_crashed", "Crashed"),
    "cancel": ("on_cancellation", "Cancelled"),
}


class TestTasks:
    @pytest.mark.parametrize("kind", EXPECTED)
    def test_a_direct_call_calls_them_in_place(self, kind: str) -> None:
        """A direct call calls the hooks for its start and its end in the caller's thread."""
        recorder = Recorder()
        state = task(name="t", **recorder.options())(end_as).run(kind)
        option, name = EXPECTED[kind]
        assert state.name == name
        assert recorder.calls == [("on_running", "t", "Running"), (option, "t", name)]
        assert recorder.threads == {threading.get_ident()}

    @pytest.mark.parametrize("kind", EXPECTED)
    @pytest.mark.parametrize("runner", RUNNERS)
    @pytest.mark.parametrize("function", [end_as, end_as_async])
    def test_submitted_runs_have_them_called_before_the_flow_ends(
        self, function: Callable[[str], Any], runner: type[TaskRunner], kind: str
    ) -> None:
        """Hooks of submitted runs are called in order, in another thread, before the flow ends."""
        recorder = Recorder()
        made: Any = task(name="t", **recorder.options())(function)
        flow(task_runner=runner)(lambda: made.submit(kind).wait().name)()
        option, name = EXPECTED[kind]
        assert recorder.calls == [("on_running", "t", "Running"), (option, "t", name)]
        assert threading.get_ident() not in recorder.threads

    @pytest.mark.anyio
    async def test_async_calls_await_async_hooks(self) -> None:
        """Hooks of an async task that is awaited run in its loop, async or not, one by one."""
        recorder = Recorder()

        async def note(made: AsyncTask[..., Any], run: TaskRun, state: object) -> None:
            await anyio.lowlevel.checkpoint()
            recorder.hook("async")(made, run, state)

        options: dict[str, Any] = {"on_completion": [note, recorder.hook("sync")]}
        made: Any = task(name="t", on_running=note, **options)(end_as_async)
        assert await made("well") == "well"
        assert recorder.calls == [
            ("async", "t", "Running"),
            ("async", "t", "Completed"),
            ("sync", "t", "Completed"),
        ]
        assert recorder.threads == {threading.get_ident()}

    @pytest.mark.anyio
    async def test_a_cancelled_call_calls_them(self) -> None:
        """Cancelling an awaited task calls its hooks, which are not cancelled with it."""
        ended: list[str] = []

        async def note(made: object, run: TaskRun, state: State[Any]) -> None:
            await anyio.lowlevel.checkpoint()
            ended.append(state.name)

        with anyio.CancelScope() as scope:

            @task(on_cancellation=note)
            async def stop() -> None:
                scope.cancel()
                await anyio.sleep_forever()

            await stop()
        assert ended == ["Cancelled"]

    def test_async_hooks_of_sync_tasks_are_run_to_their_ends(self) -> None:
        """An async hook of a sync task runs in a loop of its own, also where a loop runs."""
        ended: list[str] = []

        async def note(made: Task[..., Any], run: TaskRun, state: State[Any]) -> None:
            await anyio.lowlevel.checkpoint()
            ended.append(run.name)

        made = task(on_completion=note, task_run_name="{kind}")(end_as)

        async def in_a_loop() -> None:
            made("in a loop")

        made("direct")
        anyio.run(in_a_loop)
        flow(lambda: made.submit("submitted").result())()
        assert ended == ["direct", "in a loop", "submitted"]

    def test_a_run_whose_upstream_failed_has_none(self) -> None:
        """A run that never started because of another one calls no hook."""
        recorder = Recorder()
        failing: Any = task(end_as)
        made: Any = task(**recorder.options())(end_as)
        flow(lambda: made.submit(failing.submit("fail")).wait().name)()
        assert recorder.calls == []

    def test_a_run_cancelled_before_it_starts_is_told_of(self) -> None:
        """A pending run that is cancelled calls the hook for that, and none for a start."""
        recorder = Recorder()

        @task
        def hold(ticket: Ticket) -> str:
            ticket.wait()
            return "well"

        made: Any = task(name="t", **recorder.options())(end_as)

        @flow
        def body() -> str:
            with Gate() as gate:
                future = made.submit(hold.submit(gate.ticket))
                future.cancel()
            return "done"

        body()
        assert recorder.calls == [("on_cancellation", "t", "Cancelled")]

    def test_hooks_of_every_run_are_called(self) -> None:
        """No hook is lost, however many runs there are and whoever submits them."""
        recorder = Recorder()
        child: Any = task(name="c", on_completion=recorder.hook("c"))(end_as)
        parent: Any = task(name="p", on_completion=recorder.hook("p"))(
            lambda n: child.submit("well").result()
        )
        flow(lambda: parent.map(range(200)).result())()
        assert sorted(call[0] for call in recorder.calls) == ["c"] * 200 + ["p"] * 200
        assert len(recorder.threads) == 1

    def test_hooks_find_themselves_in_the_flow(self) -> None:
        """Hooks of submitted runs see the flow run that their run belongs to."""
        seen: list[str | None] = []
        made = task(on_completion=lambda *_: seen.append(flow_run.name))(end_as)
        flow(flow_run_name="my-run")(lambda: made.submit("well").result())()
        assert seen == ["my-run"]

    def test_runs_outside_any_flow_have_them_called(self) -> None:
        """Hooks of a run that was submitted on a bare runner are called as well."""
        called = threading.Event()
        made = task(on_completion=lambda *_: called.set())(end_as)
        with ConcurrentTaskRunner() as runner:
            runner.submit(lambda: made.submit("well").result()).result()
        assert called.wait(30)

    def test_options_and_methods_keep_them(self) -> None:
        """Changed copies of a task, and its bound methods, have its hooks."""
        recorder = Recorder()

        class Thing:
            @task(on_completion=(recorder.hook("x"), recorder.hook("y")))
            def method(self) -> None:
                """Do nothing."""

        Thing().method.with_options(name="renamed")()
        assert recorder.calls == [("x", "renamed", "Completed"), ("y", "renamed", "Completed")]


class TestFlows:
    @pytest.mark.parametrize("kind", EXPECTED)
    def test_a_flow_calls_them_in_place(self, kind: str) -> None:
        """A flow run calls the hooks for its start and its end in the caller's thread."""
        recorder = Recorder()
        made = flow(name="f", **recorder.options())(end_as)
        made.run(kind)
        option, name = EXPECTED[kind]
        if kind == "crash":  # The sum of crashed states is a failure.
            option, name = EXPECTED["fail"]
        assert recorder.calls == [("on_running", "f", "Running"), (option, "f", name)]
        assert recorder.threads == {threading.get_ident()}

    @pytest.mark.anyio
    async def test_async_flows_await_async_hooks(self) -> None:
        """Async hooks of an async flow run in its loop, in its run's context."""
        seen: list[object] = []

        async def note(made: object, run: FlowRun, state: State[Any] | Running) -> None:
            await anyio.lowlevel.checkpoint()
            seen.append((run.name == flow_run.name, state.name))

        @flow(on_running=note, on_completion=note)
        async def body() -> int:
            return 1

        assert await body() == 1
        assert seen == [(True, "Running"), (True, "Completed")]

    def test_ctrl_c_calls_them(self) -> None:
        """A flow that Ctrl-C ends calls its hooks for cancellation, and lets it pass."""
        recorder = Recorder()

        @flow(name="f", **recorder.options())
        def body() -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            body()
        assert recorder.calls[1:] == [("on_cancellation", "f", "Cancelled")]

    def test_submitted_subflows_call_them(self) -> None:
        """A subflow calls its hooks wherever it runs, also if it is cancelled before its start."""
        recorder = Recorder()

        @task
        def hold(ticket: Ticket) -> str:
            ticket.wait()
            return "well"

        inner: Any = flow(name="f", **recorder.options())(end_as)

        @flow
        def body() -> str:
            inner.submit("fail").wait()
            with Gate() as gate:
                inner.submit(hold.submit(gate.ticket)).cancel()
            return "done"

        body()
        assert recorder.calls == [
            ("on_running", "f", "Running"),
            ("on_failure", "f", "Failed"),
            ("on_cancellation", "f", "Cancelled"),
        ]


class TestFailures:
    def test_what_hooks_raise_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        """A hook that raises is logged by its name and its run's, and the others are called."""
        recorder = Recorder()

        def broken(made: object, run: TaskRun | FlowRun, state: object) -> None:
            raise LookupError("in the hook")

        async def broken_async(made: object, run: TaskRun | FlowRun, state: object) -> None:
            raise LookupError("in the async hook")

        hooks: list[Any] = [broken, broken_async, recorder.hook("x")]
        made = task(on_completion=hooks, task_run_name="{kind}")(end_as)

        @flow(on_completion=hooks, flow_run_name="my-run", name="f")
        def body() -> str:
            made("direct")
            return made.submit("submitted").result()

        assert body() == "submitted"
        assert [call[0] for call in recorder.calls] == ["x"] * 3
        assert sorted(record.getMessage() for record in caplog.records) == sorted(
            f"The hook {hook}() of run '{run}' failed"
            for hook in ("broken", "broken_async")
            for run in ("direct", "submitted", "my-run")
        )
        record = next(each for each in caplog.records if "'submitted'" in each.getMessage())
        assert record.exc_info is not None
        assert vars(record)["task_run_name"] == "submitted"

    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
    def test_not_even_an_exit_ends_the_other_hooks(
        self, error: type[BaseException], caplog: pytest.LogCaptureFixture
    ) -> None:
        """What a submitted run's hook raises harms neither the flow nor the hooks of others."""
        recorder = Recorder()

        def leave(*_: object) -> None:
            raise error

        made = task(on_running=leave, on_completion=recorder.hook("x"))(end_as)
        assert flow(lambda: made.submit("well").result())() == "well"
        assert len(recorder.calls) == 1
        assert f"were ended by {error.__name__}()" in caplog.text

    @pytest.mark.usefixtures("no_grace")
    def test_a_hook_that_hangs_is_abandoned_in_a_hurry(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A flow that is left by Ctrl-C does not wait for hooks for long."""
        caplog.set_level(logging.WARNING, logger="anabranch")
        called, go_on = threading.Event(), threading.Event()

        def hang(*_: object) -> None:
            called.set()
            go_on.wait(30)

        made = task(on_completion=hang)(end_as)

        @flow
        def body() -> None:
            made.submit("well").result()
            called.wait(30)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            body()
        go_on.set()
        assert "Abandoned hooks that are still running" in caplog.text

    @pytest.mark.usefixtures("no_grace")
    @pytest.mark.anyio
    async def test_an_async_flow_abandons_them_as_well(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An async flow that is cancelled while it waits for hooks gives them up."""
        called, go_on = threading.Event(), threading.Event()

        def hang(*_: object) -> None:
            called.set()
            go_on.wait(30)

        made: Any = task(on_completion=hang)(end_as_async)

        @flow
        async def body() -> None:
            await made.submit("well")
            await anyio.to_thread.run_sync(called.wait)
            scope.cancel()
            await anyio.sleep_forever()

        with anyio.CancelScope() as scope:
            await body()
        go_on.set()
        assert "Abandoned hooks that are still running" in caplog.text

    def test_hooks_belong_to_the_attempt_under_way(self) -> None:
        """In each attempt of a flow, hooks of its runs find the runner of that attempt."""
        ends: list[str] = []

        @task
        def made() -> None:
            """Be submitted by a hook."""

        def submit(*_: object) -> None:
            try:
                ends.append(made.submit().wait(30).name)  # type: ignore[union-attr]  # In time.
            finally:
                called.release()

        @flow(retries=1)
        def body() -> None:
            task(on_completion=submit)(lambda: None).submit()
            called.acquire()
            if flow_run.attempt == 1:
                raise LookupError("once more")

        called = threading.Semaphore(0)
        body()
        assert ends == ["Completed", "Completed"]

    def test_a_flow_ends_though_there_is_no_thread_for_its_hooks(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Where no thread can be had, hooks are not called, which is logged; the flow goes on."""
        start = threading.Thread.start

        def start_few(thread: threading.Thread) -> None:
            if thread.name == "anabranch-hooks":
                raise RuntimeError("can't start new thread")
            start(thread)

        def hook(*_: object) -> None:
            raise AssertionError("the hook was called")

        monkeypatch.setattr(threading.Thread, "start", start_few)
        fine = task(on_running=hook, on_completion=hook)(lambda: None)
        state = flow(lambda: [fine.submit(), fine.submit()]).run()
        assert state.is_completed()
        assert "Hooks were not called: can't start new thread" in caplog.text

    @pytest.mark.parametrize("hook", [3, "name", [3]])
    def test_what_cannot_be_called_is_refused(self, hook: object) -> None:
        """A hook that is no function is refused at decoration, with what to give."""
        options: dict[str, Any] = {"on_failure": hook}
        message = r"@{0} got on_failure=.*cannot be called; give a function `def hook\({0}, {0}_run"
        with pytest.raises(TypeError, match=message.format("task")):
            task(**options)
        with pytest.raises(TypeError, match=message.format("flow")):
            flow(**options)


def test_a_subflow_that_was_given_up_has_one_end() -> None:
    """Its hooks hear of the end that its future had, not of its stuck thread's later one."""
    started, release = threading.Event(), threading.Event()
    ends: list[str] = []
    threads: list[threading.Thread] = []

    def note(_: object, __: object, state: State[object]) -> None:
        ends.append(state.name)

    @flow(on_cancellation=note, on_completion=note)
    def stuck() -> int:
        threads.append(threading.current_thread())
        started.set()
        release.wait()
        return 1

    @flow
    def outer() -> None:
        stuck.submit()
        started.wait()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outer()
    release.set()
    for thread in threads:
        thread.join()
    assert ends == ["Cancelled"]
