"""The census example: the same table on every runner, and nothing fatal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

CENSUS = Path(__file__).parent.parent / "examples" / "census.py"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A folder of Python code, some of which does not parse."""
    root = tmp_path / "code"
    files: dict[str, str | bytes] = {
        "single.py": "def f(x: int, y) -> int:\n    return x\n",
        "one/__init__.py": "",
        "one/deep/module.py": "class A:\n async def g(self): ...\n def h(self, *a, **k): ...\n",
        "two/old.py": "print 'hello'\n",
        "two/strange.py": b"# coding: no-such-code\n",
        "two/latin.py": "# coding: latin-1\nx = 'é'\n".encode("latin-1"),
        "two/null.py": "x = 1\0\n",
        "two/site-packages/foreign.py": "x = 1\n",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def test_the_table(code: Path, run_python: Callable[..., str]) -> None:
    """The table counts by package, and its foot names what did not parse."""
    lines = run_python(CENSUS, code, "--runner", "loop").splitlines()
    rows = {line.split("  ")[0].strip(): line.split() for line in lines}
    assert rows["one"][1:] == ["2", "3", "1", "1", "1", "0.0%"]
    assert rows["(single modules)"][2:] == ["1", "2", "1", "0", "0", "66.7%"]
    assert rows["two"][1:] == ["1", "2", "0", "0", "0", "0.0%"]
    assert rows["total"][1:] == ["4", "7", "2", "1", "1", "28.6%"]
    assert "3 not parsed:" in lines
    foot = lines[lines.index("3 not parsed:") + 1 :]
    assert [line.strip().split(": ")[0] for line in foot] == [
        "two/null.py",
        "two/old.py",
        "two/strange.py",
    ]


@pytest.mark.parametrize("runner", ["sequential", "concurrent", "dask", "ray"])
def test_every_runner_prints_what_a_plain_loop_prints(
    code: Path, run_python: Callable[..., str], runner: str
) -> None:
    """The table is the same on all runners, to the letter, and nothing else is printed."""
    plain = run_python(CENSUS, code, "--runner", "loop")
    assert run_python(CENSUS, code, "--runner", runner) == plain


def test_an_empty_folder_is_refused(tmp_path: Path, run_python: Callable[..., str]) -> None:
    """A folder without modules is named, with the fix."""
    with pytest.raises(AssertionError, match=r"no Python modules in .*name a folder that"):
        run_python(CENSUS, tmp_path)


def test_an_unknown_runner_is_refused(run_python: Callable[..., str]) -> None:
    """A runner that there is none of is refused with those that there are."""
    with pytest.raises(AssertionError, match=r"invalid choice: 'spark'.*concurrent"):
        run_python(CENSUS, "--runner", "spark")
