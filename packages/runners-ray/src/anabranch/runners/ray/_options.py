"""What Ray is told of a run besides what it executes: its options, and where they are from."""

from __future__ import annotations

import logging
import math
import pickle
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypedDict, TypeVar, Unpack, cast

from anabranch.futures import TaskRun, WorkItem
from anabranch.futures.runner import describe, with_retries

if TYPE_CHECKING:
    from ray.util.scheduling_strategies import (
        NodeAffinitySchedulingStrategy,
        NodeLabelSchedulingStrategy,
        PlacementGroupSchedulingStrategy,
    )

R = TypeVar("R")

_logger = logging.getLogger("anabranch.task_runner.ray")

#: What Ray is told of a run, by its own names, in a form that compares by content: what it was made
#: from may change at any time.
Options: TypeAlias = tuple[tuple[str, Hashable], ...]

NO_OPTIONS: Final[Options] = ()


class RayOptions(TypedDict, total=False):
    """What a task can say to Ray of its runs, as ``runner_options={"ray": RayOptions(...)}``.

    A plain dictionary does as well: this class is there for type checkers. The options win over
    those of `remote_options`, each for itself.

    Attributes:
        num_cpus: How many CPUs a run takes while it is executed; 1 by default.
        num_gpus: How many GPUs it takes; a part of one, such as 0.5, is possible.
        resources: How much it takes of other things that the nodes have, as in ``{"licence": 1}``.
        memory: How much memory it takes, in bytes. Ray counts it, and does not enforce it.
        max_retries: How many attempts may follow the first; in place of the task's own
            ``retries``, with its delays and its condition.
        runtime_env: What its worker has besides, as in ``{"env_vars": {"LEVEL": "3"}}``.
        scheduling_strategy: On which node it is executed: ``"DEFAULT"``, ``"SPREAD"``, or a
            strategy from ``ray.util.scheduling_strategies``.
    """

    num_cpus: float
    num_gpus: float
    resources: Mapping[str, float]
    memory: float
    max_retries: int
    runtime_env: Mapping[str, object]
    scheduling_strategy: (
        Literal["DEFAULT", "SPREAD"]
        | PlacementGroupSchedulingStrategy
        | NodeAffinitySchedulingStrategy
        | NodeLabelSchedulingStrategy
    )


_NOTHING: Final[Mapping[str, Hashable]] = {}

#: What is said to Ray where this code runs.
_said: Final = ContextVar("anabranch.ray.options", default=_NOTHING)


def remote_options(**options: Unpack[RayOptions]) -> AbstractContextManager[None]:
    """Say to Ray how to treat the runs that are submitted in a block.

    It is a context manager to put around ``.submit()`` and ``.map()``, in sync and in async code:
    what counts is where a run is submitted, also if it has to wait for others and goes to Ray
    later. Blocks inside add to those around them, and win over them, option by option; what a task
    says of itself, as ``runner_options={"ray": ...}``, wins over both. Other threads do not notice,
    and other runners ignore it.

    Args:
        options: See `RayOptions`.

    Returns:
        The context manager, to be entered once.

    Raises:
        TypeError: There is no such option, or one is of the wrong type.
        ValueError: An option is not possible.
    """
    return _in_force(_checked("remote_options", options))


@contextmanager
def _in_force(options: Mapping[str, Hashable]) -> Iterator[None]:
    token = _said.set({**_said.get(), **options})
    try:
        yield
    finally:
        _said.reset(token)


def with_options(item: WorkItem[R]) -> tuple[WorkItem[R], Options]:
    """Return an item as it is to run in Ray, and what Ray is told of it.

    To be called where the item is submitted, for what `remote_options` says there. Ray is never
    told of retries: those that it makes by itself would come on top of the run's own.

    Args:
        item: What is submitted.

    Returns:
        The item with the retries that were asked for, and the options without them.

    Raises:
        TypeError: There is no such option, or one is of the wrong type.
        ValueError: An option is not possible.
    """
    told = _said.get()
    if given := item.runner_options.get("ray"):
        told = {**told, **_checked(_subject(item.task_run), given)}
    if not told:
        return item, NO_OPTIONS
    if "max_retries" in told:
        item = with_retries(item, cast("int", told["max_retries"]), _logger)
    return item, tuple((key, told[key]) for key in _PASSED_ON if key in told)


