"""The benchmark: what its command prints and keeps, and what it makes of figures."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Protocol

import pytest

from benchmarks import __main__ as command
from benchmarks import comparison, judging, plot, report, running, units
from benchmarks.catalogue import ROWS
from benchmarks.model import Contestant, Measure, Row, Stage, Target
from benchmarks.peers import inviting
from benchmarks.processes import ChildError, call_in_process
from benchmarks.results import Machine, Results, ResultsFileError, RowResult, Series

LOCAL = ["direct", "concurrent-sync", "concurrent-async", "chain"]
TINY = ["--scale", "0.001", "--rounds", "1"]


@pytest.fixture
def no_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process finds other engines, which take long where they are installed."""
    folder = tmp_path / "without-peers"
    folder.mkdir()
    code = "import sys\nsys.modules['prefect'] = sys.modules['parsl'] = None\n"
    (folder / "sitecustomize.py").write_text(code)
    places = os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])
    monkeypatch.setenv("PYTHONPATH", places)


def no_contestants(_: Stage) -> None:
    """Put up nobody."""


ROW = Row(
    name="race",
    work="running",
    prepare=no_contestants,
    targets=(
        Target("ours", "theirs", at_most=0.5),
        Target("slow", "ours", at_least=10),
        Target("ours", "absent", at_most=1),
        Target("ours", measure=Measure.MEMORY, at_most=1_000),
    ),
)


class RunPython(Protocol):
    """What the fixture `run_python` gives."""

    def __call__(self, *arguments: str | Path) -> str: ...


def timed(contestant: str, *values: float) -> Series:
    """Return a series of times."""
    return Series(contestant, Measure.TIME, values)


def race(*ours: float) -> RowResult:
    """Return what became of the row, with times of ours and a log."""
    logged = tuple(value + 20e-6 for value in ours)
    records = Series("ours, logged", Measure.RECORDS, (2.0,) * len(ours))
    memory = Series("ours", Measure.MEMORY, (2_000.0,))
    series = (timed("ours", *ours), timed("ours, logged", *logged), records, memory)
    others = (timed("theirs", 4e-6, 1e-6, 10e-6), timed("slow", 40e-6))
    return judging.with_derived(ROW, RowResult("race", (*series, *others)))


def results(*rows: RowResult, scale: float = 1.0) -> Results:
    """Return results of some machine."""
    return Results("2026-01-02", Machine("Linux", "x86_64", 2, "3.11.7"), {}, scale, rows)


# ------------------------------------------------------------------- what figures come to


def test_a_ratio_is_the_median_of_the_ratios_of_each_round() -> None:
    """Figures are compared within their round, before the median is taken."""
    found = judging.figures(Target("ours", "theirs"), race(1e-6, 2e-6, 3e-6))
    assert found == pytest.approx([0.25, 2.0, 0.3])
    assert judging.Spread.of([0.25, 2.0, 0.3]) == judging.Spread(0.3, 0.25, 2.0)


def test_who_plays_fewer_rounds_is_compared_with_the_first_ones() -> None:
    """A contestant that was measured once is compared with the first round of the other."""
    found = judging.figures(Target("slow", "ours"), race(1e-6, 2e-6, 3e-6))
    assert found == pytest.approx([40])


def test_targets_are_met_or_missed() -> None:
    """Limits hold for the median, and targets about who was left out are not judged."""
    verdicts = judging.verdicts(ROW, race(1e-6, 2e-6, 3e-6))
    assert [(verdict.target.of, verdict.is_met) for verdict in verdicts] == [
        ("ours", True),
        ("slow", True),
        ("ours", False),
        ("ours, logged", True),
    ]
    assert judging.is_met(Target("ours", "theirs"), 1.0) is None


def test_the_cost_of_a_log_record_is_what_it_adds() -> None:
    """It is the time with the log less the time without, for each record of a unit of work."""
    times = race(1e-6, 5e-6).values("ours, logged", Measure.RECORD_TIME)
    assert times == pytest.approx([10e-6, 10e-6])


def test_a_cost_that_the_spread_hides_is_not_judged() -> None:
    """A log that seems to save time tells of the spread, not of the log."""
    record = Target("ours, logged", measure=Measure.RECORD_TIME, at_most=12e-6)
    assert judging.is_met(record, 1e-6) is True
    assert judging.is_met(record, -1e-6) is None


