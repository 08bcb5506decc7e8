"""Dask's performance report of the time for which a runner was started."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import pytest
from dask_tasks import increment, until

from anabranch.futures import MissingDependencyError
from anabranch.runners.dask import DaskTaskRunner

pytestmark = pytest.mark.slow

#: A scheduler and a worker in this process, on real sockets.
_LIGHT: dict[str, Any] = {
    "n_workers": 1,
    "threads_per_worker": 2,
    "processes": False,
    "protocol": "tcp://",
    "dashboard_address": ":0",
}


@pytest.fixture
def cluster() -> Iterator[distributed.LocalCluster]:
    # Its dashboard would have it note what a report shows.
    with distributed.LocalCluster(scheduler_kwargs={"dashboard": False}, **_LIGHT) as cluster:
        yield cluster


def test_a_report_is_written_when_the_runner_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The report is a page about the tasks of the runner, and not there before."""
    caplog.set_level(logging.INFO, logger="anabranch")
    file = tmp_path / "report.html"
    with DaskTaskRunner(cluster_kwargs=_LIGHT, performance_report_path=file) as runner:
        assert runner.submit(increment, 1).result() == 2
        assert not file.exists()
    page = file.read_text()
    assert "Dask Performance Report" in page
    assert "number of tasks: 1 " in page
    assert "increment" in page
    assert f"The performance report was written to {file}" in caplog.text


def test_a_report_is_written_when_the_runner_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written where the path led at the start, and the error comes out as it is."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)

    def fail() -> None:
        with DaskTaskRunner(cluster_kwargs=_LIGHT, performance_report_path="report.html"):
            monkeypatch.chdir(elsewhere)
            raise KeyError("the body's own")

    with pytest.raises(KeyError, match="the body's own"):
        fail()
    assert "Dask Performance Report" in (tmp_path / "report.html").read_text()
    assert not list(elsewhere.iterdir())


def test_reports_leave_nothing_on_an_existing_cluster(
    cluster: distributed.LocalCluster, tmp_path: Path
) -> None:
    """What a scheduler is told to note for a report it notes until the last one is written."""
    scheduler = cluster.scheduler
    assert isinstance(scheduler, distributed.Scheduler)
    plugins = set(scheduler.plugins)
    first, second = tmp_path / "first.html", tmp_path / "second.html"
    with DaskTaskRunner(cluster=cluster, performance_report_path=second) as later:
        with DaskTaskRunner(cluster=cluster, performance_report_path=first) as sooner:
            sooner.submit(increment, 1).result()
        later.submit(increment, 2).result()
    assert "number of tasks: 1 " in first.read_text()
    assert "number of tasks: 2 " in second.read_text()
    assert set(scheduler.plugins) == plugins
    assert not [key for key in scheduler.task_metadata if "anabranch" in str(key)]


def test_a_missing_bokeh_is_named_at_the_start(
    cluster: distributed.LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without bokeh on the scheduler the runner does not start, and says what to install."""
    monkeypatch.setitem(sys.modules, "bokeh", None)
    runner = DaskTaskRunner(cluster=cluster, performance_report_path=tmp_path / "report.html")
    with pytest.raises(
        MissingDependencyError,
        match=rf"needs bokeh.*{cluster.scheduler_address}.*pip install.*-dask\[diagnostics\]",
    ):
        runner.__enter__()
    assert not list(tmp_path.iterdir())


def test_a_report_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    """A folder that is not there, or in the way, is an error before any cluster is made."""

    def make() -> object:
        raise NotImplementedError

    runner = DaskTaskRunner(cluster_class=make, performance_report_path=tmp_path / "no" / "r.html")
    with pytest.raises(FileNotFoundError, match=rf"there is no folder {tmp_path / 'no'}\. Make it"):
        runner.__enter__()
    runner = DaskTaskRunner(cluster_class=make, performance_report_path=tmp_path)
    with pytest.raises(IsADirectoryError, match=r"is a folder\. Name a file.*report\.html"):
        runner.__enter__()


def test_a_report_that_fails_hides_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What goes wrong with the report is a warning; the error and the end of the cluster stand."""
    folder = tmp_path / "reports"
    folder.mkdir()
    made: list[distributed.LocalCluster] = []

    def make() -> distributed.LocalCluster:
        made.append(distributed.LocalCluster(**_LIGHT))
        return made[0]

    def fail() -> None:
        path = folder / "report.html"
        with DaskTaskRunner(cluster_class=make, performance_report_path=path):
            folder.rmdir()
            raise KeyError("the body's own")

    with pytest.raises(KeyError, match="the body's own"):
        fail()
    assert f"report could not be written to {folder / 'report.html'}: FileNotFound" in caplog.text
    assert made[0].status.name == "closed"


def test_a_report_on_a_lost_scheduler_is_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the scheduler is gone when the runner ends, a warning takes the report's place."""
    cluster = distributed.LocalCluster(**_LIGHT)
    kwargs: dict[str, Any] = {"timeout": "200ms"}
    file = tmp_path / "report.html"
    with DaskTaskRunner(
        cluster.scheduler_address, client_kwargs=kwargs, performance_report_path=file
    ) as runner:
        assert runner.submit(increment, 1).result() == 2
        cluster.close()
        wait_until_lost(runner)
    assert not file.exists()
    assert "report could not be written" in caplog.text
    assert "connection to the Dask scheduler is lost" in caplog.text


def wait_until_lost(runner: DaskTaskRunner) -> None:
    connection = runner._connection
    assert connection is not None
    until(connection.is_lost)
