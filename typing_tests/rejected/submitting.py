"""Calls, runs and submissions that do not fit the function."""

from __future__ import annotations

from anabranch.flows import (
    Async,
    AsyncTask,
    Future,
    Runnable,
    Sync,
    Task,
    allow_failure,
    gather,
    lift,
    quote,
)
from typing_tests.functions import add, aone, eight, konly, kws, none, one, posonly, td, total, var

fi = none.submit()
fs = one.submit(1)

# Direct calls.
add("a")
# mypy says: Argument 1 to "__call__" of "Sync" has incompatible type "str"; expected "int"  [arg-type]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "x" of type "int" in function "__call__"  [reportArgumentType]
add()
# mypy says: Missing positional argument "x" in call to "__call__" of "Sync"  [call-arg]
# pyright says: Argument missing for parameter "x"  [reportCallIssue]
add(1, 2, 3)
# mypy says: Too many arguments for "__call__" of "Sync"  [call-arg]
# pyright says: Expected 2 positional arguments  [reportCallIssue]
add(1, z=2)
# mypy says: Unexpected keyword argument "z" for "__call__" of "Sync"  [call-arg]
# pyright says: No parameter named "z"  [reportCallIssue]
add.run("a")
# mypy says: Argument 1 to "run" of "Sync" has incompatible type "str"; expected "int"  [arg-type]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "x" of type "int" in function "run"  [reportArgumentType]
add.run(1, 2, 3)
# mypy says: Too many arguments for "run" of "Sync"  [call-arg]
# pyright says: Expected 2 positional arguments  [reportCallIssue]
text: str = aone(1)
# mypy says: Incompatible types in assignment (expression has type "Coroutine[Any, Any, str]", variable has type "str")  [assignment]
# pyright says: Type "CoroutineType[Any, Any, str]" is not assignable to declared type "str"  [reportAssignmentType]

# Arguments of their own.
add.submit("a")
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "str"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]
add.submit()
# mypy says: All overload variants of "submit" of "Runnable" require at least one argument  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
add.submit(1, 2, 3)
# mypy says: No overload variant of "submit" of "Runnable" matches argument types "int", "int", "int"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
add.submit(1, z=2)
# mypy says: Unexpected keyword argument "z" for overloaded function "submit" of "Runnable"  [call-overload]
# mypy says: No overload variant of "submit" of "Runnable" matches argument types "int", "int"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
aone.submit("a")
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "str"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]
none.submit(1)
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "int"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
posonly.submit(a=1, b="")
# mypy says: Unexpected keyword argument "a" for overloaded function "submit" of "Runnable"  [call-overload]
# mypy says: No overload variant of "submit" of "Runnable" matches argument types "int", "str"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
var.submit(1, k=2)
# mypy says: No overload variant of "submit" of "Runnable" matches argument types "int", "int"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal[2]" cannot be assigned to parameter "k" of type "str" in function "submit"  [reportArgumentType]
td.submit({"x": "1"})
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "dict[str, str]"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "dict[str, str]" cannot be assigned to parameter "a" of type "Arg[Point]" in function "submit"  [reportArgumentType]
td.submit({"y": 1})
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "dict[str, int]"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "dict[str, int]" cannot be assigned to parameter "a" of type "Arg[Point]" in function "submit"  [reportArgumentType]
wrong_future: Future[str] = add.submit(1)
# mypy says: Incompatible types in assignment (expression has type "Future[int]", variable has type "Future[str]")  [assignment]
# pyright says: Type "Future[int]" is not assignable to declared type "Future[str]"  [reportAssignmentType]

