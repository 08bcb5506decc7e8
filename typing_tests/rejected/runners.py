"""Runners, and what they are made of, used in the wrong way."""

from __future__ import annotations

from distributed import Client, LocalCluster

from anabranch.futures import (
    Backend,
    Clock,
    ConcurrencyType,
    Future,
    RetryPolicy,
    RunContext,
    RunnerStatistics,
    SystemClock,
    TaskRun,
    TaskRunner,
    WorkItem,
)
from anabranch.runners.dask import DaskOptions, DaskTaskRunner
from anabranch.runners.local import ConcurrentTaskRunner, SequentialTaskRunner
from anabranch.runners.ray import RayOptions, RayTaskRunner, remote_options
from typing_tests.functions import add, aplain, plain

runner = ConcurrentTaskRunner()

# Submissions.
runner.submit(plain, "a")
# mypy says: No overload variant of "submit" of "TaskRunner" matches argument types "Callable[[int, str], float]", "str"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "x" of type "int"  [reportArgumentType]
runner.submit(plain, 1, z=1)
# mypy says: Unexpected keyword argument "z" for "submit" of "TaskRunner"  [call-arg]
# mypy says: Argument 1 to "submit" of "TaskRunner" has incompatible type "Callable[[int, str], float]"; expected "Callable[[int, str], Coroutine[Any, Any, Never]]"  [arg-type]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: No parameter named "z"  [reportCallIssue]
runner.submit(plain)
# mypy says: No overload variant of "submit" of "TaskRunner" matches argument type "Callable[[int, str], float]"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument missing for parameter "x"  [reportCallIssue]
runner.submit(add, "a")
# mypy says: No overload variant of "submit" of "TaskRunner" matches argument types "Task[[int, int], int]", "str"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "x" of type "int"  [reportArgumentType]
runner.submit(aplain, "a")
# mypy says: No overload variant of "submit" of "TaskRunner" matches argument types "Callable[[int], Coroutine[Any, Any, bytes]]", "str"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "x" of type "int"  [reportArgumentType]
runner.submit(1)
# mypy says: No overload variant of "submit" of "TaskRunner" matches argument type "int"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Arguments for ParamSpec "P@submit" are missing  [reportCallIssue]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "function" of type "(**P@submit) -> R@submit" in function "submit"  [reportArgumentType]
runner.submit(plain(1))
# mypy says: No overload variant of "submit" of "TaskRunner" matches argument type "float"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Arguments for ParamSpec "P@submit" are missing  [reportCallIssue]
# pyright says: Argument of type "float" cannot be assigned to parameter "function" of type "(**P@submit) -> R@submit" in function "submit"  [reportArgumentType]
runner.submit(plain, runner.submit(plain, 1))
# mypy says: No overload variant of "submit" of "TaskRunner" matches argument types "Callable[[int, str], float]", "Future[float]"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Future[float]" cannot be assigned to parameter "x" of type "int"  [reportArgumentType]
text: Future[str] = runner.submit(aplain, 1)
# mypy says: No overload variant of "submit" of "TaskRunner" matches argument types "Callable[[int], Coroutine[Any, Any, bytes]]", "int"  [call-overload]
# pyright says: Type "Future[bytes]" is not assignable to declared type "Future[str]"  [reportAssignmentType]
with runner as started:
    started.nope()
    # mypy says: "ConcurrentTaskRunner" has no attribute "nope"  [attr-defined]
    # pyright says: Type of "nope" is unknown  [reportUnknownMemberType]
    # pyright says: Cannot access attribute "nope" for class "ConcurrentTaskRunner"  [reportAttributeAccessIssue]

