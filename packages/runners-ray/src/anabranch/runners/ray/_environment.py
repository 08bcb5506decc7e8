"""Environment variables around Ray: what is set for it, and what it sets itself."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final

# What importing and starting Ray leaves behind in the environment of this process, where it would
# reach the user's own subprocesses, their `breakpoint()`, and a Ray that they start later.
_LEFT_BEHIND: Final = (
    "PYTHONBREAKPOINT",
    "RAY_AUTH_MODE",
    "RAY_CLIENT_MODE",
    "RAY_USAGE_STATS_ENABLED",
)

#: What Ray's node manager prints when a worker dies; the run that it takes along reports that.
_REPORTED_BY_US: Final = "A worker died or was killed while executing a task by an unexpected"

#: How many lines Ray reads at most of one file of output before it turns to the next.
_LINES_AT_A_TIME: Final = "RAY_LOG_MONITOR_NUM_LINES_TO_READ"

#: How long Ray waits in the end for its control service to take its statistics, in milliseconds.
_LAST_STATISTICS: Final = "RAY_task_events_shutdown_flush_timeout_ms"

#: For how long Ray looks for a control service that is gone and has been asked for something, in
#: seconds, before it ends this process.
_LOOKING: Final = "RAY_gcs_rpc_server_reconnect_timeout_s"

#: What of Ray's output is never printed. Ray reads it once, when it is first imported.
_SKIPPED_OUTPUT: Final = "RAY_DEDUP_LOGS_SKIP_REGEX"


@contextmanager
def unchanged_environment(extra: Mapping[str, str]) -> Generator[None]:
    """Let Ray see ``extra`` variables, and leave the environment as it was.

    Args:
        extra: The variables to set meanwhile.
    """
    names = (*_LEFT_BEHIND, *extra)
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(extra)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def import_variables() -> dict[str, str]:
    """Return the variables for Ray's import."""
    patterns = (os.environ.get(_SKIPPED_OUTPUT), _REPORTED_BY_US)
    return {_SKIPPED_OUTPUT: "|".join(f"(?:{pattern})" for pattern in patterns if pattern)}


def connect_variables() -> dict[str, str]:
    """Return the variables for any connection.

    A control service that is gone takes no statistics: Ray would wait five seconds for that. That
    it is gone we notice ourselves, and end nobody's process for it.
    """
    variables = {_LAST_STATISTICS: "500", _LOOKING: str(10**6)}
    return {name: os.environ.get(name, value) for name, value in variables.items()}


def start_variables() -> dict[str, str]:
    """Return the variables for an instance of our own, which sends no usage statistics."""
    return {
        **connect_variables(),
        _LINES_AT_A_TIME: str(lines_at_a_time()),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def lines_at_a_time() -> int:
    """Return how many lines Ray is to read of one file of output before it turns to the next.

    More than Ray's own thousand: what waits behind so many is waited for in the end.
    """
    return int(os.environ.get(_LINES_AT_A_TIME, "10000"))
