"""What Dask is told of a run besides what it executes: its annotations, and where they are from."""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import Context
from functools import cache
from typing import Final, Protocol, TypeAlias, TypedDict, TypeVar, cast

from anabranch.futures import TaskRun, WorkItem
from anabranch.futures.runner import AnyFunction, with_retries

R = TypeVar("R")
T = TypeVar("T")

_logger = logging.getLogger("anabranch.task_runner.dask")

#: What Dask is told of a run, by the names of `dask.annotate`.
Annotations: TypeAlias = Mapping[str, object]

NO_ANNOTATIONS: Final[Annotations] = {}


class DaskOptions(TypedDict, total=False):
    """What a task can say to Dask of its runs, as ``runner_options={"dask": DaskOptions(...)}``.

    A plain dictionary does as well: this class is there for type checkers. The options win over
    what ``dask.annotate`` says where a run is submitted, each for itself.

    Attributes:
        priority: Runs of a higher priority are executed first; 0 by default.
        resources: How much of each of the workers' resources a run takes while it is executed, as
            in ``{"GPU": 1}``. It waits for a worker that has them.
        workers: The name, address or host of the worker that is to execute it, or several.
        retries: How many attempts may follow the first; in place of the task's own ``retries``,
            with its delays and its condition.
        allow_other_workers: Whether others may execute it if none of ``workers`` is there.
    """

    priority: float
    resources: Mapping[str, float]
    workers: str | Sequence[str]
    retries: int
    allow_other_workers: bool


class _Dask(Protocol):
    annotate: AnyFunction[AbstractContextManager[object]]

    def get_annotations(self) -> Annotations: ...


@cache
def _import_dask() -> _Dask:
    return cast("_Dask", importlib.import_module("dask"))


def with_annotations(
    item: WorkItem[R], default_priority: float = 0
) -> tuple[WorkItem[R], Annotations]:
    """Return an item as it is to run on Dask, and what Dask is told of it.

    To be called where the item is submitted, for what ``dask.annotate`` says there. Dask is never
    told of retries: those that it makes by itself would come on top of the run's own.

    Args:
        item: What is submitted.
        default_priority: The priority of the run if nobody has said anything about that.

    Returns:
        The item with the retries that were asked for, and the annotations without them.

    Raises:
        TypeError: Dask takes no such option, or an option is of the wrong type.
        ValueError: An option is not possible.
    """
    said = _import_dask().get_annotations()
    options = item.runner_options
    if not (said or options or default_priority):
        return item, NO_ANNOTATIONS
    told: Annotations = said
    if given := options.get("dask"):
        told = {**said, **_checked(item.task_run, given)}
    if "retries" in told:
        try:
            item = with_retries(item, cast("int", told["retries"]), _logger)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{_subject(item.task_run)}: {error}") from None
        told = {key: value for key, value in told.items() if key != "retries"}
    if default_priority and "priority" not in told:
        told = {**told, "priority": default_priority}
    return item, told


def call_with(annotations: Annotations, function: Callable[[], T]) -> T:
    """Call what submits something to Dask with these annotations, and no others.

    Those in force here may be anybody's: runs are handed over in callbacks of others, and event
    loops take the context along of whoever calls them.
    """
    return Context().run(_annotate_and_call, annotations, function)


def _annotate_and_call(annotations: Annotations, function: Callable[[], T]) -> T:
    if not annotations:
        return function()
    with _import_dask().annotate(**annotations):
        return function()


# ---------------------------------------------------------------------------- checks


def _subject(run: TaskRun) -> str:
    return f"Task {run.task_name!r}, for Dask"


def _checked(run: TaskRun, given: Annotations) -> Annotations:
    """Return what a task has said of its runs, in the form that Dask takes."""
    checked: dict[str, object] = {}
    for key, value in given.items():
        check = _CHECKS.get(key)
        if check is None:
            raise TypeError(
                f'{_subject(run)}: there is no {key!r} in runner_options={{"dask": ...}}; it takes '
                f"{', '.join(sorted(_CHECKS))}"
            )
        try:
            checked[key] = check(value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{_subject(run)}: {key}={value!r}: {error}") from None
    return checked


def _checked_number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("give a number, such as 10")
    if not math.isfinite(value):
        raise ValueError("give a number that is neither infinite nor undefined, such as 10")
    return value


def _checked_resources(value: object) -> dict[str, float]:
    resources = cast("Mapping[object, object]", value if isinstance(value, Mapping) else {"": ""})
    checked: dict[str, float] = {}
    for name, amount in resources.items():
        if not isinstance(name, str) or isinstance(amount, bool | str | None):
            raise TypeError('give a number for each name, as in {"GPU": 1}')
        number = _checked_number(amount)
        if number < 0:
            raise ValueError('it cannot take less than nothing; give amounts as in {"GPU": 1}')
        checked[name] = number
    return checked


def _checked_workers(value: object) -> list[str]:
    names = cast("list[object]", list(value) if isinstance(value, list | tuple) else [value])
    if not names:
        raise ValueError("name at least one worker, or leave it out for any")
    if not all(isinstance(name, str) for name in names):
        raise TypeError('give the name or address of a worker, or several, as in ["first"]')
    return cast("list[str]", names)


def _checked_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("give True or False")
    return value


def _unchecked(value: object) -> object:
    return value  # With those of `dask.annotate`, by `with_retries`.


_CHECKS: Final[Mapping[str, Callable[[object], object]]] = {
    "priority": _checked_number,
    "resources": _checked_resources,
    "workers": _checked_workers,
    "retries": _unchecked,
    "allow_other_workers": _checked_flag,
}
