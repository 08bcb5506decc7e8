"""The report of behaviours in the README of the futures is that of the tables."""

from __future__ import annotations

import re
from pathlib import Path

from anabranch.flows.testing import FLOW_BEHAVIOURS
from anabranch.futures.testing import BEHAVIOURS

README = Path("packages/futures/README.md")
RUNNERS = ["sequential", "concurrent", "dask", "ray"]


def tables(page: str) -> list[list[list[str]]]:
    """Return the rows of the tables between the marks, as lists of cells."""
    report = page.partition("<!-- behaviours: begin -->")[2]
    report = report.partition("<!-- behaviours: end -->")[0]
    found = re.findall(r"(?:^\|.*\n)+", report, re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        for table in found
    ]


def test_the_report_has_all_rows(root: Path) -> None:
    """Both tables are there, row by row: `behaviour_report.py --write` was not forgotten."""
    contract, flows = tables((root / README).read_text())
    for table, behaviours in ((contract, BEHAVIOURS), (flows, FLOW_BEHAVIOURS)):
        assert table[0] == ["behaviour", *RUNNERS]
        assert [row[0] for row in table[2:]] == [behaviour.name for behaviour in behaviours]


def test_the_report_says_yes_or_why_not(root: Path) -> None:
    """Every runner shows every behaviour, or has a reason."""
    for table in tables((root / README).read_text()):
        for name, *outcomes in table[2:]:
            for outcome in outcomes:
                assert re.fullmatch(r"yes|- \(\d+\)", outcome), name
