"""Log lines: their words, their format, and who gets to see them."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

import pytest

from anabranch.flows import (
    ConcurrentTaskRunner,
    RunFormatter,
    SequentialTaskRunner,
    TaskRunner,
    _logging,
    flow,
    task,
)

SCRIPT = """
from anabranch.flows import SequentialTaskRunner, flow, task

@task
def say_hello(name):
    print(f"hello {name}")

@flow(task_runner=SequentialTaskRunner())
def two_greetings(names):
    for name in names:
        say_hello.submit(name)

two_greetings(["arthur", "ford"])
"""


@task
def say_hello(name: str) -> None:
    """Say nothing, for once."""


@task
def fail() -> None:
    """Raise."""
    raise LookupError("gone")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """The log, line by line, with run names made the same and without times."""
    caplog.set_level(logging.INFO, logger="anabranch")
    collected: list[str] = []
    formatter = RunFormatter()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            line = formatter.format(record).split(" | ", 1)[1]
            collected.append(
                re.sub(r"'[a-z]+-[a-z]+'(?! for task)", "'adjective-animal'", line, count=1)
            )

    handler = Collector()
    logging.getLogger("anabranch").addHandler(handler)
    yield collected
    logging.getLogger("anabranch").removeHandler(handler)


def greet_twice() -> None:
    """Greet twice, once directly."""
    say_hello.submit("arthur")
    say_hello("ford")


def test_the_lines_of_a_sequential_flow(lines: list[str]) -> None:
    """A flow on the sequential runner logs each step, in order."""
    flow(name="greetings", task_runner=SequentialTaskRunner)(greet_twice)()
    key = say_hello.key
    assert lines == [
        "INFO    | anabranch.engine - Created flow run 'adjective-animal' for flow 'greetings'",
        "INFO    | Flow run 'adjective-animal' - Starting 'SequentialTaskRunner'; "
        "submitted tasks will be run sequentially...",
        f"INFO    | Flow run 'adjective-animal' - Created task run 'say_hello-{key}-0' "
        "for task 'say_hello'",
        f"INFO    | Flow run 'adjective-animal' - Executing 'say_hello-{key}-0' immediately...",
        f"INFO    | Task run 'say_hello-{key}-0' - Finished in state Completed()",
        f"INFO    | Flow run 'adjective-animal' - Created task run 'say_hello-{key}-1' "
        "for task 'say_hello'",
        f"INFO    | Flow run 'adjective-animal' - Executing 'say_hello-{key}-1' immediately...",
        f"INFO    | Task run 'say_hello-{key}-1' - Finished in state Completed()",
        "INFO    | Flow run 'adjective-animal' - Finished in state "
        "Completed('All states completed.')",
    ]


def test_the_lines_of_a_concurrent_flow(lines: list[str]) -> None:
    """A submitted run is logged as submitted, before its end."""
    flow(name="greetings")(greet_twice)()
    submitted = f"'say_hello-{say_hello.key}-0'"
    assert "submitted tasks will be run concurrently..." in lines[1]
    about_it = [line.split(" - ")[1] for line in lines if submitted in line]
    assert about_it == [
        f"Created task run {submitted} for task 'say_hello'",
        f"Submitted task run {submitted} for execution.",
        "Finished in state Completed()",
    ]


def test_a_failure_is_logged_as_an_error(lines: list[str]) -> None:
    """Runs that do not complete are logged at ERROR, with what went wrong."""
    flow(lambda: [fail.submit()]).run()
    errors = [line.split(" - ")[1] for line in lines if line.startswith("ERROR   |")]
    assert errors == [
        "Finished in state Failed('LookupError: gone')",
        "Finished in state Failed('1/1 states failed.')",
    ]


def test_a_subflow_is_announced_by_its_parent(lines: list[str]) -> None:
    """A subflow's creation is logged by the flow run that called it."""
    inner = flow(name="inner")(lambda: None)
    flow(flow_run_name="the-parent")(lambda: inner())()
    assert any(
        re.search(r"Flow run '.+' - Created subflow run '\w+-\w+' for flow 'inner'", line)
        for line in lines
    )


def test_records_carry_their_runs(caplog: pytest.LogCaptureFixture) -> None:
    """Each record about a run has the run's id and names."""
    caplog.set_level(logging.INFO, logger="anabranch")
    greetings = flow(name="greetings", task_runner=SequentialTaskRunner)(greet_twice)
    greetings.with_options(flow_run_name="my-run")()
    record = next(each for each in caplog.records if "Finished" in each.getMessage())
    assert vars(record)["task_run_name"] == f"say_hello-{say_hello.key}-0"
    assert vars(record)["task_name"] == "say_hello"
    assert vars(record)["flow_run_name"] == "my-run"
    assert re.fullmatch("[0-9a-f]{32}", vars(record)["flow_run_id"])
    assert re.fullmatch("[0-9a-f]{32}", vars(record)["task_run_id"])


@pytest.mark.parametrize("runner", [SequentialTaskRunner, ConcurrentTaskRunner])
def test_run_numbers_count_by_task_and_flow_run(lines: list[str], runner: type[TaskRunner]) -> None:
    """A task's runs are numbered from 0 in each flow run, and its key stays the same."""
    greetings = flow(name="greetings", task_runner=runner)(greet_twice)
    greetings()
    greetings()
    created = [line.split("'")[3] for line in lines if "Created task run" in line]
    assert created == [f"say_hello-{say_hello.key}-{number}" for number in (0, 1, 0, 1)]
    assert re.fullmatch("[0-9a-f]{8}", say_hello.key)


def run_script(**environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a new process."""
    return subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )


@pytest.mark.slow
def test_a_script_shows_the_log_on_standard_error() -> None:
    """A script that configures nothing shows what its flows do, beside what they print."""
    done = run_script()
    assert done.stdout == "hello arthur\nhello ford\n"
    shown = done.stderr.splitlines()
    assert len(shown) == 9
    line = r"\d\d:\d\d:\d\d\.\d{3} \| INFO    \| (anabranch\.engine|(Flow|Task) run '[\w-]+') - .+"
    assert all(re.fullmatch(line, each) for each in shown)


@pytest.mark.slow
def test_the_log_can_be_turned_off() -> None:
    """ANABRANCH_LOGGING=off leaves only what the tasks print."""
    done = run_script(ANABRANCH_LOGGING="off")
    assert (done.stdout, done.stderr) == ("hello arthur\nhello ford\n", "")


@pytest.mark.slow
def test_a_configured_root_logger_is_left_in_charge() -> None:
    """Where the application has configured logging, no handler is added."""
    configured = "import logging; logging.basicConfig(level='ERROR')\n"
    done = subprocess.run(
        [sys.executable, "-c", configured + SCRIPT],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    assert (done.stdout, done.stderr) == ("hello arthur\nhello ford\n", "")


def test_flows_that_start_at_once_install_one_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that start their first flow at the same time show each line once."""
    root = logging.Logger("anabranch")
    monkeypatch.setattr(_logging, "_root", root)
    monkeypatch.setattr(logging.root, "handlers", [])
    others = [threading.Thread(target=_logging.ensure_console_logging) for _ in range(3)]

    class Slow(logging.StreamHandler[TextIO]):
        """While this is made, the others come."""

        def __init__(self) -> None:
            super().__init__()
            for other in others:
                if not other.ident:
                    other.start()

    monkeypatch.setattr(_logging, "_StandardErrorHandler", Slow)
    _logging.ensure_console_logging()
    for other in others:
        other.join()
    assert len(root.handlers) == 1
