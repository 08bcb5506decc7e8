"""Wrong uses of what writers of runners and engines use."""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Iterable

from anabranch.futures import (
    Completed,
    Future,
    Retrying,
    State,
    TaskRun,
    TaskRunner,
    WorkItem,
)
from anabranch.futures import runner as runner_module
from anabranch.futures.runner import (
    FINAL_STATES,
    LOOK_INSIDE,
    NO_LOOPS,
    NO_RETRIES,
    SYSTEM_CLOCK,
    AnyCoroutine,
    AnyFunction,
    AroundSubmit,
    AsTheyEnd,
    AtomicCount,
    Attempt,
    BlockingSection,
    CallSignature,
    CancelTimer,
    Command,
    CurrentClock,
    Delay,
    Dumps,
    EventLoop,
    FunctionCall,
    Hold,
    InFlight,
    InOrder,
    Keeper,
    Lease,
    Lifecycle,
    Listener,
    LogLevels,
    LogSink,
    LoopThread,
    Packed,
    PackedRecord,
    Pause,
    Progress,
    Report,
    Reporter,
    ReportTaker,
    RunError,
    RunnerHost,
    RunScope,
    RunStop,
    Scan,
    ScopeOwner,
    SerialThread,
    Shipment,
    Slot,
    StoredValue,
    TimeLimiter,
    Unpicklable,
    attempt_scope,
    blocking_section,
    bring_over,
    call_here,
    check_time_limit,
    children,
    current_clock,
    current_hold,
    current_lease,
    current_scope,
    default_backend,
    deliver_record,
    describe,
    failure_behind,
    find_unpicklable,
    forwarded_logs,
    grace,
    held_clock,
    in_task,
    is_async_function,
    is_interruption,
    lent,
    lent_async,
    lifecycle,
    lifecycle_of,
    limit_by_thread,
    limited_async,
    make_attempt,
    make_attempt_async,
    make_attempt_in_time,
    make_item,
    mark_library,
    new_hold,
    new_run_id,
    new_run_serial,
    only_attempt,
    pack,
    paused,
    pickled_if_small,
    publish,
    rebuild,
    resolve_arguments,
    resolve_arguments_async,
    root_cause,
    run_item,
    run_item_async,
    run_item_in_new_loop,
    run_shipment,
    running_loop,
    scan,
    scan_call,
    set_blocking_section,
    sleep,
    sleep_async,
    start_thread,
    state_of_error,
    substitute,
    timed_out,
    unpicklable_error,
    upstream_failure,
    watched_loop,
    when_ready,
    with_retries,
)
from typing_tests.functions import aplain, plain

run = TaskRun(new_run_id(), "plain-1", "plain")
item: WorkItem[float] = make_item(plain, (1,), {}, run)
future: Future[int] = Future(run)
error = LookupError("gone")
hold = Hold(SYSTEM_CLOCK)
first = Attempt(1)


class HalfLease:
    """Lacks `take_back`."""

    def belongs_to(self, run: Future[object]) -> None:
        assert not run.done()

    def lend(self) -> None:
        return None


def note(run: TaskRun) -> None:
    assert run.name


def get_ready(ready: object) -> None:
    assert ready


# Types by their names.
found: Scan = scan([1]).upstreams
# mypy says: Incompatible types in assignment (expression has type "tuple[Future[object], ...]", variable has type "Scan")  [assignment]
# pyright says: Type "tuple[Future[object], ...]" is not assignable to declared type "Scan"  [reportAssignmentType]
which: CurrentClock = SYSTEM_CLOCK
# mypy says: Incompatible types in assignment (expression has type "SystemClock", variable has type "CurrentClock")  [assignment]
# pyright says: Type "SystemClock" is not assignable to declared type "CurrentClock"  [reportAssignmentType]
dumps: Dumps = str
# mypy says: Incompatible types in assignment (expression has type "type[str]", variable has type "Callable[[object], bytes]")  [assignment]
# pyright says: Type "type[str]" is not assignable to declared type "Dumps"  [reportAssignmentType]
keeper: Keeper = run
# mypy says: Incompatible types in assignment (expression has type "TaskRun", variable has type "Keeper")  [assignment]
# pyright says: Type "TaskRun" is not assignable to declared type "Keeper"  [reportAssignmentType]
call: FunctionCall = (plain, 1)
# mypy says: Incompatible types in assignment (expression has type "tuple[Callable[[int, str], float], int]", variable has type "tuple[Callable[..., object], tuple[object, ...], Mapping[str, object]]")  [assignment]
# pyright says: Type "tuple[(x: int, y: str = "") -> float, Literal[1]]" is not assignable to declared type "FunctionCall"  [reportAssignmentType]
around: AroundSubmit = note
# mypy says: Incompatible types in assignment (expression has type "Callable[[TaskRun], None]", variable has type "AroundSubmit")  [assignment]
# pyright says: Type "(run: TaskRun) -> None" is not assignable to declared type "AroundSubmit"  [reportAssignmentType]
function: AnyFunction[int] = str
# mypy says: Incompatible types in assignment (expression has type "type[str]", variable has type "Callable[..., int]")  [assignment]
# pyright says: Type "type[str]" is not assignable to declared type "AnyFunction[int]"  [reportAssignmentType]
coroutine: AnyCoroutine[str] = aplain(1)
# mypy says: Incompatible types in assignment (expression has type "Coroutine[Any, Any, bytes]", variable has type "Coroutine[Any, Any, str]")  [assignment]
# pyright says: Type "CoroutineType[Any, Any, bytes]" is not assignable to declared type "AnyCoroutine[str]"  [reportAssignmentType]

