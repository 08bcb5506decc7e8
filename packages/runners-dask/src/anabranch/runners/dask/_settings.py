"""What a runner is told: checked, compared, and sent to other processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast, final

import attrs

from anabranch.runners.dask._cluster import (
    ClusterFactory,
    resolve_cluster_class,
    works_in_threads,
)
from anabranch.runners.dask._native import Client, Distributed, ExistingClient, ExistingCluster


@final
@attrs.frozen
class Settings:
    """What a runner was told, checked."""

    address: str | None
    cluster_class: ClusterFactory | None
    cluster_kwargs: Mapping[str, object]
    adapt_kwargs: Mapping[str, object]
    client_kwargs: Mapping[str, object]
    performance_report_path: str | None
    cluster: ExistingCluster | None
    client: ExistingClient | None

    @property
    def is_ours(self) -> bool:
        """Whether the cluster is made for the runner, and ended with it."""
        return self.address is None and self.cluster is None and self.client is None

    @property
    def given_client(self) -> Client | None:
        """The client that was given, as what it is."""
        return cast("Client | None", self.client)

    def as_arguments(self) -> dict[str, object]:
        """Return the arguments that make an equal runner."""
        return {
            "address": self.address,
            "cluster_class": self.cluster_class,
            "cluster_kwargs": self.cluster_kwargs,
            "adapt_kwargs": self.adapt_kwargs,
            "client_kwargs": self.client_kwargs,
            "performance_report_path": self.performance_report_path,
            "cluster": self.cluster,
            "client": self.client,
        }

    def as_address(self) -> Settings:
        """Return settings for the same cluster by its address, if an object was given for it."""
        given = self.cluster or self.client
        if given is None:
            return self
        return attrs.evolve(
            self,
            address=self._address(),
            client_kwargs={**security_of(given), **self.client_kwargs},
            cluster=None,
            client=None,
        )

    def mean_threads(self) -> bool:
        """Whether the workers are threads of this process, as far as the settings tell."""
        if self.is_ours:
            worker_class = self.cluster_kwargs.get("worker_class")
            if isinstance(worker_class, type):
                return not issubclass(worker_class, _nannies())
            return self.cluster_kwargs.get("processes") is False
        client = self.given_client
        cluster = self.cluster if client is None else getattr(client, "cluster", None)
        distributed = sys.modules.get("distributed")
        if cluster is not None and distributed is not None:
            known = works_in_threads(cast("Distributed", distributed), cluster)
            if known is not None:
                return known
        # Only this process can reach it there.
        return str(self._address()).startswith("inproc://")

    def _address(self) -> str | None:
        client = self.given_client
        if client is not None:
            return address_of(client)
        return self.address if self.cluster is None else self.cluster.scheduler_address


def make_settings(
    address: str | None,
    cluster_class: str | ClusterFactory | None,
    cluster_kwargs: Mapping[str, object] | None,
    adapt_kwargs: Mapping[str, object] | None,
    client_kwargs: Mapping[str, object] | None,
    performance_report_path: str | os.PathLike[str] | None,
    cluster: ExistingCluster | None,
    client: ExistingClient | None,
) -> Settings:
    """Check what a runner is told; see the runner's own arguments.

    Raises:
        ValueError: Some of it contradicts the rest, or is the runner's own business.
        TypeError: Some of it is nothing that it could be.
    """
    _refuse_others(
        {"address": address, "cluster": cluster, "client": client},
        {
            "cluster_class": cluster_class,
            "cluster_kwargs": cluster_kwargs,
            "adapt_kwargs": adapt_kwargs,
        },
    )
    for name, kwargs in (("cluster_kwargs", cluster_kwargs), ("client_kwargs", client_kwargs)):
        if kwargs and "asynchronous" in kwargs:
            raise ValueError(
                f"DaskTaskRunner({name}={{'asynchronous': ...}}): the runner sees to that "
                "itself, and works in sync and async code alike; leave it out"
            )
    if cluster is not None and not hasattr(cluster, "scheduler_address"):
        raise TypeError(
            "cluster must be a cluster object of Dask's, such as a distributed.LocalCluster; not "
            f"{cluster!r}. The address of a scheduler is given as address=..., and what makes a "
            "cluster as cluster_class=..."
        )
    if client is not None:
        _refuse_bad_client(client, client_kwargs)
    return Settings(
        address,
        resolve_cluster_class(cluster_class),
        dict(cluster_kwargs or {}),
        dict(adapt_kwargs or {}),
        dict(client_kwargs or {}),
        _path(performance_report_path),
        cluster,
        client,
    )


def _refuse_others(existing: Mapping[str, object], new: Mapping[str, object]) -> None:
    given = [name for name, value in existing.items() if value is not None]
    if len(given) > 1:
        names = " and ".join(given)
        raise ValueError(
            f"DaskTaskRunner({', '.join(f'{name}=...' for name in given)}): each of {names} says "
            "by itself which cluster to use. Give one of them, and leave out the others"
        )
    others = " and ".join(name for name, value in new.items() if value)
    if given and others:
        (name,) = given
        value = repr(existing[name]) if name == "address" else "..."
        raise ValueError(
            f"DaskTaskRunner({name}={value}) uses the cluster that is there, and cannot make "
            f"one with {others} as well. Leave out {others} to use it, or leave out {name} to have "
            "a new one made"
        )


def _refuse_bad_client(client: ExistingClient, client_kwargs: Mapping[str, object] | None) -> None:
    if client_kwargs:
        raise ValueError(
            "DaskTaskRunner(client=..., client_kwargs=...): the client is there already, and "
            "client_kwargs are for making one. Leave out client_kwargs"
        )
    if not (hasattr(client, "submit") and hasattr(client, "scheduler")):
        raise TypeError(
            f"client must be a distributed.Client; not {client!r}. The address of a scheduler is "
            "given as address=..., and a cluster object as cluster=..."
        )
    # It says of itself what it is only in its own event loop.
    if client.asynchronous or getattr(client, "_asynchronous", False):
        raise ValueError(
            "DaskTaskRunner(client=...) cannot use an asynchronous client, whose event loop it "
            "would have to wait for. Give its address instead, as in "
            "DaskTaskRunner(address=client.scheduler.address), or a client that was made without "
            "asynchronous=True; the runner works in sync and async code alike"
        )


def _path(path: str | os.PathLike[str] | None) -> str | None:
    if path is None:
        return None
    try:
        found: object = os.fspath(path)
    except TypeError:
        found = None
    if not isinstance(found, str) or not found:
        raise TypeError(
            "performance_report_path must be the path of a file, such as 'report.html'; not "
            f"{path!r}"
        )
    return found


def report_file(path: str) -> Path:
    """Return the file that a report is to be written to, wherever this process goes meanwhile.

    Raises:
        FileNotFoundError: Its folder does not exist.
        IsADirectoryError: It is a folder itself.
    """
    file = Path(path).absolute()
    if not file.parent.is_dir():
        raise FileNotFoundError(
            f"DaskTaskRunner(performance_report_path={path!r}): there is no folder {file.parent}. "
            "Make it before the runner starts, or name another file"
        )
    if file.is_dir():
        raise IsADirectoryError(
            f"DaskTaskRunner(performance_report_path={path!r}) is a folder. Name a file in it, "
            f"such as {str(file / 'report.html')!r}"
        )
    return file


def address_of(client: Client) -> str:
    """Return where the scheduler of a client is."""
    # A client that is closed has none. Dask's cluster objects say then what is said here.
    return str(getattr(client.scheduler, "address", "<Not Connected>"))


def security_of(holder: object) -> dict[str, object]:
    """Return the ``client_kwargs`` for the security of a cluster or client: none, or one."""
    security: object = getattr(holder, "security", None)
    # Dask's own default says nothing.
    said = getattr(security, "get_connection_args", None)
    if said is None:
        return {} if security is None else {"security": security}
    arguments = said("client")
    is_plain = not arguments.get("ssl_context") and not arguments.get("require_encryption")
    return {} if is_plain else {"security": security}


def _nannies() -> tuple[type, ...]:
    """Return the classes whose workers are processes; none if Dask has not been imported."""
    nanny = getattr(sys.modules.get("distributed"), "Nanny", None)
    return (nanny,) if isinstance(nanny, type) else ()