def arguments_of(options: Options) -> dict[str, object]:
    """Return options as Ray takes them: its own, to keep and to change."""
    return {key: _THAWED[key](value) if key in _THAWED else value for key, value in options}


def amounts_of(options: Options) -> Iterator[tuple[str, float]]:
    """Give what a run takes, by Ray's names."""
    for key, value in options:
        if key in _RESOURCES:
            yield _RESOURCES[key], cast("float", value)
        elif key == "resources":
            yield from cast("tuple[tuple[str, float], ...]", value)


def refusal(run: TaskRun, error: Exception) -> ValueError:
    """Return the error for options that Ray itself refuses.

    Args:
        run: The run that has them.
        error: What Ray says.
    """
    failure = ValueError(f"{_subject(run)}: Ray refuses its options: {describe(error)}")
    # Its traceback would keep the arguments alive.
    failure.__cause__ = error.with_traceback(None)
    return failure


# ---------------------------------------------------------------------------- checks


def _subject(run: TaskRun) -> str:
    return f"Task {run.task_name!r}, for Ray"


def _checked(subject: str, given: Mapping[str, object]) -> dict[str, Hashable]:
    """Return what was given in a form that stays as it is."""
    checked: dict[str, Hashable] = {}
    for key, value in given.items():
        check = _CHECKS.get(key)
        if check is None:
            possible = ", ".join(sorted(_CHECKS))
            raise TypeError(f"{subject}: there is no option {key!r}; Ray takes {possible}")
        try:
            checked[key] = check(value)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{subject}: {key}={value!r}: {error}") from None
    return checked


def _checked_amount(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("give a number, such as 1")
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError("give a number of 0 or more, such as 1")
    return value


def _checked_resources(value: object) -> Hashable:
    example = 'give a number for each name, as in {"licence": 1}'
    if not isinstance(value, Mapping):
        raise TypeError(example)
    checked: list[tuple[str, float]] = []
    for name, amount in cast("Mapping[object, object]", value).items():
        if not isinstance(name, str):
            raise TypeError(example)
        if name in _OPTIONS_OF_THEIR_OWN:
            option = _OPTIONS_OF_THEIR_OWN[name]
            raise ValueError(f"{name!r} is an option of its own: give {option}={amount!r}")
        try:
            checked.append((name, _checked_amount(amount)))
        except TypeError:
            raise TypeError(example) from None
    return tuple(sorted(checked))


def _checked_count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("give a whole number, such as 3")
    if value < 0:
        raise ValueError("it cannot be negative; give 0 for no retries")
    return value


def _checked_environment(value: object) -> bytes:
    if not isinstance(value, Mapping):
        raise TypeError('give a dict, as in {"env_vars": {"LEVEL": "3"}}')
    try:
        return pickle.dumps(dict(value))
    except Exception as error:  # Pickling runs foreign code.
        raise TypeError(f"it cannot be sent to Ray ({describe(error)}); give plain data") from error


def _checked_strategy(value: object) -> Hashable:
    choice = 'give "DEFAULT", "SPREAD" or an object of ray.util.scheduling_strategies'
    if not isinstance(value, Hashable):
        raise TypeError(choice)
    if isinstance(value, str) and value not in ("DEFAULT", "SPREAD"):
        raise ValueError(choice)
    return value


#: What is none of the other ``resources``, by Ray's names.
_OPTIONS_OF_THEIR_OWN: Final = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
_RESOURCES: Final = {option: name for name, option in _OPTIONS_OF_THEIR_OWN.items()}

_CHECKS: Final[Mapping[str, Callable[[object], Hashable]]] = {
    "num_cpus": _checked_amount,
    "num_gpus": _checked_amount,
    "resources": _checked_resources,
    "memory": _checked_amount,
    "max_retries": _checked_count,
    "runtime_env": _checked_environment,
    "scheduling_strategy": _checked_strategy,
}
_PASSED_ON: Final = [key for key in _CHECKS if key != "max_retries"]
_THAWED: Final[Mapping[str, Callable[[Hashable], object]]] = {
    "resources": lambda value: dict(cast("tuple[tuple[str, float], ...]", value)),
    "runtime_env": lambda value: pickle.loads(cast("bytes", value)),
}