# Futures in their place.
add.submit(fs)
# mypy says: Argument 1 to "submit" of "Runnable" has incompatible type "Future[str]"; expected "int | Future[int]"  [arg-type]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Future[str]" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]
add.submit(1, fs)
# mypy says: Argument 2 to "submit" of "Runnable" has incompatible type "Future[str]"; expected "int | Future[int]"  [arg-type]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Future[str]" cannot be assigned to parameter "b" of type "Arg[int]" in function "submit"  [reportArgumentType]
add.submit(fi, fs)
# mypy says: Argument 2 to "submit" of "Runnable" has incompatible type "Future[str]"; expected "int | Future[int]"  [arg-type]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Future[str]" cannot be assigned to parameter "b" of type "Arg[int]" in function "submit"  [reportArgumentType]
add.submit(fi, "a")
# mypy says: No overload variant of "submit" of "Runnable" matches argument types "Future[int]", "str"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "b" of type "Arg[int]" in function "submit"  [reportArgumentType]
add.submit(fi, y="a")
# mypy says: No overload variant of "submit" of "Runnable" matches argument types "Future[int]", "str"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "y" of type "int" in function "submit"  [reportArgumentType]
add.submit(fi, 1, 2)
# mypy says: No overload variant of "submit" of "Runnable" matches argument types "Future[int]", "int", "int"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
one.submit(fs)
# mypy says: Argument 1 to "submit" of "Runnable" has incompatible type "Future[str]"; expected "int | Future[int]"  [arg-type]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Future[str]" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]
aone.submit(fs)
# mypy says: Argument 1 to "submit" of "Runnable" has incompatible type "Future[str]"; expected "int | Future[int]"  [arg-type]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Future[str]" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]
none.submit(fi)
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "Future[int]"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
var.submit(fs)
# mypy says: Argument 1 to "submit" of "Runnable" has incompatible type "Future[str]"; expected "int | Future[int]"  [arg-type]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Future[str]" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]
var.submit(1, fs)
# mypy says: Argument 2 to "submit" of "Runnable" has incompatible type "Future[str]"; expected "int | Future[int]"  [arg-type]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Future[str]" cannot be assigned to parameter "b" of type "Arg[int]" in function "submit"  [reportArgumentType]
kws.submit(fi)
# mypy says: Argument 1 to "submit" of "Runnable" has incompatible type "Future[int]"; expected "str | Future[str]"  [arg-type]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "a" of type "Arg[str]" in function "submit"  [reportArgumentType]
kws.submit(fs, b="x")
# mypy says: No overload variant of "submit" of "Runnable" matches argument types "Future[str]", "str"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal['x']" cannot be assigned to parameter "b" of type "int" in function "submit"  [reportArgumentType]
konly.submit(fi)
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "Future[int]"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
konly.submit(fi, k=1)
# mypy says: No overload variant of "submit" of "Runnable" matches argument types "Future[int]", "int"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "k" of type "str" in function "submit"  [reportArgumentType]
eight.submit(fi, fs, fi, fs, fi, fs, fi, fi)
# mypy says: Argument 8 to "submit" of "Runnable" has incompatible type "Future[int]"; expected "str | Future[str]"  [arg-type]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "h" of type "Arg[str]" in function "submit"  [reportArgumentType]
eight.submit(fi, fs, fi, fs, fi, fs, fi)
# mypy says: No overload variant of "submit" of "Runnable" matches argument types "Future[int]", "Future[str]", "Future[int]", "Future[str]", "Future[int]", "Future[str]", "Future[int]"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
total.submit(gather([fs]))
# mypy says: List item 0 has incompatible type "Future[str]"; expected "Future[int]"  [list-item]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "FutureList[str]" cannot be assigned to parameter "a" of type "Arg[list[int]]" in function "submit"  [reportArgumentType]

# Futures where only `lift` helps.
add.submit(x=fi)
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "Future[int]"  [call-overload]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "x" of type "int" in function "submit"  [reportArgumentType]
add.submit(fi, y=fi)
# mypy says: No overload variant of "submit" of "Runnable" matches argument types "Future[int]", "Future[int]"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "y" of type "int" in function "submit"  [reportArgumentType]
total.submit([fi])
# mypy says: List item 0 has incompatible type "Future[int]"; expected "int"  [list-item]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "list[Future[int]]" cannot be assigned to parameter "a" of type "Arg[list[int]]" in function "submit"  [reportArgumentType]
add.submit(x=lift(fs))
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "str"  [call-overload]
# pyright says: Argument of type "str" cannot be assigned to parameter "x" of type "int" in function "submit"  [reportArgumentType]
lift(1)
# mypy says: Argument 1 to "lift" has incompatible type "int"; expected "Future[Never]"  [arg-type]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "future" of type "Future[R@lift]" in function "lift"  [reportArgumentType]
lifted: str = lift(fi)
# mypy says: Incompatible types in assignment (expression has type "int", variable has type "str")  [assignment]
# pyright says: Type "int" is not assignable to declared type "str"  [reportAssignmentType]