# Constants.
isinstance(error, FINAL_STATES)
# mypy says: Argument 2 to "isinstance" has incompatible type "frozenset[type[object]]"; expected "_ClassInfo"  [arg-type]
# pyright says: Argument of type "frozenset[type[object]]" cannot be assigned to parameter "class_or_tuple" of type "_ClassInfo" in function "isinstance"  [reportArgumentType]
loops: set[int] = NO_LOOPS
# mypy says: Incompatible types in assignment (expression has type "frozenset[int]", variable has type "set[int]")  [assignment]
# pyright says: Type "frozenset[int]" is not assignable to declared type "set[int]"  [reportAssignmentType]
NO_RETRIES.retries = 3
# mypy says: Property "retries" defined in "RetryPolicy" is read-only  [misc]
# pyright says: Cannot assign to attribute "retries" for class "RetryPolicy"  [reportAttributeAccessIssue]
SYSTEM_CLOCK.advance(60)
# mypy says: "SystemClock" has no attribute "advance"  [attr-defined]
# pyright says: Type of "advance" is unknown  [reportUnknownMemberType]
# pyright says: Cannot access attribute "advance" for class "SystemClock"  [reportAttributeAccessIssue]
inside: str = LOOK_INSIDE
# mypy says: Incompatible types in assignment (expression has type "object", variable has type "str")  [assignment]
# pyright says: Type "object" is not assignable to declared type "str"  [reportAssignmentType]

# Arguments.
children()
# mypy says: Missing positional argument "value" in call to "children"  [call-arg]
# pyright says: Argument missing for parameter "value"  [reportCallIssue]
inner: Iterable[object] = children([future])
# mypy says: Incompatible types in assignment (expression has type "Iterable[object] | None", variable has type "Iterable[object]")  [assignment]
# pyright says: Type "Iterable[object] | None" is not assignable to declared type "Iterable[object]"  [reportAssignmentType]
scan(future)
# mypy says: Argument 1 to "scan" has incompatible type "Future[int]"; expected "Iterable[object]"  [arg-type]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "values" of type "Iterable[object]" in function "scan"  [reportArgumentType]
scan_call([future], {})
# mypy says: Argument 1 to "scan_call" has incompatible type "list[Future[int]]"; expected "tuple[object, ...]"  [arg-type]
# pyright says: Argument of type "list[Future[int]]" cannot be assigned to parameter "args" of type "tuple[object, ...]" in function "scan_call"  [reportArgumentType]
rebuild((1,), {})
# mypy says: Missing positional argument "replace" in call to "rebuild"  [call-arg]
# pyright says: Argument missing for parameter "replace"  [reportCallIssue]
substitute((1,), {}, str)
# mypy says: Missing positional argument "failure_of" in call to "substitute"  [call-arg]
# pyright says: Argument missing for parameter "failure_of"  [reportCallIssue]
CallSignature(plain)
# mypy says: Missing positional argument "name" in call to "CallSignature"  [call-arg]
# pyright says: Argument missing for parameter "name"  [reportCallIssue]
CallSignature(plain, "plain").check(1, y="a")
# mypy says: Unexpected keyword argument "y" for "check" of "CallSignature"  [call-arg]
# mypy says: Argument 1 to "check" of "CallSignature" has incompatible type "int"; expected "tuple[object, ...]"  [arg-type]
# pyright says: Argument missing for parameter "kwargs"  [reportCallIssue]
# pyright says: No parameter named "y"  [reportCallIssue]

# Items.
make_item(plain, [1], {}, run)
# mypy says: Argument 2 to "make_item" has incompatible type "list[int]"; expected "tuple[object, ...]"  [arg-type]
# pyright says: Argument of type "list[int]" cannot be assigned to parameter "args" of type "tuple[object, ...]" in function "make_item"  [reportArgumentType]
make_item(plain, (1,), {})
# mypy says: Missing positional argument "task_run" in call to "make_item"  [call-arg]
# pyright says: Argument missing for parameter "task_run"  [reportCallIssue]
make_item(plain, (1,), {}, "plain-1")
# mypy says: Argument 4 to "make_item" has incompatible type "str"; expected "TaskRun"  [arg-type]
# pyright says: Argument of type "Literal['plain-1']" cannot be assigned to parameter "task_run" of type "TaskRun" in function "make_item"  [reportArgumentType]
make_item(plain, (1,), {}, run, time_limit="2.5 s")
# mypy says: Argument "time_limit" to "make_item" has incompatible type "str"; expected "float | None"  [arg-type]
# pyright says: Argument of type "Literal['2.5 s']" cannot be assigned to parameter "time_limit" of type "float | None" in function "make_item"  [reportArgumentType]
make_item(plain, (1,), {}, run, runner_options={"priority": 10})
# mypy says: Dict entry 0 has incompatible type "str": "int"; expected "str": "Mapping[str, object]"  [dict-item]
# pyright says: Argument of type "dict[str, int]" cannot be assigned to parameter "runner_options" of type "Mapping[str, Mapping[str, object]]" in function "make_item"  [reportArgumentType]
with_retries(item, 2, "anabranch")
# mypy says: Argument 3 to "with_retries" has incompatible type "str"; expected "Logger"  [arg-type]
# pyright says: Argument of type "Literal['anabranch']" cannot be assigned to parameter "logger" of type "Logger" in function "with_retries"  [reportArgumentType]
other: WorkItem[str] = with_retries(item, 2, logging.getLogger(__name__))
# mypy says: Argument 1 to "with_retries" has incompatible type "WorkItem[float]"; expected "WorkItem[str]"  [arg-type]
# pyright says: Type "WorkItem[float]" is not assignable to declared type "WorkItem[str]"  [reportAssignmentType]
is_async_function("aplain")
# mypy says: Argument 1 to "is_async_function" has incompatible type "str"; expected "Callable[..., object]"  [arg-type]
# pyright says: Argument of type "Literal['aplain']" cannot be assigned to parameter "function" of type "AnyFunction[object]" in function "is_async_function"  [reportArgumentType]
run_id: int = new_run_id()
# mypy says: Incompatible types in assignment (expression has type "str", variable has type "int")  [assignment]
# pyright says: Type "str" is not assignable to declared type "int"  [reportAssignmentType]
serial: str = new_run_serial()
# mypy says: Incompatible types in assignment (expression has type "int", variable has type "str")  [assignment]
# pyright says: Type "int" is not assignable to declared type "str"  [reportAssignmentType]
time_limit: float = check_time_limit(2.5)
# mypy says: Incompatible types in assignment (expression has type "float | None", variable has type "float")  [assignment]
# pyright says: Type "float | None" is not assignable to declared type "float"  [reportAssignmentType]
listener: Listener = note
# mypy says: Incompatible types in assignment (expression has type "Callable[[TaskRun], None]", variable has type "Callable[[TaskRun, Running | Retrying], object]")  [assignment]
# pyright says: Type "(run: TaskRun) -> None" is not assignable to declared type "Listener"  [reportAssignmentType]

