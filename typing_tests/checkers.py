"""What mypy and pyright say of the cases, and what the cases say of mypy and pyright.

Every line of ``rejected/`` that has to be rejected is followed by what the type checkers say:

    add(1, z=2)
    # mypy says: Unexpected keyword argument "z" for "__call__" of "Sync"  [call-arg]
    # pyright says: No parameter named "z"  [reportCallIssue]

That is the first line of each of their messages, and its rule. To write them anew:

    python -m typing_tests.checkers
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, TypedDict, cast

ROOT = Path(__file__).parent.parent
#: The cases that have to be accepted, and those that have to be rejected.
ACCEPTED = sorted((Path(__file__).parent / "accepted").glob("*.py"))
REJECTED = sorted((Path(__file__).parent / "rejected").glob("*.py"))

Checker: TypeAlias = Literal["mypy", "pyright"]
CHECKERS: tuple[Checker, ...] = ("mypy", "pyright")
#: What checkers say of a file: the remarks on each line, by its number from 1.
Remarks: TypeAlias = Mapping[int, Sequence[str]]

_REMARK = re.compile(r" *# (mypy|pyright) says: (.+)")


class _MypyError(TypedDict):
    file: str
    line: int
    message: str
    code: str
    severity: str


class _Position(TypedDict):
    line: int


class _Range(TypedDict):
    start: _Position


class _PyrightError(TypedDict):
    file: str
    range: _Range
    message: str
    severity: str
    rule: str


class _PyrightSummary(TypedDict):
    filesAnalyzed: int


class _PyrightReport(TypedDict):
    generalDiagnostics: list[_PyrightError]
    summary: _PyrightSummary


def check(checker: Checker, paths: Sequence[Path], python: str = "3.11") -> dict[Path, Remarks]:
    """Return what a type checker finds wrong with these files, as the repository is checked.

    Args:
        checker: Which one.
        paths: The files; if none, those that pyproject.toml names.
        python: The version of Python to check them for.
    """
    run = {"mypy": _run_mypy, "pyright": _run_pyright}[checker]
    found: defaultdict[Path, defaultdict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path, line, message, rule in run([str(path) for path in paths], python):
        text = message.splitlines()[0].replace("\N{NO-BREAK SPACE}", " ").strip()
        # What mypy has from its cache it writes without.
        text = text.replace("(self, Callable[", "(Callable[")
        found[ROOT / path][line].append(f"{text}  [{rule}]")
    return {path: dict(lines) for path, lines in found.items()}


def _run_mypy(paths: list[str], python: str) -> list[tuple[str, int, str, str]]:
    output = _output_of(
        "mypy", "--no-error-summary", "--output=json", f"--python-version={python}", *paths
    )
    errors = (cast("_MypyError", json.loads(line)) for line in output.splitlines())
    return [
        (each["file"], each["line"], each["message"], each["code"])
        for each in errors
        if each["severity"] == "error"
    ]


def _run_pyright(paths: list[str], python: str) -> list[tuple[str, int, str, str]]:
    options = ("--outputjson", f"--pythonversion={python}", f"--pythonpath={sys.executable}")
    report = cast("_PyrightReport", json.loads(_output_of("pyright", *options, *paths)))
    if not report["summary"]["filesAnalyzed"]:
        raise RuntimeError("pyright found no files")
    return [
        (each["file"], each["range"]["start"]["line"] + 1, each["message"], each.get("rule", "-"))
        for each in report["generalDiagnostics"]
        if each["severity"] == "error"
    ]


def _output_of(module: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode > 1:  # 1 is that there are errors in what was checked.
        raise RuntimeError(f"{module} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def expected(path: Path, checker: Checker) -> Remarks:
    """Return what the comments of a file say that a checker says."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    line = 0
    for number, text in enumerate(path.read_text().splitlines(), start=1):
        remark = _REMARK.fullmatch(text)
        if remark is None:
            line = number
        elif remark[1] == checker:
            found[line].append(remark[2])
    return dict(found)


def annotate(path: Path, remarks: Mapping[Checker, Remarks]) -> None:
    """Write into a file what the checkers say of each of its lines, in place of what is there."""
    lines: list[str] = []
    for number, text in enumerate(path.read_text().splitlines(), start=1):
        if not _REMARK.fullmatch(text):
            lines.append(text)
        width = len(text) - len(text.lstrip()) + 4 * text.endswith(":")
        for checker in CHECKERS:
            for remark in remarks[checker].get(number, ()):
                lines.append(f"{' ' * width}# {checker} says: {remark}")
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Write into each rejected case what the checkers say of it."""
    found = {checker: check(checker, REJECTED) for checker in CHECKERS}
    for path in REJECTED:
        annotate(path, {checker: found[checker].get(path, {}) for checker in CHECKERS})


if __name__ == "__main__":
    main()
