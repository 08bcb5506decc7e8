"""What the tests of attempts on Dask submit, and how they wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from anabranch.futures import Future, TaskRun, TaskRunner
from anabranch.futures.runner import current_scope, make_item, new_run_id


def dispatch(
    runner: TaskRunner,
    function: Callable[..., Any],
    *args: object,
    **options: Any,  # noqa: ANN401 - those of make_item
) -> Future[Any]:
    """Submit a call with options of `make_item`."""
    run_id = new_run_id()
    run = TaskRun(run_id, f"{function.__name__}-{run_id[-8:]}", function.__name__)
    return runner.dispatch(make_item(function, args, {}, task_run=run, **options))


def until(condition: Callable[[], bool]) -> None:
    """Wait for what must come true soon, and tells nobody when it does."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        threading.Event().wait(0.002)


def increment(number: int) -> int:
    """Return the next number."""
    return number + 1


def inner() -> TaskRunner:
    """Return what the calling run submits to."""
    scope = current_scope.get()
    assert scope is not None
    assert scope.runner is not None
    return scope.runner