# Dependencies.
failure_behind(item)
# mypy says: Argument 1 to "failure_behind" has incompatible type "WorkItem[float]"; expected "Future[object]"  [arg-type]
# pyright says: Argument of type "WorkItem[float]" cannot be assigned to parameter "upstream" of type "Future[object]" in function "failure_behind"  [reportArgumentType]
upstream_failure(future)
# mypy says: Argument 1 to "upstream_failure" has incompatible type "Future[int]"; expected "WorkItem[Never]"  [arg-type]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "item" of type "WorkItem[R@upstream_failure]" in function "upstream_failure"  [reportArgumentType]
when_ready(item, print)
# mypy says: Missing positional argument "fail" in call to "when_ready"  [call-arg]
# pyright says: Argument missing for parameter "fail"  [reportCallIssue]
when_ready(item, print, print, future)
# mypy says: Argument 4 to "when_ready" has incompatible type "Future[int]"; expected "Iterable[Future[object]] | None"  [arg-type]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "waiting_for" of type "Iterable[Future[object]] | None" in function "when_ready"  [reportArgumentType]

# Lifecycles.
lifecycle(3)
# mypy says: Argument 1 to "lifecycle" has incompatible type "int"; expected "RetryPolicy"  [arg-type]
# pyright says: Argument of type "Literal[3]" cannot be assigned to parameter "retry" of type "RetryPolicy" in function "lifecycle"  [reportArgumentType]
lifecycle_of(run)
# mypy says: Argument 1 to "lifecycle_of" has incompatible type "TaskRun"; expected "WorkItem[object]"  [arg-type]
# pyright says: Argument of type "TaskRun" cannot be assigned to parameter "item" of type "WorkItem[object]" in function "lifecycle_of"  [reportArgumentType]
unsent: Lifecycle = lifecycle_of
# mypy says: Incompatible types in assignment (expression has type "Callable[[WorkItem[object], int], Generator[Attempt | Delay, Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed | None, Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed]]", variable has type "Generator[Attempt | Delay, Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed | None, Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed]")  [assignment]
# pyright says: Type "(item: WorkItem[object], first_attempt: int = 1) -> Lifecycle" is not assignable to declared type "Lifecycle"  [reportAssignmentType]
steps: Lifecycle = (Attempt(number) for number in range(3))
# mypy says: Incompatible types in assignment (expression has type "Generator[Attempt | Delay, None, None]", variable has type "Generator[Attempt | Delay, Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed | None, Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed]")  [assignment]
# pyright says: Type "Generator[Attempt, None, None]" is not assignable to declared type "Lifecycle"  [reportAssignmentType]
lifecycle().send(1)
# mypy says: Argument 1 to "send" of "Generator" has incompatible type "int"; expected "Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed | None"  [arg-type]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "value" of type "State[object] | None" in function "send"  [reportArgumentType]
command: Command = Retrying()
# mypy says: Incompatible types in assignment (expression has type "Retrying", variable has type "Attempt | Delay")  [assignment]
# pyright says: Type "Retrying" is not assignable to declared type "Command"  [reportAssignmentType]
attempt: Attempt = next(lifecycle())
# mypy says: Incompatible types in assignment (expression has type "Attempt | Delay", variable has type "Attempt")  [assignment]
# pyright says: Type "Command" is not assignable to declared type "Attempt"  [reportAssignmentType]
Attempt("1")
# mypy says: Argument 1 to "Attempt" has incompatible type "str"; expected "int"  [arg-type]
# pyright says: Argument of type "Literal['1']" cannot be assigned to parameter "number" of type "int" in function "__init__"  [reportArgumentType]
Attempt(1).number = 2
# mypy says: Property "number" defined in "Attempt" is read-only  [misc]
# pyright says: Cannot assign to attribute "number" for class "Attempt"  [reportAttributeAccessIssue]
Delay(2.5)
# mypy says: Missing positional argument "state" in call to "Delay"  [call-arg]
# pyright says: Argument missing for parameter "state"  [reportCallIssue]
only: Attempt = only_attempt(item)
# mypy says: Incompatible types in assignment (expression has type "Attempt | None", variable has type "Attempt")  [assignment]
# pyright says: Type "Attempt | None" is not assignable to declared type "Attempt"  [reportAssignmentType]
progress: Progress = note
# mypy says: Incompatible types in assignment (expression has type "Callable[[TaskRun], None]", variable has type "Callable[[Running | Retrying], object]")  [assignment]
# pyright says: Type "(run: TaskRun) -> None" is not assignable to declared type "Progress"  [reportAssignmentType]

