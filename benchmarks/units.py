"""Figures in words."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.judging import Spread
from benchmarks.model import LOGGED, Measure, Target

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_BYTES = ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1.0, "B"))
_COUNT = ((1.0, ""),)

#: The units of a measure, the largest first.
UNITS: dict[Measure, Sequence[tuple[float, str]]] = {
    Measure.TIME: _SECONDS,
    Measure.RECORD_TIME: _SECONDS,
    Measure.MEMORY: _BYTES,
    Measure.CLIENT_BYTES: _BYTES,
    Measure.RECORDS: _COUNT,
    Measure.EFFICIENCY: _COUNT,
    Measure.HEAVY_MODULES: _COUNT,
}


def figure(value: float, measure: Measure) -> str:
    """Return a figure with its unit, such as ``1.23 us``."""
    size, unit = _unit(value, measure)
    return f"{rounded(value / size)} {unit}".rstrip()


def spread(found: Spread, measure: Measure) -> str:
    """Return the ends of some figures, in the unit of their middle."""
    size, unit = _unit(found.median, measure)
    ends = f"{rounded(found.least / size)} .. {rounded(found.greatest / size)}"
    return f"{ends} {unit}".rstrip()


def ratio(value: float) -> str:
    """Return a ratio, such as ``0.25x``."""
    return f"{rounded(value)}x"


def asked(target: Target) -> str:
    """Return what a target asks, such as ``ours / ThreadPoolExecutor``."""
    if target.measure is Measure.RECORD_TIME:
        others = "" if target.to is None else f" / to {target.to.removesuffix(LOGGED)}"
        return f"what a log record adds{others}"
    if target.to is not None:
        return f"{target.of} / {target.to}"
    return f"{target.of}: {target.measure.value}"


def limit(target: Target) -> str:
    """Return the limit of a target, such as ``<= 0.5x``; nothing if it has none."""
    sign, value = ("<=", target.at_most) if target.at_most is not None else (">=", target.at_least)
    if value is None:
        return ""
    return f"{sign} {ratio(value) if target.to is not None else figure(value, target.measure)}"


def label(contestant: str, measure: Measure) -> str:
    """Return what stands before a contestant's figures."""
    if measure is Measure.TIME:
        return contestant
    if measure in (Measure.RECORDS, Measure.RECORD_TIME):  # There is no other log than the one.
        contestant = contestant.removesuffix(LOGGED)
    return f"{contestant}: {measure.value}"


def rounded(value: float) -> str:
    """Return a number with three digits or more, such as ``12.3`` and ``1,234``."""
    magnitude = abs(value)
    if magnitude >= 100 or value == int(value):
        return f"{value:,.0f}"
    if magnitude >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if magnitude >= 0.1 else f"{value:.2g}"


def _unit(value: float, measure: Measure) -> tuple[float, str]:
    units = UNITS[measure]
    # Nothing at all is told in the smallest unit but for times, where that says less than seconds.
    return next((unit for unit in units if abs(value) >= unit[0]), units[-1])
