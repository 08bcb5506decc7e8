"""Each Python code block of the Markdown pages runs, page by page, in one namespace."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_runs(page: Path, tmp_path: Path, run_python: Callable[..., str]) -> None:
    """The page's blocks, one after the other, are a program that ends without an error."""
    script = tmp_path / "page.py"
    script.write_text("\n".join(BLOCK.findall(page.read_text())))
    run_python(script)