# Attempts.
attempt_scope(item, 1, None)
# mypy says: Argument 2 to "attempt_scope" has incompatible type "int"; expected "Attempt"  [arg-type]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "attempt" of type "Attempt" in function "attempt_scope"  [reportArgumentType]
make_attempt(item, first)
# mypy says: Missing positional argument "runner" in call to "make_attempt"  [call-arg]
# pyright says: Argument missing for parameter "runner"  [reportCallIssue]
make_attempt(item, 1, None)
# mypy says: Argument 2 to "make_attempt" has incompatible type "int"; expected "Attempt"  [arg-type]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "attempt" of type "Attempt" in function "make_attempt"  [reportArgumentType]
make_attempt_in_time(item, first, None, 2.5)
# mypy says: Argument 4 to "make_attempt_in_time" has incompatible type "float"; expected "Callable[[Callable[[], Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed], float], Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed | None]"  [arg-type]
# pyright says: Argument of type "float" cannot be assigned to parameter "limiter" of type "TimeLimiter" in function "make_attempt_in_time"  [reportArgumentType]
resolve_arguments(run)
# mypy says: Argument 1 to "resolve_arguments" has incompatible type "TaskRun"; expected "WorkItem[Never]"  [arg-type]
# pyright says: Argument of type "TaskRun" cannot be assigned to parameter "item" of type "WorkItem[R@resolve_arguments]" in function "resolve_arguments"  [reportArgumentType]
args, kwargs = resolve_arguments_async(item)
# mypy says: "Coroutine[Any, Any, tuple[tuple[object, ...], Mapping[str, object]]]" object is not iterable  [misc]
# pyright says: Type of "args" is unknown  [reportUnknownVariableType]
# pyright says: Type of "kwargs" is unknown  [reportUnknownVariableType]
# pyright says: "CoroutineType[Any, Any, tuple[tuple[object, ...], Mapping[str, object]]]" is not iterable  [reportGeneralTypeIssues]
timed_out(run, "2.5 s")
# mypy says: Argument 2 to "timed_out" has incompatible type "str"; expected "float"  [arg-type]
# pyright says: Argument of type "Literal['2.5 s']" cannot be assigned to parameter "seconds" of type "float" in function "timed_out"  [reportArgumentType]
timed_out("plain-1", 2.5)
# mypy says: Argument 1 to "timed_out" has incompatible type "str"; expected "TaskRun | FlowRun"  [arg-type]
# pyright says: Argument of type "Literal['plain-1']" cannot be assigned to parameter "run" of type "TaskRun | FlowRun" in function "timed_out"  [reportArgumentType]

# Runs.
run_item(plain)
# mypy says: Argument 1 to "run_item" has incompatible type "Callable[[int, str], float]"; expected "WorkItem[Never]"  [arg-type]
# pyright says: Argument of type "(x: int, y: str = "") -> float" cannot be assigned to parameter "item" of type "WorkItem[R@run_item]" in function "run_item"  [reportArgumentType]
run_item(item, 2)
# mypy says: Argument 2 to "run_item" has incompatible type "int"; expected "TaskRunner | None"  [arg-type]
# pyright says: Argument of type "Literal[2]" cannot be assigned to parameter "runner" of type "TaskRunner | None" in function "run_item"  [reportArgumentType]
run_item(item, limiter=30.0)
# mypy says: Argument "limiter" to "run_item" has incompatible type "float"; expected "Callable[[Callable[[], Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed], float], Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed | None]"  [arg-type]
# pyright says: Argument of type "float" cannot be assigned to parameter "limiter" of type "TimeLimiter" in function "run_item"  [reportArgumentType]
number: State[str] = run_item(item)
# mypy says: Argument 1 to "run_item" has incompatible type "WorkItem[float]"; expected "WorkItem[str]"  [arg-type]
# pyright says: Type "State[float]" is not assignable to declared type "State[str]"  [reportAssignmentType]
run_item_in_new_loop(aplain(1))
# mypy says: Argument 1 to "run_item_in_new_loop" has incompatible type "Coroutine[Any, Any, bytes]"; expected "WorkItem[Never]"  [arg-type]
# pyright says: Argument of type "CoroutineType[Any, Any, bytes]" cannot be assigned to parameter "item" of type "WorkItem[R@run_item_in_new_loop]" in function "run_item_in_new_loop"  [reportArgumentType]
run_item_in_new_loop(item, rest=1.0)
# mypy says: Argument "rest" to "run_item_in_new_loop" has incompatible type "float"; expected "Callable[[float], object]"  [arg-type]
# pyright says: Argument of type "float" cannot be assigned to parameter "rest" of type "(float) -> object" in function "run_item_in_new_loop"  [reportArgumentType]
call_here(plain, (1,), {}, run)
# mypy says: Missing positional argument "surrounding" in call to "call_here"  [call-arg]
# pyright says: Argument missing for parameter "surrounding"  [reportCallIssue]
call_here(plain(1), (), {}, run, None)
# mypy says: Argument 1 to "call_here" has incompatible type "float"; expected "Callable[..., object]"  [arg-type]
# pyright says: Argument of type "float" cannot be assigned to parameter "function" of type "AnyFunction[object]" in function "call_here"  [reportArgumentType]


