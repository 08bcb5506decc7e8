"""Fixtures for pytest: ``pytest_plugins = ["anabranch.flows.testing.fixtures"]`` in a conftest.py.

This is the one module that imports pytest, which the engine itself does without.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anabranch.futures.testing import VirtualClock

__all__ = ["virtual_clock"]


@pytest.fixture
def virtual_clock() -> Iterator[VirtualClock]:
    """Run what a test runs on a virtual clock, on which an hour takes no time.

    It is the clock of every thread and context of the process, and so of async tests too, whichever
    plugin runs them. See `anabranch.flows.testing.VirtualClock`.
    """
    with VirtualClock(everywhere=True) as clock:
        yield clock
