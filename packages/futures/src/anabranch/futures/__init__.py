"""States, futures, the unit of work and its lifecycle, and the contract of task runners.

What is needed to write a task runner or an engine besides is in `anabranch.futures.runner`; what
every runner must do is in `anabranch.futures.testing`.
"""
# The layers, bottom up: _exceptions, _signals, _counting, _locks, _typing, _cancellation |
# _signature, _pickled_parts, _pickling, _stored_values | _states, _work, _clock | _retries |
# _loops | _scope, _blocking, _callbacks | _parking | _future | _in_flight, _collections, _waiting,
# _dependencies | _arguments | _items | _timers, _time_limits, _calling, _lifecycle | _remote,
# _forwarding | _reports | _hosting, _runner.

from __future__ import annotations

from anabranch.futures._arguments import allow_failure, lift, quote
from anabranch.futures._cancellation import Cancellation
from anabranch.futures._clock import Clock, SystemClock
from anabranch.futures._collections import (
    FutureList,
    Stream,
    gather,
    unmapped,
)
from anabranch.futures._exceptions import (
    AnabranchError,
    MissingDependencyError,
    NotFinishedError,
    NotSubmittableError,
    RemoteExceptionError,
    ResultUnavailableError,
    RunCancelledError,
    RunCrashedError,
    RunnerAlreadyStartedError,
    RunnerNotStartedError,
    RunTimedOutError,
    UpstreamFailedError,
    WouldDeadlockError,
)
from anabranch.futures._future import Future
from anabranch.futures._publish import publish
from anabranch.futures._retries import (
    RetryCondition,
    RetryDelay,
    RetryPolicy,
    exponential_backoff,
)
from anabranch.futures._runner import ConcurrencyType, RunnerStatistics, TaskRunner
from anabranch.futures._states import (
    Cancelled,
    Completed,
    Crashed,
    ExceptionDict,
    Failed,
    Pending,
    Retrying,
    Running,
    State,
    StateDict,
    StateType,
    TimedOut,
    Unfinished,
    UpstreamFailed,
)
from anabranch.futures._waiting import Waited, as_completed, wait, wait_async
from anabranch.futures._work import Backend, FlowRun, RunContext, TaskRun, WorkItem

__all__ = [
    "AnabranchError",
    "Backend",
    "Cancellation",
    "Cancelled",
    "Clock",
    "Completed",
    "ConcurrencyType",
    "Crashed",
    "ExceptionDict",
    "Failed",
    "FlowRun",
    "Future",
    "FutureList",
    "MissingDependencyError",
    "NotFinishedError",
    "NotSubmittableError",
    "Pending",
    "RemoteExceptionError",
    "ResultUnavailableError",
    "RetryCondition",
    "RetryDelay",
    "RetryPolicy",
    "Retrying",
    "RunCancelledError",
    "RunContext",
    "RunCrashedError",
    "RunTimedOutError",
    "RunnerAlreadyStartedError",
    "RunnerNotStartedError",
    "RunnerStatistics",
    "Running",
    "State",
    "StateDict",
    "StateType",
    "Stream",
    "SystemClock",
    "TaskRun",
    "TaskRunner",
    "TimedOut",
    "Unfinished",
    "UpstreamFailed",
    "UpstreamFailedError",
    "Waited",
    "WorkItem",
    "WouldDeadlockError",
    "allow_failure",
    "as_completed",
    "exponential_backoff",
    "gather",
    "lift",
    "quote",
    "unmapped",
    "wait",
    "wait_async",
]

publish(globals(), __all__)