async def async_runs() -> None:
    await run_item_async(plain)
    # mypy says: Argument 1 to "run_item_async" has incompatible type "Callable[[int, str], float]"; expected "WorkItem[Never]"  [arg-type]
    # pyright says: Argument of type "(x: int, y: str = "") -> float" cannot be assigned to parameter "item" of type "WorkItem[R@run_item_async]" in function "run_item_async"  [reportArgumentType]
    await run_item_async(item, limiter=limit_by_thread)
    # mypy says: Unexpected keyword argument "limiter" for "run_item_async"  [call-arg]
    # pyright says: No parameter named "limiter"  [reportCallIssue]
    await make_attempt_async(item, first)
    # mypy says: Missing positional argument "runner" in call to "make_attempt_async"  [call-arg]
    # pyright says: Argument missing for parameter "runner"  [reportCallIssue]
    await resolve_arguments_async(item.args)
    # mypy says: Argument 1 to "resolve_arguments_async" has incompatible type "tuple[object, ...]"; expected "WorkItem[Never]"  [arg-type]
    # pyright says: Argument of type "tuple[object, ...]" cannot be assigned to parameter "item" of type "WorkItem[R@resolve_arguments_async]" in function "resolve_arguments_async"  [reportArgumentType]
    await limited_async(lambda: 1, 30.0)
    # mypy says: Argument 1 to "limited_async" has incompatible type "Callable[[], int]"; expected "Callable[[], Awaitable[Never]]"  [arg-type]
    # mypy says: Incompatible return value type (got "int", expected "Awaitable[Never]")  [return-value]
    # pyright says: Argument of type "() -> Literal[1]" cannot be assigned to parameter "function" of type "() -> Awaitable[T@limited_async]" in function "limited_async"  [reportArgumentType]
    await sleep_async()
    # mypy says: Missing positional argument "seconds" in call to "sleep_async"  [call-arg]
    # pyright says: Argument missing for parameter "seconds"  [reportCallIssue]
    await sleep_async("1 s")
    # mypy says: Argument 1 to "sleep_async" has incompatible type "str"; expected "float"  [arg-type]
    # pyright says: Argument of type "Literal['1 s']" cannot be assigned to parameter "seconds" of type "float" in function "sleep_async"  [reportArgumentType]


# States.
state_of_error("gone")
# mypy says: Argument 1 to "state_of_error" has incompatible type "str"; expected "BaseException"  [arg-type]
# pyright says: Argument of type "Literal['gone']" cannot be assigned to parameter "error" of type "BaseException" in function "state_of_error"  [reportArgumentType]
describe("gone")
# mypy says: Argument 1 to "describe" has incompatible type "str"; expected "BaseException"  [arg-type]
# pyright says: Argument of type "Literal['gone']" cannot be assigned to parameter "exception" of type "BaseException" in function "describe"  [reportArgumentType]
root_cause(Completed(1))
# mypy says: Argument 1 to "root_cause" has incompatible type "Completed[int]"; expected "Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed"  [arg-type]
# pyright says: Argument of type "Completed[int]" cannot be assigned to parameter "state" of type "Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed" in function "root_cause"  [reportArgumentType]
root_cause(error)
# mypy says: Argument 1 to "root_cause" has incompatible type "LookupError"; expected "Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed"  [arg-type]
# pyright says: Argument of type "LookupError" cannot be assigned to parameter "state" of type "Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed" in function "root_cause"  [reportArgumentType]
is_interruption("SIGINT")
# mypy says: Argument 1 to "is_interruption" has incompatible type "str"; expected "BaseException | None"  [arg-type]
# pyright says: Argument of type "Literal['SIGINT']" cannot be assigned to parameter "error" of type "BaseException | None" in function "is_interruption"  [reportArgumentType]
fetched: str = StoredValue[int]().get()
# mypy says: Incompatible types in assignment (expression has type "int", variable has type "str")  [assignment]
# pyright says: Type "int" is not assignable to declared type "str"  [reportAssignmentType]
in_place: Completed[str] = Completed(StoredValue[int]())
# mypy says: Argument 1 to "Completed" has incompatible type "StoredValue[int]"; expected "str | StoredValue[str]"  [arg-type]
# pyright says: Type "Completed[int]" is not assignable to declared type "Completed[str]"  [reportAssignmentType]

# Waits.
set_blocking_section(future)
# mypy says: Argument 1 to "set_blocking_section" has incompatible type "Future[int]"; expected "BlockingSection | None"  [arg-type]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "section" of type "BlockingSection | None" in function "set_blocking_section"  [reportArgumentType]
section: BlockingSection = blocking_section()
# mypy says: Incompatible types in assignment (expression has type "BlockingSection | None", variable has type "BlockingSection")  [assignment]
# pyright says: Type "BlockingSection | None" is not assignable to declared type "BlockingSection"  [reportAssignmentType]
BlockingSection().wait()
# mypy says: Missing positional argument "future" in call to "wait" of "BlockingSection"  [call-arg]
# pyright says: Argument missing for parameter "future"  [reportCallIssue]
Pause(SYSTEM_CLOCK)
# mypy says: Argument 1 to "Pause" has incompatible type "SystemClock"; expected "Hold"  [arg-type]
# pyright says: Argument of type "SystemClock" cannot be assigned to parameter "hold" of type "Hold" in function "__init__"  [reportArgumentType]
paused(hold)
# mypy says: Missing positional argument "until" in call to "paused"  [call-arg]
# pyright says: Argument missing for parameter "until"  [reportCallIssue]
Lease()
# mypy says: Cannot instantiate protocol class "Lease"  [misc]
# pyright says: Cannot instantiate Protocol class "Lease"  [reportAbstractUsage]
lease: Lease = HalfLease()
# mypy says: Incompatible types in assignment (expression has type "HalfLease", variable has type "Lease")  [assignment]
# pyright says: Type "HalfLease" is not assignable to declared type "Lease"  [reportAssignmentType]
lent(current_lease.get())
# mypy says: Argument 1 to "lent" has incompatible type "Lease | None"; expected "Lease"  [arg-type]
# pyright says: Argument of type "Lease | None" cannot be assigned to parameter "lease" of type "Lease"  [reportArgumentType]
lent_async(current_lease.get())
# mypy says: Argument 1 to "lent_async" has incompatible type "Lease | None"; expected "Lease"  [arg-type]
# pyright says: Argument of type "Lease | None" cannot be assigned to parameter "lease" of type "Lease"  [reportArgumentType]
current_lease.set(future)
# mypy says: Argument 1 to "set" of "ContextVar" has incompatible type "Future[int]"; expected "Lease | None"  [arg-type]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "value" of type "Lease | None" in function "set"  [reportArgumentType]