def test_efficiency_is_the_share_of_the_workers_that_works() -> None:
    """Two workers that take as long as the loop alone are half efficient."""
    row = Row("shared", "work", no_contestants, (), workers=2)
    result = judging.with_derived(row, RowResult("shared", (timed("loop", 3), timed("ours", 3))))
    assert result.values("ours", Measure.EFFICIENCY) == (0.5,)


def test_the_log_counts_against_the_reference_only() -> None:
    """The ratio with the log is that of our logged side to the same reference."""
    assert Target("ours", "theirs").logged == Target("ours, logged", "theirs")
    assert Target("slow", "ours").logged == Target("slow", "ours, logged")
    assert Target("ours", "ours, 100 tasks").logged is None


@pytest.mark.parametrize(
    ("value", "measure", "text"),
    [
        (1.234e-6, Measure.TIME, "1.23 us"),
        (12.34e-3, Measure.TIME, "12.3 ms"),
        (0.0, Measure.CLIENT_BYTES, "0 B"),
        (104_857_600.0, Measure.MEMORY, "105 MB"),
        (3.0, Measure.RECORDS, "3"),
    ],
)
def test_figures_have_units(value: float, measure: Measure, text: str) -> None:
    """Figures have three digits and the unit that suits them."""
    assert units.figure(value, measure) == text


# --------------------------------------------------------------------------- rounds


def test_the_order_alternates_and_the_first_round_does_not_count() -> None:
    """Contestants take turns there and back, and those with few rounds do not warm up."""
    calls: list[str] = []

    def contestant(name: str, rounds: int | None = None) -> Contestant:
        def take() -> dict[Measure, float]:
            calls.append(name)
            return {Measure.TIME: float(len(calls))}

        return Contestant(name, take, rounds)

    found = running.play(
        [contestant("a"), contestant("b"), contestant("once", rounds=1)], 2, calls.append
    )
    order = [call for call in calls if call in ("a", "b", "once")]
    assert order == ["b", "a", "a", "b", "once", "b", "a"]
    assert [(each.contestant, len(each.values)) for each in found] == [
        ("a", 2),
        ("b", 2),
        ("once", 1),
    ]


def test_what_goes_wrong_in_a_row_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that fails is reported with its traceback, and makes the exit code 1."""
    monkeypatch.setattr(running, "call_in_process", fail_in_process)
    assert command.main(["--rows", "direct", *TINY]) == 1
    result = running.run(ROWS["direct"], 1, 1)
    assert "failed: no luck" in report.row_report(ROWS["direct"], result)


def fail_in_process(*_: object) -> None:
    """Fail as a process of its own does."""
    raise ChildError("no luck")


def test_a_process_of_its_own_tells_what_went_wrong() -> None:
    """An exception in a process comes back as the traceback that it had there."""
    assert call_in_process(len, "four") == 4
    with pytest.raises(ChildError, match="invalid literal for int"):
        call_in_process(int, "four")


# -------------------------------------------------------------------- kept and compared


def test_results_survive_being_kept(tmp_path: Path) -> None:
    """What is read from a file is what was written to it."""
    kept = results(race(1e-6), RowResult("broken", notes=("left out",), error="no luck"))
    kept.write(tmp_path / "kept.json")
    assert Results.read(tmp_path / "kept.json") == kept


@pytest.mark.parametrize("text", ["no json", "[]", '{"date": "today"}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    """A file that holds something else is named, with the fix."""
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(ResultsFileError, match=r"other\.json.*give a file that --json has written"):
        Results.read(tmp_path / "other.json")


def test_a_comparison_shows_what_changed() -> None:
    """Medians and ratios stand beside the old ones, with the change in percent."""
    text = comparison.comparison([ROW], results(race(4e-6)), results(race(2e-6), scale=0.5))
    lines = [re.split(r"  +", line) for line in text.splitlines()]
    assert ["race", "ours", "4 us", "2 us", "-50%"] in lines
    assert ["race", "ours / theirs", "1x", "0.50x", "-50%"] in lines
    assert "The scale was 1 and is 0.5." in text


def test_a_comparison_without_common_rows_says_so() -> None:
    """Nothing to compare is no empty table."""
    text = comparison.comparison([ROW], results(), results(race(1e-6)))
    assert "No row is in both results." in text


def test_bars_show_less_as_better() -> None:
    """In the picture all ratios are ours to the other's, also where the target is the reverse."""
    judged = [(ROW, verdict) for verdict in judging.verdicts(ROW, race(1e-6))]
    first, second = plot.bars(judged)
    assert (first.label, first.limit) == ("race\nours / theirs", 0.5)
    assert (second.label, second.limit) == ("race\nours / slow", 0.1)
    assert second.off == pytest.approx(1 / 40)


