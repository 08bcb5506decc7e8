"""Every exception of the engine, under one root.

Each takes one message, so each survives a pickle round trip as it is. What led to it is its
``__cause__``.
"""

from __future__ import annotations


class AnabranchError(Exception):
    """The root of every exception that the engine raises of its own accord.

    A task's own exception is never wrapped in one of these: it reaches the caller as it was raised.
    """


class RunnerNotStartedError(AnabranchError, RuntimeError):
    """Work was submitted to a task runner that is not started, or not any more."""


class RunnerAlreadyStartedError(AnabranchError, RuntimeError):
    """A task runner that is started already was started again."""


class NotSubmittableError(AnabranchError, RuntimeError):
    """A task was submitted where no task runner is at hand, such as outside any flow."""


class MissingDependencyError(AnabranchError, ImportError):
    """An optional library that a task runner needs is not installed."""


class WouldDeadlockError(AnabranchError, RuntimeError):
    """A blocking wait was begun in the one thread that the awaited run needs to go on."""


class NotFinishedError(AnabranchError, RuntimeError):
    """The result of a run that is not finished was read from its state."""


class UpstreamFailedError(AnabranchError):
    """The run never started, because one that it depends on failed.

    ``__cause__`` is the exception of the run that failed first.
    """


class RunCancelledError(AnabranchError):
    """The run was cancelled before it finished."""


class RunCrashedError(AnabranchError):
    """The infrastructure under the run failed: a worker or a connection was lost."""


class RunTimedOutError(AnabranchError, TimeoutError):
    """The run did not finish within its time limit."""


class ResultUnavailableError(AnabranchError):
    """The value of a completed run can no longer be fetched from where it was left."""


class RemoteExceptionError(AnabranchError):
    """Stands in for a task's exception that could not be brought back from another process.

    Its message holds the original's type, message and traceback.
    """
