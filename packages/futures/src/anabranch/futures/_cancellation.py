"""The answers to a request to cancel a run."""

from __future__ import annotations

import enum


class Cancellation(enum.Enum):
    """What became of a request to cancel a run."""

    CANCELLED = "cancelled"
    """The run is over, and it never ran or did not end by itself."""
    WILL_STOP = "will stop"
    """The run has been told to stop and will end soon."""
    CANNOT_STOP = "cannot stop"
    """The run is over already, or is out of reach, such as a thread in foreign code."""
