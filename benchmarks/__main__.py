"""The command: ``python -m benchmarks`` in the repository's root."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report, running
from benchmarks.catalogue import ROWS
from benchmarks.comparison import comparison
from benchmarks.model import Row
from benchmarks.plot import draw
from benchmarks.processes import exit_on_sigterm
from benchmarks.results import Results, ResultsFileError, RowResult


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, and return the exit code: 1 if a row could not be run."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(report.aligned([(row.name, row.work) for row in ROWS.values()])))
        return 0
    check_destinations(parser, options)
    old = read_kept(parser, options.compare)
    rows = [ROWS[name] for name in ROWS if name in options.rows]
    return run(rows, options, old)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Anabranch beside what it is made of and what others offer.",
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="NAME",
        choices=list(ROWS),
        default=list(ROWS),
        help="run these rows only (default: all; see --list)",
    )
    parser.add_argument(
        "--rounds",
        type=whole_number,
        metavar="N",
        help="how often each contestant is measured (default: 7, and less in slow rows)",
    )
    parser.add_argument(
        "--scale",
        type=share,
        default=1.0,
        metavar="SHARE",
        help="do this share of the work only, such as 0.01, to try the benchmark out",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the results in a file")
    parser.add_argument(
        "--compare", type=Path, metavar="FILE", help="show what changed since kept results"
    )
    parser.add_argument("--plot", metavar="PREFIX", help="draw PREFIX.png and PREFIX.svg")
    parser.add_argument("--list", action="store_true", help="list the rows, and run none")
    return parser


def whole_number(text: str) -> int:
    """Return the number of rounds that an option names."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rounds: give 1 or more")
    return int(text)


def share(text: str) -> float:
    """Return the share of the work that an option names."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no share of the work: give a number above 0, and 1 for all of it"
        )
    return value


def check_destinations(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse at once what would fail when all has been measured."""
    for option, path in (("--json", options.json), ("--plot", options.plot)):
        if path is not None and not (folder := Path(path).parent).is_dir():
            parser.error(f"{option} {path}: there is no folder {folder}; make it first")
    if options.plot is not None and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib, which is not here: pip install matplotlib")


def read_kept(parser: argparse.ArgumentParser, path: Path | None) -> Results | None:
    """Return the results to compare with, if there are to be any."""
    if path is None:
        return None
    try:
        return Results.read(path)
    except ResultsFileError as error:
        parser.error(f"--compare {error}")


def run(rows: Sequence[Row], options: argparse.Namespace, old: Results | None) -> int:
    """Run rows, and do with the results what the options say."""
    found: list[RowResult] = []
    for row in rows:
        found.append(running.run(row, options.scale, options.rounds or row.rounds))
        running.tell("")
        print(report.row_report(row, found[-1]) + "\n", flush=True)
    results = Results.of(tuple(found), options.scale)
    judged = report.judged_rows(rows, results)
    print(report.heading(results) + "\n")
    print(report.verdict_table(judged) + "\n")
    print(report.summary(judged))
    if old is not None:
        print("\n" + comparison(rows, old, results))
    if options.json is not None:
        results.write(options.json)
    if options.plot is not None:
        draw(judged, report.heading(results), options.plot)
    return 1 if any(result.error is not None for result in found) else 0


if __name__ == "__main__":
    exit_on_sigterm()
    sys.exit(main())
