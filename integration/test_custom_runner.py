"""The task runner of one's own passes the tables that the four runners pass."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anabranch.flows.testing import FLOW_BEHAVIOURS
from anabranch.futures.testing import BEHAVIOURS, Behaviour, Subject, judge
from examples.custom_runner import ProcessTaskRunner

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]


@pytest.fixture(scope="module")
def subject() -> Iterator[Subject]:
    """A runner with two processes."""
    with Subject(lambda: ProcessTaskRunner(2)) as subject:
        yield subject


@pytest.mark.parametrize("behaviour", [*BEHAVIOURS, *FLOW_BEHAVIOURS], ids=str)
def test_behaviour(subject: Subject, behaviour: Behaviour) -> None:
    """The runner shows the behaviour, or cannot for the reason given."""
    verdict = judge(behaviour, subject)
    if verdict.outcome == "-":
        pytest.skip(verdict.details)
    assert verdict.outcome == "yes", verdict.details
