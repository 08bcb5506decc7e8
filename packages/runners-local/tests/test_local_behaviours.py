"""Both runners show every behaviour of the table, beside sync code on both kinds of loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anabranch.futures import Backend, TaskRunner
from anabranch.futures.testing import BEHAVIOURS, Behaviour, Subject, judge
from anabranch.runners.local import ConcurrentTaskRunner, SequentialTaskRunner

SUBJECTS: list[tuple[type[TaskRunner], Backend]] = [
    (SequentialTaskRunner, "trio"),
    (SequentialTaskRunner, "asyncio"),
    (ConcurrentTaskRunner, "trio"),
    (ConcurrentTaskRunner, "asyncio"),
]


@pytest.fixture(
    scope="module",
    params=SUBJECTS,
    ids=lambda subject: f"{subject[0].__name__} on {subject[1]}",
)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """Start each runner once for the whole table."""
    kind, backend = request.param

    def make() -> TaskRunner:
        runner: TaskRunner = kind()
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
