"""The runners of this process: one task at a time, or many."""

from __future__ import annotations

from anabranch.futures.runner import publish
from anabranch.runners.local._concurrent import ConcurrentTaskRunner
from anabranch.runners.local._sequential import SequentialTaskRunner

__all__ = ["ConcurrentTaskRunner", "SequentialTaskRunner"]

publish(globals(), __all__)
