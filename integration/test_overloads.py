"""The generated overloads are those that the generator writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def test_the_overloads_are_current(root: Path, run_python: Callable[..., str]) -> None:
    """What stands in the sources is what the script would write there now."""
    assert run_python(root / "build-support" / "generate_overloads.py", "--check") == ""
