"""States taken for what they are not."""

from __future__ import annotations

from typing import assert_never

from anabranch.futures import (
    Cancelled,
    Completed,
    Crashed,
    ExceptionDict,
    Failed,
    Pending,
    Retrying,
    Running,
    State,
    StateDict,
    StateType,
    TimedOut,
    Unfinished,
    UpstreamFailed,
)
from typing_tests.functions import add, none


def of_another_type(state: State[int]) -> str:
    match state:
        case Completed(value):
            return value
            # mypy says: Incompatible return value type (got "int", expected "str")  [return-value]
            # pyright says: Type "int" is not assignable to return type "str"  [reportReturnType]
        case Failed(exception):
            return exception
            # mypy says: Incompatible return value type (got "BaseException", expected "str")  [return-value]
            # pyright says: Type "BaseException" is not assignable to return type "str"  [reportReturnType]
        case TimedOut(message) | Crashed(message) | Cancelled(message):
            return message
            # mypy says: Incompatible return value type (got "str | None", expected "str")  [return-value]
            # pyright says: Type "str | None" is not assignable to return type "str"  [reportReturnType]
        case UpstreamFailed():
            return state.cause
            # mypy says: Incompatible return value type (got "BaseException", expected "str")  [return-value]
            # pyright says: Type "BaseException" is not assignable to return type "str"  [reportReturnType]


def not_exhausted(state: State[int]) -> int:
    match state:
        case Completed(value):
            return value
        case Failed() | TimedOut() | Crashed() | Cancelled():
            return 0
        case _:
            assert_never(state)
            # mypy says: Argument 1 to "assert_never" has incompatible type "UpstreamFailed"; expected "Never"  [arg-type]
            # pyright says: Argument of type "UpstreamFailed" cannot be assigned to parameter "arg" of type "Never" in function "assert_never"  [reportArgumentType]


def not_completed(state: State[int]) -> None:
    state.value.bit_length()
    # mypy says: Item "Failed[int]" of "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed" has no attribute "value"  [union-attr]
    # mypy says: Item "TimedOut" of "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed" has no attribute "value"  [union-attr]
    # mypy says: Item "Crashed" of "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed" has no attribute "value"  [union-attr]
    # mypy says: Item "Cancelled" of "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed" has no attribute "value"  [union-attr]
    # mypy says: Item "UpstreamFailed" of "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed" has no attribute "value"  [union-attr]
    # pyright says: Type of "value" is partially unknown  [reportUnknownMemberType]
    # pyright says: Type of "bit_length" is partially unknown  [reportUnknownMemberType]
    # pyright says: Cannot access attribute "value" for class "Failed[int]"  [reportAttributeAccessIssue]
    # pyright says: Cannot access attribute "value" for class "TimedOut"  [reportAttributeAccessIssue]
    # pyright says: Cannot access attribute "value" for class "Crashed"  [reportAttributeAccessIssue]
    # pyright says: Cannot access attribute "value" for class "Cancelled"  [reportAttributeAccessIssue]
    # pyright says: Cannot access attribute "value" for class "UpstreamFailed"  [reportAttributeAccessIssue]
    state.exception.add_note("")
    # mypy says: Item "Completed[int]" of "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed" has no attribute "exception"  [union-attr]
    # pyright says: Type of "exception" is partially unknown  [reportUnknownMemberType]
    # pyright says: Type of "add_note" is partially unknown  [reportUnknownMemberType]
    # pyright says: Cannot access attribute "exception" for class "Completed[int]"  [reportAttributeAccessIssue]
    state.nope()
    # mypy says: Item "Completed[int]" of "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed" has no attribute "nope"  [union-attr]
    # mypy says: Item "Failed[int]" of "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed" has no attribute "nope"  [union-attr]
    # mypy says: Item "TimedOut" of "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed" has no attribute "nope"  [union-attr]
    # mypy says: Item "Crashed" of "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed" has no attribute "nope"  [union-attr]
    # mypy says: Item "Cancelled" of "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed" has no attribute "nope"  [union-attr]
    # mypy says: Item "UpstreamFailed" of "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed" has no attribute "nope"  [union-attr]
    # pyright says: Type of "nope" is unknown  [reportUnknownMemberType]
    # pyright says: Cannot access attribute "nope" for class "Completed[int]"  [reportAttributeAccessIssue]
    # pyright says: Cannot access attribute "nope" for class "Failed[int]"  [reportAttributeAccessIssue]
    # pyright says: Cannot access attribute "nope" for class "TimedOut"  [reportAttributeAccessIssue]
    # pyright says: Cannot access attribute "nope" for class "Crashed"  [reportAttributeAccessIssue]
    # pyright says: Cannot access attribute "nope" for class "Cancelled"  [reportAttributeAccessIssue]
    # pyright says: Cannot access attribute "nope" for class "UpstreamFailed"  [reportAttributeAccessIssue]


