"""Futures taken for their values, waited for in the wrong way, or of the wrong type."""

from __future__ import annotations

from typing import assert_type

from anabranch.futures import (
    AnabranchError,
    Cancellation,
    FlowRun,
    Future,
    FutureList,
    MissingDependencyError,
    NotFinishedError,
    NotSubmittableError,
    RemoteExceptionError,
    ResultUnavailableError,
    RunCancelledError,
    RunCrashedError,
    RunnerAlreadyStartedError,
    RunnerNotStartedError,
    RunTimedOutError,
    State,
    Stream,
    TaskRun,
    UpstreamFailedError,
    Waited,
    WouldDeadlockError,
    as_completed,
    gather,
    wait,
    wait_async,
)
from typing_tests.functions import none, one

fi = none.submit()
fs = one.submit(1)

# Results.
text: str = fi.result()
# mypy says: Incompatible types in assignment (expression has type "int", variable has type "str")  [assignment]
# pyright says: Type "int" is not assignable to declared type "str"  [reportAssignmentType]
number: int = fi.result(raise_on_failure=False)
# mypy says: Incompatible types in assignment (expression has type "int | BaseException", variable has type "int")  [assignment]
# pyright says: Type "int | BaseException" is not assignable to declared type "int"  [reportAssignmentType]
fi.result(timeout="a")
# mypy says: No overload variant of "result" of "Future" matches argument type "str"  [call-overload]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "timeout" of type "float | None" in function "result"  [reportArgumentType]
fi.result(1, False)
# mypy says: No overload variant of "result" of "Future" matches argument types "int", "bool"  [call-overload]
# pyright says: Argument of type "Literal[False]" cannot be assigned to parameter "raise_on_failure" of type "Literal[True]" in function "result"  [reportArgumentType]
fi.result(wait=True)
# mypy says: Unexpected keyword argument "wait" for overloaded function "result" of "Future"  [call-overload]
# pyright says: No overloads for "result" match the provided arguments  [reportCallIssue]
fi.exception().add_note("")
# mypy says: Item "None" of "BaseException | None" has no attribute "add_note"  [union-attr]
# pyright says: "add_note" is not a known attribute of "None"  [reportOptionalMemberAccess]
assert_type(fi, Future[str])
# mypy says: Expression is of type "Future[int]", not "Future[str]"  [assert-type]
# pyright says: "assert_type" mismatch: expected "Future[str]" but received "Future[int]"  [reportAssertTypeFailure]
fi.upper()
# mypy says: "Future[int]" has no attribute "upper"  [attr-defined]
# pyright says: Type of "upper" is unknown  [reportUnknownMemberType]
# pyright says: Cannot access attribute "upper" for class "Future[int]"  [reportAttributeAccessIssue]
fi + 1
# mypy says: Unsupported operand types for + ("Future[int]" and "int")  [operator]
# pyright says: Operator "+" not supported for types "Future[int]" and "Literal[1]"  [reportOperatorIssue]
# pyright says: Expression value is unused  [reportUnusedExpression]
narrow: Future[bool] = fi
# mypy says: Incompatible types in assignment (expression has type "Future[int]", variable has type "Future[bool]")  [assignment]
# pyright says: Type "Future[int]" is not assignable to declared type "Future[bool]"  [reportAssignmentType]
state: State[int] = fi.wait(10)
# mypy says: Incompatible types in assignment (expression has type "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed | None", variable has type "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed")  [assignment]
# pyright says: Type "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed | None" is not assignable to declared type "State[int]"  [reportAssignmentType]
fi.wait("10")
# mypy says: No overload variant of "wait" of "Future" matches argument type "str"  [call-overload]
# pyright says: No overloads for "wait" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal['10']" cannot be assigned to parameter "timeout" of type "float | None" in function "wait"  [reportArgumentType]
fi.state = None
# mypy says: Property "state" defined in "Future" is read-only  [misc]
# mypy says: Incompatible types in assignment (expression has type "None", variable has type "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed | Pending | Running | Retrying")  [assignment]
# pyright says: Cannot assign to attribute "state" for class "Future[int]"  [reportAttributeAccessIssue]
fi.cancel(message="")
# mypy says: Unexpected keyword argument "message" for "cancel" of "Future"  [call-arg]
# pyright says: No parameter named "message"  [reportCallIssue]
answer: bool = fi.cancel()
# mypy says: Incompatible types in assignment (expression has type "Cancellation", variable has type "bool")  [assignment]
# pyright says: Type "Cancellation" is not assignable to declared type "bool"  [reportAssignmentType]
cancelled: Cancellation = "cancelled"
# mypy says: Incompatible types in assignment (expression has type "str", variable has type "Cancellation")  [assignment]
# pyright says: Type "Literal['cancelled']" is not assignable to declared type "Cancellation"  [reportAssignmentType]

