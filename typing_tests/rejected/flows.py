"""Flows, branches, hooks and contexts used for what they are not."""

from __future__ import annotations

import logging

from anabranch.flows import (
    Branch,
    ConcurrentTaskRunner,
    CurrentFlowRun,
    CurrentTaskRun,
    FlowHook,
    FlowRun,
    FlowRunningHook,
    ParameterError,
    RunFormatter,
    RunLogger,
    RunName,
    Running,
    SequentialTaskRunner,
    State,
    TaskHook,
    TaskRun,
    TaskRunningHook,
    branch,
    flow,
    flow_run,
    get_run_logger,
    set_tag_limit,
    tags,
    task,
    task_run,
)
from typing_tests.functions import add, aflow, main_flow, none, one

fi = none.submit()
fs = one.submit(1)

# Calls.
main_flow("a")
# mypy says: Argument 1 to "__call__" of "Sync" has incompatible type "str"; expected "int"  [arg-type]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "n" of type "int" in function "__call__"  [reportArgumentType]
main_flow.submit("a")
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "str"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]
main_flow.submit(fs)
# mypy says: Argument 1 to "submit" of "Runnable" has incompatible type "Future[str]"; expected "int | Future[int]"  [arg-type]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Future[str]" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]
main_flow.submit(fi, tag=1)
# mypy says: No overload variant of "submit" of "Runnable" matches argument types "Future[int]", "int"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "tag" of type "str" in function "submit"  [reportArgumentType]
main_flow.submit(1, wait_for=fi)
# mypy says: No overload variant of "submit" of "Runnable" matches argument types "int", "Future[int]"  [call-overload]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "wait_for" of type "WaitFor" in function "submit"  [reportArgumentType]
main_flow.run()
# mypy says: Missing positional argument "n" in call to "run" of "Sync"  [call-arg]
# pyright says: Argument missing for parameter "n"  [reportCallIssue]
main_flow.map([1])
# mypy says: "Flow[[int, str], int]" has no attribute "map"  [attr-defined]
# pyright says: Type of "map" is unknown  [reportUnknownMemberType]
# pyright says: Cannot access attribute "map" for class "Flow[(n: int, tag: str = ""), int]"  [reportAttributeAccessIssue]
main_flow.after(fi)
# mypy says: "Flow[[int, str], int]" has no attribute "after"  [attr-defined]
# pyright says: Type of "after" is unknown  [reportUnknownMemberType]
# pyright says: Cannot access attribute "after" for class "Flow[(n: int, tag: str = ""), int]"  [reportAttributeAccessIssue]
aflow.submit(fs)
# mypy says: Argument 1 to "submit" of "Runnable" has incompatible type "Future[str]"; expected "int | Future[int]"  [arg-type]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Future[str]" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]
state: State[int] = aflow.run(1)
# mypy says: Incompatible types in assignment (expression has type "Coroutine[Any, Any, Completed[str] | Failed[str] | TimedOut | Crashed | Cancelled | UpstreamFailed]", variable has type "Completed[int] | Failed[int] | TimedOut | Crashed | Cancelled | UpstreamFailed")  [assignment]
# pyright says: Type "AnyCoroutine[State[str]]" is not assignable to declared type "State[int]"  [reportAssignmentType]

# Runners.
main_flow.task_runner = 3
# mypy says: Incompatible types in assignment (expression has type "int", variable has type "TaskRunner | Callable[[], TaskRunner]")  [assignment]
# pyright says: Cannot assign to attribute "task_runner" for class "Flow[(n: int, tag: str = ""), int]"  [reportAttributeAccessIssue]
main_flow.task_runner = int
# mypy says: Incompatible types in assignment (expression has type "type[int]", variable has type "TaskRunner | Callable[[], TaskRunner]")  [assignment]
# pyright says: Cannot assign to attribute "task_runner" for class "Flow[(n: int, tag: str = ""), int]"  [reportAttributeAccessIssue]
main_flow.with_options(task_runner=lambda: 3)
# mypy says: Argument "task_runner" to "with_options" of "BaseFlow" has incompatible type "Callable[[], int]"; expected "TaskRunner | Callable[[], TaskRunner]"  [arg-type]
# mypy says: Incompatible return value type (got "int", expected "TaskRunner")  [return-value]
# pyright says: Argument of type "() -> Literal[3]" cannot be assigned to parameter "task_runner" of type "TaskRunner | (() -> TaskRunner)" in function "with_options"  [reportArgumentType]
SequentialTaskRunner(max_workers=2)
# mypy says: Unexpected keyword argument "max_workers" for "SequentialTaskRunner"  [call-arg]
# pyright says: No parameter named "max_workers"  [reportCallIssue]
ConcurrentTaskRunner("8")
# mypy says: Argument 1 to "ConcurrentTaskRunner" has incompatible type "str"; expected "int"  [arg-type]
# pyright says: Argument of type "Literal['8']" cannot be assigned to parameter "max_workers" of type "int" in function "__init__"  [reportArgumentType]

