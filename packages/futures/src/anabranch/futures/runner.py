"""What the authors of task runners and of engines need besides the public names.

A runner in the same process runs items with `run_item` and `run_item_async`, when `when_ready` says
so. One that runs them in other processes ships them with `pack` and `run_shipment`, and reads their
failures from `RunError`.
"""

from __future__ import annotations

from anabranch.futures._arguments import (
    LOOK_INSIDE,
    Scan,
    children,
    rebuild,
    scan,
    scan_call,
    substitute,
)
from anabranch.futures._blocking import (
    BlockingSection,
    Lease,
    Pause,
    blocking_section,
    current_lease,
    lent,
    lent_async,
    paused,
    set_blocking_section,
)
from anabranch.futures._callbacks import Keeper
from anabranch.futures._calling import call_here, state_of_error
from anabranch.futures._clock import (
    SYSTEM_CLOCK,
    CancelTimer,
    CurrentClock,
    Hold,
    current_clock,
    current_hold,
    new_hold,
)
from anabranch.futures._counting import AtomicCount
from anabranch.futures._dependencies import failure_behind, upstream_failure, when_ready
from anabranch.futures._forwarding import (
    LogLevels,
    LogSink,
    PackedRecord,
    deliver_record,
    forwarded_logs,
)
from anabranch.futures._future import NO_LOOPS
from anabranch.futures._hosting import RunnerHost
from anabranch.futures._in_flight import AsTheyEnd, InFlight, InOrder
from anabranch.futures._items import make_item, with_retries
from anabranch.futures._lifecycle import (
    Attempt,
    Command,
    Delay,
    Lifecycle,
    Progress,
    attempt_scope,
    lifecycle,
    lifecycle_of,
    make_attempt,
    make_attempt_async,
    make_attempt_in_time,
    only_attempt,
    resolve_arguments,
    resolve_arguments_async,
    run_item,
    run_item_async,
    run_item_in_new_loop,
    timed_out,
)
from anabranch.futures._loops import (
    EventLoop,
    LoopThread,
    default_backend,
    in_task,
    mark_library,
    running_loop,
)
from anabranch.futures._pickling import Dumps, Unpicklable, find_unpicklable, unpicklable_error
from anabranch.futures._publish import publish
from anabranch.futures._remote import (
    Packed,
    RunError,
    Shipment,
    Slot,
    pack,
    run_shipment,
)
from anabranch.futures._reports import Report, Reporter, ReportTaker
from anabranch.futures._retries import NO_RETRIES, check_time_limit
from anabranch.futures._runner import AroundSubmit
from anabranch.futures._scope import FunctionCall, RunScope, ScopeOwner, current_scope, grace
from anabranch.futures._serial_thread import SerialThread
from anabranch.futures._signals import is_interruption, start_thread
from anabranch.futures._signature import CallSignature
from anabranch.futures._small_values import pickled_if_small
from anabranch.futures._states import (
    FINAL_STATES,
    bring_over,
    describe,
    root_cause,
)
from anabranch.futures._stopping import RunStop
from anabranch.futures._stored_values import StoredValue
from anabranch.futures._time_limits import TimeLimiter, limit_by_thread, limited_async
from anabranch.futures._timers import held_clock, sleep, sleep_async, watched_loop
from anabranch.futures._typing import AnyCoroutine, AnyFunction
from anabranch.futures._work import Listener, is_async_function, new_run_id, new_run_serial

__all__ = [
    "FINAL_STATES",
    "LOOK_INSIDE",
    "NO_LOOPS",
    "NO_RETRIES",
    "SYSTEM_CLOCK",
    "AnyCoroutine",
    "AnyFunction",
    "AroundSubmit",
    "AsTheyEnd",
    "AtomicCount",
    "Attempt",
    "BlockingSection",
    "CallSignature",
    "CancelTimer",
    "Command",
    "CurrentClock",
    "Delay",
    "Dumps",
    "EventLoop",
    "FunctionCall",
    "Hold",
    "InFlight",
    "InOrder",
    "Keeper",
    "Lease",
    "Lifecycle",
    "Listener",
    "LogLevels",
    "LogSink",
    "LoopThread",
    "Packed",
    "PackedRecord",
    "Pause",
    "Progress",
    "Report",
    "ReportTaker",
    "Reporter",
    "RunError",
    "RunScope",
    "RunStop",
    "RunnerHost",
    "Scan",
    "ScopeOwner",
    "SerialThread",
    "Shipment",
    "Slot",
    "StoredValue",
    "TimeLimiter",
    "Unpicklable",
    "attempt_scope",
    "blocking_section",
    "bring_over",
    "call_here",
    "check_time_limit",
    "children",
    "current_clock",
    "current_hold",
    "current_lease",
    "current_scope",
    "default_backend",
    "deliver_record",
    "describe",
    "failure_behind",
    "find_unpicklable",
    "forwarded_logs",
    "grace",
    "held_clock",
    "in_task",
    "is_async_function",
    "is_interruption",
    "lent",
    "lent_async",
    "lifecycle",
    "lifecycle_of",
    "limit_by_thread",
    "limited_async",
    "make_attempt",
    "make_attempt_async",
    "make_attempt_in_time",
    "make_item",
    "mark_library",
    "new_hold",
    "new_run_id",
    "new_run_serial",
    "only_attempt",
    "pack",
    "paused",
    "pickled_if_small",
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
    "scan_call",
    "set_blocking_section",
    "sleep",
    "sleep_async",
    "start_thread",
    "state_of_error",
    "substitute",
    "timed_out",
    "unpicklable_error",
    "upstream_failure",
    "watched_loop",
    "when_ready",
    "with_retries",
]

publish(globals(), __all__)
