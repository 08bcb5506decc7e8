"""Wrong uses of what tests of flows and of runners use."""

from __future__ import annotations

from anabranch.flows import SequentialTaskRunner
from anabranch.flows.testing import (
    FLOW_BEHAVIOURS,
    Outcome,
    RecordedRun,
    RecordingTaskRunner,
    RunEvent,
    Which,
    assert_completed,
    assert_failed,
    assert_state,
)
from anabranch.flows.testing.fixtures import virtual_clock
from anabranch.futures import Pending, TaskRun, TaskRunner, TimedOut
from anabranch.futures.testing import (
    BEHAVIOURS,
    NOT_IN_PLACE,
    ONLY_IN_PARALLEL,
    Behaviour,
    Gate,
    Reasons,
    Registrar,
    Subject,
    Tally,
    Ticket,
    Unable,
    Verdict,
    VirtualClock,
    judge,
    judge_all,
    new_tally,
    raises,
    registrar,
    report,
    run_on_each_loop,
)
from typing_tests.functions import add, none

fi = none.submit()
run = TaskRun("", "add-1", "add")
subject = Subject(SequentialTaskRunner)
recorder = RecordingTaskRunner()


def check(runner: TaskRunner) -> None:
    assert runner.name


async def check_async() -> None:
    assert recorder.name


# Tables.
rows: list[Behaviour] = BEHAVIOURS
# mypy says: Incompatible types in assignment (expression has type "tuple[Behaviour, ...]", variable has type "list[Behaviour]")  [assignment]
# pyright says: Type "tuple[Behaviour, ...]" is not assignable to declared type "list[Behaviour]"  [reportAssignmentType]
BEHAVIOURS[0].name = "is renamed"
# mypy says: Property "name" defined in "Behaviour" is read-only  [misc]
# pyright says: Cannot assign to attribute "name" for class "Behaviour"  [reportAttributeAccessIssue]
judge(FLOW_BEHAVIOURS, subject)
# mypy says: Argument 1 to "judge" has incompatible type "tuple[Behaviour, ...]"; expected "Behaviour"  [arg-type]
# pyright says: Argument of type "tuple[Behaviour, ...]" cannot be assigned to parameter "behaviour" of type "Behaviour" in function "judge"  [reportArgumentType]
unable: Verdict = Unable("it cannot")
# mypy says: Incompatible types in assignment (expression has type "Unable", variable has type "Verdict")  [assignment]
# pyright says: Type "Unable" is not assignable to declared type "Verdict"  [reportAssignmentType]
NOT_IN_PLACE["mine"] = "it runs in place"
# mypy says: Unsupported target for indexed assignment ("Mapping[ConcurrencyType | str, str]")  [index]
# pyright says: "__setitem__" method not defined on type "Reasons"  [reportIndexIssue]
ours: dict[str, str] = ONLY_IN_PARALLEL
# mypy says: Incompatible types in assignment (expression has type "Mapping[ConcurrencyType | str, str]", variable has type "dict[str, str]")  [assignment]
# pyright says: Type "Reasons" is not assignable to declared type "dict[str, str]"  [reportAssignmentType]
reasons: Reasons = {"mine": None}
# mypy says: Dict entry 0 has incompatible type "str": "None"; expected "ConcurrencyType | str": "str"  [dict-item]
# pyright says: Type "dict[str, None]" is not assignable to declared type "Reasons"  [reportAssignmentType]
Behaviour("takes a runner", check)
# mypy says: Argument 2 to "Behaviour" has incompatible type "Callable[[TaskRunner], None]"; expected "Callable[[Subject], None]"  [arg-type]
# pyright says: Argument of type "(runner: TaskRunner) -> None" cannot be assigned to parameter "check" of type "(Subject) -> None" in function "__init__"  [reportArgumentType]
Behaviour("is named", print, "mine")
# mypy says: Argument 3 to "Behaviour" has incompatible type "str"; expected "Mapping[ConcurrencyType | str, str]"  [arg-type]
# pyright says: Argument of type "Literal['mine']" cannot be assigned to parameter "not_for" of type "Reasons" in function "__init__"  [reportArgumentType]

