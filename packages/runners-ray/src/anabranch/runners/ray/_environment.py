"""Environment variables around Ray: what is set for it, and what it sets itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
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

#: A line in the workers' output that tells this process how far it has come; see `_output`.
END_OF_OUTPUT: Final = ":anabranch_end_of_output:"

#: How many lines Ray reads at most of one file of output before it turns to the next.
LINES_AT_A_TIME: Final = 100_000

#: What of Ray's output is never printed. Ray reads it once, when it is first imported.
_SKIPPED_OUTPUT: Final = "RAY_DEDUP_LOGS_SKIP_REGEX"


@contextmanager
def unchanged_environment(extra: Mapping[str, str]) -> Iterator[None]:
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
    patterns = (os.environ.get(_SKIPPED_OUTPUT), _REPORTED_BY_US, END_OF_OUTPUT)
    return {_SKIPPED_OUTPUT: "|".join(f"(?:{pattern})" for pattern in patterns if pattern)}


def start_variables() -> dict[str, str]:
    """Return the variables for an instance of our own, which sends no usage statistics."""
    return {
        "RAY_LOG_MONITOR_NUM_LINES_TO_READ": str(LINES_AT_A_TIME),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
