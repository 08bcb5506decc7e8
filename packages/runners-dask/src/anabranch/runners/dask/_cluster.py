"""Clusters: which one the settings mean, and making it."""

from __future__ import annotations

import asyncio
import importlib
import logging
import socket
from collections.abc import Mapping
from functools import partial
from typing import Final, Protocol, cast

from anabranch.futures import MissingDependencyError
from anabranch.futures.runner import AnyFunction, describe
from anabranch.runners.dask._guard import explaining_unguarded_script
from anabranch.runners.dask._native import (
    Client,
    Cluster,
    Distributed,
    LocalCluster,
    LocalWorker,
    Nanny,
    import_sync,
)
from anabranch.runners.dask._topic import TopicsScheduler, keep_few_events
from anabranch.runners.dask._versions import Versions, versions_here

_logger = logging.getLogger("anabranch.task_runner.dask")

#: A cluster class, or anything that is called like one.
ClusterFactory = AnyFunction[object]

#: How long workers that are ended in a hurry have for it before they are killed, in seconds.
_PATIENCE: Final = 2.5

_DASHBOARD_PORT: Final = 8787  # Dask's own default.


def resolve_cluster_class(cluster_class: object) -> ClusterFactory | None:
    """Return what makes the cluster; None for the default.

    Args:
        cluster_class: A class or another callable, the dotted path of one, or None.

    Raises:
        ValueError: There is nothing at the path.
        TypeError: It is something else, or the path leads to something else.
    """
    if cluster_class is None:
        return None
    found = cluster_class
    if isinstance(cluster_class, str):
        found = _import_path(cluster_class)
    if not callable(found):
        at = f" at {cluster_class!r}" if isinstance(cluster_class, str) else ""
        raise TypeError(
            f"cluster_class must be a class, another callable that makes a cluster, or the dotted "
            f"path of one, such as 'distributed.LocalCluster'; not {found!r}{at}"
        )
    return cast("ClusterFactory", found)


def _import_path(path: str) -> object:
    module_name, _, attribute = path.rpartition(".")
    if not module_name:
        raise ValueError(
            f"cluster_class={path!r} is not a dotted path: name the module too, as in "
            "'distributed.LocalCluster'"
        )
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # Importing runs foreign code, which may raise anything at all.
        raise ValueError(
            f"cluster_class={path!r} cannot be imported: importing {module_name!r} failed with "
            f"{type(error).__name__}: {error}"
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise ValueError(
            f"cluster_class={path!r} cannot be imported: module {module_name!r} has no "
            f"{attribute!r}"
        ) from None


def open_cluster(
    distributed: Distributed,
    cluster_class: ClusterFactory | None,
    cluster_kwargs: Mapping[str, object],
    logger: logging.Logger,
) -> Cluster:
    """Make a cluster.

    Args:
        distributed: The module.
        cluster_class: What makes it; None for Dask's own local one.
        cluster_kwargs: What it is called with.
        logger: Where to announce it.

    Raises:
        RuntimeError: The script lacks its guard.
    """
    factory = distributed.LocalCluster if cluster_class is None else cluster_class
    logger.info("Creating a new Dask cluster with `%s`", _path_of(factory))
    kwargs = dict(cluster_kwargs)
    if factory is distributed.LocalCluster:
        _choose_dashboard_port(kwargs)
    starts_none = kwargs.get("n_workers") == 0 and kwargs.get("processes") is not False
    with explaining_unguarded_script(
        starts_none=factory is distributed.LocalCluster and starts_none
    ):
        cluster = cast("Cluster", factory(**kwargs))
    if isinstance(cluster, distributed.LocalCluster):
        _wait_for_lost_workers(cluster)
    return cluster


def close_cluster(distributed: Distributed, cluster: Cluster, *, in_a_hurry: bool) -> None:
    """End a cluster of the runner's own.

    Args:
        distributed: The module.
        cluster: The cluster.
        in_a_hurry: Whether the workers of a local one do not wait for what their threads are at.
            Dask lets them wait for many seconds.
    """
    try:
        if in_a_hurry and isinstance(cluster, distributed.LocalCluster):
            local = cast("LocalCluster", cluster)
            errors = cast("list[object]", local.sync(partial(_end_workers, distributed, local)))
            for error in filter(None, errors):
                _logger.debug("A Dask worker was not ended at once: %r", error)
    finally:
        cluster.close()


async def _end_workers(distributed: Distributed, cluster: LocalCluster) -> list[object]:
    ends = (
        _end_process(cast("Nanny", worker))
        if isinstance(worker, distributed.Nanny)
        else _end_in_process(cast("LocalWorker", worker))
        for worker in cluster.workers.values()
    )
    return await asyncio.gather(*ends, return_exceptions=True)


async def _end_process(nanny: Nanny) -> None:
    if nanny.status.name == "running":  # Else it would start another process.
        nanny.close_gracefully()
    if nanny.process is not None:
        await nanny.process.kill(timeout=_PATIENCE, executor_wait=False)
    await nanny.close()


async def _end_in_process(worker: LocalWorker) -> None:
    await worker.close(timeout=_PATIENCE, executor_wait=False)


def _wait_for_lost_workers(cluster: Cluster) -> None:
    """Have a cluster wait for the processes that it restarts, for as long as that takes.

    It closes those that are not there some seconds after they died, and replaces none: even one
    that has come back, died once more, and is being restarted. Retries make that a common case, and
    without workers nothing would ever go on.
    """
    base = importlib.import_module("distributed.deploy.cluster").Cluster
    update = getattr(base, "_update_worker_status", None)
    if update is not None:
        vars(cluster)["_update_worker_status"] = partial(update, cluster)


def _choose_dashboard_port(kwargs: dict[str, object]) -> None:
    """Have a free port taken where the user does not mind which, so that Dask does not warn.

    Without a dashboard the scheduler serves its metrics there all the same.
    """
    if kwargs.get("dashboard_address") is None and not _is_free(_DASHBOARD_PORT):
        if "dashboard_address" in kwargs:
            given = cast("Mapping[str, object]", kwargs.get("scheduler_kwargs") or {})
            kwargs["scheduler_kwargs"] = {"dashboard": False, **given}
        kwargs["dashboard_address"] = ":0"


def _path_of(factory: ClusterFactory) -> str:
    name = getattr(factory, "__qualname__", None)
    return f"{factory.__module__}.{name}" if name else repr(factory)


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("", port)).close()
    except OSError:
        return False
    return True


