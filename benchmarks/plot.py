"""Results as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

import attrs

from benchmarks.judging import Verdict
from benchmarks.model import Row

_OFF, _ON, _LIMIT = "#1f6f8b", "#b9d4dc", "#c8452d"


@final
@attrs.frozen
class Bar:
    """One line of the picture: how our own side does against another, the less the better."""

    label: str
    off: float
    on: float | None
    limit: float


def bars(judged: Sequence[tuple[Row, Verdict]]) -> list[Bar]:
    """Return the lines of the picture: what is judged and is a ratio."""
    return [bar for row, verdict in judged if (bar := _bar(row, verdict)) is not None]


def _bar(row: Row, verdict: Verdict) -> Bar | None:
    target = verdict.target
    if target.to is None or verdict.found.median <= 0:
        return None
    off = verdict.found.median
    on = None if verdict.logged is None else verdict.logged.median
    if target.at_most is not None:
        return Bar(f"{row.name}\n{target.of} / {target.to}", off, on, target.at_most)
    if target.at_least is not None:
        # Turned over, so that less is better in every line.
        turned = None if on is None else 1 / on
        return Bar(f"{row.name}\n{target.to} / {target.of}", 1 / off, turned, 1 / target.at_least)
    return None


def draw(judged: Sequence[tuple[Row, Verdict]], title: str, prefix: str) -> list[Path]:
    """Draw the ratios, and return the files that they were drawn into.

    Args:
        judged: How the rows did.
        title: The line below the picture.
        prefix: The path of the files, without their suffixes.

    Raises:
        ImportError: There is no matplotlib here.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - heavy, and not all draw
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above
    from matplotlib.ticker import LogLocator, NullFormatter  # noqa: PLC0415 - as above

    lines = bars(judged)
    figure = Figure(figsize=(9, 1.6 + 0.6 * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xscale="log")
    for shift, color, label, values in (
        (-0.2, _OFF, "log off", [bar.off for bar in lines]),
        (0.2, _ON, "log at its default level, into a file", [bar.on for bar in lines]),
    ):
        drawn = [(place + shift, value) for place, value in enumerate(values) if value is not None]
        # From 1, where both are alike, to either side.
        widths = [value - 1 for _, value in drawn]
        axes.barh([place for place, _ in drawn], widths, 0.38, 1, color=color, label=label)
    for place, bar in enumerate(lines):
        axes.vlines(bar.limit, place - 0.45, place + 0.45, colors=_LIMIT, linewidth=2)
    axes.plot([], [], color=_LIMIT, linewidth=2, label="target: no further right")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(lines)), [bar.label for bar in lines], fontsize=8)
    axes.invert_yaxis()
    # Numbers such as 0.5x, where the default writes powers of ten.
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}x")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("ratio to the reference: left of 1 ours is the faster one")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    figure.supxlabel(title, fontsize=6, color="gray", wrap=True)
    paths = [Path(f"{prefix}.{suffix}") for suffix in ("png", "svg")]
    for path in paths:
        figure.savefig(path, dpi=150)
    return paths
