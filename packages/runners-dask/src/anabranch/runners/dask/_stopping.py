"""Stopping runs that a worker process executes, and refusing those that are on their way."""

from __future__ import annotations

from collections import deque
from typing import Final

from anabranch.futures.runner import RunStop

#: How many runs that are not here a process remembers as unwanted, for they may be on their way.
_MEMORY: Final = 10_000

# By the ids of the runs: those that this process is executing, and those that it has been told
# to stop before they came. A process may hold several workers.
_stops: dict[str, RunStop] = {}
_early: deque[str] = deque()


def stop_runs(run_ids: list[str]) -> None:
    """Stop runs that this process is executing, as far as can be, and refuse those to come."""
    for run_id in run_ids:
        new = RunStop()
        stop = _stops.setdefault(run_id, new)  # In one step: the run may be about to begin.
        if stop is new:
            _early.append(run_id)
        stop()
    while len(_early) > _MEMORY:
        _stops.pop(_early.popleft(), None)


def stop_of(run_id: str) -> RunStop:
    """Return what stops a run that this process is about to execute."""
    return _stops.setdefault(run_id, RunStop())


def forget_stop(run_id: str) -> None:
    """Take note that this process is through with a run."""
    _stops.pop(run_id, None)