# Judgements.
Subject(SequentialTaskRunner())
# mypy says: Argument 1 to "Subject" has incompatible type "SequentialTaskRunner"; expected "Callable[[], TaskRunner]"  [arg-type]
# pyright says: Argument of type "SequentialTaskRunner" cannot be assigned to parameter "make" of type "() -> TaskRunner" in function "__init__"  [reportArgumentType]
Subject(SequentialTaskRunner).submit(int)
# mypy says: "Subject" has no attribute "submit"  [attr-defined]
# pyright says: Type of "submit" is unknown  [reportUnknownMemberType]
# pyright says: Cannot access attribute "submit" for class "Subject"  [reportAttributeAccessIssue]
Verdict("yes")
# mypy says: Missing positional argument "outcome" in call to "Verdict"  [call-arg]
# mypy says: Argument 1 to "Verdict" has incompatible type "str"; expected "Behaviour"  [arg-type]
# pyright says: Argument missing for parameter "outcome"  [reportCallIssue]
judge(BEHAVIOURS, subject)
# mypy says: Argument 1 to "judge" has incompatible type "tuple[Behaviour, ...]"; expected "Behaviour"  [arg-type]
# pyright says: Argument of type "tuple[Behaviour, ...]" cannot be assigned to parameter "behaviour" of type "Behaviour" in function "judge"  [reportArgumentType]
judge(BEHAVIOURS[0], SequentialTaskRunner())
# mypy says: Argument 2 to "judge" has incompatible type "SequentialTaskRunner"; expected "Subject"  [arg-type]
# pyright says: Argument of type "SequentialTaskRunner" cannot be assigned to parameter "subject" of type "Subject" in function "judge"  [reportArgumentType]
judge_all(BEHAVIOURS, SequentialTaskRunner())
# mypy says: Argument 2 to "judge_all" has incompatible type "SequentialTaskRunner"; expected "Callable[[], TaskRunner]"  [arg-type]
# pyright says: Argument of type "SequentialTaskRunner" cannot be assigned to parameter "make" of type "() -> TaskRunner" in function "judge_all"  [reportArgumentType]
judge_all(BEHAVIOURS[0], SequentialTaskRunner)
# mypy says: Argument 1 to "judge_all" has incompatible type "Behaviour"; expected "Iterable[Behaviour]"  [arg-type]
# pyright says: Argument of type "Behaviour" cannot be assigned to parameter "behaviours" of type "Iterable[Behaviour]" in function "judge_all"  [reportArgumentType]
report(judge_all(BEHAVIOURS, SequentialTaskRunner))
# mypy says: Argument 1 to "report" has incompatible type "list[Verdict]"; expected "Mapping[str, Iterable[Verdict]]"  [arg-type]
# pyright says: Argument of type "list[Verdict]" cannot be assigned to parameter "verdicts" of type "Mapping[str, Iterable[Verdict]]" in function "report"  [reportArgumentType]
registrar(BEHAVIOURS)
# mypy says: Argument 1 to "registrar" has incompatible type "tuple[Behaviour, ...]"; expected "list[Behaviour]"  [arg-type]
# pyright says: Argument of type "tuple[Behaviour, ...]" cannot be assigned to parameter "rows" of type "list[Behaviour]" in function "registrar"  [reportArgumentType]
own_registrar: Registrar = judge
# mypy says: Incompatible types in assignment (expression has type "def judge(behaviour: Behaviour, subject: Subject, *, time_limit: float = ...) -> Verdict", variable has type "Registrar")  [assignment]
# pyright says: Type "(behaviour: Behaviour, subject: Subject, *, time_limit: float = TIME_LIMIT) -> Verdict" is not assignable to declared type "Registrar"  [reportAssignmentType]
registrar([])("takes a runner")(check)
# mypy says: Argument 1 has incompatible type "Callable[[TaskRunner], None]"; expected "Callable[[Subject], None]"  [arg-type]
# pyright says: Argument of type "(runner: TaskRunner) -> None" cannot be assigned to parameter of type "Check"  [reportArgumentType]

