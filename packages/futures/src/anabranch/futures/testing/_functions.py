"""What the behaviours run; importable, so that other processes find it."""

from __future__ import annotations

import contextvars
import dataclasses
import os
import threading
import time
from collections.abc import Mapping
from typing import Final, final

import anyio
import anyio.lowlevel
import attrs

from anabranch.futures import Failed, Future, NotSubmittableError, State, TaskRunner
from anabranch.futures.runner import AnyFunction, current_scope, running_loop
from anabranch.futures.testing._gate import Ticket


def add(x: int, y: int = 0) -> int:
    """Return the sum."""
    return x + y


async def add_async(x: int, y: int = 0) -> int:
    """Return the sum, after letting the loop turn once."""
    await anyio.lowlevel.checkpoint()
    return x + y


def same(value: object) -> object:
    """Return the value."""
    return value


def fail(message: str) -> int:
    """Raise a LookupError."""
    raise LookupError(message, 42)


async def fail_async(message: str) -> int:
    """Raise a LookupError, after letting the loop turn once."""
    await anyio.lowlevel.checkpoint()
    raise LookupError(message, 42)


def total(numbers: list[int]) -> int:
    """Return the sum of a list."""
    return sum(numbers)


def kind_of(value: object) -> str:
    """Return the name of a value's type."""
    return type(value).__name__


def wait_at(ticket: Ticket, value: int = 0) -> int:
    """Wait at a gate, then return the value."""
    ticket.wait()
    return value


@dataclasses.dataclass(frozen=True)
class Box:
    """A dataclass with something in it."""

    content: object
    label: str = "box"


@attrs.frozen
class Case:
    """An attrs class with something in it."""

    content: object


def unpack(value: object) -> list[int]:
    """Return the numbers in nested containers."""
    match value:
        case int():
            return [value]
        case Box() | Case():
            return unpack(value.content)
        case Mapping():
            return [number for each in value.values() for number in unpack(each)]
        case list() | tuple():
            return [number for each in value for number in unpack(each)]
        case set() | frozenset():
            return sorted(number for each in value for number in unpack(each))
        case _:
            raise TypeError(f"{value!r} holds no numbers")


class StubbornError(Exception):
    """An exception that does not survive pickling: it cannot be constructed from its args."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def fail_stubbornly() -> int:
    """Raise an exception that does not pickle."""
    raise StubbornError("this", "that")


class LockedError(Exception):
    """An exception that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


class ExplodingError(Exception):
    """An exception that raises another when it is unpickled."""

    def __init__(self, kind: type[BaseException]) -> None:
        super().__init__("ticking")
        self.kind = kind

    def __reduce__(self) -> tuple[AnyFunction[object], tuple[object, ...]]:
        return _explode, (self.kind,)


def _explode(kind: type[BaseException]) -> None:
    raise kind("exploded")


class InterruptingError(Exception):
    """An exception that raises KeyboardInterrupt when it is pickled."""

    def __reduce__(self) -> tuple[AnyFunction[object], tuple[object, ...]]:
        raise KeyboardInterrupt


class MuteError(Exception):
    """An exception without a text."""

    def __str__(self) -> str:
        raise RuntimeError("no")


#: How to make exceptions that do not travel well, each with what is said of a run that raises it.
ODD_ERRORS: Final[tuple[tuple[str, type[Exception], tuple[object, ...]], ...]] = (
    ("StubbornError: this and that", StubbornError, ("this", "that")),
    ("LockedError: locked", LockedError, ()),
    ("ExplodingError: ticking", ExplodingError, (ValueError,)),
    ("ExplodingError: ticking", ExplodingError, (SystemExit,)),
    ("ExplodingError: ticking", ExplodingError, (KeyboardInterrupt,)),
    ("InterruptingError", InterruptingError, ()),
    ("MuteError: <exception str() failed>", MuteError, ()),
)


def fail_with(kind: type[Exception], *args: object) -> int:
    """Raise what is made here."""
    raise kind(*args)


async def fail_with_async(kind: type[Exception], *args: object) -> int:
    """Raise what is made here, in an event loop."""
    raise kind(*args)


# ---------------------------------------------------------------------------- attempts


