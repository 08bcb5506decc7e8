"""Which versions of what matters there are, here and on a cluster."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final, TypeGuard, cast
from uuid import uuid4

from anabranch.futures import MissingDependencyError
from anabranch.futures.runner import describe
from anabranch.runners.dask._native import import_sync

if TYPE_CHECKING:
    from anabranch.runners.dask._native import Client, Worker

_logger = logging.getLogger("anabranch.task_runner.dask")

#: What a run goes through on its way.
_DISTRIBUTIONS: Final = (
    "dask",
    "distributed",
    "cloudpickle",
    "anabranch-futures",
    "anabranch-runners-dask",
)

#: How many workers are named, of those that have the same.
_MAX_NAMED: Final = 3

#: How long a cluster may take to say what it has, in seconds.
_PROMPT: Final = 10.0

_THIS_PROCESS: Final = uuid4().hex

Versions = Mapping[str, str]


@cache
def versions_here() -> Versions:
    """Return the versions in this process; what is not installed as a distribution is left out."""
    found = {"Python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in _DISTRIBUTIONS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def process_id() -> str:
    """Return what no other process has, on whatever machine; a fork has another number."""
    return f"{_THIS_PROCESS}-{os.getpid()}"


def answer() -> tuple[Versions, str]:
    """Say which versions there are in this process, and which process it is."""
    return versions_here(), process_id()


def look_around(client: Client) -> Mapping[str, tuple[Versions, str]]:
    """Ask the workers that are there what they have.

    Args:
        client: A client of their cluster.

    Returns:
        Their answers, by their addresses. Those that do not answer are left out.

    Raises:
        MissingDependencyError: A worker lacks this package, so that it can do no work.
    """

    async def ask() -> object:
        return await client.run(answer, workers=None, on_error="return")

    try:
        asked = import_sync()(client.loop, ask, callback_timeout=_PROMPT)
    except Exception as error:  # It may have been told to refuse foreign code, or be busy.
        _logger.debug("The Dask workers could not be asked what they have: %s", describe(error))
        return {}
    answers = cast("Mapping[str, tuple[Versions, str] | Exception]", asked)
    good: dict[str, tuple[Versions, str]] = {}
    lacking: dict[str, Exception] = {}
    for address, each in answers.items():
        if _is_import_error(each):
            lacking[address] = each
        elif isinstance(each, Exception):
            _logger.debug("%s could not be asked what it has: %s", address, describe(each))
        else:
            good[address] = each
    if lacking:
        first = next(iter(lacking.values()))
        raise MissingDependencyError(
            f"{_sentence(_workers(list(lacking)))} cannot import what runs are sent in ({first}): "
            'install "anabranch-runners-dask" where the scheduler and the workers run'
        ) from first
    return good


def _is_import_error(answer: object) -> TypeGuard[Exception]:
    # What does not survive pickling there arrives as an Exception that quotes it.
    return isinstance(answer, ImportError) or (
        isinstance(answer, Exception)
        and str(answer).startswith(("ImportError(", "ModuleNotFoundError("))
    )


def warn_of_differences(
    logger: logging.Logger,
    address: str,
    scheduler: Versions | None,
    workers: Mapping[str, Versions],
) -> None:
    """Say what a cluster has in another version than this process, if there is anything.

    Args:
        logger: Where to say it.
        address: Where the cluster is.
        scheduler: What its scheduler has, if it has said so.
        workers: What its workers have, by their addresses.
    """
    here = versions_here()
    found: list[str] = []
    for name in ("Python", *_DISTRIBUTIONS):
        places: dict[str, list[str]] = {}
        for place, there in workers.items():
            places.setdefault(_named(there, name), []).append(place)
        others = {other: [_workers(who)] for other, who in places.items()}
        if scheduler is not None:
            others.setdefault(_named(scheduler, name), []).insert(0, "the scheduler")
        others.pop(_named(here, name), None)
        for other, who in others.items():
            found.append(f"{name} is {_named(here, name)} here and {other} on {' and '.join(who)}")
    if found:
        logger.warning(
            "The Dask cluster at %s has other versions than this process: %s. What is pickled on "
            "one side may not work on the other: install the same versions on both",
            address,
            "; ".join(found),
        )


def difference_from_client(worker: Worker, topic: str) -> str:
    """Return, on a worker, what it has in another version than the client of a run.

    Args:
        worker: The worker.
        topic: The topic of the client, under which its versions lie on the scheduler.

    Returns:
        A remark in parentheses, or nothing if there is no difference that is known of.
    """
    try:
        asked = import_sync()(
            worker.loop,
            worker.scheduler.get_metadata,
            keys=[topic, "versions"],
            default=None,
            callback_timeout=_PROMPT,
        )
    except Exception as error:  # It is asked for a remark on another error, no more.
        _logger.debug("The Dask scheduler did not tell the versions: %s", describe(error))
        return ""
    if not isinstance(asked, Mapping):
        return ""
    client, here = cast("Versions", asked), versions_here()
    found = [
        f"{name} is {_named(client, name)} here and {_named(here, name)} there"
        for name in ("Python", *_DISTRIBUTIONS)
        if _named(client, name) != _named(here, name)
    ]
    return f" ({'; '.join(found)})" if found else ""


def _named(versions: Versions, name: str) -> str:
    return versions.get(name, "not installed")


def _workers(addresses: list[str]) -> str:
    named = " and ".join(addresses[:_MAX_NAMED])
    if len(addresses) == 1:
        return f"the worker {named}"
    more = len(addresses) - _MAX_NAMED
    return f"the workers {named}" + (f" and {more} more" if more > 0 else "")


def _sentence(place: str) -> str:
    return place.replace("the w", "The Dask w", 1)


def are_here(processes: Iterable[str]) -> bool | None:
    """Return whether all of these processes are this one; None if there are none."""
    found = set(processes)
    return found == {process_id()} if found else None