# Checks.
raises("gone")
# mypy says: Argument 1 to "raises" has incompatible type "str"; expected "type[BaseException]"  [arg-type]
# pyright says: Argument of type "Literal['gone']" cannot be assigned to parameter "kind" of type "type[BaseException]" in function "raises"  [reportArgumentType]
raises(LookupError("gone"))
# mypy says: Argument 1 to "raises" has incompatible type "LookupError"; expected "type[BaseException]"  [arg-type]
# pyright says: Argument of type "LookupError" cannot be assigned to parameter "kind" of type "type[BaseException]" in function "raises"  [reportArgumentType]
new_tally("counts")
# mypy says: Too many arguments for "new_tally"  [call-arg]
# pyright says: Expected 0 positional arguments  [reportCallIssue]
Tally()
# mypy says: Missing positional argument "path" in call to "Tally"  [call-arg]
# pyright says: Argument missing for parameter "path"  [reportCallIssue]
Tally("counts").path = "others"
# mypy says: Property "path" defined in "Tally" is read-only  [misc]
# pyright says: Cannot assign to attribute "path" for class "Tally"  [reportAttributeAccessIssue]
run_on_each_loop(check_async())
# mypy says: Argument 1 to "run_on_each_loop" has incompatible type "Coroutine[Any, Any, None]"; expected "Callable[[], Awaitable[None]]"  [arg-type]
# pyright says: Argument of type "CoroutineType[Any, Any, None]" cannot be assigned to parameter "main" of type "() -> Awaitable[None]" in function "run_on_each_loop"  [reportArgumentType]
run_on_each_loop(check)
# mypy says: Argument 1 to "run_on_each_loop" has incompatible type "Callable[[TaskRunner], None]"; expected "Callable[[], Awaitable[None]]"  [arg-type]
# pyright says: Argument of type "(runner: TaskRunner) -> None" cannot be assigned to parameter "main" of type "() -> Awaitable[None]" in function "run_on_each_loop"  [reportArgumentType]

# Gates.
Gate(1)
# mypy says: Too many arguments for "Gate"  [call-arg]
# pyright says: Expected 0 positional arguments  [reportCallIssue]
Gate().wait()
# mypy says: "Gate" has no attribute "wait"  [attr-defined]
# pyright says: Type of "wait" is unknown  [reportUnknownMemberType]
# pyright says: Cannot access attribute "wait" for class "Gate"  [reportAttributeAccessIssue]
Ticket("127.0.0.1")
# mypy says: Argument 1 to "Ticket" has incompatible type "str"; expected "int"  [arg-type]
# pyright says: Argument of type "Literal['127.0.0.1']" cannot be assigned to parameter "port" of type "int" in function "__init__"  [reportArgumentType]
Gate().ticket.open()
# mypy says: "Ticket" has no attribute "open"  [attr-defined]
# pyright says: Type of "open" is unknown  [reportUnknownMemberType]
# pyright says: Cannot access attribute "open" for class "Ticket"  [reportAttributeAccessIssue]

