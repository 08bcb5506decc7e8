"""Whatever a tool is told to ignore, the code says which finding that is, and why."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# The same as in the BUILD file at the top.
SOURCES = [
    "conftest.py",
    "packages/*/src/**/*.py",
    "packages/*/tests/**/*.py",
    "integration/**/*.py",
    "examples/**/*.py",
    "typing_tests/**/*.py",
    "benchmarks/**/*.py",
    "build-support/**/*.py",
]
FILES = sorted(path for source in SOURCES for path in ROOT.glob(source))

# What begins an ignore, in whatever form the tools take it.
MARK = re.compile(
    r"#\s*(?:(?:ruff|flake8):\s*)?noqa\b"
    r"|#\s*(?:type|mypy|ruff):\s*(?:ignore|disable)\b"
    r"|#\s*pyright:(?!\s*strict\s*$)",
    re.IGNORECASE,
)
# A code or several, and a reason that is not just another mark.
FORM = re.compile(
    r"# noqa: [A-Z]+\d+(?:, [A-Z]+\d+)* - \w"
    r"|# (?:type|pyright): ignore\[[\w-]+(?:, ?[\w-]+)*\]  # (?!noqa|type:|pyright:|pants:)[\w`]"
)


def bare_ignores(source: str) -> Iterator[int]:
    """Yield the line of each ignore that lacks its code or its reason."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            for mark in MARK.finditer(token.string):
                if FORM.match(token.string, mark.start()) is None:
                    yield token.start[0]


def test_ignores_have_codes_and_reasons() -> None:
    """Every ignore in the repository's Python files has a code and a reason."""
    bare = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in FILES
        for line in bare_ignores(path.read_text())
    ]
    assert bare == [], "write `# noqa: X123 - why` or `# type: ignore[code]  # Why.`"


def test_the_files_are_there() -> None:
    """A folder that is not found would pass the test above without a word."""
    folders = {path.relative_to(ROOT).parts[:3] for path in FILES}
    packages = [path.parent.name for path in ROOT.glob("packages/*/pyproject.toml")]
    assert folders >= {("packages", each, part) for each in packages for part in ("src", "tests")}
    assert {folder[0] for folder in folders} == {source.split("/")[0] for source in SOURCES}


@pytest.mark.parametrize(
    "comment",
    [
        "# noqa",
        "#noqa:E501",
        "# noqa: E501",
        "# noqa: E501 -",
        "# noqa: E501, B904",
        "# NOQA: E501  # pants: no-infer-dep",
        "# ruff: noqa",
        "# ruff: noqa: E501",
        "# type: ignore",
        "# type: ignore  # That is the point.",
        "# type: ignore[misc]",
        "# type: ignore[misc] That is the point.",
        "# type: ignore[misc]  # noqa: E501 - the point",
        "# type: ignore[misc]  # The point.  # noqa: E501",
        "# pyright: ignore",
        "# pyright: ignore[reportMissingImports]",
        "# pyright: basic",
        "# pyright: reportMissingImports=false",
        "# mypy: ignore-errors",
        "# mypy: disable-error-code=misc",
    ],
)
def test_bare_ignores_are_found(comment: str) -> None:
    """One that lacks either is told by its line, whatever it is for."""
    assert list(bare_ignores(f"x = 1\ny = 2  {comment}\n")) == [2]


@pytest.mark.parametrize(
    "line",
    [
        "# noqa: E501 - a long line",
        "# noqa: E501, B904 - a long line  # pants: no-infer-dep",
        "# type: ignore[misc]  # That is the point.",
        "# type: ignore[misc, arg-type]  # `x` is no y.",
        "# type: ignore[misc]  # The point.  # noqa: E501 - a long line",
        "# pyright: ignore[reportMissingImports]  # It may be missing.",
        "# Nothing is ignored here.",
        "# pyright: strict",
        'text = "# noqa"',
    ],
)
def test_other_lines_are_left_alone(line: str) -> None:
    """One with both is what is wanted, and what stands in a string is none."""
    assert list(bare_ignores(f"{line}\n")) == []
