"""The runner does what every runner must, on a cluster of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anabranch.futures.testing import BEHAVIOURS, Behaviour, Subject, judge
from anabranch.runners.dask import DaskTaskRunner


@pytest.fixture(scope="module")
def subject() -> Iterator[Subject]:
    def make() -> DaskTaskRunner:
        return DaskTaskRunner(
            cluster_kwargs={"n_workers": 1, "threads_per_worker": 2, "dashboard_address": None}
        )

    with Subject(make) as subject:
        yield subject


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=str)
def test_behaviour(subject: Subject, behaviour: Behaviour) -> None:
    """The runner shows the behaviour, or cannot for the reason given."""
    verdict = judge(behaviour, subject)
    if verdict.outcome == "-":
        pytest.skip(verdict.details)
    assert verdict.outcome == "yes", verdict.details
