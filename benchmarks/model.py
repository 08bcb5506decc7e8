"""What a benchmark consists of: rows, contestants, what they measure and what is asked of them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TypeAlias, final

import attrs

#: The contestant that every row is about; with `LOGGED` behind it, while it writes its log.
OURS = "ours"
LOGGED = ", logged"


class Measure(enum.Enum):
    """What is measured; the value names it in the results."""

    TIME = "time"
    RECORDS = "log records"
    RECORD_TIME = "time of a log record"
    EFFICIENCY = "efficiency"
    MEMORY = "memory"
    CLIENT_BYTES = "bytes that the client received"
    HEAVY_MODULES = "heavy modules"


#: What a contestant measured in one round. Times are in seconds for one unit of the row's work.
Sample: TypeAlias = Mapping[Measure, float]


@final
@attrs.frozen
class Contestant:
    """One of those that a row compares.

    Attributes:
        name: What the tables call it.
        take: Does the work once, and returns what it measured.
        rounds: In how many of the rounds it takes part, and then not in the one that warms up;
            in all if None.
    """

    name: str
    take: Callable[[], Sample]
    rounds: int | None = None


@final
@attrs.frozen
class Target:
    """What is asked of a contestant: a ratio to another in the same round, or a bound.

    Attributes:
        of: The contestant.
        to: The one that it is divided by; None for a bound on what it measured itself.
        measure: Which of its measures.
        at_most: What the median may be; None if there is no such limit.
        at_least: What the median has to be; None if there is no such limit. Without either limit
            the figure is only shown.
    """

    of: str
    to: str | None = None
    measure: Measure = Measure.TIME
    at_most: float | None = None
    at_least: float | None = None

    @property
    def logged(self) -> Target | None:
        """The same with our log written; None if that says nothing new."""
        ours = [name for name in (self.of, self.to) if name is not None and name.startswith(OURS)]
        if self.measure is not Measure.TIME or self.to is None or ours != [OURS]:
            return None
        of, to = (name + LOGGED if name == OURS else name for name in (self.of, self.to))
        return attrs.evolve(self, of=of, to=to)


@attrs.define
class Stage:
    """Where a row puts up its contestants, in a process of its own.

    Attributes:
        scale: The share of the row's work that is to be done.
        stack: Closes what the contestants share, when all rounds are over.
        contestants: Those that take part.
        notes: What readers of the results have to know, such as who was left out.
    """

    scale: float = 1.0
    stack: ExitStack = attrs.field(factory=ExitStack)
    contestants: list[Contestant] = attrs.field(factory=list)
    notes: list[str] = attrs.field(factory=list)

    def scaled(self, count: int, *, least: int = 1) -> int:
        """Return how many of so many tasks are to be done."""
        return max(least, round(count * self.scale))

    def add(self, name: str, take: Callable[[], Sample], *, rounds: int | None = None) -> None:
        """Let somebody take part."""
        self.contestants.append(Contestant(name, take, rounds))


@final
@attrs.frozen
class Row:
    """One line of work that several contestants do.

    Attributes:
        name: What ``--rows`` calls it.
        work: What is done, in a few words.
        prepare: Puts up the contestants.
        targets: What is asked of them.
        rounds: How many rounds there are unless the user says so.
        workers: How many processes share the work, if the row is about how well they do; the
            contestant ``loop`` then does all of it alone.
        tells_log_cost: Whether a unit of work is so short that what a log record adds to it stands
            out from the spread.
    """

    name: str
    work: str
    prepare: Callable[[Stage], None]
    targets: tuple[Target, ...]
    rounds: int = 7
    workers: int | None = None
    tells_log_cost: bool = True