# Many of them.
as_completed([1])
# mypy says: Argument 1 to "as_completed" has incompatible type "list[int]"; expected "Iterable[Future[Never]]"  [arg-type]
# pyright says: Argument of type "list[int]" cannot be assigned to parameter "futures" of type "Iterable[Future[R@as_completed]]" in function "as_completed"  [reportArgumentType]
as_completed(fi)
# mypy says: Argument 1 to "as_completed" has incompatible type "Future[int]"; expected "Iterable[Future[Never]]"  [arg-type]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "futures" of type "Iterable[Future[R@as_completed]]" in function "as_completed"  [reportArgumentType]
as_completed([fi], 10)
# mypy says: Too many positional arguments for "as_completed"  [call-arg]
# pyright says: Expected 1 positional argument  [reportCallIssue]
wait(fi)
# mypy says: Argument 1 to "wait" has incompatible type "Future[int]"; expected "Iterable[Future[Never]]"  [arg-type]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "futures" of type "Iterable[Future[R@wait]]" in function "wait"  [reportArgumentType]
wait([1])
# mypy says: Argument 1 to "wait" has incompatible type "list[int]"; expected "Iterable[Future[Never]]"  [arg-type]
# pyright says: Argument of type "list[int]" cannot be assigned to parameter "futures" of type "Iterable[Future[R@wait]]" in function "wait"  [reportArgumentType]
wait([fi], 10)
# mypy says: Too many positional arguments for "wait"  [call-arg]
# pyright says: Expected 1 positional argument  [reportCallIssue]
done: list[Future[int]] = wait([fi])
# mypy says: Incompatible types in assignment (expression has type "Waited[int]", variable has type "list[Future[int]]")  [assignment]
# pyright says: Type "Waited[int]" is not assignable to declared type "list[Future[int]]"  [reportAssignmentType]
waited: Waited[str] = wait([fi])
# mypy says: List item 0 has incompatible type "Future[int]"; expected "Future[str]"  [list-item]
# pyright says: Type "Waited[int]" is not assignable to declared type "Waited[str]"  [reportAssignmentType]
stream: Stream[Future[str]] = as_completed([fi])
# mypy says: List item 0 has incompatible type "Future[int]"; expected "Future[str]"  [list-item]
# pyright says: Type "Stream[Future[int]]" is not assignable to declared type "Stream[Future[str]]"  [reportAssignmentType]
one_list: FutureList[str] = gather([fi])
# mypy says: List item 0 has incompatible type "Future[int]"; expected "Future[str]"  [list-item]
# pyright says: Type "FutureList[int]" is not assignable to declared type "FutureList[str]"  [reportAssignmentType]
FutureList([1])
# mypy says: Argument 1 to "FutureList" has incompatible type "list[int]"; expected "Iterable[Future[Never]]"  [arg-type]
# pyright says: Argument of type "list[int]" cannot be assigned to parameter "futures" of type "Iterable[Future[R@FutureList]]" in function "__init__"  [reportArgumentType]
next(as_completed([fi])).upper()
# mypy says: "Future[int]" has no attribute "upper"  [attr-defined]
# pyright says: Type of "upper" is unknown  [reportUnknownMemberType]
# pyright says: Cannot access attribute "upper" for class "Future[int]"  [reportAttributeAccessIssue]


