"""What the rounds come to."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import final

import attrs

from benchmarks.model import LOGGED, OURS, Measure, Row, Target
from benchmarks.results import RowResult, Series

#: The contestant that does alone what workers share.
LOOP = "loop"

#: What one log record may take, in seconds.
RECORD_TIME = 12e-6


@final
@attrs.frozen
class Spread:
    """The middle of some figures, and their ends."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """Sum figures up; None if there are none."""
        if not values:
            return None
        return cls(statistics.median(values), min(values), max(values))


@final
@attrs.frozen
class Verdict:
    """How a row did by one of its targets.

    Attributes:
        target: What was asked.
        found: The ratio, or the figure itself where the target is a bound.
        logged: The ratio while our log is written; None where that says nothing new.
        is_met: Whether the target is met with the log off; None if it sets no limit, or if the
            spread hides the figure.
    """

    target: Target
    found: Spread
    logged: Spread | None
    is_met: bool | None


def verdicts(row: Row, result: RowResult) -> list[Verdict]:
    """Judge a row by those of its targets whose contestants took part."""
    records = [
        Target(each.contestant, measure=Measure.RECORD_TIME, at_most=RECORD_TIME)
        for each in result.series
        if each.measure is Measure.RECORD_TIME and each.contestant.startswith(OURS)
    ]
    judged = []
    for target in (*row.targets, *records):
        found = Spread.of(figures(target, result))
        if found is not None:
            on = None if target.logged is None else Spread.of(figures(target.logged, result))
            judged.append(Verdict(target, found, on, is_met(target, found.median)))
    return judged


def figures(target: Target, result: RowResult) -> list[float]:
    """Return what a target is about, round by round."""
    values = result.values(target.of, target.measure)
    if target.to is None:
        return list(values)
    # Those that take part in fewer rounds do so in the first ones.
    others = result.values(target.to, target.measure)
    return [value / other for value, other in zip(values, others, strict=False) if other]


def is_met(target: Target, figure: float) -> bool | None:
    """Return whether a figure is what it should be; None if that cannot be said."""
    if target.measure is Measure.RECORD_TIME and figure < 0:
        return None  # Lost in the spread: writing a record takes more than not writing it.
    if target.at_most is not None:
        return figure <= target.at_most
    if target.at_least is not None:
        return figure >= target.at_least
    return None


def with_derived(row: Row, result: RowResult) -> RowResult:
    """Add what follows from the figures of each round: the cost of a log record, efficiency."""
    derived = [*_record_times(row, result), *_efficiencies(row, result)]
    return attrs.evolve(result, series=(*result.series, *derived))


def _record_times(row: Row, result: RowResult) -> list[Series]:
    if not row.tells_log_cost:
        return []
    return [
        Series(
            each.contestant,
            Measure.RECORD_TIME,
            tuple(
                (on - off) / records
                for off, on, records in zip(
                    result.values(each.contestant.removesuffix(LOGGED)),
                    result.values(each.contestant),
                    each.values,
                    strict=True,
                )
                if records
            ),
        )
        for each in result.series
        if each.measure is Measure.RECORDS
    ]


def _efficiencies(row: Row, result: RowResult) -> list[Series]:
    if row.workers is None:
        return []
    alone = result.values(LOOP)
    return [
        Series(
            each.contestant,
            Measure.EFFICIENCY,
            tuple(
                one / (row.workers * shared)
                for one, shared in zip(alone, each.values, strict=False)
            ),
        )
        for each in result.series
        if each.measure is Measure.TIME and each.contestant != LOOP
    ]
