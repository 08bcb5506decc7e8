"""What the authors of task runners and of engines need besides the public names.

A runner in the same process runs items with `run_item` and `run_item_async`, when `when_ready` says
so. One that runs them in other processes ships them with `pack` and `run_shipment`, and reads their
failures from `RunError`.
"""

from __future__ import annotations

from anabranch.futures._arguments import LOOK_INSIDE, children, rebuild, scan
from anabranch.futures._dependencies import failure_behind, upstream_failure, when_ready
from anabranch.futures._future import BlockingSection, set_blocking_section
from anabranch.futures._lifecycle import (
    resolve_arguments,
    resolve_arguments_async,
    run_item,
    run_item_async,
    run_item_in_new_loop,
    state_of_error,
)
from anabranch.futures._loops import (
    EventLoop,
    LoopThread,
    default_backend,
    in_task,
    mark_library,
    running_loop,
)
from anabranch.futures._publish import publish
from anabranch.futures._remote import Packed, RunError, Shipment, Slot, pack, run_shipment
from anabranch.futures._runner import make_item
from anabranch.futures._scope import RunScope, ScopeOwner, current_scope
from anabranch.futures._signature import CallSignature
from anabranch.futures._states import FINAL_STATES, StoredValue, describe, root_cause
from anabranch.futures._work import is_async_function, new_run_id

__all__ = [
    "FINAL_STATES",
    "LOOK_INSIDE",
    "BlockingSection",
    "CallSignature",
    "EventLoop",
    "LoopThread",
    "Packed",
    "RunError",
    "RunScope",
    "ScopeOwner",
    "Shipment",
    "Slot",
    "StoredValue",
    "children",
    "current_scope",
    "default_backend",
    "describe",
    "failure_behind",
    "in_task",
    "is_async_function",
    "make_item",
    "mark_library",
    "new_run_id",
    "pack",
    "publish",
    "rebuild",
    "resolve_arguments",
    "resolve_arguments_async",
    "root_cause",
    "run_item",
    "run_item_async",
    "run_item_in_new_loop",
    "run_shipment",
    "running_loop",
    "scan",
    "set_blocking_section",
    "state_of_error",
    "upstream_failure",
    "when_ready",
]

publish(globals(), __all__)
