"""The whole table."""

from __future__ import annotations

from typing import Final

from anabranch.flows.testing import _of_branches, _of_flows, _of_many, _of_tasks
from anabranch.futures.testing import Behaviour

#: What flows and tasks must do on every task runner.
FLOW_BEHAVIOURS: Final[tuple[Behaviour, ...]] = (
    *_of_tasks.ROWS,
    *_of_many.ROWS,
    *_of_flows.ROWS,
    *_of_branches.ROWS,
)
