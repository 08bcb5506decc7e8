"""What the behaviours of flows run; importable, so that other processes find it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import AsyncGenerator, Generator
from types import TracebackType
from typing import Final, Self, final

import anyio
import attrs

from anabranch.flows._branch import branch
from anabranch.flows._context import flow_run, task_run
from anabranch.flows._decorators import task
from anabranch.flows._logging import get_run_logger
from anabranch.futures import Failed, State
from anabranch.futures.runner import AnyCoroutine, running_loop
from anabranch.futures.testing import Tally, Ticket


@task
def add(x: int, y: int = 0) -> int:
    """Return the sum."""
    return x + y


@task
async def add_async(x: int, y: int = 0) -> int:
    """Return the sum, after letting the loop turn once."""
    await anyio.lowlevel.checkpoint()
    return x + y


@task
def fail(message: str) -> int:
    """Raise a LookupError."""
    raise LookupError(message)


@task
def total(numbers: list[int]) -> int:
    """Return the sum of a list."""
    return sum(numbers)


@task
def kind(value: object) -> str:
    """Return the name of a value's type."""
    return type(value).__name__


@task
def process() -> int:
    """Return the id of the process."""
    return os.getpid()


@task
def end_in(state: State[int]) -> object:
    """Return a state."""
    return state


@task
def fail_as_told() -> object:
    """Return a failure, instead of raising it."""
    return Failed(LookupError("as it was told"), message="as it was told")


@task
def leave_program(tally: Tally) -> int:
    """Raise SystemExit."""
    tally.add()
    raise SystemExit(3)


# ---------------------------------------------------------------------------- callables


@attrs.frozen
class Order:
    """A record with numbers somewhere inside."""

    amounts: dict[str, list[int]]


@task
def amount(order: Order) -> int:
    """Return the sum of an order."""
    return sum(sum(each) for each in order.amounts.values())


class Scale:
    """Has tasks for methods, of all three kinds."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    @task
    def weigh(self, x: int) -> int:
        """Multiply."""
        return self.factor * x

    @task
    async def weigh_async(self, x: int) -> int:
        """Multiply, asynchronously."""
        return self.factor * x

    @task
    @classmethod
    def named(cls, x: int) -> str:
        """Name the class."""
        return f"{cls.__name__} {x}"

    @task
    @staticmethod
    def count(n: int) -> Generator[int, None, None]:
        """Yield numbers."""
        yield from range(n)


class Double:
    """A callable object."""

    def __call__(self, x: int) -> int:
        """Double."""
        return 2 * x


@task
def count(n: int) -> Generator[int, None, None]:
    """Yield numbers."""
    yield from range(n)


@task
async def count_async(n: int) -> AsyncGenerator[int, None]:
    """Yield numbers, asynchronously."""
    for number in range(n):
        yield number


@task(task_run_name="wrong")
def forget_to_await() -> AnyCoroutine[int]:
    """Return a coroutine by mistake."""
    return _one()


async def _one() -> int:
    return 1


@task
async def library() -> str:
    """Return which event loop this runs on."""
    loop = running_loop()
    return "none" if loop is None else loop.backend


# ---------------------------------------------------------------------------- at gates


@task
def hold(ticket: Ticket, value: int = 0) -> int:
    """Wait at a gate."""
    ticket.wait()
    return value


@task
def hold_first(ticket: Ticket, number: int) -> int:
    """Wait at a gate if the number is 0."""
    if number == 0:
        ticket.wait()
    return number


@task
def note(tally: Tally, value: object = None) -> int:
    """Take note of having been started."""
    return tally.add()


@task
def note_after(tally: Tally, ticket: Ticket) -> int:
    """Wait at a gate, then take note."""
    ticket.wait()
    return tally.add()


@task
async def sleep_noted(tally: Tally) -> int:
    """Sleep until cancelled, and note that."""
    tally.add("started")
    try:
        await anyio.sleep_forever()
    finally:
        tally.add("stopped")
    return 0


@task
def try_until(tally: Tally, number: int) -> int:
    """Raise a LookupError until the attempt of this number."""
    return _try_until(tally, number)


def _try_until(tally: Tally, number: int) -> int:
    attempt = tally.add(str(task_run.attempt))
    if attempt < number:
        raise LookupError(f"attempt {attempt} failed")
    return attempt


@task
async def try_until_async(tally: Tally, number: int) -> int:
    """Raise a LookupError until the attempt of this number."""
    return _try_until(tally, number)


# ---------------------------------------------------------------------------- runs of runs


@task
def submit_inside(x: int) -> int:
    """Submit a task from inside a task."""
    return add.submit(x, 1).result()


@task
def fail_inside() -> None:
    """Submit and call tasks, one of which fails, and fail as well."""
    add.submit(1).wait()
    fail.submit("gone").wait()
    add(1)
    raise ValueError("no")


@task
def branch_inside(tally: Tally) -> int:
    """Open a branch inside a task."""
    with branch():
        note.submit(tally)
        note.submit(tally)
    return len(tally)


# ---------------------------------------------------------------------------- what a run sees


@task(tags=["own"], task_run_name="seen-{x}")
def see(x: int, *more: int, y: str = "z") -> dict[str, object]:
    """Tell what a run sees of itself."""
    get_run_logger().info("It works everywhere")
    return {
        "names": (task_run.task_name, task_run.name, flow_run.flow_name, flow_run.name),
        "ids": (task_run.id, flow_run.id),
        "parameters": dict(task_run.parameters),
        "tags": task_run.tags,
        "attempts": (task_run.attempt, flow_run.attempt),
    }


@task
async def see_async(x: int) -> object:
    """Tell the parameters of a run."""
    return dict(task_run.parameters)


@task
def log_and_print(word: str) -> str:
    """Log a word, and print it."""
    get_run_logger().info("logged %s", word)
    print("printed", word)
    return word


@final
class Log(logging.Handler):
    """Takes down what is logged while it is entered.

    Attributes:
        records: What has been logged.
    """

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._logger: Final = logging.getLogger("anabranch")
        self._level = self._logger.level
        self._told = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record down."""
        with self._told:
            self.records.append(record)

    def messages(self) -> list[str]:
        """Return the messages so far."""
        with self._told:
            return [record.getMessage() for record in self.records]

    def __enter__(self) -> Self:
        self._level = self._logger.level
        self._logger.setLevel(logging.INFO)
        self._logger.addHandler(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)
