"""What a run's own code sees of it: the runtime context, its logger, and what it prints."""

from __future__ import annotations

import builtins
import functools
import io
import logging
import pickle
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from anabranch.flows import (
    ConcurrentTaskRunner,
    RunFormatter,
    SequentialTaskRunner,
    TaskRunner,
    flow,
    flow_run,
    get_run_logger,
    lift,
    tags,
    task,
    task_run,
)
from anabranch.futures.testing import Gate

RUNNERS = [SequentialTaskRunner, ConcurrentTaskRunner]

Seen = dict[str, object]


def seen() -> Seen:
    """Tell everything about the run that is calling."""
    return {
        "in task": bool(task_run),
        "in flow": bool(flow_run),
        "task": (task_run.task_name, task_run.name, task_run.attempt, task_run.tags),
        "flow": (flow_run.flow_name, flow_run.name, flow_run.attempt, flow_run.tags),
        "parameters": dict(task_run.parameters),
        "flow parameters": dict(flow_run.parameters),
        "ids": (task_run.id, flow_run.id),
    }


@task(name="look", tags=["own"])
def look(x: int, *more: int, y: str = "z", **others: object) -> Seen:
    """Tell everything about this run."""
    return seen()


@task(name="look")
async def look_async(x: int, y: str = "z") -> Seen:
    """Tell everything about this run."""
    return seen()


@task
def one() -> int:
    """Make a one."""
    return 1


class TestContext:
    def test_outside_any_run_there_is_nothing(self) -> None:
        """Outside runs the context is false and empty."""
        assert seen() == {
            "in task": False,
            "in flow": False,
            "task": (None, None, 0, frozenset()),
            "flow": (None, None, 0, frozenset()),
            "parameters": {},
            "flow parameters": {},
            "ids": (None, None),
        }
        assert (repr(task_run), repr(flow_run)) == ("<task_run: none>", "<flow_run: none>")

    def test_in_a_flows_body(self) -> None:
        """A flow's body sees its run, its parameters and the tags around it, and no task run."""

        @flow(name="watched", flow_run_name="my-run")
        def body(x: int, y: int = 2) -> Seen:
            return {**seen(), "repr": repr(flow_run)}

        with tags("a"):
            found = body(1)
        assert found["in task"] is False
        assert found["in flow"] is True
        assert found["flow"] == ("watched", "my-run", 1, {"a"})
        assert found["flow parameters"] == {"x": 1, "y": 2}
        assert found["parameters"] == {}
        assert found["repr"] == "<flow_run 'my-run'>"
        assert not flow_run

    @pytest.mark.parametrize("runner", RUNNERS)
    def test_in_a_task(self, runner: type[TaskRunner]) -> None:
        """A task sees its own run and parameters, futures resolved, and those of its flow."""

        @flow(name="watched", flow_run_name="my-run", task_runner=runner)
        def body(n: int) -> list[tuple[str, Seen]]:
            futures = [
                look.submit(lift(one.submit()), 2, 3, y="y", z=4),
                look_async.submit(1),
            ]
            names = [future.task_run.name for future in futures]
            found = [future.result() for future in futures]
            assert [each["ids"] for each in found] == [
                (future.task_run.id, flow_run.id) for future in futures
            ]
            return list(zip(names, found, strict=True))

        (name, sync), (async_name, asynchronous) = body(5)
        assert sync["task"] == ("look", name, 1, {"own"})
        assert asynchronous["task"] == ("look", async_name, 1, frozenset())
        assert sync["parameters"] == {"x": 1, "more": (2, 3), "y": "y", "others": {"z": 4}}
        assert asynchronous["parameters"] == {"x": 1, "y": "z"}
        for found in (sync, asynchronous):
            assert found["flow"] == ("watched", "my-run", 1, frozenset())
            assert found["flow parameters"] == {"n": 5}

    def test_in_a_direct_call(self) -> None:
        """A task that is called outside any flow sees its own run."""
        found = look(1)
        assert (found["in task"], found["in flow"]) == (True, False)
        assert found["parameters"] == {"x": 1, "more": (), "y": "z", "others": {}}

    def test_a_methods_parameters_are_without_its_object(self) -> None:
        """The parameters of a bound method are those that it is called with."""

        class Sensor:
            @task
            def read(self, x: int = 1) -> dict[str, object]:
                return dict(task_run.parameters)

        assert Sensor().read() == {"x": 1}

    @pytest.mark.anyio
    async def test_in_async_flows(self) -> None:
        """An async flow and its tasks see their runs, on trio and on asyncio."""

        @flow(name="watched")
        async def body(x: int) -> list[Seen]:
            return [seen(), await look_async(1), await look_async.submit(1)]

        own, called, submitted = await body(3)
        for found in (own, called, submitted):
            assert found["flow parameters"] == {"x": 3}
        assert (own["in task"], called["in task"], submitted["in task"]) == (False, True, True)

    def test_a_subflow_has_no_task_run(self) -> None:
        """The body of a flow that is called in a task belongs to no task run."""
        inner = flow(flow_run_name="inner")(lambda: (bool(task_run), flow_run.name))
        assert flow(lambda: task(lambda: inner())())() == (False, "inner")

    def test_parameters_cannot_be_changed(self) -> None:
        """The parameters are a view that cannot be written to."""

        @task
        def write(x: int) -> None:
            parameters: Any = task_run.parameters
            parameters["x"] = 2

        with pytest.raises(TypeError, match="does not support item assignment"):
            write(1)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """The log, line by line, without times and without what the engine logs itself."""
    caplog.set_level(logging.INFO, logger="anabranch")
    collected: list[str] = []
    formatter = RunFormatter()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.filename == "test_flows_context.py":
                collected.append(formatter.format(record).split(" | ", 1)[1])

    handler = Collector()
    logging.getLogger("anabranch").addHandler(handler)
    yield collected
    logging.getLogger("anabranch").removeHandler(handler)


