"""Flows and tasks on the virtual clock: through the fixture, and through `with`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from anabranch.flows import (
    ConcurrentTaskRunner,
    Flow,
    RunTimedOutError,
    SequentialTaskRunner,
    TaskRunner,
    branch,
    flow,
    task,
)
from anabranch.flows.testing import VirtualClock, assert_completed, assert_failed, fixtures

HOUR = 3600.0
RUNNERS: list[type[TaskRunner]] = [SequentialTaskRunner, ConcurrentTaskRunner]

# As `pytest_plugins` has it in a conftest.py.
virtual_clock = fixtures.virtual_clock


@pytest.fixture(autouse=True)
def _no_clock_is_left() -> Iterator[None]:
    yield
    assert "anabranch-virtual-clock" not in [each.name for each in threading.enumerate()]


class Flaky:
    """Fails so many times, and then counts on."""

    def __init__(self, failures: int) -> None:
        self.calls = 0
        self.failures = failures

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise LookupError(f"failure {self.calls}")
        return self.calls


def sync_report(runner: type[TaskRunner]) -> Callable[[], int]:
    """Return a flow whose sync task fails twice, an hour apart."""
    fetch = task(retries=2, retry_delay=HOUR)(Flaky(2).__call__)

    @flow(task_runner=runner)
    def report() -> int:
        return fetch.submit().result()

    return report


# ------------------------------------------------------------------------- sync


@pytest.mark.parametrize("runner", RUNNERS)
def test_hours_of_retry_delays_take_no_time(
    virtual_clock: VirtualClock, runner: type[TaskRunner]
) -> None:
    """A sync test that takes the fixture runs sync flows on it."""
    assert sync_report(runner)() == 3
    assert virtual_clock.now() == 2 * HOUR


def test_the_clock_works_without_pytest() -> None:
    """The same in a plain `with`."""
    with VirtualClock() as clock:
        assert sync_report(ConcurrentTaskRunner)() == 3
        assert clock.now() == 2 * HOUR


def test_tests_start_at_zero(virtual_clock: VirtualClock) -> None:
    """Each test has a clock of its own."""
    assert virtual_clock.now() == 0


def test_direct_calls_are_on_the_clock(virtual_clock: VirtualClock) -> None:
    """Retries of a task that is called directly, outside any flow, take no time either."""
    fetch = task(retries=2, retry_delay=[HOUR, 2 * HOUR], timeout=60)(Flaky(2).__call__)
    assert fetch() == 3
    assert virtual_clock.now() == 3 * HOUR


@pytest.mark.parametrize("runner", RUNNERS)
def test_time_stands_still_while_a_task_is_at_work(
    virtual_clock: VirtualClock, runner: type[TaskRunner]
) -> None:
    """What a task does in real time is nothing on the clock: no time limit is reached by it."""

    @task(timeout=0.001)
    def work() -> int:
        return sum(range(300_000))

    @flow(task_runner=runner)
    def working() -> int:
        return work.submit().result() + work()

    assert working() == 2 * sum(range(300_000))
    assert virtual_clock.now() == 0


@pytest.mark.parametrize("runner", RUNNERS)
def test_time_limits_are_reached_while_a_run_waits(
    virtual_clock: VirtualClock, runner: type[TaskRunner]
) -> None:
    """A task that waits for one in its retry delay exceeds its own limit, in no time."""
    fetch = task(retries=1, retry_delay=HOUR)(Flaky(1).__call__)

    @task(timeout=60)
    def parent() -> int:
        return fetch.submit().result()

    @flow(task_runner=runner)
    def waiting() -> int:
        return parent.submit().result()

    assert_failed(waiting.run(), RunTimedOutError, match="within its time limit of 60 s")
    assert virtual_clock.now() == 60


def test_time_limits_of_branches_are_on_the_clock(virtual_clock: VirtualClock) -> None:
    """The deadline of a branch comes while its runs wait for their next attempts."""
    fetch = task(retries=5, retry_delay=HOUR)(Flaky(5).__call__)

    @flow
    def branching() -> None:
        with branch("b", timeout=1.5 * HOUR):
            fetch.submit()

    assert_failed(branching.run(), RunTimedOutError, match="Branch 'b' did not end")
    assert virtual_clock.now() == 1.5 * HOUR


def test_streams_are_on_the_clock(virtual_clock: VirtualClock) -> None:
    """Retries of a stream's runs take no time, and they overlap."""
    failed: set[int] = set()

    @task(retries=1, retry_delay=HOUR)
    def once_more(x: int) -> int:
        if x not in failed:
            failed.add(x)
            raise LookupError(x)
        return x

    @flow
    def streaming() -> list[int]:
        return list(once_more.imap(range(10), max_pending=5))

    assert streaming() == list(range(10))
    # How many hours depends on how the stream is filled up: two rounds at the least.
    assert 2 * HOUR <= virtual_clock.now() <= 10 * HOUR