def not_final(state: State[int] | Unfinished) -> None:
    state.value.bit_length()
    # mypy says: Item "Failed[int]" of "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed | Pending | Running | Retrying" has no attribute "value"  [union-attr]
    # mypy says: Item "TimedOut" of "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed | Pending | Running | Retrying" has no attribute "value"  [union-attr]
    # mypy says: Item "Crashed" of "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed | Pending | Running | Retrying" has no attribute "value"  [union-attr]
    # mypy says: Item "Cancelled" of "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed | Pending | Running | Retrying" has no attribute "value"  [union-attr]
    # mypy says: Item "UpstreamFailed" of "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed | Pending | Running | Retrying" has no attribute "value"  [union-attr]
    # mypy says: Item "Pending" of "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed | Pending | Running | Retrying" has no attribute "value"  [union-attr]
    # mypy says: Item "Running" of "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed | Pending | Running | Retrying" has no attribute "value"  [union-attr]
    # mypy says: Item "Retrying" of "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed | Pending | Running | Retrying" has no attribute "value"  [union-attr]
    # pyright says: Type of "value" is partially unknown  [reportUnknownMemberType]
    # pyright says: Type of "bit_length" is partially unknown  [reportUnknownMemberType]
    # pyright says: Cannot access attribute "value" for class "Failed[int]"  [reportAttributeAccessIssue]
    # pyright says: Cannot access attribute "value" for class "TimedOut"  [reportAttributeAccessIssue]
    # pyright says: Cannot access attribute "value" for class "Crashed"  [reportAttributeAccessIssue]
    # pyright says: Cannot access attribute "value" for class "Cancelled"  [reportAttributeAccessIssue]
    # pyright says: Cannot access attribute "value" for class "UpstreamFailed"  [reportAttributeAccessIssue]
    # pyright says: Cannot access attribute "value" for class "Pending"  [reportAttributeAccessIssue]
    # pyright says: Cannot access attribute "value" for class "Running"  [reportAttributeAccessIssue]
    # pyright says: Cannot access attribute "value" for class "Retrying"  [reportAttributeAccessIssue]
    final: State[int] = state
    # mypy says: Incompatible types in assignment (expression has type "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed | Pending | Running | Retrying", variable has type "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed")  [assignment]
    # pyright says: Type "State[int] | Unfinished" is not assignable to declared type "State[int]"  [reportAssignmentType]
    final.is_final()


# Made by hand.
Completed()
# mypy says: Missing positional argument "value" in call to "Completed"  [call-arg]
# pyright says: Argument missing for parameter "value"  [reportCallIssue]
Failed("why")
# mypy says: Argument 1 to "Failed" has incompatible type "str"; expected "BaseException"  [arg-type]
# pyright says: Argument of type "Literal['why']" cannot be assigned to parameter "exception" of type "BaseException" in function "__init__"  [reportArgumentType]
Failed()
# mypy says: Missing positional argument "exception" in call to "Failed"  [call-arg]
# pyright says: Argument missing for parameter "exception"  [reportCallIssue]
Crashed("gone")
# mypy says: Too many positional arguments for "Crashed"  [call-arg]
# pyright says: Expected 0 positional arguments  [reportCallIssue]
TimedOut(reason="late")
# mypy says: Unexpected keyword argument "reason" for "TimedOut"  [call-arg]
# pyright says: No parameter named "reason"  [reportCallIssue]
Cancelled("stop")
# mypy says: Too many positional arguments for "Cancelled"  [call-arg]
# pyright says: Expected 0 positional arguments  [reportCallIssue]
UpstreamFailed()
# mypy says: Missing named argument "cause" for "UpstreamFailed"  [call-arg]
# pyright says: Argument missing for parameter "cause"  [reportCallIssue]
UpstreamFailed(cause="why")
# mypy says: Argument "cause" to "UpstreamFailed" has incompatible type "str"; expected "BaseException"  [arg-type]
# pyright says: Argument of type "Literal['why']" cannot be assigned to parameter "cause" of type "BaseException" in function "__init__"  [reportArgumentType]
Pending(1)
# mypy says: Too many positional arguments for "Pending"  [call-arg]
# mypy says: Argument 1 to "Pending" has incompatible type "int"; expected "str | None"  [arg-type]
# pyright says: Expected 0 positional arguments  [reportCallIssue]
Running(1)
# mypy says: Too many positional arguments for "Running"  [call-arg]
# mypy says: Argument 1 to "Running" has incompatible type "int"; expected "str | None"  [arg-type]
# pyright says: Expected 0 positional arguments  [reportCallIssue]
Retrying(message=1)
# mypy says: Argument "message" to "Retrying" has incompatible type "int"; expected "str | None"  [arg-type]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "message" of type "str | None" in function "__init__"  [reportArgumentType]
Completed(1).value = 2
# mypy says: Property "value" defined in "Completed" is read-only  [misc]
# pyright says: Cannot assign to attribute "value" for class "Completed[int]"  [reportAttributeAccessIssue]
Failed(ValueError()).message = ""
# mypy says: Property "message" defined in "_State" is read-only  [misc]
# pyright says: Cannot assign to attribute "message" for class "Failed[Unknown]"  [reportAttributeAccessIssue]