@task(task_run_name="run-{x}")
def log(x: int) -> None:
    """Log a line."""
    get_run_logger().info("in a task, %d", x, extra={"user": x})


class TestLogger:
    @pytest.mark.parametrize("runner", RUNNERS)
    def test_lines_are_about_the_run(
        self, runner: type[TaskRunner], lines: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Each record carries the run that logged it, and what the user adds."""

        @flow(name="logging", flow_run_name="my-run", task_runner=runner)
        def body() -> None:
            get_run_logger().warning("in a flow")
            log.submit(1).wait()
            log(2)

        body()
        assert lines == [
            "WARNING | Flow run 'my-run' - in a flow",
            "INFO    | Task run 'run-1' - in a task, 1",
            "INFO    | Task run 'run-2' - in a task, 2",
        ]
        record = next(each for each in caplog.records if each.getMessage() == "in a task, 1")
        fields = vars(record)
        assert record.name == "anabranch.task_runs"
        assert (fields["user"], fields["task_name"], fields["flow_name"]) == (1, "log", "logging")
        assert (fields["task_run_name"], fields["flow_run_name"]) == ("run-1", "my-run")

    def test_it_works_outside_any_run(self, lines: list[str]) -> None:
        """Outside runs, as in a unit test, the logger is that of the package."""
        get_run_logger().info("outside", extra={"user": 1})
        log(3)
        assert lines == [
            "INFO    | anabranch - outside",
            "INFO    | Task run 'run-3' - in a task, 3",
        ]


class TestPrints:
    @pytest.mark.parametrize("runner", RUNNERS)
    def test_prints_go_to_the_runs_log(
        self,
        runner: type[TaskRunner],
        lines: list[str],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """With `log_prints` a print is one record of the run, and nothing is printed."""

        @task(task_run_name="sync")
        def speak() -> None:
            print("one", 2, sep="-")
            print("two\nlines", end="")
            print()
            print("100 %")

        @task(task_run_name="async")
        async def speak_async() -> None:
            print("async", file=sys.stdout)

        @flow(flow_run_name="flow", task_runner=runner, log_prints=True)
        def body() -> None:
            print("in the flow")
            speak.submit().wait()
            speak_async.submit().wait()
            speak.with_options(task_run_name="direct")()

        original = builtins.print
        body()
        assert builtins.print is original
        spoken = ["one-2", "two\nlines", "100 %"]
        assert lines == [
            "INFO    | Flow run 'flow' - in the flow",
            *(f"INFO    | Task run 'sync' - {line}" for line in spoken),
            "INFO    | Task run 'async' - async",
            *(f"INFO    | Task run 'direct' - {line}" for line in spoken),
        ]
        assert capsys.readouterr().out == ""

    def test_a_tasks_own_setting_counts(
        self, lines: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A task may log its prints in a flow that does not, and the other way round."""
        speak = task(task_run_name="{x}")(lambda x: print(x))

        @flow(flow_run_name="flow", log_prints=True)
        def logging_flow() -> None:
            speak.with_options(log_prints=False).submit("printed").wait()

        @flow
        def printing_flow() -> None:
            speak.with_options(log_prints=True).submit("logged").wait()
            speak.submit("printed, too").wait()
            print("and this")

        logging_flow()
        printing_flow()
        assert lines == ["INFO    | Task run 'logged' - logged"]
        assert capsys.readouterr().out == "printed\nprinted, too\nand this\n"

    def test_somebody_else_may_replace_print_meanwhile(
        self, lines: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What replaces `print` while a task logs its prints, and calls that, stays and works."""
        speak = task(task_run_name="{x}", log_prints=True)(lambda x: print(x))

        @task(log_prints=True)
        def replace() -> None:
            monkeypatch.setattr(builtins, "print", functools.partial(builtins.print, "*"))

        monkeypatch.setattr(builtins, "print", builtins.print)  # Which is what is put back.
        replace()
        speak("again")
        print("printed")
        assert lines == ["INFO    | Task run 'again' - * again"]
        assert capsys.readouterr().out == "* printed\n"

    def test_print_itself_is_a_task_like_any_other(
        self, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Where prints are logged, `print` can be submitted and pickled under its own name."""
        caplog.set_level(logging.INFO, logger="anabranch")

        @flow(flow_run_name="flow", log_prints=True)
        def body() -> str:
            assert pickle.loads(pickle.dumps(print)) is print
            printing = task(print).submit("hello")
            printing.wait()
            name: str = printing.task_run.task_name
            return name

        assert body() == "print"
        assert "hello" in caplog.messages
        assert capsys.readouterr().out == ""

    def test_subflows_inherit_it(self, lines: list[str]) -> None:
        """A subflow logs its prints if its parent does, and says nothing else."""
        inner = flow(flow_run_name="inner")(lambda: print("in the subflow"))
        flow(log_prints=True)(lambda: (inner(), inner.submit().result()))()
        assert lines == ["INFO    | Flow run 'inner' - in the subflow"] * 2

    def test_concurrent_tasks_do_not_disturb_each_other(
        self, lines: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Tasks that log their prints and tasks that do not run side by side."""
        gate = Gate()

        @task(task_run_name="{name}")
        def speak(name: str) -> None:
            gate.ticket.wait()
            print(name)

        def body() -> None:
            futures = [
                speak.with_options(log_prints=True).submit("logged"),
                speak.submit("printed"),
            ]
            gate.await_arrival()
            gate.await_arrival()
            gate.open()
            for future in futures:
                future.result()

        with gate:
            flow(body)()
        assert lines == ["INFO    | Task run 'logged' - logged"]
        assert capsys.readouterr().out == "printed\n"

    def test_other_files_are_written_to(
        self, lines: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What is printed to another file than standard output goes there."""
        file = io.StringIO()

        @task(log_prints=True)
        def speak() -> None:
            print("to a file", file=file)
            print("to standard error", file=sys.stderr)

        speak()
        assert (file.getvalue(), capsys.readouterr().err) == ("to a file\n", "to standard error\n")
        assert lines == []

    def test_a_handler_may_print(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A log handler that prints what it is given prints it."""

        class Printer(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                print("handled:", record.getMessage())

        logger = logging.getLogger("anabranch.task_runs")
        handler = Printer()
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            task(log_prints=True)(lambda: print("x"))()
        finally:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
        assert capsys.readouterr().out == "handled: x\n"

    def test_nothing_vanishes_where_nothing_is_logged(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where there is no log handler at all, what is printed is printed."""
        monkeypatch.setattr(logging.getLogger("anabranch"), "propagate", False)
        monkeypatch.setattr(logging.getLogger("anabranch"), "handlers", [])
        task(log_prints=True)(lambda: print("x"))()
        assert capsys.readouterr().out == "x\n"

    def test_print_keeps_its_errors(self) -> None:
        """Arguments that print refuses are refused as ever."""

        @task(log_prints=True)
        def speak(write: Callable[..., None]) -> None:
            write("x", sep=3)

        with pytest.raises(TypeError, match="sep must be None or a string"):
            flow(lambda: speak(lambda *args, **options: print(*args, **options)))()