# Marked futures and values.
add.submit(allow_failure(fi))
# mypy says: Argument 1 to "submit" of "Runnable" has incompatible type "int | BaseException"; expected "int"  [arg-type]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "int | BaseException" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]
allow_failure(1)
# mypy says: Argument 1 to "allow_failure" has incompatible type "int"; expected "Future[Never]"  [arg-type]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "future" of type "Future[R@allow_failure]" in function "allow_failure"  [reportArgumentType]
total.submit(quote(1))
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "int"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "int" cannot be assigned to parameter "a" of type "Arg[list[int]]" in function "submit"  [reportArgumentType]

# Waiting for others.
add.submit(1, wait_for=[1])
# mypy says: List item 0 has incompatible type "int"; expected "Future[object]"  [list-item]
# pyright says: Argument of type "list[int]" cannot be assigned to parameter "wait_for" of type "WaitFor" in function "submit"  [reportArgumentType]
add.submit("a", wait_for=[fi])
# mypy says: No overload variant of "submit" of "Runnable" matches argument types "str", "list[Future[int]]"  [call-overload]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]
add.submit(fs, wait_for=[fi])
# mypy says: Argument 1 to "submit" of "Runnable" has incompatible type "Future[str]"; expected "int | Future[int]"  [arg-type]
# pyright says: Argument of type "Future[str]" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]
add.submit(wait_for=[fi])
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "list[Future[int]]"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
add.submit(1, wait_for=fi)
# mypy says: No overload variant of "submit" of "Runnable" matches argument types "int", "Future[int]"  [call-overload]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "wait_for" of type "WaitFor" in function "submit"  [reportArgumentType]
add.after(1)
# mypy says: Argument 1 to "after" of "BaseTask" has incompatible type "int"; expected "Future[object]"  [arg-type]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "futures" of type "Future[object]" in function "after"  [reportArgumentType]
add.after(fi).submit("a")
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "str"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]

# One kind for another.
sync_task: Task[[int], int] = aone
# mypy says: Incompatible types in assignment (expression has type "AsyncTask[[int], str]", variable has type "Task[[int], int]")  [assignment]
# pyright says: Type "AsyncTask[(x: int), str]" is not assignable to declared type "Task[(int), int]"  [reportAssignmentType]
async_task: AsyncTask[[int], str] = one
# mypy says: Incompatible types in assignment (expression has type "Task[[int], str]", variable has type "AsyncTask[[int], str]")  [assignment]
# pyright says: Type "Task[(x: int), str]" is not assignable to declared type "AsyncTask[(int), str]"  [reportAssignmentType]
of_text: Runnable[[str], int] = one
# mypy says: Incompatible types in assignment (expression has type "Task[[int], str]", variable has type "Runnable[[str], int]")  [assignment]
# pyright says: Type "Task[(x: int), str]" is not assignable to declared type "Runnable[(str), int]"  [reportAssignmentType]
called: Sync[[int], int] = aone
# mypy says: Incompatible types in assignment (expression has type "AsyncTask[[int], str]", variable has type "Sync[[int], int]")  [assignment]
# pyright says: Type "AsyncTask[(x: int), str]" is not assignable to declared type "Sync[(int), int]"  [reportAssignmentType]
awaited: Async[[int], str] = one
# mypy says: Incompatible types in assignment (expression has type "Task[[int], str]", variable has type "Async[[int], str]")  [assignment]
# pyright says: Type "Task[(x: int), str]" is not assignable to declared type "Async[(int), str]"  [reportAssignmentType]


async def in_a_loop() -> None:
    number = await aone(1)
    number + 1
    # mypy says: Unsupported operand types for + ("str" and "int")  [operator]
    # pyright says: Operator "+" not supported for types "str" and "Literal[1]"  [reportOperatorIssue]
    # pyright says: Expression value is unused  [reportUnusedExpression]
    await add(1)
    # mypy says: Incompatible types in "await" (actual type "int", expected type "Awaitable[Any]")  [misc]
    # pyright says: "int" is not awaitable  [reportGeneralTypeIssues]
