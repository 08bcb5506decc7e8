"""Both runners show every behaviour of the table, beside sync code on both kinds of loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anabranch.futures import Backend, TaskRunner
from anabranch.futures.testing import BEHAVIOURS, Behaviour, Subject, judge
from anabranch.runners.local import ConcurrentTaskRunner, SequentialTaskRunner

#: Each runner and each loop once; the other pairs take the table's time again.
SUBJECTS = [
    pytest.param((SequentialTaskRunner, "trio"), id="SequentialTaskRunner on trio"),
    pytest.param((ConcurrentTaskRunner, "asyncio"), id="ConcurrentTaskRunner on asyncio"),
    pytest.param(
        (SequentialTaskRunner, "asyncio"),
        id="SequentialTaskRunner on asyncio",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        (ConcurrentTaskRunner, "trio"), id="ConcurrentTaskRunner on trio", marks=pytest.mark.slow
    ),
]


@pytest.fixture(scope="module", params=SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """Start each runner once for the whole table."""
    kind: type[TaskRunner]
    backend: Backend
    kind, backend = request.param

    def make() -> TaskRunner:
        runner = kind()
        runner.backend = backend
        return runner

    with Subject(make) as started:
        yield started


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=str)
def test_behaviour(behaviour: Behaviour, subject: Subject) -> None:
    """The runner does what every runner must do."""
    verdict = judge(behaviour, subject, time_limit=25)
    if verdict.outcome == "-":
        pytest.skip(verdict.details)
    assert verdict.outcome == "yes", verdict.details
