"""Clusters that speak TLS."""

from __future__ import annotations

import gc
import pickle
import re
import socket
from collections.abc import Iterator
from typing import Any

import distributed
import pytest
from dask_tasks import increment
from distributed.security import Security

from anabranch.futures import lift
from anabranch.runners.dask import DaskTaskRunner

pytestmark = pytest.mark.slow

_LIGHT: dict[str, Any] = {
    "n_workers": 1,
    "threads_per_worker": 1,
    "processes": False,
    "dashboard_address": ":0",
}


@pytest.fixture(scope="module")
def security() -> Security:
    security = Security.temporary()
    assert isinstance(security, Security)
    return security


@pytest.fixture(scope="module")
def cluster(security: Security) -> Iterator[distributed.LocalCluster]:
    with distributed.LocalCluster(security=security, **_LIGHT) as cluster:
        yield cluster


def assert_works(runner: DaskTaskRunner) -> None:
    """Start a runner, and run something on it."""
    with runner:
        first = runner.submit(increment, 1)
        assert runner.submit(increment, lift(first)).result() == 3


def test_a_cluster_is_reached_by_tls(cluster: distributed.LocalCluster, security: Security) -> None:
    """With the security of the cluster in client_kwargs, tasks run at its tls:// address."""
    address = cluster.scheduler_address
    assert address.startswith("tls://")
    runner = DaskTaskRunner(address, client_kwargs={"security": security})
    assert runner.duplicate() == runner
    assert_works(runner)


def test_objects_bring_their_security_along(
    cluster: distributed.LocalCluster, security: Security
) -> None:
    """A cluster or client object needs no other setting, and its security travels with a copy."""
    assert_works(DaskTaskRunner(cluster=cluster))
    with distributed.Client(cluster, set_as_default=False) as client:
        assert_works(DaskTaskRunner(client=client))
        copy = pickle.loads(pickle.dumps(DaskTaskRunner(client=client)))
        assert "BEGIN" not in repr(copy)  # No key in a log.
        assert_works(copy)
    copy = pickle.loads(pickle.dumps(DaskTaskRunner(cluster=cluster)))
    assert copy._settings()["address"] == cluster.scheduler_address
    assert isinstance(copy._settings()["client_kwargs"]["security"], Security)
    assert_works(copy)


def test_a_cluster_of_the_runners_own_may_speak_tls(security: Security) -> None:
    """A temporary cluster speaks TLS if it is told to, between processes as well."""
    kwargs = {**_LIGHT, "processes": True, "security": security}
    runner = DaskTaskRunner(cluster_kwargs=kwargs)
    assert runner.duplicate() == runner
    assert runner != DaskTaskRunner(cluster_kwargs={**kwargs, "security": True})
    assert_works(runner)


def test_a_missing_certificate_is_named_at_once(cluster: distributed.LocalCluster) -> None:
    """Without security, a tls:// address is an error that shows how to give it."""
    address = cluster.scheduler_address
    fix = r"client_kwargs=\{'security': distributed\.Security\(tls_ca_file="
    nothing: list[dict[str, object]] = [
        {},
        {"security": None},
        {"security": {}},
        {"security": Security()},
    ]
    for kwargs in nothing:
        runner = DaskTaskRunner(address, client_kwargs=kwargs)
        with pytest.raises(ConnectionError, match=f"{address} wants TLS, and no certif.*{fix}"):
            runner.__enter__()
    gc.collect()  # A client that was not closed would say so.


def test_a_tcp_address_of_a_tls_cluster_is_given_up(cluster: distributed.LocalCluster) -> None:
    """A scheduler that waits for TLS says nothing; the error says that this may be why."""
    address = cluster.scheduler_address.replace("tls://", "tcp://")
    runner = DaskTaskRunner(address, client_kwargs={"timeout": 0.2})
    with pytest.raises(
        ConnectionError, match=rf"{address} within 0\.2 s\. .*wants TLS, give its tls:// address"
    ):
        runner.__enter__()
    gc.collect()


def test_the_wrong_certificate_is_given_up(cluster: distributed.LocalCluster) -> None:
    """Security of another cluster is an error after the timeout, which quotes what TLS says."""
    kwargs = {"security": Security.temporary(), "timeout": 0.5}
    runner = DaskTaskRunner(cluster.scheduler_address, client_kwargs=kwargs)
    with pytest.raises(
        ConnectionError, match=r"within 0\.5 s\. .*check its certificate.*(?i:ssl|certificate)"
    ):
        runner.__enter__()
    gc.collect()


def test_a_tls_address_without_tls_is_given_up(security: Security) -> None:
    """So is a scheduler that does not speak TLS, and what says nothing at all."""
    kwargs = {"security": security, "timeout": 0.5}
    with distributed.LocalCluster(protocol="tcp://", **_LIGHT) as plain:
        address = re.sub("^tcp", "tls", plain.scheduler_address)
        with pytest.raises(ConnectionError, match="does not want TLS, give its tcp:// address"):
            DaskTaskRunner(address, client_kwargs=kwargs).__enter__()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"tls://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=r"No Dask scheduler answers .*within 0\.5 s"):
            DaskTaskRunner(address, client_kwargs=kwargs).__enter__()
    gc.collect()