# Branches.
branch(1)
# mypy says: Argument 1 to "branch" has incompatible type "int"; expected "str | None"  [arg-type]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "name" of type "str | None" in function "branch"  [reportArgumentType]
branch(fail_fast="yes")
# mypy says: Argument "fail_fast" to "branch" has incompatible type "str"; expected "bool"  [arg-type]
# pyright says: Argument of type "Literal['yes']" cannot be assigned to parameter "fail_fast" of type "bool" in function "branch"  [reportArgumentType]
branch(timeout="1m")
# mypy says: Argument "timeout" to "branch" has incompatible type "str"; expected "float | None"  [arg-type]
# pyright says: Argument of type "Literal['1m']" cannot be assigned to parameter "timeout" of type "float | None" in function "branch"  [reportArgumentType]
branch("name", True)
# mypy says: Too many positional arguments for "branch"  [call-arg]
# pyright says: Expected 1 positional argument  [reportCallIssue]
Branch("name", fail_fast=True, timeout=None).nope()
# mypy says: "Branch" has no attribute "nope"  [attr-defined]
# pyright says: Type of "nope" is unknown  [reportUnknownMemberType]
# pyright says: Cannot access attribute "nope" for class "Branch"  [reportAttributeAccessIssue]
opened: Branch = branch
# mypy says: Incompatible types in assignment (expression has type "def branch(name: str | None = ..., *, fail_fast: bool = ..., timeout: float | None = ...) -> Branch", variable has type "Branch")  [assignment]
# pyright says: Type "(name: str | None = None, *, fail_fast: bool = False, timeout: float | None = None) -> Branch" is not assignable to declared type "Branch"  [reportAssignmentType]
with branch() as inner:
    inner.nope()
    # mypy says: "Branch" has no attribute "nope"  [attr-defined]
    # pyright says: Type of "nope" is unknown  [reportUnknownMemberType]
    # pyright says: Cannot access attribute "nope" for class "Branch"  [reportAttributeAccessIssue]
with branch:
    # mypy says: "def branch(name: str | None = ..., *, fail_fast: bool = ..., timeout: float | None = ...) -> Branch" has no attribute "__enter__"  [attr-defined]
    # mypy says: "def branch(name: str | None = ..., *, fail_fast: bool = ..., timeout: float | None = ...) -> Branch" has no attribute "__exit__"  [attr-defined]
    # pyright says: Object of type "(name: str | None = None, *, fail_fast: bool = False, timeout: float | None = None) -> Branch" cannot be used with "with" because it does not correctly implement __enter__  [reportGeneralTypeIssues]
    # pyright says: Object of type "(name: str | None = None, *, fail_fast: bool = False, timeout: float | None = None) -> Branch" cannot be used with "with" because it does not correctly implement __exit__  [reportGeneralTypeIssues]
    pass

# Tags.
tags(1)
# mypy says: Argument 1 to "tags" has incompatible type "int"; expected "str"  [arg-type]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "names" of type "str" in function "tags"  [reportArgumentType]
tags(["io"])
# mypy says: Argument 1 to "tags" has incompatible type "list[str]"; expected "str"  [arg-type]
# pyright says: Argument of type "list[str]" cannot be assigned to parameter "names" of type "str" in function "tags"  [reportArgumentType]
set_tag_limit("io", "2")
# mypy says: Argument 2 to "set_tag_limit" has incompatible type "str"; expected "int | None"  [arg-type]
# pyright says: Argument of type "Literal['2']" cannot be assigned to parameter "limit" of type "int | None" in function "set_tag_limit"  [reportArgumentType]
set_tag_limit("io")
# mypy says: Missing positional argument "limit" in call to "set_tag_limit"  [call-arg]
# pyright says: Argument missing for parameter "limit"  [reportCallIssue]