# Time.
current_clock.set("virtual")
# mypy says: Argument 1 to "set" of "CurrentClock" has incompatible type "str"; expected "Clock"  [arg-type]
# pyright says: Argument of type "Literal['virtual']" cannot be assigned to parameter "clock" of type "Clock" in function "set"  [reportArgumentType]
timer: CancelTimer = threading.Timer(60, print)
# mypy says: Incompatible types in assignment (expression has type "Timer", variable has type "Callable[[], None]")  [assignment]
# pyright says: Type "Timer" is not assignable to declared type "CancelTimer"  [reportAssignmentType]
Hold()
# mypy says: Missing positional argument "clock" in call to "Hold"  [call-arg]
# pyright says: Argument missing for parameter "clock"  [reportCallIssue]
new_hold(SYSTEM_CLOCK).end()
# mypy says: Item "None" of "Hold | None" has no attribute "end"  [union-attr]
# pyright says: "end" is not a known attribute of "None"  [reportOptionalMemberAccess]
current_hold.get().pause()
# mypy says: Item "None" of "Hold | None" has no attribute "pause"  [union-attr]
# pyright says: "pause" is not a known attribute of "None"  [reportOptionalMemberAccess]
held_clock(SYSTEM_CLOCK)
# mypy says: Too many arguments for "held_clock"  [call-arg]
# pyright says: Expected 0 positional arguments  [reportCallIssue]
watched_loop(running_loop())
# mypy says: Too many arguments for "watched_loop"  [call-arg]
# pyright says: Expected 0 positional arguments  [reportCallIssue]
sleep("1 s")
# mypy says: Argument 1 to "sleep" has incompatible type "str"; expected "float"  [arg-type]
# pyright says: Argument of type "Literal['1 s']" cannot be assigned to parameter "seconds" of type "float" in function "sleep"  [reportArgumentType]
limited: int = limit_by_thread(lambda: 1, 30.0)
# mypy says: Incompatible types in assignment (expression has type "int | None", variable has type "int")  [assignment]
# pyright says: Type "int | None" is not assignable to declared type "int"  [reportAssignmentType]
limiter: TimeLimiter = sleep
# mypy says: Incompatible types in assignment (expression has type "Callable[[float], None]", variable has type "Callable[[Callable[[], Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed], float], Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed | None]")  [assignment]
# pyright says: Type "(seconds: float) -> None" is not assignable to declared type "TimeLimiter"  [reportAssignmentType]

# Loops and threads.
running_loop().call_soon(print)
# mypy says: Item "None" of "EventLoop | None" has no attribute "call_soon"  [union-attr]
# pyright says: "call_soon" is not a known attribute of "None"  [reportOptionalMemberAccess]
EventLoop("curio", print)
# mypy says: Argument 1 to "EventLoop" has incompatible type "Literal['curio']"; expected "Literal['trio', 'asyncio']"  [arg-type]
# pyright says: Argument of type "Literal['curio']" cannot be assigned to parameter "backend" of type "Backend" in function "__init__"  [reportArgumentType]
in_task(future)
# mypy says: Too many arguments for "in_task"  [call-arg]
# pyright says: Expected 0 positional arguments  [reportCallIssue]
default_backend("trio")
# mypy says: Too many arguments for "default_backend"  [call-arg]
# pyright says: Expected 0 positional arguments  [reportCallIssue]
mark_library("curio")
# mypy says: Argument 1 to "mark_library" has incompatible type "Literal['curio']"; expected "Literal['trio', 'asyncio'] | None"  [arg-type]
# pyright says: Argument of type "Literal['curio']" cannot be assigned to parameter "backend" of type "Backend | None" in function "mark_library"  [reportArgumentType]
LoopThread(get_ready)
# mypy says: Argument 1 to "LoopThread" has incompatible type "Callable[[object], None]"; expected "Callable[[Callable[[], None]], Awaitable[None]]"  [arg-type]
# pyright says: Argument of type "(ready: object) -> None" cannot be assigned to parameter "main" of type "(() -> None) -> Awaitable[None]" in function "__init__"  [reportArgumentType]
SerialThread()
# mypy says: Missing positional argument "name" in call to "SerialThread"  [call-arg]
# pyright says: Argument missing for parameter "name"  [reportCallIssue]
text: str = SerialThread("numbers").call(int)
# mypy says: Incompatible types in assignment (expression has type "int", variable has type "str")  [assignment]
# pyright says: Type "int" is not assignable to declared type "str"  [reportAssignmentType]
start_thread(print)
# mypy says: Argument 1 to "start_thread" has incompatible type overloaded function; expected "Thread"  [arg-type]
# pyright says: Argument of type "Overload[(*values: object, sep: str | None = " ", end: str | None = "\n", file: SupportsWrite[str] | None = None, flush: Literal[False] = False) -> None, (*values: object, sep: str | None = " ", end: str | None = "\n", file: _SupportsWriteAndFlush[str] | None = None, flush: bool) -> None]" cannot be assigned to parameter "thread" of type "Thread" in function "start_thread"  [reportArgumentType]
AtomicCount().add(2)
# mypy says: Too many arguments  [call-arg]
# pyright says: Expected 0 positional arguments  [reportCallIssue]
count: int = AtomicCount()
# mypy says: Incompatible types in assignment (expression has type "AtomicCount", variable has type "int")  [assignment]
# pyright says: Type "AtomicCount" is not assignable to declared type "int"  [reportAssignmentType]

