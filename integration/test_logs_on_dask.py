"""What tasks log on Dask workers of this process, and what the scheduler keeps of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import distributed
import pytest

from anabranch.flows import flow, get_run_logger, task
from anabranch.runners.dask import DaskTaskRunner
from integration.listeners import Listener, listening

pytestmark = pytest.mark.slow

_LIBRARY = logging.getLogger("mylib")

_MANY = 5_000


@pytest.fixture
def heard() -> Iterator[Listener]:
    """What the handlers of this process get, from INFO on."""
    listener = Listener()
    with listening(None, logging.INFO, listener):
        yield listener


@task
def say(text: str) -> None:
    """Log a line."""
    get_run_logger().info("%s", text)


@task
def say_below(text: str) -> None:
    """Log a line here, and have a run below print."""
    say(text + " here")
    show.submit(text).result()


@task(log_prints=True)
def show(text: str) -> None:
    """Print."""
    print(text, 1, sep="-")


@task
def count_up(number: int) -> None:
    """Log many lines."""
    logger = get_run_logger()
    for each in range(number):
        logger.info("%d", each)


@task
def handlers() -> list[str]:
    """Return what listens at the root logger of this process."""
    get_run_logger().info("once")
    _LIBRARY.info("once")
    return [type(each).__name__ for each in logging.root.handlers]


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    """Two workers with one thread each, in processes of their own."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0"
    ) as cluster:
        yield cluster


@pytest.fixture
def runner(cluster: distributed.LocalCluster) -> DaskTaskRunner:
    """A runner on the cluster."""
    return DaskTaskRunner(cluster.scheduler_address)


def test_threads_of_this_process_log_here_themselves(heard: Listener) -> None:
    """Where the workers are threads of this process, every record comes once, and none by mail."""
    options = {"processes": False, "protocol": "tcp://", "dashboard_address": ":0"}

    @flow
    def body() -> list[str]:
        show.submit("thread").result()
        say_below.submit("a").result()
        return handlers.submit().result()

    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, **options) as cluster:
        listeners = body.with_options(task_runner=DaskTaskRunner(cluster=cluster))()
    assert "_Forwarder" not in listeners
    for message in ("thread-1", "a here", "a-1"):
        assert heard.one(message).name == "anabranch.task_runs"
    assert heard.said("mylib") == ["once"]
    assert heard.said("anabranch.task_runs").count("once") == 1


def test_the_scheduler_does_not_pile_up_what_was_said(
    runner: DaskTaskRunner, heard: Listener, cluster: distributed.LocalCluster
) -> None:
    """Of the events that go through it, the scheduler keeps one at the most for each flow."""
    scheduler = cluster.scheduler
    assert isinstance(scheduler, distributed.Scheduler)

    def kept() -> list[int]:
        # Those of workers hear of the runs there, and of nothing that those say.
        topics = scheduler._broker._topics
        ours = [name for name in topics if name.startswith("anabranch-") and "worker" not in name]
        return [len(topics[name].events) for name in ours]

    @flow(task_runner=runner)
    def body() -> list[int]:
        count_up.submit(_MANY).result()
        say_below.map(list("abcd")).result()
        return kept()

    assert body() == [1]
