"""Flows and tasks: functions turned into tracked runs, on the task runner of your choice."""
# The layers, bottom up: _exceptions, _names, _logging, _tags | _rows, _printing, _run_names,
# _hooks, _validation, _places | _tag_limits, _subflow_run | _accounts, _options, _task_function,
# _streams | _runnable | _mappable | _flow_run | _branch, _context, _flow_hooks, _flow_attempts,
# _subflow | _termination, _task, _flow | _decorators.

from __future__ import annotations

from anabranch.flows._branch import Branch, branch
from anabranch.flows._context import CurrentFlowRun, CurrentTaskRun, flow_run, task_run
from anabranch.flows._decorators import FlowDecorator, TaskDecorator, flow, task
from anabranch.flows._exceptions import ParameterError
from anabranch.flows._flow import AsyncFlow, Flow
from anabranch.flows._hooks import FlowHook, FlowRunningHook, TaskHook, TaskRunningHook
from anabranch.flows._logging import RunFormatter, RunLogger, get_run_logger
from anabranch.flows._options import FlowOptions, TaskOptions
from anabranch.flows._run_names import RunName
from anabranch.flows._runnable import Async, Runnable, Sync
from anabranch.flows._tag_limits import set_tag_limit
from anabranch.flows._tags import tags
from anabranch.flows._task import AsyncTask, Task
from anabranch.futures import (
    AnabranchError,
    Cancellation,
    Cancelled,
    Completed,
    Crashed,
    Failed,
    FlowRun,
    Future,
    FutureList,
    NotSubmittableError,
    Pending,
    ResultUnavailableError,
    RetryCondition,
    RetryDelay,
    Retrying,
    RunCancelledError,
    RunCrashedError,
    Running,
    RunTimedOutError,
    State,
    StateType,
    Stream,
    TaskRun,
    TaskRunner,
    TimedOut,
    UpstreamFailed,
    UpstreamFailedError,
    WouldDeadlockError,
    allow_failure,
    as_completed,
    exponential_backoff,
    gather,
    lift,
    quote,
    unmapped,
    wait,
    wait_async,
)
from anabranch.futures.runner import publish
from anabranch.runners.local import ConcurrentTaskRunner, SequentialTaskRunner

__all__ = [
    "AnabranchError",
    "Async",
    "AsyncFlow",
    "AsyncTask",
    "Branch",
    "Cancellation",
    "Cancelled",
    "Completed",
    "ConcurrentTaskRunner",
    "Crashed",
    "CurrentFlowRun",
    "CurrentTaskRun",
    "Failed",
    "Flow",
    "FlowDecorator",
    "FlowHook",
    "FlowOptions",
    "FlowRun",
    "FlowRunningHook",
    "Future",
    "FutureList",
    "NotSubmittableError",
    "ParameterError",
    "Pending",
    "ResultUnavailableError",
    "RetryCondition",
    "RetryDelay",
    "Retrying",
    "RunCancelledError",
    "RunCrashedError",
    "RunFormatter",
    "RunLogger",
    "RunName",
    "RunTimedOutError",
    "Runnable",
    "Running",
    "SequentialTaskRunner",
    "State",
    "StateType",
    "Stream",
    "Sync",
    "Task",
    "TaskDecorator",
    "TaskHook",
    "TaskOptions",
    "TaskRun",
    "TaskRunner",
    "TaskRunningHook",
    "TimedOut",
    "UpstreamFailed",
    "UpstreamFailedError",
    "WouldDeadlockError",
    "allow_failure",
    "as_completed",
    "branch",
    "exponential_backoff",
    "flow",
    "flow_run",
    "gather",
    "get_run_logger",
    "lift",
    "quote",
    "set_tag_limit",
    "tags",
    "task",
    "task_run",
    "unmapped",
    "wait",
    "wait_async",
]

publish(globals(), __all__)