# Many runs.
InFlight[int]()
# mypy says: Cannot instantiate abstract class "InFlight" with abstract attributes "__len__", "add", ... and "pop" (4 methods suppressed)  [abstract]
# pyright says: Cannot instantiate abstract class "InFlight"  [reportAbstractUsage]
InOrder[str]().add(future)
# mypy says: Argument 1 to "add" of "InOrder" has incompatible type "Future[int]"; expected "Future[str]"  [arg-type]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "run" of type "Future[str]" in function "add"  [reportArgumentType]
AsTheyEnd[int]().add("plain-1")
# mypy says: Argument 1 to "add" of "AsTheyEnd" has incompatible type "str"; expected "Future[int]"  [arg-type]
# pyright says: Argument of type "Literal['plain-1']" cannot be assigned to parameter "run" of type "Future[int]" in function "add"  [reportArgumentType]
value: int = AsTheyEnd[int]().join().result()
# mypy says: Item "None" of "Future[int] | None" has no attribute "result"  [union-attr]
# pyright says: "result" is not a known attribute of "None"  [reportOptionalMemberAccess]

# Scopes.
RunScope(run)
# mypy says: Argument 1 to "RunScope" has incompatible type "TaskRun"; expected "FlowRun | None"  [arg-type]
# pyright says: Argument of type "TaskRun" cannot be assigned to parameter "flow_run" of type "FlowRun | None" in function "__init__"  [reportArgumentType]
RunScope(task_run=run, owner=run)
# mypy says: Argument "owner" to "RunScope" has incompatible type "TaskRun"; expected "ScopeOwner | None"  [arg-type]
# pyright says: Argument of type "TaskRun" cannot be assigned to parameter "owner" of type "ScopeOwner | None" in function "__init__"  [reportArgumentType]
ScopeOwner()
# mypy says: Cannot instantiate protocol class "ScopeOwner"  [misc]
# pyright says: Cannot instantiate Protocol class "ScopeOwner"  [reportAbstractUsage]
current_scope.get().cancel()
# mypy says: Item "None" of "RunScope | None" has no attribute "cancel"  [union-attr]
# pyright says: "cancel" is not a known attribute of "None"  [reportOptionalMemberAccess]
grace(1.0)
# mypy says: Too many arguments for "grace"  [call-arg]
# pyright says: Expected 0 positional arguments  [reportCallIssue]

# Other processes.
pack(item)
# mypy says: Missing positional argument "is_there" in call to "pack"  [call-arg]
# pyright says: Argument missing for parameter "is_there"  [reportCallIssue]
pack(item, future)
# mypy says: Argument 2 to "pack" has incompatible type "Future[int]"; expected "Callable[[Future[object]], bool]"  [arg-type]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "is_there" of type "(Future[object]) -> bool" in function "pack"  [reportArgumentType]
Packed([future], item)
# mypy says: Argument 1 to "Packed" has incompatible type "list[Future[int]]"; expected "Shipment"  [arg-type]
# mypy says: Argument 2 to "Packed" has incompatible type "WorkItem[float]"; expected "list[Future[object]]"  [arg-type]
# pyright says: Argument of type "list[Future[int]]" cannot be assigned to parameter "shipment" of type "Shipment" in function "__init__"  [reportArgumentType]
# pyright says: Argument of type "WorkItem[float]" cannot be assigned to parameter "slots" of type "list[Future[object]]" in function "__init__"  [reportArgumentType]
Slot("0")
# mypy says: Argument 1 to "Slot" has incompatible type "str"; expected "int"  [arg-type]
# pyright says: Argument of type "Literal['0']" cannot be assigned to parameter "index" of type "int" in function "__init__"  [reportArgumentType]
Shipment((1,), {}, True)
# mypy says: Missing positional arguments "task_run", "flow_run", "is_async", "backend" in call to "Shipment"  [call-arg]
# pyright says: Arguments missing for parameters "task_run", "flow_run", "is_async", "backend"  [reportCallIssue]
Shipment((1,), {}, True, run, None, False, "curio")
# mypy says: Argument 7 to "Shipment" has incompatible type "Literal['curio']"; expected "Literal['trio', 'asyncio'] | None"  [arg-type]
# pyright says: Argument of type "Literal['curio']" cannot be assigned to parameter "backend" of type "Backend | None" in function "__init__"  [reportArgumentType]
shipped: float = run_shipment(plain, Shipment((1,), {}, True, run, None, False, None))
# mypy says: Incompatible types in assignment (expression has type "object", variable has type "float")  [assignment]
# pyright says: Type "object" is not assignable to declared type "float"  [reportAssignmentType]
run_shipment(plain, item)
# mypy says: Argument 2 to "run_shipment" has incompatible type "WorkItem[float]"; expected "Shipment"  [arg-type]
# pyright says: Argument of type "WorkItem[float]" cannot be assigned to parameter "shipment" of type "Shipment" in function "run_shipment"  [reportArgumentType]
RunError("gone")
# mypy says: Missing positional arguments "run_name", "kind", "message", "report", "pickled" in call to "RunError"  [call-arg]
# pyright says: Arguments missing for parameters "run_name", "kind", "message", "report", "pickled"  [reportCallIssue]
RunError.of(run, error)
# mypy says: Argument 2 to "of" of "RunError" has incompatible type "LookupError"; expected "Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed"  [arg-type]
# pyright says: Argument of type "LookupError" cannot be assigned to parameter "state" of type "State[object]" in function "of"  [reportArgumentType]

