"""What every task runner must do, as a table that any test tool can run.

    from anabranch.futures.testing import BEHAVIOURS, judge_all, report

    verdicts = judge_all(BEHAVIOURS, lambda: MyTaskRunner())
    print(report({"mine": verdicts}))

Under pytest, parametrise one test with `BEHAVIOURS` and a module-wide `Subject`.
"""

from __future__ import annotations

from anabranch.futures._publish import publish
from anabranch.futures.testing._behaviour import (
    NOT_IN_PLACE,
    ONLY_IN_PARALLEL,
    Behaviour,
    Reasons,
    Registrar,
    Subject,
    Unable,
    Verdict,
    judge,
    judge_all,
    new_tally,
    raises,
    registrar,
    report,
    run_on_each_loop,
)
from anabranch.futures.testing._functions import Tally
from anabranch.futures.testing._gate import Gate, Ticket
from anabranch.futures.testing._table import BEHAVIOURS
from anabranch.futures.testing._virtual_clock import VirtualClock

__all__ = [
    "BEHAVIOURS",
    "NOT_IN_PLACE",
    "ONLY_IN_PARALLEL",
    "Behaviour",
    "Gate",
    "Reasons",
    "Registrar",
    "Subject",
    "Tally",
    "Ticket",
    "Unable",
    "Verdict",
    "VirtualClock",
    "judge",
    "judge_all",
    "new_tally",
    "raises",
    "registrar",
    "report",
    "run_on_each_loop",
]

publish(globals(), __all__)
