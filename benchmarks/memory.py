"""How much memory this process uses."""

from __future__ import annotations

import gc
import resource
import sys
from pathlib import Path

import psutil

_STATUS = Path("/proc/self/status")


def resident() -> int:
    """Return how many bytes of memory this process holds now, its garbage collected."""
    gc.collect()
    held: int = psutil.Process().memory_info().rss
    return held


def peak() -> int:
    """Return the most that this process has held so far, in bytes."""
    if _STATUS.exists():
        # On Linux `getrusage` would count what the parent process held when it started this one.
        lines = _STATUS.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