@final
@attrs.frozen
class Tally:
    """Counts what happens in all the processes of this machine; picklable.

    Attributes:
        path: A file that does not exist yet.
    """

    path: str

    def add(self, word: str = "") -> int:
        """Add a line, with the time, and return how many there are."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{time.monotonic()} {word}\n")
        return len(self.lines())

    def lines(self) -> list[str]:
        """Return the lines."""
        if not os.path.exists(self.path):
            return []
        with open(self.path, encoding="utf-8") as file:
            return file.read().splitlines()

    def times(self) -> list[float]:
        """Return when each was added, in seconds of a clock that all processes share."""
        return [float(line.split()[0]) for line in self.lines()]

    def words(self) -> list[str]:
        """Return what was added."""
        return [line.split(" ", 1)[1] for line in self.lines()]

    def __len__(self) -> int:
        return len(self.lines())


def try_until(tally: Tally, number: int) -> int:
    """Raise a LookupError until the attempt of this number."""
    attempt = tally.add()
    if attempt < number:
        raise LookupError(f"attempt {attempt} failed")
    return attempt


async def try_until_async(tally: Tally, number: int) -> int:
    """Raise a LookupError until the attempt of this number."""
    await anyio.lowlevel.checkpoint()
    return try_until(tally, number)


def tell_attempt(tally: Tally) -> list[int]:
    """Fail once, then return the number of the attempt as the run sees it."""
    tally.add(str(_attempt()))
    if len(tally) < 2:
        raise LookupError("the first attempt fails")
    return [int(word) for word in tally.words()]


def _attempt() -> int:
    scope = current_scope.get()
    return 0 if scope is None else scope.attempt


def note_and_fail(tally: Tally) -> int:
    """Raise a ValueError."""
    tally.add()
    raise ValueError("not to be tried again")


def is_lookup_error(state: State[object]) -> bool:
    """Whether a run ended so, for a retry policy."""
    return isinstance(state, Failed) and isinstance(state.exception, LookupError)


def break_condition(state: State[object]) -> bool:
    """Raise, as a condition of a retry policy."""
    raise ZeroDivisionError("the condition is broken")


def growing_delay(retry: int) -> float:
    """Return a delay for a retry, in seconds."""
    return 0.01 * retry


def exit_with(tally: Tally, kind: type[BaseException]) -> int:
    """Raise SystemExit or the like."""
    tally.add()
    raise kind("out")


async def exit_with_async(tally: Tally, kind: type[BaseException]) -> int:
    """Raise SystemExit or the like, in an event loop."""
    tally.add()
    raise kind("out")


def lose_process(tally: Tally, until: int = 1000) -> int:
    """End the process that this is executed in, until the attempt of this number."""
    attempt = tally.add()
    if attempt < until:
        os._exit(1)
    return attempt


def lose_then_fail(tally: Tally) -> int:
    """End the process at the first attempt, fail at the second, and succeed at the third."""
    attempt = tally.add()
    if attempt == 1:
        os._exit(1)
    if attempt == 2:
        raise LookupError("the second attempt fails")
    return attempt


# ---------------------------------------------------------------------------- time limits


async def sleep_noted(tally: Tally) -> int:
    """Sleep until cancelled, and note that."""
    tally.add("started")
    try:
        await anyio.sleep_forever()
    finally:
        tally.add("stopped")
    return 0


async def sleep_at(ticket: Ticket, tally: Tally) -> int:
    """Announce this run at a gate, then sleep until cancelled, and note that."""
    await anyio.to_thread.run_sync(_announce, ticket)
    return await sleep_noted(tally)


def _announce(ticket: Ticket) -> None:
    ticket.announce()


def hang_once(ticket: Ticket, tally: Tally) -> int:
    """Wait at a gate at the first attempt, and succeed at the second."""
    if tally.add() == 1:
        ticket.wait()
    return len(tally)


# ---------------------------------------------------------------------------- where it runs

#: Set around a submission.
VARIABLE: Final[contextvars.ContextVar[str]] = contextvars.ContextVar("VARIABLE", default="unset")


def variable() -> str:
    """Return what the run sees in a context variable."""
    return VARIABLE.get()


async def library() -> str:
    """Return which event loop this runs on."""
    loop = running_loop()
    return "none" if loop is None else loop.backend


@final
class Noted:
    """A value that takes note of each process in which it arrives."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally

    def __reduce__(self) -> tuple[object, ...]:
        return _arrive, (self.tally,)


def _arrive(tally: Tally) -> Noted:
    tally.add(str(os.getpid()))
    return Noted(tally)


class Thing:
    """What weak references can refer to; picklable."""


def make_thing() -> Thing:
    """Return a thing."""
    return Thing()


def take_thing(thing: Thing) -> int:
    """Take a thing."""
    return 1


def end_in(state: object) -> object:
    """Return a state."""
    return state


# ---------------------------------------------------------------------------- runs of runs


def runner_of_run() -> TaskRunner:
    """Return the runner that the calling run may submit to."""
    scope = current_scope.get()
    assert scope is not None, "this is inside a run"
    if scope.runner is None:
        raise NotSubmittableError("There is no runner in this process to submit to")
    return scope.runner


def submit_and_wait(number: int) -> int:
    """Submit a run, and wait for it."""
    return runner_of_run().submit(add, number, 1).result()


def submit_and_return(number: int) -> Future[int]:
    """Submit a run, and return its future."""
    return runner_of_run().submit(add, number, 1)


def submit_and_leave(ticket: Ticket) -> int:
    """Submit a run that waits at a gate, and do not wait for it."""
    runner_of_run().submit(wait_at, ticket)
    return 1


def descend(depth: int) -> int:
    """Submit a run that does the same, and wait for it, so many deep."""
    return 0 if depth == 0 else 1 + runner_of_run().submit(descend, depth - 1).result()


def submit_dependants(ticket: Ticket, tally: Tally) -> int:
    """Submit a run behind one that waits at a gate, and wait for both."""
    runner = runner_of_run()
    first = runner.submit(wait_at, ticket)
    return runner.submit(note, tally, first).result()


def note(tally: Tally, value: object = None) -> int:
    """Take note of having been started."""
    return tally.add()


def tally_word(tally: Tally, word: str) -> int:
    """Take note of having been started, with a word."""
    return tally.add(word)
