"""Results as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks import units
from benchmarks.judging import Spread, Verdict, verdicts
from benchmarks.model import Row, Target
from benchmarks.results import Results, RowResult

_WORDS = {True: "met", False: "MISSED", None: ""}


def heading(results: Results) -> str:
    """Return the line that says what the figures hold for."""
    machine = results.machine
    libraries = ", ".join(f"{name} {version}" for name, version in results.libraries.items())
    scale = "" if results.scale == 1 else f"; the work scaled by {results.scale:g}"
    return (
        f"{results.date}, {machine.system} {machine.architecture}, {machine.cores} cores, "
        f"Python {machine.python}, {libraries}{scale}"
    )


def row_report(row: Row, result: RowResult) -> str:
    """Return what the contestants of a row measured."""
    lines = [f"{row.name}: {row.work}"]
    if result.error is not None:
        lines.append(f"  failed: {result.error.strip()}")
    cells = [("", "median", "spread", "rounds")]
    for each in result.series:
        found = Spread.of(each.values)
        if found is not None:
            cells.append(
                (
                    units.label(each.contestant, each.measure),
                    units.figure(found.median, each.measure),
                    units.spread(found, each.measure),
                    str(len(each.values)),
                )
            )
    if len(cells) > 1:
        lines += [f"  {line}" for line in aligned(cells)]
    lines += [f"  note: {note}" for note in result.notes]
    return "\n".join(lines)


def verdict_table(judged: Iterable[tuple[Row, Verdict]]) -> str:
    """Return what is asked of the rows, and how they did, as a table in Markdown."""
    cells = [("row", "what", "median", "spread", "logged", "target", "")]
    for row, verdict in judged:
        target = verdict.target
        cells.append(
            (
                row.name,
                units.asked(target),
                _middle(target, verdict.found),
                _ends(target, verdict.found),
                "" if verdict.logged is None else _middle(target, verdict.logged),
                units.limit(target),
                _WORDS[verdict.is_met],
            )
        )
    widths = _widths(cells)
    rule = "|".join("-" * (width + 2) for width in widths)
    lines = [f"| {line} |" for line in aligned(cells, " | ", strip=False)]
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def summary(judged: Sequence[tuple[Row, Verdict]]) -> str:
    """Return how many targets were met."""
    limits = [verdict.is_met for _, verdict in judged if verdict.is_met is not None]
    return f"{limits.count(True)} of {len(limits)} targets met"


def judged_rows(rows: Iterable[Row], results: Results) -> list[tuple[Row, Verdict]]:
    """Judge all rows that were run."""
    return [
        (row, verdict)
        for row in rows
        if (result := results.row(row.name)) is not None
        for verdict in verdicts(row, result)
    ]


def aligned(
    cells: Sequence[Sequence[str]], between: str = "  ", *, strip: bool = True
) -> list[str]:
    """Return lines of cells that stand below each other."""
    widths = _widths(cells)
    lines = [
        between.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    ]
    return [line.rstrip() for line in lines] if strip else lines


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*cells, strict=True)]


def _middle(target: Target, found: Spread) -> str:
    if target.to is not None:
        return units.ratio(found.median)
    return units.figure(found.median, target.measure)


def _ends(target: Target, found: Spread) -> str:
    if target.to is not None:
        return f"{units.rounded(found.least)} .. {units.ratio(found.greatest)}"
    return units.spread(found, target.measure)
