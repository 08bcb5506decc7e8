"""What Ray's object store keeps of the values of runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray

from anabranch.futures import Completed, Future, as_completed
from anabranch.runners.ray import RayTaskRunner

pytestmark = pytest.mark.slow

MEGABYTE = 1_000_000

#: How much there is room for in the store: less than a fifth of what is put there.
ROOM = 180 * MEGABYTE


@pytest.fixture(scope="module")
def runner() -> Iterator[RayTaskRunner]:
    """A started runner on two CPUs, with little memory for values."""
    with RayTaskRunner(init_kwargs={"num_cpus": 2, "object_store_memory": ROOM}) as runner:
        yield runner


def make(size: int, *_: object) -> bytes:
    """Return so many bytes."""
    return bytes(size)


def used() -> float:
    """Return how much is in the store, in bytes."""
    native: Any = ray  # It has no types for these.
    there, available = native.cluster_resources(), native.available_resources()
    return float(there["object_store_memory"] - available.get("object_store_memory", 0))


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what Ray does some time after it has been told to."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.05)


def test_values_go_with_their_futures(runner: RayTaskRunner) -> None:
    """Of a thousand runs of a megabyte each, the store keeps the values that somebody has."""
    kept: list[Future[bytes]] = []
    for _ in range(10):
        futures = [runner.submit(make, MEGABYTE) for _ in range(100)]
        for future in as_completed(futures):
            assert isinstance(future.final_state(), Completed)
        kept.append(futures[-1])
        del futures, future
    wait_until(lambda: used() < 12 * MEGABYTE)
    assert used() >= 10 * MEGABYTE
    assert [len(each.result()) for each in kept] == [MEGABYTE] * 10
    kept.clear()
    wait_until(lambda: used() < MEGABYTE)


def test_values_of_chains_go_too(runner: RayTaskRunner) -> None:
    """A value that was only needed by the next run goes when that has it."""
    last = runner.submit(make, MEGABYTE)
    for _ in range(200):
        last = runner.submit(make, MEGABYTE, last)
    assert len(last.result()) == MEGABYTE
    del last
    wait_until(lambda: used() < MEGABYTE)
