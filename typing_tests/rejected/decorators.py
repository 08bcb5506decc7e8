"""Options that there are none of, values that they do not take, and tasks of another kind."""

from __future__ import annotations

from collections.abc import Callable

from anabranch.flows import (
    AsyncFlow,
    AsyncTask,
    Flow,
    FlowDecorator,
    FlowOptions,
    RetryCondition,
    RetryDelay,
    State,
    Task,
    TaskDecorator,
    TaskOptions,
    exponential_backoff,
    flow,
    task,
)
from typing_tests.functions import acount_to, add, aflow, aone, aplain, count_to, main_flow, plain

# Options of tasks.
task(retires=2)
# mypy says: Unexpected keyword argument "retires" for overloaded function "__call__" of "TaskDecorator"; did you mean "retries"?  [call-overload]
# pyright says: No overloads for "__call__" match the provided arguments  [reportCallIssue]
task(retries="2")
# mypy says: No overload variant of "__call__" of "TaskDecorator" matches argument type "str"  [call-overload]
# pyright says: Argument of type "Literal['2']" cannot be assigned to parameter "retries" of type "int" in function "__call__"  [reportArgumentType]
task(1)
# mypy says: No overload variant of "__call__" of "TaskDecorator" matches argument type "int"  [call-overload]
# pyright says: No overloads for "__call__" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "function" of type "(**P@__call__) -> R@__call__" in function "__call__"  [reportArgumentType]
task(timeout="1h")
# mypy says: No overload variant of "__call__" of "TaskDecorator" matches argument type "str"  [call-overload]
# pyright says: Argument of type "Literal['1h']" cannot be assigned to parameter "timeout" of type "float | None" in function "__call__"  [reportArgumentType]
task(tags=1)
# mypy says: No overload variant of "__call__" of "TaskDecorator" matches argument type "int"  [call-overload]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "tags" of type "Iterable[str]" in function "__call__"  [reportArgumentType]
task(runner_options={"priority": 10})
# mypy says: Dict entry 0 has incompatible type "str": "int"; expected "str": "Mapping[str, object]"  [dict-item]
# pyright says: Argument of type "dict[str, int]" cannot be assigned to parameter "runner_options" of type "Mapping[str, Mapping[str, object]]" in function "__call__"  [reportArgumentType]
task(runner_options=[{"dask": {}}])
# mypy says: No overload variant of "__call__" of "TaskDecorator" matches argument type "list[dict[str, dict[Never, Never]]]"  [call-overload]
# pyright says: Argument of type "list[dict[str, dict[Unknown, Unknown]]]" cannot be assigned to parameter "runner_options" of type "Mapping[str, Mapping[str, object]]" in function "__call__"  [reportArgumentType]
add.with_options(runner_options={1: {}})
# mypy says: Dict entry 0 has incompatible type "int": "dict[str, object]"; expected "str": "Mapping[str, object]"  [dict-item]
# pyright says: Argument of type "dict[int, dict[str, object]]" cannot be assigned to parameter "runner_options" of type "Mapping[str, Mapping[str, object]]" in function "with_options"  [reportArgumentType]
task(backend="curio")
# mypy says: No overload variant of "__call__" of "TaskDecorator" matches argument type "str"  [call-overload]
# pyright says: Argument of type "Literal['curio']" cannot be assigned to parameter "backend" of type "Backend" in function "__call__"  [reportArgumentType]
task(task_runner=None)
# mypy says: Unexpected keyword argument "task_runner" for overloaded function "__call__" of "TaskDecorator"; did you mean "task_run_name"?  [call-overload]
# pyright says: No overloads for "__call__" match the provided arguments  [reportCallIssue]
add.with_options(nmae="")
# mypy says: Unexpected keyword argument "nmae" for "with_options" of "BaseTask"  [call-arg]
# pyright says: No parameter named "nmae"  [reportCallIssue]
Task(plain, retires=2)
# mypy says: Unexpected keyword argument "retires" for "Task"; did you mean "retries"?  [call-arg]
# pyright says: No parameter named "retires"  [reportCallIssue]
AsyncTask(plain)
# mypy says: Argument 1 to "AsyncTask" has incompatible type "Callable[[int, str], float]"; expected "Callable[[int, str], Coroutine[Any, Any, Never]]"  [arg-type]
# pyright says: Argument of type "(x: int, y: str = "") -> float" cannot be assigned to parameter "function" of type "(**P@AsyncTask) -> AnyCoroutine[R_co@AsyncTask]" in function "__init__"  [reportArgumentType]
AsyncTask(aplain, retries="2")
# mypy says: Argument "retries" to "AsyncTask" has incompatible type "str"; expected "int"  [arg-type]
# pyright says: Argument of type "Literal['2']" cannot be assigned to parameter "retries" of type "int" in function "__init__"  [reportArgumentType]
TaskDecorator(retires=2)
# mypy says: Unexpected keyword argument "retires" for "TaskDecorator"; did you mean "retries"?  [call-arg]
# pyright says: No parameter named "retires"  [reportCallIssue]
options: TaskOptions = {"retires": 2}
# mypy says: Extra key "retires" for TypedDict "TaskOptions"  [typeddict-unknown-key]
# pyright says: Type "dict[str, int]" is not assignable to declared type "TaskOptions"  [reportAssignmentType]

