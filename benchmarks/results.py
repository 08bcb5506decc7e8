"""What was measured, and how it is kept."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import final

import attrs

from benchmarks.model import Measure

#: Libraries whose version says something about the figures.
LIBRARIES = (
    "anabranch-flows",
    "anyio",
    "dask",
    "distributed",
    "numpy",
    "parsl",
    "prefect",
    "ray",
    "trio",
)


class ResultsFileError(Exception):
    """A file of results cannot be read; the message says which and why."""


@final
@attrs.frozen
class Series:
    """What a contestant measured, round by round."""

    contestant: str
    measure: Measure
    values: tuple[float, ...]


@final
@attrs.frozen
class RowResult:
    """What became of a row: series, or the reason why there are none."""

    row: str
    series: tuple[Series, ...] = ()
    notes: tuple[str, ...] = ()
    error: str | None = None

    def values(self, contestant: str, measure: Measure = Measure.TIME) -> tuple[float, ...]:
        """Return what was measured, round by round; nothing if it was not."""
        for each in self.series:
            if each.contestant == contestant and each.measure is measure:
                return each.values
        return ()


@final
@attrs.frozen
class Machine:
    """What the figures hold for; it names neither the machine nor its user."""

    system: str
    architecture: str
    cores: int
    python: str

    @classmethod
    def this(cls) -> Machine:
        """Describe the machine that this runs on."""
        return cls(
            platform.system(), platform.machine(), os.cpu_count() or 1, platform.python_version()
        )


@final
@attrs.frozen
class Results:
    """All that one run of the benchmark found."""

    date: str
    machine: Machine
    libraries: Mapping[str, str]
    scale: float
    rows: tuple[RowResult, ...]

    @classmethod
    def of(cls, rows: tuple[RowResult, ...], scale: float) -> Results:
        """Put a date and what else matters beside what was measured."""
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        return cls(today, Machine.this(), installed(), scale, rows)

    def row(self, name: str) -> RowResult | None:
        """Return what became of a row; None if it was not run."""
        return next((row for row in self.rows if row.row == name), None)

    def write(self, path: Path) -> None:
        """Keep the results in a file."""
        text = json.dumps(attrs.asdict(self, value_serializer=_plain), indent=1)
        path.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Return the results that were kept in a file.

        Raises:
            ResultsFileError: The file cannot be read, or it holds something else.
        """
        fix = "give a file that --json has written"
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ResultsFileError(f"{path}: {error}; {fix}") from error
        try:
            return cls(
                date=kept["date"],
                machine=Machine(**kept["machine"]),
                libraries=kept["libraries"],
                scale=kept["scale"],
                rows=tuple(_row(row) for row in kept["rows"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ResultsFileError(f"{path} holds no results ({error!r}); {fix}") from error


def installed() -> dict[str, str]:
    """Return the versions of the libraries that matter."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # Not installed, or imported from its sources.
    return found


def _plain(_instance: object, _field: object, value: object) -> object:
    return value.value if isinstance(value, Measure) else value


def _row(kept: Mapping[str, object]) -> RowResult:
    series, notes = kept["series"], kept["notes"]
    if not isinstance(series, list) or not isinstance(notes, list):
        raise TypeError("series and notes are lists")
    error = kept["error"]
    return RowResult(
        row=str(kept["row"]),
        series=tuple(
            Series(each["contestant"], Measure(each["measure"]), tuple(each["values"]))
            for each in series
        ),
        notes=tuple(map(str, notes)),
        error=None if error is None else str(error),
    )