# Settings.
ConcurrentTaskRunner(max_workers="8")
# mypy says: Argument "max_workers" to "ConcurrentTaskRunner" has incompatible type "str"; expected "int"  [arg-type]
# pyright says: Argument of type "Literal['8']" cannot be assigned to parameter "max_workers" of type "int" in function "__init__"  [reportArgumentType]
ConcurrentTaskRunner(workers=8)
# mypy says: Unexpected keyword argument "workers" for "ConcurrentTaskRunner"; did you mean "max_workers"?  [call-arg]
# pyright says: No parameter named "workers"  [reportCallIssue]
SequentialTaskRunner(1)
# mypy says: Too many arguments for "SequentialTaskRunner"  [call-arg]
# pyright says: Expected 0 positional arguments  [reportCallIssue]
DaskTaskRunner(1)
# mypy says: Argument 1 to "DaskTaskRunner" has incompatible type "int"; expected "str | None"  [arg-type]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "address" of type "str | None" in function "__init__"  [reportArgumentType]
DaskTaskRunner(cluster_kwargs=["n_workers"])
# mypy says: Argument "cluster_kwargs" to "DaskTaskRunner" has incompatible type "list[str]"; expected "Mapping[str, object] | None"  [arg-type]
# pyright says: Argument of type "list[str]" cannot be assigned to parameter "cluster_kwargs" of type "Mapping[str, object] | None" in function "__init__"  [reportArgumentType]
DaskTaskRunner(n_workers=2)
# mypy says: Unexpected keyword argument "n_workers" for "DaskTaskRunner"  [call-arg]
# pyright says: No parameter named "n_workers"  [reportCallIssue]
DaskOptions(prioritty=1)
# mypy says: Extra key "prioritty" for TypedDict "DaskOptions"  [typeddict-unknown-key]
# pyright says: No overloads for "__init__" match the provided arguments  [reportCallIssue]
DaskOptions(priority="high")
# mypy says: Incompatible types (expression has type "str", TypedDict item "priority" has type "float")  [typeddict-item]
# pyright says: Argument of type "Literal['high']" cannot be assigned to parameter "priority" of type "float" in function "__init__"  [reportArgumentType]
DaskOptions(resources={"GPU": "1"})
# mypy says: Dict entry 0 has incompatible type "str": "str"; expected "str": "float"  [dict-item]
# pyright says: Argument of type "dict[str, str]" cannot be assigned to parameter "resources" of type "Mapping[str, float]" in function "__init__"  [reportArgumentType]
DaskOptions(workers=1)
# mypy says: Incompatible types (expression has type "int", TypedDict item "workers" has type "str | Sequence[str]")  [typeddict-item]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "workers" of type "str | Sequence[str]" in function "__init__"  [reportArgumentType]
DaskOptions(retries=0.5)
# mypy says: Incompatible types (expression has type "float", TypedDict item "retries" has type "int")  [typeddict-item]
# pyright says: Argument of type "float" cannot be assigned to parameter "retries" of type "int" in function "__init__"  [reportArgumentType]
DaskTaskRunner(cluster="somewhere:8786")
# mypy says: Argument "cluster" to "DaskTaskRunner" has incompatible type "str"; expected "ExistingCluster | None"  [arg-type]
# pyright says: Argument of type "Literal['somewhere:8786']" cannot be assigned to parameter "cluster" of type "ExistingCluster | None" in function "__init__"  [reportArgumentType]
DaskTaskRunner(client="somewhere:8786")
# mypy says: Argument "client" to "DaskTaskRunner" has incompatible type "str"; expected "ExistingClient | None"  [arg-type]
# pyright says: Argument of type "Literal['somewhere:8786']" cannot be assigned to parameter "client" of type "ExistingClient | None" in function "__init__"  [reportArgumentType]
DaskTaskRunner(performance_report_path=1)
# mypy says: Argument "performance_report_path" to "DaskTaskRunner" has incompatible type "int"; expected "str | PathLike[str] | None"  [arg-type]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "performance_report_path" of type "str | PathLike[str] | None" in function "__init__"  [reportArgumentType]