# The run that is calling.
text: str = flow_run.name
# mypy says: Incompatible types in assignment (expression has type "str | None", variable has type "str")  [assignment]
# pyright says: Type "str | None" is not assignable to declared type "str"  [reportAssignmentType]
flow_run.name = "mine"
# mypy says: Property "name" defined in "CurrentFlowRun" is read-only  [misc]
# pyright says: Cannot assign to attribute "name" for class "CurrentFlowRun"  [reportAttributeAccessIssue]
flow_run.nope()
# mypy says: "CurrentFlowRun" has no attribute "nope"  [attr-defined]
# pyright says: Type of "nope" is unknown  [reportUnknownMemberType]
# pyright says: Cannot access attribute "nope" for class "CurrentFlowRun"  [reportAttributeAccessIssue]
task_run.attempt = 2
# mypy says: Property "attempt" defined in "CurrentTaskRun" is read-only  [misc]
# pyright says: Cannot assign to attribute "attempt" for class "CurrentTaskRun"  [reportAttributeAccessIssue]
task_run.task_name.upper()
# mypy says: Item "None" of "str | None" has no attribute "upper"  [union-attr]
# pyright says: "upper" is not a known attribute of "None"  [reportOptionalMemberAccess]
of_a_flow: CurrentFlowRun = task_run
# mypy says: Incompatible types in assignment (expression has type "CurrentTaskRun", variable has type "CurrentFlowRun")  [assignment]
# pyright says: Type "CurrentTaskRun" is not assignable to declared type "CurrentFlowRun"  [reportAssignmentType]
of_a_task: CurrentTaskRun = flow_run
# mypy says: Incompatible types in assignment (expression has type "CurrentFlowRun", variable has type "CurrentTaskRun")  [assignment]
# pyright says: Type "CurrentFlowRun" is not assignable to declared type "CurrentTaskRun"  [reportAssignmentType]

# Logs.
get_run_logger("mine")
# mypy says: Too many arguments for "get_run_logger"  [call-arg]
# pyright says: Expected 0 positional arguments  [reportCallIssue]
get_run_logger().nope("a")
# mypy says: "RunLogger" has no attribute "nope"  [attr-defined]
# pyright says: Type of "nope" is unknown  [reportUnknownMemberType]
# pyright says: Cannot access attribute "nope" for class "RunLogger"  [reportAttributeAccessIssue]
logger: logging.Logger = get_run_logger()
# mypy says: Incompatible types in assignment (expression has type "RunLogger", variable has type "Logger")  [assignment]
# pyright says: Type "RunLogger" is not assignable to declared type "Logger"  [reportAssignmentType]
run_logger: RunLogger = logging.getLogger()
# mypy says: Incompatible types in assignment (expression has type "Logger", variable has type "RunLogger")  [assignment]
# pyright says: Type "Logger" is not assignable to declared type "RunLogger"  [reportAssignmentType]
RunFormatter("%(message)s")
# mypy says: Too many arguments for "RunFormatter"  [call-arg]
# pyright says: Expected 0 positional arguments  [reportCallIssue]
ParameterError(reason="no")
# mypy says: Unexpected keyword argument "reason" for "ParameterError"  [call-arg]
# pyright says: No parameter named "reason"  [reportCallIssue]


# Names and hooks.
def takes_two(first: int, second: int) -> str:
    return str(first + second)


def takes_a_flow_run(subject: object, run: FlowRun, state: State[object]) -> None:
    return None


def takes_a_task_run(subject: object, run: TaskRun, state: State[object]) -> None:
    return None


def takes_a_start(subject: object, run: TaskRun, state: Running) -> None:
    return None


