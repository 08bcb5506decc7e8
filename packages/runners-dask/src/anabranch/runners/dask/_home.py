"""Where a run belongs: to a run that the process of its flow has submitted."""

from __future__ import annotations

from typing import final

import attrs

from anabranch.futures.runner import LogLevels


@final
@attrs.frozen
class Home:
    """Where a run has its logs and its outcomes sent, from whatever worker it is on.

    Attributes:
        topic: Of the connection in the process of the flow.
        run_id: The run that was submitted there: this one, or one that it is below.
        levels: Which log records are wanted there.
    """

    topic: str
    run_id: str
    levels: LogLevels


# The topics of the connections in this process.
_here: set[str] = set()


def settle_here(topic: str) -> None:
    """Take note that a connection in this process listens to a topic."""
    _here.add(topic)


def leave_here(topic: str) -> None:
    """Take note that it does no longer."""
    _here.discard(topic)


def is_here(topic: str) -> bool:
    """Whether what a worker logs in this process is logged at home."""
    return topic in _here
