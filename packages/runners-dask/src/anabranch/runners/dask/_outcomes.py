"""What Dask says of a run that did not end well, and which state that is."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Final, Never, final

import attrs

from anabranch.futures import Cancelled, Crashed, RunCrashedError, State, TaskRun
from anabranch.futures.runner import describe
from anabranch.runners.dask._bare import bare
from anabranch.runners.dask._failure import RemoteFailure

if TYPE_CHECKING:
    from anabranch.runners.dask._native import NativeFuture

#: How long Dask may take to hand over what it has at hand, in seconds.
_PROMPT: Final = 10.0

#: Dask's reasons for cancelling a key of its own accord.
_REFUSED: Final = "lost dependencies"
_LOSSES: Final = ("scheduler-connection-lost", "scheduler-restart", _REFUSED)


@final
@attrs.frozen
class Failure:
    """What has become of a run whose key has ended otherwise than well.

    Attributes:
        state: The state for it.
        is_loss: Whether the run was lost on its way to this state, and might fare better elsewhere.
    """

    state: State[Never]
    is_loss: bool = False


def failure_of(run: TaskRun, native: NativeFuture, *, is_lost: bool) -> Failure:
    """Return what has become of a run whose key has ended otherwise than well.

    Args:
        run: The run.
        native: Its key.
        is_lost: Whether the connection to the scheduler is lost.
    """
    try:
        if native.status == "error":
            error = native.exception(timeout=_PROMPT)
        else:
            error = CancelledError()
            native.result(timeout=_PROMPT)
    except Exception as raised:  # What the key ended with, or the client that is closing.
        error = bare(raised)
    if isinstance(error, RemoteFailure):
        return Failure(error.error.state_of(run))
    if isinstance(error, CancelledError):
        if is_lost or getattr(error, "reason", None) in _LOSSES:
            return Failure(crashed(run, f"Dask lost the run: {error}", error), is_loss=not is_lost)
        return Failure(Cancelled(message="The run was cancelled on the Dask cluster."))
    return Failure(_lost(run, error), is_loss=not is_lost)


def _lost(run: TaskRun, error: BaseException | None) -> Crashed:
    worker = getattr(error, "last_worker", None)
    if worker is not None:
        address = getattr(worker, "address", worker)
        return crashed(run, f"The Dask worker {address} died while it had the run", error)
    if error is None:
        return crashed(run, "Dask does not say how the run ended", None)
    cause = "" if error.__cause__ is None else f"; {describe(error.__cause__)}"
    return crashed(run, f"Dask could not execute the run: {describe(error)}{cause}", error)


def crashed(run: TaskRun, message: str, cause: BaseException | None) -> Crashed:
    """Return a run's crash with a message, and with what Dask raised as its exception's cause."""
    exception = RunCrashedError(f"Run {run.name!r} crashed: {message}")
    exception.__cause__ = None if cause is None else bare(cause)
    return Crashed(message=message, exception=exception)


def was_refused(native: NativeFuture) -> bool:
    """Whether the scheduler has refused a graph, because of some key in it."""
    if native.status != "cancelled":
        return False
    return getattr(native._state.exception, "reason", None) == _REFUSED