def prepare_scheduler(client: Client, topic: str, *, is_ours: bool) -> Versions | None:
    """Get a scheduler ready for runs, and return which versions it has, if it says so.

    Args:
        client: Whose scheduler it is.
        topic: Under what to leave there which versions this process has.
        is_ours: Whether its cluster was made for this runner. Then it is told to give a task up
            when its worker dies: attempts are counted by the run's own policy, and once more is
            once too often.

    Raises:
        MissingDependencyError: The scheduler lacks this package, so that it can do no work.
    """
    versions: Versions | None = None
    has_dashboard = True

    async def prepare() -> object:
        return await client.run_on_scheduler(
            _prepare, is_ours=is_ours, topic=topic, versions=dict(versions_here())
        )

    try:
        answer = import_sync()(client.loop, prepare)
        has_dashboard, versions = cast("tuple[bool, Versions]", answer)
    except ImportError as error:
        raise MissingDependencyError(
            f"The Dask scheduler cannot import what tasks are sent in ({error}): install "
            '"anabranch-runners-dask" where the scheduler and the workers run'
        ) from error
    except Exception as error:  # It may have been told to refuse foreign code.
        _logger.debug("The Dask scheduler could not be prepared: %s", describe(error))
    # There is a link all the same, which leads nowhere.
    link = client.dashboard_link if has_dashboard else None
    if link:
        _logger.info("The Dask dashboard is available at %s", link)
    return versions


class _WebApplication(Protocol):
    applications: list[object]


class _Scheduler(TopicsScheduler, Protocol):
    allowed_failures: int
    http_application: _WebApplication


def _prepare(
    is_ours: bool, topic: str, versions: Versions, dask_scheduler: _Scheduler
) -> tuple[bool, Versions]:
    if is_ours:
        dask_scheduler.allowed_failures = 0
    dask_scheduler.task_metadata[topic] = {"versions": versions}
    keep_few_events(dask_scheduler, topic)
    # Without bokeh, or told to have no dashboard, it serves its metrics there all the same.
    return bool(dask_scheduler.http_application.applications), versions_here()


def works_in_threads(distributed: Distributed, cluster: object) -> bool | None:
    """Return whether the workers of a cluster object are in this process; None if unknown."""
    workers: object = getattr(cluster, "workers", None)
    if isinstance(workers, Mapping) and workers:
        return all(isinstance(worker, distributed.Worker) for worker in workers.values())
    spec: object = getattr(cluster, "new_spec", None)  # Of workers that are yet to come.
    made: object = spec.get("cls") if isinstance(spec, Mapping) else None
    return issubclass(made, distributed.Worker) if isinstance(made, type) else None