def failing_report() -> Flow[[], None]:
    """Return a flow that raises while a thread of its runner is in the delays of a direct call."""
    began = threading.Event()
    fails = Flaky(2)

    @task(retries=2, retry_delay=HOUR)
    def fetch() -> int:
        began.set()
        return fails()

    @task
    def parent() -> int:
        return fetch()

    @flow
    def report() -> None:
        parent.submit()
        began.wait()
        raise ValueError("enough")

    return report


def test_leaving_a_flow_by_an_exception_lets_time_go_on(virtual_clock: VirtualClock) -> None:
    """A flow that failed waits for its threads, and they may be waiting for the clock."""
    assert_failed(failing_report().run(), ValueError, match="enough")
    assert virtual_clock.now() <= HOUR


def test_flow_retries_and_subflows_are_on_the_clock(virtual_clock: VirtualClock) -> None:
    """Delays of flows and of submitted subflows take no time."""
    body = Flaky(2)

    @flow(retries=2, retry_delay=HOUR)
    def inner() -> int:
        return body()

    @flow
    def outer() -> int:
        return inner.submit().result()

    assert outer() == 3
    assert virtual_clock.now() == 2 * HOUR


def test_a_flow_in_a_thread_of_the_test_s_own_is_on_the_clock(virtual_clock: VirtualClock) -> None:
    """The fixture's clock reaches bare threads, which inherit no context variables."""
    results: list[int] = []
    report = sync_report(ConcurrentTaskRunner)
    thread = threading.Thread(target=lambda: results.append(report()))
    thread.start()
    thread.join()
    assert results == [3]
    assert virtual_clock.now() == 2 * HOUR


def test_time_moves_by_hand(virtual_clock: VirtualClock) -> None:
    """A run that is at work can be made to exceed its time limit."""
    began, stuck = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    @task(timeout=60)
    def hang() -> None:
        threads.append(threading.current_thread())
        began.set()
        stuck.wait()

    def late() -> None:
        began.wait()
        virtual_clock.advance(60)

    @flow
    def hanging() -> None:
        hang.submit()

    thread = threading.Thread(target=late)
    thread.start()
    try:
        assert_failed(hanging.run(), RunTimedOutError)
    finally:
        thread.join()
        stuck.set()
    for each in threads:
        each.join()


# ------------------------------------------------------------------------- async


async def async_report() -> int:
    """Run an async flow with an async task and a sync one that fail twice each, an hour apart."""
    flaky = Flaky(2)
    fetch = task(retries=2, retry_delay=HOUR)(Flaky(2).__call__)

    @task(retries=2, retry_delay=HOUR)
    async def fetch_async() -> int:
        await anyio.lowlevel.checkpoint()
        return flaky()

    @flow
    async def report() -> int:
        return await fetch_async.submit() + await fetch.submit()

    return await report()


@pytest.mark.anyio
async def test_async_flows_are_on_the_fixture_s_clock(virtual_clock: VirtualClock) -> None:
    """An async test that takes the fixture runs async flows on it."""
    assert await async_report() == 6
    assert virtual_clock.now() == 4 * HOUR


