"""The Ray runner does what every task runner must do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anabranch.futures.testing import BEHAVIOURS, Behaviour, Subject, judge
from anabranch.runners.ray import RayTaskRunner

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]


@pytest.fixture(scope="module")
def subject() -> Iterator[Subject]:
    """A started Ray runner, and a way of making more of them on the same instance."""
    with Subject(lambda: RayTaskRunner(init_kwargs={"num_cpus": 2})) as subject:
        yield subject


# Ray starts a process for each run that waits for another, and there is a row with many of those.
@pytest.mark.timeout(180)
@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=str)
def test_ray_runner_behaves(behaviour: Behaviour, subject: Subject) -> None:
    """The Ray runner shows every behaviour that it is not excused from."""
    verdict = judge(behaviour, subject)
    if verdict.outcome == "-":
        pytest.skip(verdict.details)
    assert verdict.outcome == "yes", verdict.details