def takes_a_text(future: Future[str]) -> None:
    return None


# Callbacks, and what they are about.
fi.add_done_callback(takes_a_text)
# mypy says: Argument 1 to "add_done_callback" of "Future" has incompatible type "Callable[[Future[str]], None]"; expected "Callable[[Future[int]], object]"  [arg-type]
# pyright says: Argument of type "(future: Future[str]) -> None" cannot be assigned to parameter "callback" of type "(Future[int]) -> object" in function "add_done_callback"  [reportArgumentType]
fi.add_done_callback(print())
# mypy says: Argument 1 to "add_done_callback" of "Future" has incompatible type "None"; expected "Callable[[Future[int]], object]"  [arg-type]
# pyright says: Argument of type "None" cannot be assigned to parameter "callback" of type "(Future[int]) -> object" in function "add_done_callback"  [reportArgumentType]
fi.task_run.nope()
# mypy says: "TaskRun" has no attribute "nope"  [attr-defined]
# pyright says: Type of "nope" is unknown  [reportUnknownMemberType]
# pyright says: Cannot access attribute "nope" for class "TaskRun"  [reportAttributeAccessIssue]
TaskRun("id", "name")
# mypy says: Missing positional argument "task_name" in call to "TaskRun"  [call-arg]
# pyright says: Argument missing for parameter "task_name"  [reportCallIssue]
TaskRun("id", "name", "task").name = ""
# mypy says: Property "name" defined in "TaskRun" is read-only  [misc]
# pyright says: Cannot assign to attribute "name" for class "TaskRun"  [reportAttributeAccessIssue]
FlowRun("id", "name")
# mypy says: Missing positional argument "flow_name" in call to "FlowRun"  [call-arg]
# pyright says: Argument missing for parameter "flow_name"  [reportCallIssue]
FlowRun("id", "name", "flow").tags = frozenset()
# mypy says: Property "tags" defined in "FlowRun" is read-only  [misc]
# pyright says: Cannot assign to attribute "tags" for class "FlowRun"  [reportAttributeAccessIssue]

