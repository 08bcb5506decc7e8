"""Reading how a run ended from what Ray says of it."""

from __future__ import annotations

from typing import Final, Never

from ray.exceptions import (
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
    TaskCancelledError,
    TaskUnschedulableError,
)

from anabranch.futures import Cancelled, Crashed, Failed, RunCrashedError, State, TaskRun
from anabranch.futures.runner import RunError, describe

#: What is noted on the error of a value that Ray does not take.
UNSTORABLE: Final = "Ray could not store the value that run {!r} returned"

# Ray's words for a function that could not be unpickled on the worker; it has no class for that.
_NOT_IMPORTED = "The remote function failed to import"


def find_run_error(error: BaseException) -> RunError | None:
    """Return the failure of ours that Ray has wrapped up, of this run or of one upstream."""
    each: object = error
    for _ in range(100):  # Once for each run that handed it down; Ray keeps but one or two.
        if isinstance(each, RunError):
            return each
        if not isinstance(each, BaseException):
            return None
        each = getattr(each, "cause", None) or each.__cause__
    return None


def own_state(error: BaseException, run: TaskRun) -> State[Never]:
    """Return the state of a run whose own end Ray reports by an error that is not ours."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, TaskCancelledError):
        return Cancelled(message="The run was cancelled in Ray.")
    is_of_ray = isinstance(cause, RayError) or str(cause).startswith(_NOT_IMPORTED)
    if isinstance(cause, Exception) and not is_of_ray:
        # What is left to be raised when the function has returned is the storing of its value.
        cause.add_note(UNSTORABLE.format(run.name))
        return Failed(cause, message=describe(cause))
    return crashed(run, str(cause) or type(cause).__name__, error)


def crashed(run: TaskRun, message: str, cause: BaseException | None = None) -> Crashed:
    """Return the state of a run that something other than its function has ended."""
    crash = RunCrashedError(f"Run {run.name!r} crashed: {message}")
    crash.__cause__ = cause
    return Crashed(exception=crash, message=message)


def has_begun(state: State[object]) -> bool:
    """Whether a run has certainly been executed that ended in a state from `own_state`."""
    if isinstance(state, Crashed):
        is_unplaced = isinstance(
            state.exception.__cause__, RuntimeEnvSetupError | TaskUnschedulableError
        )
        return not is_unplaced and not (state.message or "").startswith(_NOT_IMPORTED)
    return isinstance(state, Failed)
