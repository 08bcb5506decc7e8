"""Making the unit of work of one call, and changing it on the way."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Mapping
from typing import Any, TypeVar

import attrs

from anabranch.futures._arguments import scan, scan_call
from anabranch.futures._blocking import current_lease
from anabranch.futures._retries import NO_RETRIES, RetryPolicy
from anabranch.futures._states import Retrying, Running
from anabranch.futures._typing import AnyFunction
from anabranch.futures._work import (
    NO_RUNNER_OPTIONS,
    Backend,
    FlowRun,
    Listener,
    TaskRun,
    WorkItem,
    is_async_function,
)

R = TypeVar("R")


def make_item(  # type: ignore[explicit-any]  # Only the function knows what it returns.
    function: AnyFunction[object],
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    task_run: TaskRun,
    is_async: bool | None = None,
    flow_run: FlowRun | None = None,
    wait_for: tuple[object, ...] = (),
    backend: Backend | None = None,
    retry: RetryPolicy = NO_RETRIES,
    time_limit: float | None = None,
    listener: Listener | None = None,
    runner_options: Mapping[str, Mapping[str, object]] = NO_RUNNER_OPTIONS,
) -> WorkItem[Any]:
    """Make the item for one call, with the submitter's context variables and the futures found.

    Args:
        function: What to call: a plain function or a coroutine function.
        args: Positional arguments; may hold futures, as may all others.
        kwargs: Keyword arguments.
        task_run: The run's id and names.
        is_async: Whether calling the function gives a coroutine; found out if None.
        flow_run: The flow run that it belongs to, if any.
        wait_for: Futures that must complete first, without giving an argument.
        backend: The event loop for a coroutine, where the runner has to bring one.
        retry: When the run is tried again.
        time_limit: How long each attempt may take, in seconds.
        listener: Told whenever the run becomes Running or Retrying.
        runner_options: What runners are told besides, by their names.
    """
    found = scan_call(args, kwargs)
    upstreams, tolerated = found.upstreams, found.tolerated
    if wait_for:
        awaited = scan(wait_for)
        upstreams = (*upstreams, *awaited.upstreams)
        tolerated = (*tolerated, *awaited.tolerated)
    variables = contextvars.copy_context()
    if current_lease.get() is not None:  # What the submitter holds is not this run's to lend.
        variables.run(current_lease.set, None)
    return WorkItem(  # By position, which takes half the time.
        function,
        args,
        kwargs,
        task_run,
        is_async_function(function) if is_async is None else is_async,
        flow_run,
        upstreams,
        tolerated,
        found.is_plain,
        backend,
        variables,
        retry,
        time_limit,
        listener,
        runner_options,
    )


def with_retries(item: WorkItem[R], retries: int, logger: logging.Logger) -> WorkItem[R]:
    """Return an item as it is if so many attempts may follow the first.

    For a number that is said to a backend. It takes the place of the one that the item has, whose
    delay and condition stay: there is one budget, and never a second one on top of it.

    Args:
        item: What is submitted.
        retries: How many attempts may follow the first.
        logger: Where retries are told of that the submitter of the item has not asked for.

    Raises:
        TypeError: The number is no whole number.
        ValueError: It is negative.
    """
    policy = attrs.evolve(item.retry, retries=retries)
    if policy == item.retry:
        return item
    # Who submitted it without a policy does not listen for retries.
    listener = _logged(item.listener, logger) if item.retry is NO_RETRIES else item.listener
    return attrs.evolve(item, retry=policy if retries else NO_RETRIES, listener=listener)


def _logged(listener: Listener | None, logger: logging.Logger) -> Listener:
    def listen(run: TaskRun, state: Running | Retrying) -> None:
        if isinstance(state, Retrying):
            logger.warning("Run %r: %s", run.name, state.message)
        if listener is not None:
            listener(run, state)

    return listen
