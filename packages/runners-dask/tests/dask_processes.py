"""Schedulers and workers in processes of their own, and what is different in those."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name == "anabranch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""


@contextmanager
def scheduler_process(folder: Path, *options: str, search: Path | None = None) -> Iterator[str]:
    """Run a scheduler for as long as the context lasts; gives its address.

    Args:
        folder: Where it may write.
        *options: More of its command line.
        search: A folder in which it looks first for what it imports.
    """
    ports = ["--port", "0", "--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", ":0"]
    command = ["dask_scheduler", *ports]
    file = ["--no-show", "--scheduler-file", str(folder / "scheduler.json")]
    with _process([*command, *file, *options], folder, search) as process:
        yield _read(process, r"Scheduler at: +(\w+://\S+)")


@contextmanager
def worker_process(
    address: str, folder: Path, *options: str, search: Path | None = None
) -> Iterator[str]:
    """Run a worker without a nanny for as long as the context lasts; gives its address."""
    command = ["dask_worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard"]
    with _process([*command, *options], folder, search) as process:
        found = _read(process, r"Start worker at: +(\w+://\S+)")
        _read(process, r"(Starting established connection)")
        yield found


@contextmanager
def _process(
    command: list[str], folder: Path, search: Path | None
) -> Iterator[subprocess.Popen[str]]:
    module, *options = command
    first = [] if search is None else [str(search)]
    process = subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.{module}", *options],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*first, os.environ["PYTHONPATH"]])},
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _read(process: subprocess.Popen[str], pattern: str) -> str:
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        if found := re.search(pattern, line):
            return found[1]
        lines.append(line)
    raise AssertionError(f"the process did not start: {''.join(lines)}")


def without_anabranch(folder: Path) -> Path:
    """Make a folder that keeps who searches it first from importing these packages."""
    folder.mkdir(exist_ok=True)
    # Python imports this by itself; it stands in for an environment without the packages.
    (folder / "sitecustomize.py").write_text(_BLOCKER)
    return folder


def with_version(folder: Path, name: str, version: str) -> Path:
    """Make a folder that has another version of a distribution, to who searches it first."""
    information = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    information.mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (information / "METADATA").write_text(metadata)
    return folder