def confuse(cluster: LocalCluster, client: Client) -> None:
    DaskTaskRunner(cluster=client)
    # mypy says: Argument "cluster" to "DaskTaskRunner" has incompatible type "Client"; expected "ExistingCluster | None"  [arg-type]
    # pyright says: Argument of type "Client" cannot be assigned to parameter "cluster" of type "ExistingCluster | None" in function "__init__"  [reportArgumentType]
    DaskTaskRunner(client=cluster)
    # mypy says: Argument "client" to "DaskTaskRunner" has incompatible type "LocalCluster"; expected "ExistingClient | None"  [arg-type]
    # pyright says: Argument of type "LocalCluster" cannot be assigned to parameter "client" of type "ExistingClient | None" in function "__init__"  [reportArgumentType]


RayOptions(num_cpu=1)
# mypy says: Extra key "num_cpu" for TypedDict "RayOptions"  [typeddict-unknown-key]
# pyright says: No overloads for "__init__" match the provided arguments  [reportCallIssue]
RayOptions(num_gpus="1")
# mypy says: Incompatible types (expression has type "str", TypedDict item "num_gpus" has type "float")  [typeddict-item]
# pyright says: Argument of type "Literal['1']" cannot be assigned to parameter "num_gpus" of type "float" in function "__init__"  [reportArgumentType]
RayOptions(resources={"plate": "1"})
# mypy says: Dict entry 0 has incompatible type "str": "str"; expected "str": "float"  [dict-item]
# pyright says: Argument of type "dict[str, str]" cannot be assigned to parameter "resources" of type "Mapping[str, float]" in function "__init__"  [reportArgumentType]
RayOptions(max_retries=0.5)
# mypy says: Incompatible types (expression has type "float", TypedDict item "max_retries" has type "int")  [typeddict-item]
# pyright says: Argument of type "float" cannot be assigned to parameter "max_retries" of type "int" in function "__init__"  [reportArgumentType]
RayOptions(runtime_env="env")
# mypy says: Incompatible types (expression has type "str", TypedDict item "runtime_env" has type "Mapping[str, object]")  [typeddict-item]
# pyright says: Argument of type "Literal['env']" cannot be assigned to parameter "runtime_env" of type "Mapping[str, object]" in function "__init__"  [reportArgumentType]
RayOptions(scheduling_strategy="SPRED")
# mypy says: Incompatible types (expression has type "Literal['SPRED']", TypedDict item "scheduling_strategy" has type "Literal['DEFAULT', 'SPREAD'] | PlacementGroupSchedulingStrategy | NodeAffinitySchedulingStrategy | NodeLabelSchedulingStrategy")  [typeddict-item]
# pyright says: Argument of type "Literal['SPRED']" cannot be assigned to parameter "scheduling_strategy" of type "PlacementGroupSchedulingStrategy | NodeAffinitySchedulingStrategy | NodeLabelSchedulingStrategy | Literal['DEFAULT', 'SPREAD']" in function "__init__"  [reportArgumentType]
remote_options(num_cpu=1)
# mypy says: Unexpected keyword argument "num_cpu" for "remote_options"; did you mean "num_cpus" or "num_gpus"?  [call-arg]
# pyright says: No parameter named "num_cpu"  [reportCallIssue]
remote_options(num_cpus="1")
# mypy says: Argument "num_cpus" to "remote_options" has incompatible type "str"; expected "float"  [arg-type]
# pyright says: Argument of type "Literal['1']" cannot be assigned to parameter "num_cpus" of type "float" in function "remote_options"  [reportArgumentType]
remote_options({"num_cpus": 1})
# mypy says: Too many positional arguments for "remote_options"  [call-arg]
# mypy says: Argument 1 to "remote_options" has incompatible type "dict[str, int]"; expected "int"  [arg-type]
# pyright says: Expected 0 positional arguments  [reportCallIssue]
with remote_options(scheduling_strategy="SPRED"):
    # mypy says: Argument "scheduling_strategy" to "remote_options" has incompatible type "Literal['SPRED']"; expected "Literal['DEFAULT', 'SPREAD'] | PlacementGroupSchedulingStrategy | NodeAffinitySchedulingStrategy | NodeLabelSchedulingStrategy"  [arg-type]
    # pyright says: Argument of type "Literal['SPRED']" cannot be assigned to parameter "scheduling_strategy" of type "PlacementGroupSchedulingStrategy | NodeAffinitySchedulingStrategy | NodeLabelSchedulingStrategy | Literal['DEFAULT', 'SPREAD']" in function "remote_options"  [reportArgumentType]
    add.submit(1)