# Pickles.
find_unpicklable(plain, (1,), {})
# mypy says: Missing positional argument "dumps" in call to "find_unpicklable"  [call-arg]
# pyright says: Argument missing for parameter "dumps"  [reportCallIssue]
Unpicklable("argument 'x'", error)
# mypy says: Missing positional argument "is_function" in call to "Unpicklable"  [call-arg]
# pyright says: Argument missing for parameter "is_function"  [reportCallIssue]
Unpicklable("argument 'x'", error, is_function=False).path = "argument 'y'"
# mypy says: Property "path" defined in "Unpicklable" is read-only  [misc]
# pyright says: Cannot assign to attribute "path" for class "Unpicklable"  [reportAttributeAccessIssue]
unpicklable_error("plain-1", "Ray", plain, (1,), {}, pickle.dumps)
# mypy says: Missing positional argument "error" in call to "unpicklable_error"  [call-arg]
# pyright says: Argument missing for parameter "error"  [reportCallIssue]
small: bytes = pickled_if_small(1)
# mypy says: Incompatible types in assignment (expression has type "bytes | None", variable has type "bytes")  [assignment]
# pyright says: Type "bytes | None" is not assignable to declared type "bytes"  [reportAssignmentType]

# Publishing.
publish(runner_module, ["Attempt"])
# mypy says: Argument 1 to "publish" has incompatible type Module; expected "Mapping[str, object]"  [arg-type]
# pyright says: Argument of type "Module("anabranch.futures.runner")" cannot be assigned to parameter "namespace" of type "Mapping[str, object]" in function "publish"  [reportArgumentType]


def hosts(runner: TaskRunner) -> None:
    RunnerHost(runner)
    # mypy says: Missing positional argument "context" in call to "RunnerHost"  [call-arg]
    # pyright says: Argument missing for parameter "context"  [reportCallIssue]
    RunnerHost(runner, runner.start())
    # mypy says: Argument 2 to "RunnerHost" has incompatible type "_AsyncGeneratorContextManager[TaskRunner, None]"; expected "Callable[[], AbstractAsyncContextManager[object, bool | None]]"  [arg-type]
    # pyright says: Argument of type "_AsyncGeneratorContextManager[TaskRunner, None]" cannot be assigned to parameter "context" of type "() -> AbstractAsyncContextManager[object, bool | None]" in function "__init__"  [reportArgumentType]
    RunnerHost(runner, runner.start).close()
    # mypy says: Missing positional argument "error" in call to "close" of "RunnerHost"  [call-arg]
    # mypy says: Missing named argument "in_a_hurry" for "close" of "RunnerHost"  [call-arg]
    # pyright says: Arguments missing for parameters "error", "in_a_hurry"  [reportCallIssue]


LogLevels("INFO", 30)
# mypy says: Argument 1 to "LogLevels" has incompatible type "str"; expected "int"  [arg-type]
# pyright says: Argument of type "Literal['INFO']" cannot be assigned to parameter "ours" of type "int" in function "__init__"  [reportArgumentType]
LogSink(LogLevels(20, 30), print, "id")
# mypy says: Missing positional argument "run_name" in call to "LogSink"  [call-arg]
# pyright says: Argument missing for parameter "run_name"  [reportCallIssue]
packed: PackedRecord = ["levelno", 20]
# mypy says: Incompatible types in assignment (expression has type "list[object]", variable has type "Mapping[str, object]")  [assignment]
# pyright says: Type "list[str | int]" is not assignable to declared type "PackedRecord"  [reportAssignmentType]
forwarded_logs(LogLevels(20, 30))
# mypy says: Argument 1 to "forwarded_logs" has incompatible type "LogLevels"; expected "LogSink"  [arg-type]
# pyright says: Argument of type "LogLevels" cannot be assigned to parameter "sink" of type "LogSink"  [reportArgumentType]
deliver_record("a line")
# mypy says: Argument 1 to "deliver_record" has incompatible type "str"; expected "Mapping[str, object]"  [arg-type]
# pyright says: Argument of type "Literal['a line']" cannot be assigned to parameter "packed" of type "PackedRecord" in function "deliver_record"  [reportArgumentType]
report: Report = "ended"
# mypy says: Incompatible types in assignment (expression has type "str", variable has type "tuple[object, ...]")  [assignment]
# pyright says: Type "Literal['ended']" is not assignable to declared type "Report"  [reportAssignmentType]
Reporter()
# mypy says: Missing positional argument "send" in call to "Reporter"  [call-arg]
# pyright says: Argument missing for parameter "send"  [reportCallIssue]
ReportTaker(None)
# mypy says: Argument 1 to "ReportTaker" has incompatible type "None"; expected "ScopeOwner"  [arg-type]
# pyright says: Argument of type "None" cannot be assigned to parameter "owner" of type "ScopeOwner" in function "__init__"  [reportArgumentType]
RunStop().rest("1 s")
# mypy says: Argument 1 to "rest" of "RunStop" has incompatible type "str"; expected "float"  [arg-type]
# pyright says: Argument of type "Literal['1 s']" cannot be assigned to parameter "seconds" of type "float" in function "rest"  [reportArgumentType]
RunStop().guard(print)
# mypy says: Argument 1 to "guard" of "RunStop" has incompatible type overloaded function; expected "Callable[..., Coroutine[Any, Any, object]]"  [arg-type]
# pyright says: Argument of type "Overload[(*values: object, sep: str | None = " ", end: str | None = "\n", file: SupportsWrite[str] | None = None, flush: Literal[False] = False) -> None, (*values: object, sep: str | None = " ", end: str | None = "\n", file: _SupportsWriteAndFlush[str] | None = None, flush: bool) -> None]" cannot be assigned to parameter "function" of type "AnyFunction[AnyCoroutine[object]]" in function "guard"  [reportArgumentType]
bring_over(Completed(1))
# mypy says: Argument 1 to "bring_over" has incompatible type "Completed[int]"; expected "Iterable[Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed]"  [arg-type]
# pyright says: Argument of type "Completed[int]" cannot be assigned to parameter "states" of type "Iterable[State[object]]" in function "bring_over"  [reportArgumentType]
