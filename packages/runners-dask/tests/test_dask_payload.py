"""What goes over the wire for runs on Dask, counted in bytes at the flow's process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import distributed
import psutil
import pytest
from dask_processes import scheduler_process, worker_process
from tornado.iostream import IOStream

from anabranch.futures import Future, TaskRunner, gather, lift
from anabranch.runners.dask import DaskTaskRunner

pytestmark = pytest.mark.slow

_RUNS = 200

_FUNCTION = 100_000

#: The most that a run may take besides its function and its arguments, in bytes.
_PER_RUN = 2_000

#: Of values that the flow's process must not see, in bytes.
_LARGE = 500_000_000


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler and two workers of one thread, each in a process of its own."""
    folder = tmp_path_factory.mktemp("cluster")
    with ExitStack() as stack:
        address = stack.enter_context(scheduler_process(folder))
        for _ in range(2):
            stack.enter_context(worker_process(address, folder))
        yield address


@pytest.fixture
def runner(address: str) -> Iterator[TaskRunner]:
    """A started runner."""
    with DaskTaskRunner(address) as runner:
        yield runner


class Traffic:
    """Counts what this process sends and receives; all of Dask in it is the runner's client."""

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch, runner: TaskRunner) -> Traffic:
    """The traffic of this process, from when the runner has started."""
    traffic = Traffic()
    write, read = IOStream.write_to_fd, IOStream.read_from_fd

    def count_written(stream: IOStream, data: memoryview) -> int:
        written = write(stream, data)
        traffic.sent += written
        return written

    def count_read(stream: IOStream, buffer: bytearray | memoryview) -> int | None:
        found = read(stream, buffer)
        traffic.received += found or 0
        return found

    monkeypatch.setattr(IOStream, "write_to_fd", count_written)
    monkeypatch.setattr(IOStream, "read_from_fd", count_read)
    return traffic


def _arrive(log: Path, padding: bytes) -> Luggage:
    with log.open("a") as file:
        file.write(f"{os.getpid()}\n")
    return Luggage(log, padding)


class Luggage:
    """Is large, and writes down in which process it is unpickled."""

    def __init__(self, log: Path, padding: bytes) -> None:
        self.log = log
        self.padding = padding

    def __reduce__(self) -> tuple[object, ...]:
        return _arrive, (self.log, self.padding)


def heavy(log: Path) -> Callable[[int], int]:
    """Return a closure that is large."""
    luggage = Luggage(log, os.urandom(_FUNCTION))

    def add_length(number: int) -> int:
        return number + len(luggage.padding)

    return add_length


@pytest.mark.parametrize("are_together", [False, True], ids=["singly", "together"])
def test_a_function_is_sent_once(
    runner: TaskRunner, traffic: Traffic, tmp_path: Path, are_together: bool
) -> None:
    """However its runs are submitted, a function goes out once, and to each worker once."""
    log = tmp_path / "log"
    function = heavy(log)
    assert runner.submit(abs, -1).result() == 1
    before = traffic.sent
    if are_together:
        with runner.together():
            futures = [runner.submit(function, number) for number in range(_RUNS)]
    else:
        futures = [runner.submit(function, number) for number in range(_RUNS)]
    assert gather(futures).result() == [number + _FUNCTION for number in range(_RUNS)]
    sent = traffic.sent - before
    assert _FUNCTION < sent < _FUNCTION + _RUNS * _PER_RUN
    arrivals = log.read_text().split()
    assert len(arrivals) == len(set(arrivals)) == 2


def test_a_function_is_sent_once_though_its_runs_are_waited_for(
    runner: TaskRunner, traffic: Traffic, tmp_path: Path
) -> None:
    """A function that was sent before is not sent again, so long as it is the same."""
    function = heavy(tmp_path / "log")
    assert runner.submit(function, 0).result() == _FUNCTION
    before = traffic.sent
    for number in range(20):
        assert runner.submit(function, number).result() == number + _FUNCTION
    assert traffic.sent - before < 20 * _PER_RUN


def test_the_arguments_of_a_run_are_sent_once(runner: TaskRunner, traffic: Traffic) -> None:
    """Of a run there is little to send but for what it is given."""
    assert runner.submit(abs, -1).result() == 1
    before = traffic.sent
    size = 10_000
    futures = [runner.submit(len, os.urandom(size)) for _ in range(50)]
    assert gather(futures).result() == [size] * 50
    assert 50 * size < traffic.sent - before < 50 * (size + _PER_RUN)


def test_a_closure_is_sent_as_it_is_now(
    runner: TaskRunner, traffic: Traffic, tmp_path: Path
) -> None:
    """A large closure that has changed is sent anew, and its runs are of what it was for each."""
    padding = os.urandom(_FUNCTION)
    numbers: list[int] = []
    assert runner.submit(abs, -1).result() == 1

    def count() -> tuple[int, int]:
        return len(numbers), len(padding)

    before = traffic.sent
    futures: list[Future[tuple[int, int]]] = []
    for number in range(3):
        futures.append(runner.submit(count))
        numbers.append(number)
    assert [each.result() for each in futures] == [(number, _FUNCTION) for number in range(3)]
    assert 3 * _FUNCTION < traffic.sent - before < 4 * _FUNCTION


def make(size: int) -> bytes:
    """Make a large value."""
    return bytes(size)


def same(value: Any) -> Any:  # noqa: ANN401 - whatever it is
    """Return a value as it is."""
    return value


def dig(value: dict[str, list[dict[str, bytes]]]) -> int:
    """Return the length of what is deep inside."""
    return len(value["one"][0]["two"])


def memory_of(address: str) -> int:
    """Return how much memory a scheduler holds, in bytes."""
    with distributed.Client(address, set_as_default=False) as client:
        found = client.run_on_scheduler(lambda: psutil.Process().memory_info().rss)
    assert isinstance(found, int)
    return found


def test_large_values_stay_on_workers(runner: TaskRunner, traffic: Traffic, address: str) -> None:
    """A chain of runs moves no value through the flow's process or the scheduler's."""
    memory = memory_of(address)
    sent, received = traffic.sent, traffic.received
    made = runner.submit(make, _LARGE)
    passed: Future[bytes] = runner.submit(same, lift(made))
    inside = {"one": [{"two": lift(passed)}]}
    assert runner.submit(dig, inside).result() == _LARGE
    assert traffic.received - received < 1_000_000
    assert traffic.sent - sent < 1_000_000
    assert memory_of(address) - memory < _LARGE / 10