RayTaskRunner(1)
# mypy says: Argument 1 to "RayTaskRunner" has incompatible type "int"; expected "str | None"  [arg-type]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "address" of type "str | None" in function "__init__"  [reportArgumentType]
RayTaskRunner(init_kwargs=["num_cpus"])
# mypy says: Argument "init_kwargs" to "RayTaskRunner" has incompatible type "list[str]"; expected "Mapping[str, object] | None"  [arg-type]
# pyright says: Argument of type "list[str]" cannot be assigned to parameter "init_kwargs" of type "Mapping[str, object] | None" in function "__init__"  [reportArgumentType]
RayTaskRunner(num_cpus=2)
# mypy says: Unexpected keyword argument "num_cpus" for "RayTaskRunner"  [call-arg]
# pyright says: No parameter named "num_cpus"  [reportCallIssue]
runner.concurrency_type = ConcurrencyType.PARALLEL
# mypy says: Property "concurrency_type" defined in "ConcurrentTaskRunner" is read-only  [misc]
# pyright says: Cannot assign to attribute "concurrency_type" for class "ConcurrentTaskRunner"  [reportAttributeAccessIssue]
runner.backend = "curio"
# mypy says: Incompatible types in assignment (expression has type "Literal['curio']", variable has type "Literal['trio', 'asyncio'] | None")  [assignment]
# pyright says: Cannot assign to attribute "backend" for class "ConcurrentTaskRunner"  [reportAttributeAccessIssue]
backend: Backend = "curio"
# mypy says: Incompatible types in assignment (expression has type "Literal['curio']", variable has type "Literal['trio', 'asyncio']")  [assignment]
# pyright says: Type "Literal['curio']" is not assignable to declared type "Backend"  [reportAssignmentType]
parallel: ConcurrencyType = "parallel"
# mypy says: Incompatible types in assignment (expression has type "str", variable has type "ConcurrencyType")  [assignment]
# pyright says: Type "Literal['parallel']" is not assignable to declared type "ConcurrencyType"  [reportAssignmentType]
runner.statistics().pending = 0
# mypy says: Property "pending" defined in "RunnerStatistics" is read-only  [misc]
# pyright says: Cannot assign to attribute "pending" for class "RunnerStatistics"  [reportAttributeAccessIssue]
RunnerStatistics(1)
# mypy says: Missing positional arguments "pending", "running" in call to "RunnerStatistics"  [call-arg]
# pyright says: Arguments missing for parameters "pending", "running"  [reportCallIssue]

