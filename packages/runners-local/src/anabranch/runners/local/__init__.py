"""The runners of this process: one task at a time, or many."""

from __future__ import annotations

from anabranch.runners.local._concurrent import ConcurrentTaskRunner as ConcurrentTaskRunner
from anabranch.runners.local._sequential import SequentialTaskRunner as SequentialTaskRunner

__all__ = ["ConcurrentTaskRunner", "SequentialTaskRunner"]
