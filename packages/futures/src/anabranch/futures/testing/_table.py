"""The whole table."""

from __future__ import annotations

from typing import Final

from anabranch.futures.testing import (
    _attempts,
    _nested,
    _progress,
    _results,
    _starting,
    _waiting,
)
from anabranch.futures.testing._behaviour import Behaviour

#: What every task runner must do.
BEHAVIOURS: Final[tuple[Behaviour, ...]] = (
    *_results.ROWS,
    *_attempts.ROWS,
    *_progress.ROWS,
    *_waiting.ROWS,
    *_starting.ROWS,
    *_nested.ROWS,  # The last of them leaves the runner, and with it a cluster.
)