# Clocks.
VirtualClock(True)
# mypy says: Too many positional arguments for "VirtualClock"  [call-arg]
# pyright says: Expected 0 positional arguments  [reportCallIssue]
VirtualClock().advance("60 s")
# mypy says: Argument 1 to "advance" of "VirtualClock" has incompatible type "str"; expected "float"  [arg-type]
# pyright says: Argument of type "Literal['60 s']" cannot be assigned to parameter "seconds" of type "float" in function "advance"  [reportArgumentType]
VirtualClock().now = 60.0
# mypy says: Cannot assign to a method  [method-assign]
# mypy says: Incompatible types in assignment (expression has type "float", variable has type "Callable[[], float]")  [assignment]
# pyright says: Cannot assign to attribute "now" for class "VirtualClock"  [reportAttributeAccessIssue]
virtual_clock.advance(60)
# mypy says: "FixtureFunctionDefinition" has no attribute "advance"  [attr-defined]
# pyright says: Type of "advance" is unknown  [reportUnknownMemberType]
# pyright says: Cannot access attribute "advance" for class "FixtureFunctionDefinition"  [reportAttributeAccessIssue]

# Recorders.
RecordingTaskRunner("sequential")
# mypy says: Argument 1 to "RecordingTaskRunner" has incompatible type "str"; expected "TaskRunner | Callable[[], TaskRunner]"  [arg-type]
# pyright says: Argument of type "Literal['sequential']" cannot be assigned to parameter "inner" of type "TaskRunner | (() -> TaskRunner)" in function "__init__"  [reportArgumentType]
RecordingTaskRunner(SequentialTaskRunner, ())
# mypy says: Too many arguments for "RecordingTaskRunner"  [call-arg]
# pyright says: Expected 1 positional argument  [reportCallIssue]
RecordingTaskRunner().run(fi)
# mypy says: Argument 1 to "run" of "RecordingTaskRunner" has incompatible type "Future[int]"; expected "str | BaseTask[[VarArg(Any), KwArg(Any)], object]"  [arg-type]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "which" of type "Which" in function "run"  [reportArgumentType]
RecordingTaskRunner().assert_ran_before(add)
# mypy says: Missing positional argument "second" in call to "assert_ran_before" of "RecordingTaskRunner"  [call-arg]
# pyright says: Argument missing for parameter "second"  [reportCallIssue]
RecordedRun(run, None, {})
# mypy says: Missing positional argument "events" in call to "RecordedRun"  [call-arg]
# pyright says: Argument missing for parameter "events"  [reportCallIssue]
RecordedRun(run, None, {}, ()).state = Pending()
# mypy says: Property "state" defined in "RecordedRun" is read-only  [misc]
# pyright says: Cannot assign to attribute "state" for class "RecordedRun"  [reportAttributeAccessIssue]
RunEvent(run, Pending())
# mypy says: Missing positional argument "time" in call to "RunEvent"  [call-arg]
# pyright says: Argument missing for parameter "state"  [reportCallIssue]
RunEvent(0.0, run, Pending)
# mypy says: Argument 3 to "RunEvent" has incompatible type "type[Pending]"; expected "Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed | Pending | Running | Retrying"  [arg-type]
# pyright says: Argument of type "type[Pending]" cannot be assigned to parameter "state" of type "State[object] | Pending | Running | Retrying" in function "__init__"  [reportArgumentType]
which: Which = [add, "add"]
# mypy says: Incompatible types in assignment (expression has type "list[object]", variable has type "str | BaseTask[[VarArg(Any), KwArg(Any)], object]")  [assignment]
# pyright says: Type "list[Task[(x: int, y: int = 0), int] | str]" is not assignable to declared type "Which"  [reportAssignmentType]