# Options of flows.
flow(persist=True)
# mypy says: Unexpected keyword argument "persist" for overloaded function "__call__" of "FlowDecorator"  [call-overload]
# pyright says: No overloads for "__call__" match the provided arguments  [reportCallIssue]
flow(task_runner=3)
# mypy says: No overload variant of "__call__" of "FlowDecorator" matches argument type "int"  [call-overload]
# pyright says: Argument of type "Literal[3]" cannot be assigned to parameter "task_runner" of type "TaskRunner | (() -> TaskRunner)" in function "__call__"  [reportArgumentType]
flow(task_runner="dask")
# mypy says: No overload variant of "__call__" of "FlowDecorator" matches argument type "str"  [call-overload]
# pyright says: Argument of type "Literal['dask']" cannot be assigned to parameter "task_runner" of type "TaskRunner | (() -> TaskRunner)" in function "__call__"  [reportArgumentType]
flow(validate_parameters="no")
# mypy says: No overload variant of "__call__" of "FlowDecorator" matches argument type "str"  [call-overload]
# pyright says: Argument of type "Literal['no']" cannot be assigned to parameter "validate_parameters" of type "bool" in function "__call__"  [reportArgumentType]
flow(tag_limits={"io": "2"})
# mypy says: Dict entry 0 has incompatible type "str": "str"; expected "str": "int"  [dict-item]
# pyright says: Argument of type "dict[str, str]" cannot be assigned to parameter "tag_limits" of type "Mapping[str, int]" in function "__call__"  [reportArgumentType]
main_flow.with_options(tags=[])
# mypy says: Unexpected keyword argument "tags" for "with_options" of "BaseFlow"  [call-arg]
# pyright says: No parameter named "tags"  [reportCallIssue]
Flow(plain, persist=True)
# mypy says: Unexpected keyword argument "persist" for "Flow"  [call-arg]
# pyright says: No parameter named "persist"  [reportCallIssue]
AsyncFlow(plain)
# mypy says: Argument 1 to "AsyncFlow" has incompatible type "Callable[[int, str], float]"; expected "Callable[[int, str], Coroutine[Any, Any, Never]]"  [arg-type]
# pyright says: Argument of type "(x: int, y: str = "") -> float" cannot be assigned to parameter "function" of type "(**P@AsyncFlow) -> AnyCoroutine[R_co@AsyncFlow]" in function "__init__"  [reportArgumentType]
FlowDecorator(persist=True)
# mypy says: Unexpected keyword argument "persist" for "FlowDecorator"  [call-arg]
# pyright says: No parameter named "persist"  [reportCallIssue]
flow_options: FlowOptions = {"persist": True}
# mypy says: Extra key "persist" for TypedDict "FlowOptions"  [typeddict-unknown-key]
# pyright says: Type "dict[str, bool]" is not assignable to declared type "FlowOptions"  [reportAssignmentType]

# Retries.
delay: RetryDelay = "1s"
# mypy says: Incompatible types in assignment (expression has type "str", variable has type "float | Sequence[float] | Callable[[int], float]")  [assignment]
# pyright says: Type "Literal['1s']" is not assignable to declared type "RetryDelay"  [reportAssignmentType]
task(retry_delay="1s")
# mypy says: Argument "retry_delay" to "__call__" of "TaskDecorator" has incompatible type "str"; expected "float | Sequence[float] | Callable[[int], float]"  [arg-type]
# pyright says: Argument of type "Literal['1s']" cannot be assigned to parameter "retry_delay" of type "RetryDelay" in function "__call__"  [reportArgumentType]
exponential_backoff("1")
# mypy says: Argument 1 to "exponential_backoff" has incompatible type "str"; expected "float"  [arg-type]
# pyright says: Argument of type "Literal['1']" cannot be assigned to parameter "base" of type "float" in function "exponential_backoff"  [reportArgumentType]
exponential_backoff(1, 2)
# mypy says: Too many positional arguments for "exponential_backoff"  [call-arg]
# pyright says: Expected 1 positional argument  [reportCallIssue]


