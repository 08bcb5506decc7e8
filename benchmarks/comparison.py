"""What has changed since results that were kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from benchmarks import units
from benchmarks.judging import Spread, figures
from benchmarks.model import Row, Target
from benchmarks.report import aligned
from benchmarks.results import Results, RowResult, Series

#: The row, what it is about, the old figure, the new one, and the change.
Line: TypeAlias = tuple[str, str, str, str, str]


def comparison(rows: Iterable[Row], old: Results, new: Results) -> str:
    """Return the old and the new medians and ratios of the rows that both results have."""
    lines: list[Line] = [("row", "what", "old", "new", "change")]
    for row in rows:
        before, after = old.row(row.name), new.row(row.name)
        if before is not None and after is not None:
            lines += filter(None, (_median(row, before, each) for each in after.series))
            lines += filter(None, (_ratio(row, before, after, each) for each in row.targets))
    text = "\n".join(aligned(lines)) if len(lines) > 1 else "No row is in both results."
    return "\n".join([f"Compared with the results of {old.date}:", *_caveats(old, new), text])


def change(old: float, new: float) -> str:
    """Return by how much a figure has changed, such as ``-12%``."""
    if old == new:
        return "0%"
    return f"{new / old - 1:+.0%}" if old > 0 else "n/a"


def _median(row: Row, before: RowResult, series: Series) -> Line | None:
    old = Spread.of(before.values(series.contestant, series.measure))
    new = Spread.of(series.values)
    if old is None or new is None:
        return None
    return (
        row.name,
        units.label(series.contestant, series.measure),
        units.figure(old.median, series.measure),
        units.figure(new.median, series.measure),
        change(old.median, new.median),
    )


def _ratio(row: Row, before: RowResult, after: RowResult, target: Target) -> Line | None:
    old, new = (Spread.of(figures(target, result)) for result in (before, after))
    if target.to is None or old is None or new is None:
        return None
    return (
        row.name,
        units.asked(target),
        units.ratio(old.median),
        units.ratio(new.median),
        change(old.median, new.median),
    )


def _caveats(old: Results, new: Results) -> list[str]:
    caveats = []
    if old.machine != new.machine:
        caveats.append("Machine or Python differ: only the ratios can be compared.")
    if old.scale != new.scale:
        caveats.append(f"The scale was {old.scale:g} and is {new.scale:g}.")
    return caveats
