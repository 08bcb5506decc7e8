"""Runs rows: each in a process of its own, and in it round after round."""

from __future__ import annotations

import gc
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeAlias

from benchmarks import logs
from benchmarks.catalogue import ROWS
from benchmarks.judging import with_derived
from benchmarks.model import Contestant, Measure, Row, Stage
from benchmarks.processes import ChildError, call_in_process
from benchmarks.results import RowResult, Series

Tell: TypeAlias = Callable[[str], object]


def run(row: Row, scale: float, rounds: int) -> RowResult:
    """Run a row; what goes wrong in it is part of the result."""
    try:
        result = call_in_process(run_here, row.name, scale, rounds)
    except ChildError as error:
        return RowResult(row.name, error=str(error))
    return with_derived(row, result)


def run_here(name: str, scale: float, rounds: int) -> RowResult:
    """Run a row in this process, which can do nothing else afterwards."""
    logs.turn_off()
    stage = Stage(scale)
    with stage.stack:
        ROWS[name].prepare(stage)
        series = play(stage.contestants, rounds, lambda line: tell(f"{name}: {line}"))
    return RowResult(name, series, tuple(stage.notes))


def play(contestants: Sequence[Contestant], rounds: int, tell: Tell) -> tuple[Series, ...]:
    """Let contestants take turns, and return what they measured.

    A first round that warms up is not counted. Every other round goes in the opposite order.
    """
    found: defaultdict[tuple[str, Measure], list[float]] = defaultdict(list)
    for number in range(rounds + 1):
        playing = [each for each in contestants if _takes_part(each, number)]
        for each in playing if number % 2 else reversed(playing):
            tell(f"round {number} of {rounds}, {each.name}" if number else f"warms up: {each.name}")
            gc.collect()
            sample = each.take()
            for measure, value in sample.items() if number else ():
                found[each.name, measure].append(value)
    # In the order that the row names them in, whoever was first.
    order = {each.name: place for place, each in enumerate(contestants)}
    return tuple(
        Series(contestant, measure, tuple(values))
        for (contestant, measure), values in sorted(
            found.items(), key=lambda item: order[item[0][0]]
        )
    )


def _takes_part(contestant: Contestant, number: int) -> bool:
    return contestant.rounds is None or 1 <= number <= contestant.rounds


def tell(line: str) -> None:
    """Show how far the benchmark has come, where somebody watches."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
