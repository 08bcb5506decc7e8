"""The options of tasks and flows, each written once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypedDict

from anabranch.futures import Backend, TaskRunner


class TaskOptions(TypedDict, total=False):
    """The options of a task.

    Attributes:
        name: What to call the task; its function's name by default.
        description: What the task does; its docstring by default.
        tags: Labels for the task's runs.
        backend: The event loop of an async task where the runner has to bring one: ``"trio"`` or
            ``"asyncio"``. By default the flow's.
    """

    name: str
    description: str
    tags: Iterable[str]
    backend: Backend


class FlowOptions(TypedDict, total=False):
    """The options of a flow.

    Attributes:
        name: What to call the flow; its function's name with dashes by default.
        description: What the flow does; its docstring by default.
        task_runner: The runner of the flow's tasks, as an instance, a class or any callable that
            makes one, which is called once; a `ConcurrentTaskRunner` by default. Each run has a
            duplicate of its own.
        flow_run_name: What to call each run; an adjective and an animal by default.
        backend: The event loop beside a sync flow, ``"trio"`` (default) or ``"asyncio"``. An async
            flow runs in the caller's.
    """

    name: str
    description: str
    task_runner: TaskRunner | Callable[[], TaskRunner]
    flow_run_name: str
    backend: Backend


def check_options(kind: str, options: Mapping[str, object], allowed: type) -> None:
    """Refuse options that there are none of.

    Raises:
        TypeError: An option is unknown.
        ValueError: The backend is unknown.
    """
    known = allowed.__annotations__
    for option in options:
        if option not in known:
            raise TypeError(
                f"@{kind} has no option {option!r}; it takes {', '.join(sorted(known))}"
            )
    backend = options.get("backend")
    if backend not in (None, "trio", "asyncio"):
        raise ValueError(f"@{kind}(backend={backend!r}): use 'trio' or 'asyncio'")