# Errors are no more than what they are.
error: RuntimeError = AnabranchError("a")
# mypy says: Incompatible types in assignment (expression has type "AnabranchError", variable has type "RuntimeError")  [assignment]
# pyright says: Type "AnabranchError" is not assignable to declared type "RuntimeError"  [reportAssignmentType]
runtime_error: RuntimeError = UpstreamFailedError("a")
# mypy says: Incompatible types in assignment (expression has type "UpstreamFailedError", variable has type "RuntimeError")  [assignment]
# pyright says: Type "UpstreamFailedError" is not assignable to declared type "RuntimeError"  [reportAssignmentType]
timeout: TimeoutError = RunCancelledError("a")
# mypy says: Incompatible types in assignment (expression has type "RunCancelledError", variable has type "TimeoutError")  [assignment]
# pyright says: Type "RunCancelledError" is not assignable to declared type "TimeoutError"  [reportAssignmentType]
late: OSError = RunCrashedError("a")
# mypy says: Incompatible types in assignment (expression has type "RunCrashedError", variable has type "OSError")  [assignment]
# pyright says: Type "RunCrashedError" is not assignable to declared type "OSError"  [reportAssignmentType]
value_error: ValueError = RunTimedOutError("a")
# mypy says: Incompatible types in assignment (expression has type "RunTimedOutError", variable has type "ValueError")  [assignment]
# pyright says: Type "RunTimedOutError" is not assignable to declared type "ValueError"  [reportAssignmentType]
missing: ImportError = RemoteExceptionError("a")
# mypy says: Incompatible types in assignment (expression has type "RemoteExceptionError", variable has type "ImportError")  [assignment]
# pyright says: Type "RemoteExceptionError" is not assignable to declared type "ImportError"  [reportAssignmentType]
key: KeyError = MissingDependencyError("a")
# mypy says: Incompatible types in assignment (expression has type "MissingDependencyError", variable has type "KeyError")  [assignment]
# pyright says: Type "MissingDependencyError" is not assignable to declared type "KeyError"  [reportAssignmentType]
lookup: LookupError = NotFinishedError("a")
# mypy says: Incompatible types in assignment (expression has type "NotFinishedError", variable has type "LookupError")  [assignment]
# pyright says: Type "NotFinishedError" is not assignable to declared type "LookupError"  [reportAssignmentType]
type_error: TypeError = NotSubmittableError("a")
# mypy says: Incompatible types in assignment (expression has type "NotSubmittableError", variable has type "TypeError")  [assignment]
# pyright says: Type "NotSubmittableError" is not assignable to declared type "TypeError"  [reportAssignmentType]
assertion: AssertionError = WouldDeadlockError("a")
# mypy says: Incompatible types in assignment (expression has type "WouldDeadlockError", variable has type "AssertionError")  [assignment]
# pyright says: Type "WouldDeadlockError" is not assignable to declared type "AssertionError"  [reportAssignmentType]
attribute: AttributeError = ResultUnavailableError("a")
# mypy says: Incompatible types in assignment (expression has type "ResultUnavailableError", variable has type "AttributeError")  [assignment]
# pyright says: Type "ResultUnavailableError" is not assignable to declared type "AttributeError"  [reportAssignmentType]
started: RunnerNotStartedError = RunnerAlreadyStartedError("a")
# mypy says: Incompatible types in assignment (expression has type "RunnerAlreadyStartedError", variable has type "RunnerNotStartedError")  [assignment]
# pyright says: Type "RunnerAlreadyStartedError" is not assignable to declared type "RunnerNotStartedError"  [reportAssignmentType]


async def awaited() -> None:
    of_text: str = await fi
    # mypy says: Incompatible types in assignment (expression has type "int", variable has type "str")  [assignment]
    # pyright says: Type "int" is not assignable to declared type "str"  [reportAssignmentType]
    of_text.upper()
    (await fi).upper()
    # mypy says: "int" has no attribute "upper"  [attr-defined]
    # pyright says: Type of "upper" is unknown  [reportUnknownMemberType]
    # pyright says: Cannot access attribute "upper" for class "int"  [reportAttributeAccessIssue]
    (await fi.wait_async(10)).name.upper()
    # mypy says: Item "None" of "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed | None" has no attribute "name"  [union-attr]
    # pyright says: "name" is not a known attribute of "None"  [reportOptionalMemberAccess]
    await wait_async(fi)
    # mypy says: Argument 1 to "wait_async" has incompatible type "Future[int]"; expected "Iterable[Future[Never]]"  [arg-type]
    # pyright says: Argument of type "Future[int]" cannot be assigned to parameter "futures" of type "Iterable[Future[R@wait_async]]" in function "wait_async"  [reportArgumentType]
    await wait([fi])
    # mypy says: Incompatible types in "await" (actual type "Waited[int]", expected type "Awaitable[Any]")  [misc]
    # pyright says: "Waited[int]" is not awaitable  [reportGeneralTypeIssues]
    async for future in as_completed([fi]):
        future.upper()
        # mypy says: "Future[int]" has no attribute "upper"  [attr-defined]
        # pyright says: Type of "upper" is unknown  [reportUnknownMemberType]
        # pyright says: Cannot access attribute "upper" for class "Future[int]"  [reportAttributeAccessIssue]
    for _ in wait_async([fi]):
        # mypy says: "Coroutine[Any, Any, Waited[int]]" has no attribute "__iter__" (not iterable)  [attr-defined]
        # pyright says: Type of "_" is unknown  [reportUnknownVariableType]
        # pyright says: "CoroutineType[Any, Any, Waited[int]]" is not iterable  [reportGeneralTypeIssues]
        pass