# Assertions.
assert_completed(add)
# mypy says: Argument 1 to "assert_completed" has incompatible type "Task[[int, int], int]"; expected "Future[Never] | Completed[Never] | Failed[Never] | TimedOut | Crashed | Cancelled | UpstreamFailed | Pending | Running | Retrying | None"  [arg-type]
# pyright says: Argument of type "Task[(x: int, y: int = 0), int]" cannot be assigned to parameter "outcome" of type "Outcome[R@assert_completed]" in function "assert_completed"  [reportArgumentType]
assert_completed(add(1))
# mypy says: Argument 1 to "assert_completed" has incompatible type "int"; expected "Future[Never] | Completed[Never] | Failed[Never] | TimedOut | Crashed | Cancelled | UpstreamFailed | Pending | Running | Retrying | None"  [arg-type]
# pyright says: Argument of type "int" cannot be assigned to parameter "outcome" of type "Outcome[R@assert_completed]" in function "assert_completed"  [reportArgumentType]
text: str = assert_completed(fi)
# mypy says: Incompatible types in assignment (expression has type "int", variable has type "str")  [assignment]
# pyright says: Type "int" is not assignable to declared type "str"  [reportAssignmentType]
assert_failed(fi, "gone")
# mypy says: No overload variant of "assert_failed" matches argument types "Future[int]", "str"  [call-overload]
# pyright says: Argument of type "Literal['gone']" cannot be assigned to parameter "kind" of type "type[ErrorT@assert_failed]" in function "assert_failed"  [reportArgumentType]
assert_failed(fi, LookupError("gone"))
# mypy says: No overload variant of "assert_failed" matches argument types "Future[int]", "LookupError"  [call-overload]
# pyright says: Argument of type "LookupError" cannot be assigned to parameter "kind" of type "type[ErrorT@assert_failed]" in function "assert_failed"  [reportArgumentType]
timeout: TimeoutError = assert_failed(fi)
# mypy says: Incompatible types in assignment (expression has type "BaseException", variable has type "TimeoutError")  [assignment]
# pyright says: Type "BaseException" is not assignable to declared type "TimeoutError"  [reportAssignmentType]
gone: KeyError = assert_failed(fi, LookupError)
# mypy says: Incompatible types in assignment (expression has type "LookupError", variable has type "KeyError")  [assignment]
# pyright says: Type "LookupError" is not assignable to declared type "KeyError"  [reportAssignmentType]
assert_state(fi, "TimedOut")
# mypy says: No overload variant of "assert_state" matches argument types "Future[int]", "str"  [call-overload]
# pyright says: No overloads for "assert_state" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal['TimedOut']" cannot be assigned to parameter "kind" of type "type[StateT@assert_state]" in function "assert_state"  [reportArgumentType]
assert_state(fi, LookupError)
# mypy says: Argument 2 to "assert_state" has incompatible type "type[LookupError]"; expected "type[Completed[object]]"  [arg-type]
# pyright says: No overloads for "assert_state" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "type[LookupError]" cannot be assigned to parameter "kind" of type "type[StateT@assert_state]" in function "assert_state"  [reportArgumentType]
assert_state(fi, TimedOut).value
# mypy says: "TimedOut" has no attribute "value"  [attr-defined]
# pyright says: Type of "value" is unknown  [reportUnknownMemberType]
# pyright says: Cannot access attribute "value" for class "TimedOut"  [reportAttributeAccessIssue]
outcome: Outcome[int] = 1
# mypy says: Incompatible types in assignment (expression has type "int", variable has type "Future[int] | Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed | Pending | Running | Retrying | None")  [assignment]
# pyright says: Type "Literal[1]" is not assignable to declared type "Outcome[int]"  [reportAssignmentType]
other: Outcome[str] = fi
# mypy says: Incompatible types in assignment (expression has type "Future[int]", variable has type "Future[str] | Completed[str] | Failed[str] | TimedOut | Crashed | Cancelled | UpstreamFailed | Pending | Running | Retrying | None")  [assignment]
# pyright says: Type "Future[int]" is not assignable to declared type "Outcome[str]"  [reportAssignmentType]


def after_an_error() -> None:
    with raises(LookupError, "gone"):
        raise LookupError("gone")
    assert_completed(fi).upper()
    # mypy says: "int" has no attribute "upper"  [attr-defined]
    # pyright says: Type of "upper" is unknown  [reportUnknownMemberType]
    # pyright says: Cannot access attribute "upper" for class "int"  [reportAttributeAccessIssue]
