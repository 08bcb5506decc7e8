"""Flows that run beside the flow that submitted them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from anabranch.flows._subflow_run import SubflowRun
from anabranch.futures import Cancelled, Crashed, Future, NotSubmittableError, State, WorkItem
from anabranch.futures.runner import (
    Hold,
    current_clock,
    current_hold,
    current_scope,
    describe,
    mark_library,
    new_hold,
    resolve_arguments,
    start_thread,
    state_of_error,
    when_ready,
)

R = TypeVar("R")


def submit_flow(
    future: SubflowRun[R],
    item: WorkItem[R],
    call: Callable[[tuple[object, ...], dict[str, object]], State[R]],
) -> Future[R]:
    """Start a subflow in a thread of its own, once its arguments are there.

    Args:
        future: The subflow's future.
        item: Its arguments.
        call: Runs the subflow with its arguments, in the thread that calls it.

    Raises:
        NotSubmittableError: This is not inside a flow.
    """
    name = item.task_run.task_name
    scope = current_scope.get()
    if scope is None or scope.owner is None:
        raise NotSubmittableError(
            f"Flow {name!r} was submitted outside any flow, which would have nothing to join it. "
            "Submit it in a function decorated with @flow, or call it directly"
        )
    if scope.ended is not None:
        raise NotSubmittableError(f"Cannot submit {item.task_run.name!r}: {scope.ended}")
    if scope.is_cancelled:
        future.set_final(Cancelled(message="What submitted the run had been cancelled."))
        scope.adopt(future)
        return future
    future.depends_on((*item.upstreams, *item.tolerated))

    def execute(hold: Hold | None) -> None:
        current_hold.set(hold)
        try:
            args, kwargs = resolve_arguments(item)
            future.set_final(call(args, dict(kwargs)))
        except BaseException as error:  # However it ends is for those who hold the future.
            future.set_final(state_of_error(error))
        finally:
            if hold is not None:
                hold.end()

    def start() -> None:
        if future.start() and item.variables is not None:
            item.variables.run(mark_library, None)
            # From now on, whatever the submitter's own hold does.
            hold = new_hold(current_clock.of(item.variables))
            thread_name = item.task_run.name
            thread = threading.Thread(
                target=item.variables.run, args=(execute, hold), name=thread_name, daemon=True
            )
            try:
                start_thread(thread)
            except RuntimeError as error:  # There are no more threads to be had.
                if hold is not None:
                    hold.end()
                message = f"The run could not be started: {describe(error)}"
                future.set_final(Crashed(exception=error, message=message))

    # Before it can start, so that Ctrl-C cannot leave it behind.
    scope.adopt(future)
    when_ready(item, start, future.set_final)
    return future