# ------------------------------------------------------------------------ the command


def test_local_rows_run_and_are_kept_compared_and_drawn(
    root: Path, tmp_path: Path, run_python: RunPython, no_peers: None
) -> None:
    """Each row is printed with its figures, kept in a file and drawn into two."""
    kept = tmp_path / "kept.json"
    options: list[str | Path] = [
        "--rows",
        *LOCAL,
        *TINY,
        "--json",
        kept,
        "--plot",
        tmp_path / "bars",
    ]
    printed = run_python("-m", "benchmarks", *options)
    for name in LOCAL:
        assert f"\n{name}: {ROWS[name].work}" in f"\n{printed}"
        assert re.search(rf"^\| {name} +\| ours / .* (met|MISSED) +\|$", printed, re.MULTILINE)
    assert "failed" not in printed
    assert printed.count(" was left out: it cannot be imported here") == 2
    assert [row.row for row in Results.read(kept).rows] == LOCAL
    for suffix in ("png", "svg"):
        assert (tmp_path / f"bars.{suffix}").stat().st_size > 1_000


def test_a_run_is_compared_with_a_kept_one(tmp_path: Path, run_python: RunPython) -> None:
    """What has changed since is printed last."""
    kept = tmp_path / "kept.json"
    run_python("-m", "benchmarks", "--rows", "start-direct", *TINY, "--json", kept)
    printed = run_python("-m", "benchmarks", "--rows", "start-direct", *TINY, "--compare", kept)
    change = printed.split("Compared with the results of ")[1]
    assert re.search(r"^start-direct +trio.run +\S+ \S+ +\S+ \S+ +\S+%$", change, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dask", "big-values-ray"])
def test_rows_on_clusters_run(run_python: RunPython, name: str) -> None:
    """A row on Dask and one in Ray are measured to the end."""
    printed = run_python("-m", "benchmarks", "--rows", name, *TINY)
    assert "failed" not in printed
    assert re.search(rf"^\| {name} +\| ours / ", printed, re.MULTILINE)


def test_missing_peers_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that cannot be imported is left out, and a note says how to have it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    stage = Stage(scale=0.001)
    ROWS["direct"].prepare(stage)
    ROWS["concurrent-sync"].prepare(stage)
    assert not {"Prefect", "Parsl"} & {each.name for each in stage.contestants}
    assert [note.split(":")[0] for note in stage.notes] == [
        "Prefect was left out",
        "Parsl was left out",
    ]


def test_peers_that_fail_are_noted() -> None:
    """An engine that fails does not take the row with it."""

    def fail() -> dict[Measure, float]:
        raise ChildError("Traceback: ...\nTypeError: no luck\n")

    stage = Stage()
    inviting.invite(stage, "Parsl", fail)
    assert running.play(stage.contestants, 1, stage.notes.append) == ()
    assert stage.notes[-1] == "Parsl failed: TypeError: no luck"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "swimming"], r"'swimming' \(choose from .*direct.*census-ray-2"),
        (["--rounds", "0"], "'0' is no number of rounds: give 1 or more"),
        (["--scale", "2"], "'2' is no share of the work: give a number above 0, and 1 for all"),
        (["--json", "nowhere/kept.json"], "there is no folder nowhere; make it first"),
        (["--compare", "nowhere.json"], "nowhere.json.*give a file that --json has written"),
    ],
)
def test_bad_options_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """A wrong option is refused before anything is run, with what would be right."""
    with pytest.raises(SystemExit, match="2"):
        command.main(arguments)
    assert re.search(message, capsys.readouterr().err)


def test_drawing_without_matplotlib_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who cannot draw is told at once, and how to have what is missing."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SystemExit, match="2"):
        command.main(["--plot", "bars"])
    assert "pip install matplotlib" in capsys.readouterr().err


def test_the_rows_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """The list names each row, with its work."""
    assert command.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(ROWS)