def takes_no_state() -> bool:
    return True


def takes_a_text(state: str) -> bool:
    return bool(state)


condition: RetryCondition = takes_no_state
# mypy says: Incompatible types in assignment (expression has type "Callable[[], bool]", variable has type "Callable[[Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed], bool]")  [assignment]
# pyright says: Type "() -> bool" is not assignable to declared type "RetryCondition"  [reportAssignmentType]
task(retry_condition=takes_a_text)
# mypy says: Argument "retry_condition" to "__call__" of "TaskDecorator" has incompatible type "Callable[[str], bool]"; expected "Callable[[Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed], bool] | None"  [arg-type]
# pyright says: Argument of type "(state: str) -> bool" cannot be assigned to parameter "retry_condition" of type "RetryCondition | None" in function "__call__"  [reportArgumentType]

# What a decorated function is.
of_text: Callable[[str], int] = task(add)
# mypy says: Incompatible types in assignment (expression has type "Task[[int, int], int]", variable has type "Callable[[str], int]")  [assignment]
# pyright says: Type "Task[(x: int, y: int = 0), int]" is not assignable to declared type "(str) -> int"  [reportAssignmentType]
to_text: Task[[int, str], str] = task(plain)
# mypy says: Argument 1 to "__call__" of "TaskDecorator" has incompatible type "Callable[[int, str], float]"; expected "Callable[[int, str], _Anything]"  [arg-type]
# pyright says: Type "Task[(x: int, y: str = ""), float]" is not assignable to declared type "Task[(int, str), str]"  [reportAssignmentType]
of_a_flow: Flow[[str], int] = main_flow
# mypy says: Incompatible types in assignment (expression has type "Flow[[int, str], int]", variable has type "Flow[[str], int]")  [assignment]
# pyright says: Type "Flow[(n: int, tag: str = ""), int]" is not assignable to declared type "Flow[(str), int]"  [reportAssignmentType]
flow_of_a_task: Flow[[int, int], int] = add
# mypy says: Incompatible types in assignment (expression has type "Task[[int, int], int]", variable has type "Flow[[int, int], int]")  [assignment]
# pyright says: Type "Task[(x: int, y: int = 0), int]" is not assignable to declared type "Flow[(int, int), int]"  [reportAssignmentType]
number: int = aflow(1)
# mypy says: Incompatible types in assignment (expression has type "Coroutine[Any, Any, str]", variable has type "int")  [assignment]
# pyright says: Type "CoroutineType[Any, Any, str]" is not assignable to declared type "int"  [reportAssignmentType]
numbers: list[str] = count_to(2)
# mypy says: Incompatible types in assignment (expression has type "list[int]", variable has type "list[str]")  [assignment]
# pyright says: Type "list[int]" is not assignable to declared type "list[str]"  [reportAssignmentType]
not_awaited: list[int] = acount_to(2)
# mypy says: Incompatible types in assignment (expression has type "Coroutine[Any, Any, list[int]]", variable has type "list[int]")  [assignment]
# pyright says: Type "CoroutineType[Any, Any, list[int]]" is not assignable to declared type "list[int]"  [reportAssignmentType]
sync_flow: Flow[[int], str] = aflow
# mypy says: Incompatible types in assignment (expression has type "AsyncFlow[[int], str]", variable has type "Flow[[int], str]")  [assignment]
# pyright says: Type "AsyncFlow[(n: int), str]" is not assignable to declared type "Flow[(int), str]"  [reportAssignmentType]
no_state: State[str] = aone.run(1)
# mypy says: Incompatible types in assignment (expression has type "Coroutine[Any, Any, Completed[str] | Failed[str] | TimedOut | Crashed | Cancelled | UpstreamFailed]", variable has type "Completed[str] | Failed[str] | TimedOut | Crashed | Cancelled | UpstreamFailed")  [assignment]
# pyright says: Type "AnyCoroutine[State[str]]" is not assignable to declared type "State[str]"  [reportAssignmentType]
