"""Flows and tasks: functions turned into tracked runs, on the task runner of your choice."""
# The layers, bottom up: _options, _names, _mapping, _task_function, _logging |
# _runnable | _flow_run | _subflow | _task, _flow | _decorators.

from __future__ import annotations

from anabranch.flows._decorators import FlowDecorator, TaskDecorator, flow, task
from anabranch.flows._flow import AsyncFlow, Flow
from anabranch.flows._logging import RunFormatter
from anabranch.flows._options import FlowOptions, TaskOptions
from anabranch.flows._runnable import Async, Runnable, Sync
from anabranch.flows._task import AsyncTask, Task
from anabranch.futures import (
    AnabranchError,
    Cancellation,
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Future,
    FutureList,
    Pending,
    Retrying,
    Running,
    State,
    StateType,
    Stream,
    TaskRunner,
    TimedOut,
    UpstreamFailed,
    UpstreamFailedError,
    allow_failure,
    as_completed,
    gather,
    lift,
    quote,
    unmapped,
    wait,
)
from anabranch.futures.runner import publish
from anabranch.runners.local import ConcurrentTaskRunner, SequentialTaskRunner

__all__ = [
    "AnabranchError",
    "Async",
    "AsyncFlow",
    "AsyncTask",
    "Cancellation",
    "Cancelled",
    "Completed",
    "ConcurrentTaskRunner",
    "Crashed",
    "Failed",
    "Flow",
    "FlowDecorator",
    "FlowOptions",
    "Future",
    "FutureList",
    "Pending",
    "Retrying",
    "RunFormatter",
    "Runnable",
    "Running",
    "SequentialTaskRunner",
    "State",
    "StateType",
    "Stream",
    "Sync",
    "Task",
    "TaskDecorator",
    "TaskOptions",
    "TaskRunner",
    "TimedOut",
    "UpstreamFailed",
    "UpstreamFailedError",
    "allow_failure",
    "as_completed",
    "flow",
    "gather",
    "lift",
    "quote",
    "task",
    "unmapped",
    "wait",
]

publish(globals(), __all__)
