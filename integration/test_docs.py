"""The Python code blocks of the Markdown pages run, and are typed, page by page."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from typing_tests.checkers import CHECKERS, Checker, check

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "packages/*/README.md")
    for page in ROOT.glob(pattern)
    if "```python" in page.read_text()
)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_there_are_pages() -> None:
    """An empty list of pages would pass the test below without a word."""
    assert {page.parent for page in PAGES} >= {ROOT, ROOT / "docs", ROOT / "packages" / "flows"}


def code_of(page: Path) -> str:
    """The blocks of a page, one after the other."""
    return "\n".join(BLOCK.findall(page.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_runs(page: Path, tmp_path: Path, run_python: Callable[..., str]) -> None:
    """The page's blocks, one after the other, are a program that ends without an error."""
    script = tmp_path / "page.py"
    script.write_text(code_of(page))
    run_python(script)


@pytest.mark.timeout(150)
@pytest.mark.parametrize("checker", CHECKERS)
def test_code_is_typed(checker: Checker, tmp_path: Path) -> None:
    """A strict type checker finds nothing wrong with the pages' code."""
    for page in PAGES:
        name = "_".join(page.relative_to(ROOT).with_suffix(".py").parts)
        path = tmp_path / name.replace("-", "_")
        path.write_text(f"# pyright: strict\n{code_of(page)}")
    assert check(checker, sorted(tmp_path.iterdir())) == {}
