"""For tests of flows and tasks: time that a test owns, a runner that records, and assertions.

    from anabranch.flows.testing import RecordingTaskRunner, VirtualClock, assert_completed

    def test_report() -> None:
        recorder = RecordingTaskRunner()
        with VirtualClock() as clock:
            assert_completed(report.with_options(task_runner=recorder).run(), 42)
        assert clock.now() == 7200
        assert recorder.run(fetch).attempts == 3

The fixture ``virtual_clock`` is in `anabranch.flows.testing.fixtures`, which takes pytest.
"""
# The layers, bottom up: _assertions, _record | _recording. fixtures is imported by pytest alone.
# The table of behaviours: _functions | _of_tasks, _of_many, _of_flows, _of_branches | _table.

from __future__ import annotations

from anabranch.flows.testing._assertions import (
    Outcome,
    assert_completed,
    assert_failed,
    assert_state,
)
from anabranch.flows.testing._record import RecordedRun, RunEvent, Which
from anabranch.flows.testing._recording import RecordingTaskRunner
from anabranch.flows.testing._table import FLOW_BEHAVIOURS
from anabranch.futures.runner import publish
from anabranch.futures.testing import Gate, Ticket, VirtualClock

__all__ = [
    "FLOW_BEHAVIOURS",
    "Gate",
    "Outcome",
    "RecordedRun",
    "RecordingTaskRunner",
    "RunEvent",
    "Ticket",
    "VirtualClock",
    "Which",
    "assert_completed",
    "assert_failed",
    "assert_state",
]

publish(globals(), __all__)
