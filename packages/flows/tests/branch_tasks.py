"""What the tests of branches run, and what they look at."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import anyio
import pytest

from anabranch.flows import ConcurrentTaskRunner, Future, SequentialTaskRunner, TaskRunner, task
from anabranch.futures.runner import current_scope


@pytest.fixture(params=["concurrent", "one worker", "sequential"])
def runner(request: pytest.FixtureRequest) -> TaskRunner:
    """A local runner."""
    return {
        "concurrent": ConcurrentTaskRunner(),
        "one worker": ConcurrentTaskRunner(max_workers=1),
        "sequential": SequentialTaskRunner(),
    }[request.param]


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets stuck threads go on; set when the test ends."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The messages logged so far, of warnings and worse."""
    caplog.set_level(logging.WARNING, logger="anabranch")
    return lambda: [record.getMessage() for record in caplog.records]


@task
def add(x: int, y: int = 0) -> int:
    """Add two numbers."""
    return x + y


@task
async def add_async(x: int, y: int = 0) -> int:
    """Add two numbers, asynchronously."""
    await anyio.lowlevel.checkpoint()
    return x + y


@task
def fail(message: str = "boom") -> int:
    """Raise."""
    raise LookupError(message)


@task
async def listen() -> None:
    """Wait for ever, until cancelled."""
    await anyio.sleep_forever()


@task
def hold(started: threading.Event, release: threading.Event) -> str:
    """Hold a thread until released."""
    started.set()
    release.wait(20)
    return "released"


def release_when_done(future: Future[object], release: threading.Event) -> None:
    """Let a thread go on once a run has ended."""
    future.add_done_callback(lambda _: release.set())


def abandoned() -> int:
    """Return how many runs of this flow were abandoned."""
    scope = current_scope.get()
    assert scope is not None
    assert scope.runner is not None
    return scope.runner.statistics().abandoned
