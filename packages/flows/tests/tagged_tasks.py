"""What the tests of tag limits run."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import anyio
import pytest

from anabranch.flows import ConcurrentTaskRunner, SequentialTaskRunner, set_tag_limit, task
from anabranch.flows._places import _groups
from anabranch.flows._tag_limits import _of_process

RUNNERS = [
    pytest.param(SequentialTaskRunner(), id="sequential"),
    pytest.param(ConcurrentTaskRunner(), id="concurrent"),
    pytest.param(ConcurrentTaskRunner(max_workers=1), id="one worker"),
]


@pytest.fixture(autouse=True)
def no_limit_is_left() -> Iterator[None]:
    """Take the limits of a test away, and see that all places have been given back."""
    yield
    held = {tag: len(limit.holders) for tag, limit in _of_process.items()}
    for tag in list(_of_process):
        set_tag_limit(tag, None)
    assert not any(held.values()), held
    assert not _groups


class AtWork:
    """Counts those who are in its context at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = self.total = 0

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.total += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


@task
def untagged() -> str:
    """Run without any limit."""
    return "free"


@task(tags=["db"])
def child(at_work: AtWork) -> int:
    """Be at work for a moment."""
    with at_work:
        return 1


@task(tags=["db"])
async def async_child(at_work: AtWork) -> int:
    """Be at work for a moment, and let others go meanwhile."""
    with at_work:
        await anyio.lowlevel.checkpoint()
    return 1