# What is submitted.
RetryPolicy(retries="2")
# mypy says: Argument "retries" to "RetryPolicy" has incompatible type "str"; expected "int"  [arg-type]
# pyright says: Argument of type "Literal['2']" cannot be assigned to parameter "retries" of type "int" in function "__init__"  [reportArgumentType]
RetryPolicy(2).retries = 3
# mypy says: Property "retries" defined in "RetryPolicy" is read-only  [misc]
# pyright says: Cannot assign to attribute "retries" for class "RetryPolicy"  [reportAttributeAccessIssue]
RunContext(task_run="name")
# mypy says: Argument "task_run" to "RunContext" has incompatible type "str"; expected "TaskRun | None"  [arg-type]
# pyright says: Argument of type "Literal['name']" cannot be assigned to parameter "task_run" of type "TaskRun | None" in function "__init__"  [reportArgumentType]
run = TaskRun("id", "plain-0", "plain")
WorkItem(plain, (1,), {})
# mypy says: Missing positional argument "task_run" in call to "WorkItem"  [call-arg]
# pyright says: Argument missing for parameter "task_run"  [reportCallIssue]
WorkItem(1, (1,), {}, run)
# mypy says: Argument 1 to "WorkItem" has incompatible type "int"; expected "Callable[..., object]"  [arg-type]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "function" of type "AnyFunction[object]" in function "__init__"  [reportArgumentType]
WorkItem(plain, (1,), {}, run, runner_options={"priority": 1})
# mypy says: Dict entry 0 has incompatible type "str": "int"; expected "str": "Mapping[str, object]"  [dict-item]
# pyright says: Argument of type "dict[str, int]" cannot be assigned to parameter "runner_options" of type "Mapping[str, Mapping[str, object]]" in function "__init__"  [reportArgumentType]
WorkItem(plain, (1,), {}, run, backend="curio")
# mypy says: Argument "backend" to "WorkItem" has incompatible type "Literal['curio']"; expected "Literal['trio', 'asyncio'] | None"  [arg-type]
# pyright says: Argument of type "Literal['curio']" cannot be assigned to parameter "backend" of type "Backend | None" in function "__init__"  [reportArgumentType]

# A clock.
clock: Clock = float
# mypy says: Incompatible types in assignment (expression has type "type[float]", variable has type "Clock")  [assignment]
# pyright says: Type "type[float]" is not assignable to declared type "Clock"  [reportAssignmentType]
SystemClock().now().nope()
# mypy says: "float" has no attribute "nope"  [attr-defined]
# pyright says: Type of "nope" is unknown  [reportUnknownMemberType]
# pyright says: Cannot access attribute "nope" for class "float"  [reportAttributeAccessIssue]
SystemClock().call_later("1", print)
# mypy says: Argument 1 to "call_later" of "SystemClock" has incompatible type "str"; expected "float"  [arg-type]
# pyright says: Argument of type "Literal['1']" cannot be assigned to parameter "seconds" of type "float" in function "call_later"  [reportArgumentType]
SystemClock(1)
# mypy says: Too many arguments for "SystemClock"  [call-arg]
# pyright says: Expected 0 positional arguments  [reportCallIssue]


class Unfinished(TaskRunner):
    pass


Unfinished()
# mypy says: Cannot instantiate abstract class "Unfinished" with abstract attributes "_submit" and "concurrency_type"  [abstract]
# pyright says: Cannot instantiate abstract class "Unfinished"  [reportAbstractUsage]
TaskRunner()
# mypy says: Cannot instantiate abstract class "TaskRunner" with abstract attributes "_submit" and "concurrency_type"  [abstract]
# pyright says: Cannot instantiate abstract class "TaskRunner"  [reportAbstractUsage]


class Wrong(TaskRunner):
    def _submit(self, item: int) -> Future[int]:
        # mypy says: Return type "Future[int]" of "_submit" incompatible with return type "Future[R]" in supertype "anabranch.futures._runner.TaskRunner"  [override]
        # mypy says: Argument 1 of "_submit" is incompatible with supertype "anabranch.futures._runner.TaskRunner"; supertype defines the argument type as "WorkItem[R]"  [override]
        # pyright says: Method "_submit" overrides class "TaskRunner" in an incompatible manner  [reportIncompatibleMethodOverride]
        raise NotImplementedError

    @property
    def concurrency_type(self) -> str:
        # mypy says: Signature of "concurrency_type" incompatible with supertype "TaskRunner"  [override]
        # pyright says: "concurrency_type" incorrectly overrides property of same name in class "TaskRunner"  [reportIncompatibleMethodOverride]
        return "parallel"
