"""The virtual clock where the event loop, and its context, are older than the clock."""

from __future__ import annotations

import anyio.lowlevel
import pytest

from anabranch.flows import flow, task
from anabranch.flows.testing import VirtualClock, fixtures
from anabranch.futures.runner import SYSTEM_CLOCK, current_clock

HOUR = 3600.0

virtual_clock = fixtures.virtual_clock


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Async tests and fixtures of this module share one event loop of each kind."""
    return str(request.param)


@pytest.fixture(scope="module", autouse=True)
async def early(anyio_backend: str) -> str:
    """Start the loop in which the plugin runs the tests before any other fixture."""
    assert current_clock.get() is SYSTEM_CLOCK
    return anyio_backend


@pytest.mark.anyio
@pytest.mark.parametrize("number", [1, 2])
async def test_a_test_in_an_older_context_is_on_the_clock(
    virtual_clock: VirtualClock, number: int
) -> None:
    """Whatever context an async test runs in, it is on its fixture's clock, which starts at 0."""
    calls = 0

    @task(retries=number, retry_delay=HOUR)
    async def fetch() -> int:
        nonlocal calls
        calls += 1
        await anyio.lowlevel.checkpoint()
        if calls <= number:
            raise LookupError(calls)
        return calls

    @flow
    async def report() -> int:
        return await fetch.submit()

    assert virtual_clock.now() == 0
    assert await report() == number + 1
    assert virtual_clock.now() == number * HOUR


@pytest.mark.anyio
async def test_a_test_without_the_fixture_is_on_the_machine_s_clock() -> None:
    """The clock of one test does not reach the next."""
    assert current_clock.get() is SYSTEM_CLOCK
