"""Fixtures of the tests of several packages."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def root(pytestconfig: pytest.Config) -> Path:
    """The folder that holds packages/, docs/ and examples/."""
    return pytestconfig.rootpath


@pytest.fixture
def run_python(root: Path, tmp_path: Path) -> Callable[..., str]:
    """Run Python in a process of its own, in an empty folder, and return what it printed."""

    def run(*arguments: str | Path) -> str:
        process = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout

    return run
