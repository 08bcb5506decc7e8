"""Names of flows, tasks and their runs."""

from __future__ import annotations

import hashlib
import inspect

from anabranch.futures.runner import AnyFunction


def flow_name(function: AnyFunction[object]) -> str:
    """Return a flow's default name: its function's, with dashes."""
    return function_name(function).replace("_", "-")


def function_name(function: AnyFunction[object]) -> str:
    """Return what to call a function, a partial or a callable object."""
    inner = getattr(function, "func", function)  # A partial has no name, but what it wraps has.
    return str(getattr(inner, "__name__", None) or type(inner).__name__)


def docstring(function: AnyFunction[object]) -> str | None:
    """Return a function's own docstring, without its indentation."""
    text = getattr(function, "__doc__", None)
    return inspect.cleandoc(text) if isinstance(text, str) else None


def task_key(function: AnyFunction[object]) -> str:
    """Return eight hexadecimal digits that are the same for a task in every run and process."""
    inner = getattr(function, "func", function)
    qualified_name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    return hashlib.sha256(str(qualified_name).encode()).hexdigest()[:8]


def new_flow_run_name() -> str:
    """Return a name for a flow run: an adjective and an animal."""
    from coolname import generate_slug  # noqa: PLC0415 - it takes as long as many a flow

    return str(generate_slug(2))
