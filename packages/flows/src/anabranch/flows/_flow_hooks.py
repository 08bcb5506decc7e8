"""The hooks of flows, and the end of those of their runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import anyio

from anabranch.flows._flow_run import ActiveFlowRun
from anabranch.flows._hooks import Hooks
from anabranch.flows._subflow_run import SubflowRun
from anabranch.futures import Future, Running, State
from anabranch.futures.runner import current_scope


@contextmanager
def followed(flow: object, hooks: Hooks | None, run: ActiveFlowRun) -> Generator[None]:
    """Surround a run of a sync flow: when it has ended, see to the hooks of its runs and its own.

    Args:
        flow: The flow.
        hooks: Its hooks, if it has any.
        run: The run.
    """
    try:
        yield
    except BaseException:  # Ctrl-C and the like: all else has become the run's state.
        run.hooks.join(in_a_hurry=True)
        _tell_end(flow, hooks, run)
        raise
    run.hooks.join()
    _tell_end(flow, hooks, run)


def tell_start(flow: object, hooks: Hooks | None, run: ActiveFlowRun) -> None:
    """Call the hooks for the start of an attempt."""
    if hooks is not None:
        with _in_scope_of(run):
            _call(flow, hooks, run, Running())


def _tell_end(flow: object, hooks: Hooks | None, run: ActiveFlowRun) -> None:
    if hooks is not None and run.state is not None and not run.is_given_up:
        with _in_scope_of(run):
            _call(flow, hooks, run, run.state)


def _call(flow: object, hooks: Hooks, run: ActiveFlowRun, state: State[object] | Running) -> None:
    # SystemExit in a hook is the caller's, but the thread of a submitted run is nobody's.
    call = hooks.call_apart if run.is_submitted else hooks.call
    call(flow, run.flow_run, state, run.runner.backend)


@asynccontextmanager
async def followed_async(
    flow: object, hooks: Hooks | None, run: ActiveFlowRun
) -> AsyncGenerator[None]:
    """`followed`, for an async flow."""
    try:
        yield
    except BaseException:  # Cancelled, or Ctrl-C: all else has become the run's state.
        with anyio.CancelScope(shield=True):
            await run.hooks.join_async(in_a_hurry=True)
            await _tell_end_async(flow, hooks, run)
        raise
    await run.hooks.join_async()
    await _tell_end_async(flow, hooks, run)


async def tell_start_async(flow: object, hooks: Hooks | None, run: ActiveFlowRun) -> None:
    """`tell_start`, for an async flow."""
    if hooks is not None:
        with _in_scope_of(run):
            await _call_async(flow, hooks, run, Running())


async def _tell_end_async(flow: object, hooks: Hooks | None, run: ActiveFlowRun) -> None:
    if hooks is not None and run.state is not None and not run.is_given_up:
        with _in_scope_of(run):
            await _call_async(flow, hooks, run, run.state)


async def _call_async(
    flow: object, hooks: Hooks, run: ActiveFlowRun, state: State[object] | Running
) -> None:
    call = hooks.call_apart_async if run.is_submitted else hooks.call_async
    await call(flow, run.flow_run, state)


@contextmanager
def _in_scope_of(run: ActiveFlowRun) -> Generator[None]:
    token = current_scope.set(run.scope)
    try:
        yield
    finally:
        current_scope.reset(token)


def follow_unstarted(
    flow: object, hooks: Hooks | None, run: ActiveFlowRun, future: SubflowRun[object]
) -> None:
    """Have the hooks of a submitted subflow called by its parent, should it never end itself.

    It may never start, or be given up while a thread is at it that cannot be stopped.

    Args:
        flow: The subflow.
        hooks: Its hooks, if it has any.
        run: Its run.
        future: Its future.
    """
    if hooks is None or run.parent is None:
        return
    thread = run.parent.hooks

    def ended(future: Future[object]) -> None:
        state = future.final_state()
        run.is_given_up = not run.has_ended
        call = partial(hooks.call_apart, flow, run.flow_run, state, thread.backend)
        thread.put(call if run.is_given_up else None)

    if thread.expect():
        future.add_done_callback(ended)