# Of another type.
of_text: State[str] = add.run(1)
# mypy says: Incompatible types in assignment (expression has type "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed", variable has type "Completed[str] | Failed[str] | TimedOut | Crashed | Cancelled | UpstreamFailed")  [assignment]
# pyright says: Type "State[int]" is not assignable to declared type "State[str]"  [reportAssignmentType]
of_bool: State[bool] = add.run(1)
# mypy says: Incompatible types in assignment (expression has type "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed", variable has type "Completed[bool] | Failed[bool] | TimedOut | Crashed | Cancelled | UpstreamFailed")  [assignment]
# pyright says: Type "State[int]" is not assignable to declared type "State[bool]"  [reportAssignmentType]
unfinished: Unfinished = add.run(1)
# mypy says: Incompatible types in assignment (expression has type "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed", variable has type "Pending | Running | Retrying")  [assignment]
# pyright says: Type "State[int]" is not assignable to declared type "Unfinished"  [reportAssignmentType]
value: str = add.run(1).result()
# mypy says: Incompatible types in assignment (expression has type "int", variable has type "str")  [assignment]
# pyright says: Type "int" is not assignable to declared type "str"  [reportAssignmentType]
number: int = add.run(1).result(raise_on_failure=False)
# mypy says: Incompatible types in assignment (expression has type "int | BaseException", variable has type "int")  [assignment]
# pyright says: Type "BaseException | int" is not assignable to declared type "int"  [reportAssignmentType]
kind: StateType = add.run(1)
# mypy says: Incompatible types in assignment (expression has type "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed", variable has type "StateType")  [assignment]
# pyright says: Type "State[int]" is not assignable to declared type "StateType"  [reportAssignmentType]
kind_name: StateType = "COMPLETED"
# mypy says: Incompatible types in assignment (expression has type "str", variable has type "StateType")  [assignment]
# pyright says: Type "Literal['COMPLETED']" is not assignable to declared type "StateType"  [reportAssignmentType]
future_state: State[int] = none.submit().state
# mypy says: Incompatible types in assignment (expression has type "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed | Pending | Running | Retrying", variable has type "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed")  [assignment]
# pyright says: Type "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed | Pending | Running | Retrying" is not assignable to declared type "State[int]"  [reportAssignmentType]
add.run(1).result(1, 2)
# mypy says: Too many arguments for "result" of "Completed"  [call-arg]
# mypy says: No overload variant of "result" of "_Unsuccessful" matches argument types "int", "int"  [call-overload]
# mypy says: Argument 1 to "result" of "Completed" has incompatible type "int"; expected "bool"  [arg-type]
# pyright says: No overloads for "result" match the provided arguments  [reportCallIssue]
# pyright says: Expected 1 positional argument  [reportCallIssue]
told: StateDict = {"name": "Completed", "type": "COMPLETED", "message": None}
# mypy says: Missing key "timestamp" for TypedDict "StateDict"  [typeddict-item]
# pyright says: Type "dict[str, str | None]" is not assignable to declared type "StateDict"  [reportAssignmentType]
error: ExceptionDict = {"type": 1, "message": ""}
# mypy says: Incompatible types (expression has type "int", TypedDict item "type" has type "str")  [typeddict-item]
# pyright says: Type "dict[str, int | str]" is not assignable to declared type "ExceptionDict"  [reportAssignmentType]
add.run(1).as_dict()["nope"]
# mypy says: TypedDict "StateDict" has no key "nope"  [typeddict-item]
# pyright says: Could not access item in TypedDict  [reportGeneralTypeIssues]
