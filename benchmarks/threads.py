"""The reference of several rows: the thread pool of the standard library."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from benchmarks.model import Sample
from benchmarks.noops import noop
from benchmarks.timing import since

#: As many as our default runner has.
WORKERS = 40

NAME = "ThreadPoolExecutor"


@contextmanager
def opened_pool() -> Iterator[ThreadPoolExecutor]:
    """Open a pool that has had something to do."""
    with ThreadPoolExecutor(WORKERS) as pool:
        pool.submit(noop).result()
        yield pool


def submit_all(count: int) -> Sample:
    """Submit so many no-ops, then read the results."""
    with opened_pool() as pool:
        start = time.perf_counter()
        futures = [pool.submit(noop) for _ in range(count)]
        for future in futures:
            future.result()
        return since(start, count)


def submit_one_by_one(count: int) -> Sample:
    """Submit so many no-ops, and read the result of each before the next."""
    with opened_pool() as pool:
        start = time.perf_counter()
        for _ in range(count):
            pool.submit(noop).result()
        return since(start, count)