name: RunName = takes_two
# mypy says: Incompatible types in assignment (expression has type "Callable[[int, int], str]", variable has type "str | Callable[[], str] | Callable[[Mapping[str, Any]], str]")  [assignment]
# pyright says: Type "(first: int, second: int) -> str" is not assignable to declared type "RunName"  [reportAssignmentType]
add.with_options(task_run_name=1)
# mypy says: Argument "task_run_name" to "with_options" of "BaseTask" has incompatible type "int"; expected "str | Callable[[], str] | Callable[[Mapping[str, Any]], str] | None"  [arg-type]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "task_run_name" of type "RunName | None" in function "with_options"  [reportArgumentType]
task_hook: TaskHook = takes_a_flow_run
# mypy says: Incompatible types in assignment (expression has type "Callable[[object, FlowRun, Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed], None]", variable has type "Callable[[Any, TaskRun, Completed[Any] | Failed[Any] | TimedOut | Crashed | Cancelled | UpstreamFailed], object]")  [assignment]
# pyright says: Type "(subject: object, run: FlowRun, state: State[object]) -> None" is not assignable to declared type "TaskHook"  [reportAssignmentType]
flow_hook: FlowHook = takes_a_task_run
# mypy says: Incompatible types in assignment (expression has type "Callable[[object, TaskRun, Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed], None]", variable has type "Callable[[Any, FlowRun, Completed[Any] | Failed[Any] | TimedOut | Crashed | Cancelled | UpstreamFailed], object]")  [assignment]
# pyright says: Type "(subject: object, run: TaskRun, state: State[object]) -> None" is not assignable to declared type "FlowHook"  [reportAssignmentType]
task_running_hook: TaskRunningHook = takes_a_task_run
# mypy says: Incompatible types in assignment (expression has type "Callable[[object, TaskRun, Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed], None]", variable has type "Callable[[Any, TaskRun, Running], object]")  [assignment]
# pyright says: Type "(subject: object, run: TaskRun, state: State[object]) -> None" is not assignable to declared type "TaskRunningHook"  [reportAssignmentType]
flow_running_hook: FlowRunningHook = takes_a_start
# mypy says: Incompatible types in assignment (expression has type "Callable[[object, TaskRun, Running], None]", variable has type "Callable[[Any, FlowRun, Running], object]")  [assignment]
# pyright says: Type "(subject: object, run: TaskRun, state: Running) -> None" is not assignable to declared type "FlowRunningHook"  [reportAssignmentType]
task(on_completion=takes_a_flow_run)
# mypy says: Argument "on_completion" to "__call__" of "TaskDecorator" has incompatible type "Callable[[object, FlowRun, Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed], None]"; expected "Callable[[Any, TaskRun, Completed[Any] | Failed[Any] | TimedOut | Crashed | Cancelled | UpstreamFailed], object] | Iterable[Callable[[Any, TaskRun, Completed[Any] | Failed[Any] | TimedOut | Crashed | Cancelled | UpstreamFailed], object]]"  [arg-type]
# pyright says: Argument of type "(subject: object, run: FlowRun, state: State[object]) -> None" cannot be assigned to parameter "on_completion" of type "TaskHooks" in function "__call__"  [reportArgumentType]
task(on_running=[takes_a_flow_run])
# mypy says: List item 0 has incompatible type "Callable[[object, FlowRun, Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed], None]"; expected "Callable[[Any, TaskRun, Running], object]"  [list-item]
# pyright says: Argument of type "list[(subject: object, run: FlowRun, state: State[object]) -> None]" cannot be assigned to parameter "on_running" of type "TaskRunningHook | Iterable[TaskRunningHook]" in function "__call__"  [reportArgumentType]
task(on_failure=takes_a_start)
# mypy says: Argument "on_failure" to "__call__" of "TaskDecorator" has incompatible type "Callable[[object, TaskRun, Running], None]"; expected "Callable[[Any, TaskRun, Completed[Any] | Failed[Any] | TimedOut | Crashed | Cancelled | UpstreamFailed], object] | Iterable[Callable[[Any, TaskRun, Completed[Any] | Failed[Any] | TimedOut | Crashed | Cancelled | UpstreamFailed], object]]"  [arg-type]
# pyright says: Argument of type "(subject: object, run: TaskRun, state: Running) -> None" cannot be assigned to parameter "on_failure" of type "TaskHooks" in function "__call__"  [reportArgumentType]
flow(on_completion=takes_a_task_run)
# mypy says: Argument "on_completion" to "__call__" of "FlowDecorator" has incompatible type "Callable[[object, TaskRun, Completed[object] | Failed[object] | TimedOut | Crashed | Cancelled | UpstreamFailed], None]"; expected "Callable[[Any, FlowRun, Completed[Any] | Failed[Any] | TimedOut | Crashed | Cancelled | UpstreamFailed], object] | Iterable[Callable[[Any, FlowRun, Completed[Any] | Failed[Any] | TimedOut | Crashed | Cancelled | UpstreamFailed], object]]"  [arg-type]
# pyright says: Argument of type "(subject: object, run: TaskRun, state: State[object]) -> None" cannot be assigned to parameter "on_completion" of type "FlowHooks" in function "__call__"  [reportArgumentType]


async def async_branches() -> None:
    async with branch() as inner:
        inner.nope()
        # mypy says: "Branch" has no attribute "nope"  [attr-defined]
        # pyright says: Type of "nope" is unknown  [reportUnknownMemberType]
        # pyright says: Cannot access attribute "nope" for class "Branch"  [reportAttributeAccessIssue]
    (await aflow(1)).nope()
    # mypy says: "str" has no attribute "nope"  [attr-defined]
    # pyright says: Type of "nope" is unknown  [reportUnknownMemberType]
    # pyright says: Cannot access attribute "nope" for class "str"  [reportAttributeAccessIssue]
    await main_flow(1)
    # mypy says: Incompatible types in "await" (actual type "int", expected type "Awaitable[Any]")  [misc]
    # pyright says: "int" is not awaitable  [reportGeneralTypeIssues]
