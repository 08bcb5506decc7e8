"""Flows that run beside the flow that submitted them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from anabranch.flows._flow_run import ActiveFlowRun, SubflowRun
from anabranch.flows._runnable import WaitFor
from anabranch.futures import Future, NotSubmittableError, State, TaskRun, WorkItem
from anabranch.futures.runner import (
    current_scope,
    make_item,
    resolve_arguments,
    state_of_error,
    when_ready,
)

R = TypeVar("R")


def submit_flow(
    run: ActiveFlowRun,
    call: Callable[[tuple[object, ...], dict[str, object]], State[R]],
    args: tuple[object, ...],
    kwargs: dict[str, object],
    wait_for: WaitFor,
) -> Future[R]:
    """Start a subflow in a thread of its own, once its arguments are there.

    Args:
        run: The subflow's run.
        call: Runs the subflow with its arguments, in the thread that calls it.
        args: Positional arguments; may hold futures, as may the others.
        kwargs: Keyword arguments.
        wait_for: Futures that must complete first.

    Raises:
        NotSubmittableError: This is not inside a flow.
    """
    names = run.flow_run
    scope = current_scope.get()
    if scope is None or scope.owner is None:
        raise NotSubmittableError(
            f"Flow {names.flow_name!r} was submitted outside any flow, which would have nothing to "
            "join it. Submit it in a function decorated with @flow, or call it directly"
        )
    future: SubflowRun[R] = SubflowRun(TaskRun(names.id, names.name, names.flow_name))
    item: WorkItem[R] = make_item(
        call, args, kwargs, task_run=future.task_run, is_async=False, wait_for=tuple(wait_for)
    )

    def execute() -> None:
        try:
            args, kwargs = resolve_arguments(item)
            future.set_final(call(args, dict(kwargs)))
        except BaseException as error:  # However it ends is for those who hold the future.
            future.set_final(state_of_error(error))

    def start() -> None:
        if future.set_running() and item.variables is not None:
            threading.Thread(
                target=item.variables.run, args=(execute,), name=names.name, daemon=True
            ).start()

    when_ready(item, start, future.set_final)
    scope.adopt(future)
    return future