@pytest.mark.anyio
async def test_async_flows_are_on_a_clock_of_the_test_s_own() -> None:
    """A plain `with` in an async test does as well."""
    with VirtualClock() as clock:
        assert await async_report() == 6
        assert clock.now() == 4 * HOUR


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_sync_test_may_run_a_loop(virtual_clock: VirtualClock, backend: str) -> None:
    """`anyio.run` in a sync test is on the fixture's clock."""
    assert anyio.run(async_report, backend=backend) == 6
    assert virtual_clock.now() == 4 * HOUR


@pytest.mark.anyio
@pytest.mark.parametrize("runner", RUNNERS)
async def test_sync_flows_in_async_tests_are_on_the_clock(
    virtual_clock: VirtualClock, runner: type[TaskRunner]
) -> None:
    """A sync flow that blocks the test's loop does not keep time from moving."""
    assert sync_report(runner)() == 3
    assert virtual_clock.now() == 2 * HOUR
    assert await async_report() == 6


@pytest.mark.anyio
async def test_leaving_a_sync_flow_in_an_async_test_lets_time_go_on(
    virtual_clock: VirtualClock,
) -> None:
    """So it does where the flow that failed blocks an event loop."""
    assert await async_report() == 6  # From now on the loop is watched.
    assert_failed(failing_report().run(), ValueError, match="enough")
    assert virtual_clock.now() <= 5 * HOUR


@pytest.mark.anyio
async def test_async_tasks_called_directly_are_on_the_clock(virtual_clock: VirtualClock) -> None:
    """Retries of an async task that is called outside any flow take no time."""
    flaky = Flaky(2)

    @task(retries=2, retry_delay=HOUR)
    async def fetch() -> int:
        return flaky()

    assert assert_completed(await fetch.run()) == 3
    assert virtual_clock.now() == 2 * HOUR


@pytest.mark.anyio
async def test_async_branches_are_on_the_clock(virtual_clock: VirtualClock) -> None:
    """The deadline of an async branch comes while its runs wait for their next attempts."""
    fetch = task(retries=5, retry_delay=HOUR)(Flaky(5).__call__)

    @flow
    async def branching() -> None:
        async with branch("b", timeout=1.5 * HOUR):
            fetch.submit()

    assert_failed(await branching.run(), RunTimedOutError, match="Branch 'b' did not end")
    assert virtual_clock.now() == 1.5 * HOUR


@pytest.mark.anyio
async def test_many_async_flows_share_the_clock(virtual_clock: VirtualClock) -> None:
    """Delays of flows that run at the same time overlap."""
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(async_report)
    # Each takes four hours by itself; a delay that starts a moment later may end so.
    assert 4 * HOUR <= virtual_clock.now() <= 4 * HOUR + 1


# ------------------------------------------------------------------------- as users have it

CONFTEST = """
pytest_plugins = ["anabranch.flows.testing.fixtures"]
"""

TESTS = """
import unittest

import pytest
from anabranch.flows import flow, task
from anabranch.flows.testing import VirtualClock

calls = []


@task(retries=2, retry_delay=3600)
async def fetch():
    calls.append(1)
    if len(calls) % 3:
        raise LookupError
    return "page"


@flow
def report():
    return fetch.submit().result()


@flow
async def report_async():
    return await fetch.submit()


def test_sync(virtual_clock):
    assert report() == "page"
    assert virtual_clock.now() == 7200


@pytest.mark.anyio
async def test_async(virtual_clock):
    assert await report_async() == "page"
    assert virtual_clock.now() == 7200


class Reports(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.clock = self.enterContext(VirtualClock(everywhere=True))

    def test_sync(self):
        self.assertEqual(report(), "page")
        self.assertEqual(self.clock.now(), 7200)

    async def test_async(self):
        self.assertEqual(await report_async(), "page")
        self.assertEqual(self.clock.now(), 7200)
"""


@pytest.mark.slow
def test_a_conftest_turns_the_fixture_on(tmp_path: Path) -> None:
    """The plugin works in a project of a user's own, and so does unittest without it."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_reports.py").write_text(TESTS)
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    done = subprocess.run(
        [*command, str(tmp_path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
