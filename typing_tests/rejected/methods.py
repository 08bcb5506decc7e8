"""Methods with arguments that do not fit, or bound twice or not at all."""

from __future__ import annotations

from anabranch.flows import AsyncTask, Task
from typing_tests.functions import Scale, none, one, scale

fi = none.submit()
fs = one.submit(1)

# Bound to an object.
scale.weigh("a")
# mypy says: Argument 1 to "__call__" of "Sync" has incompatible type "str"; expected "int"  [arg-type]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "x" of type "int" in function "__call__"  [reportArgumentType]
scale.weigh()
# mypy says: Missing positional argument "x" in call to "__call__" of "Sync"  [call-arg]
# pyright says: Argument missing for parameter "x"  [reportCallIssue]
scale.weigh(scale, 1)
# mypy says: Too many arguments for "__call__" of "Sync"  [call-arg]
# mypy says: Argument 1 to "__call__" of "Sync" has incompatible type "Scale"; expected "int"  [arg-type]
# pyright says: Expected 1 positional argument  [reportCallIssue]
scale.weigh.submit("a")
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "str"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]
scale.weigh.submit(fs)
# mypy says: Argument 1 to "submit" of "Runnable" has incompatible type "Future[str]"; expected "int | Future[int]"  [arg-type]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Future[str]" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]
scale.weigh.submit(scale, 1)
# mypy says: No overload variant of "submit" of "Runnable" matches argument types "Scale", "int"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
scale.weigh.map(["a"])
# mypy says: List item 0 has incompatible type "str"; expected "int | Future[int]"  [list-item]
# pyright says: Argument of type "list[str]" cannot be assigned to parameter "a" of type "Each[int]" in function "map"  [reportArgumentType]
scale.weigh.run("a")
# mypy says: Argument 1 to "run" of "Sync" has incompatible type "str"; expected "int"  [arg-type]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "x" of type "int" in function "run"  [reportArgumentType]
scale.aweigh.submit("a")
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "str"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]
scale.aweigh.submit(fi, 1)
# mypy says: No overload variant of "submit" of "Runnable" matches argument types "Future[int]", "int"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "b" of type "Arg[str]" in function "submit"  [reportArgumentType]
scale.reset.submit(1)
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "int"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
scale.weigh.nope()
# mypy says: "Task[[int], str]" has no attribute "nope"  [attr-defined]
# pyright says: Type of "nope" is unknown  [reportUnknownMemberType]
# pyright says: Cannot access attribute "nope" for class "Task[(x: int), str]"  [reportAttributeAccessIssue]

# Not bound.
Scale.weigh.submit(1)
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "int"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
Scale.weigh(1)
# mypy says: Missing positional argument "x" in call to "__call__" of "Sync"  [call-arg]
# mypy says: Argument 1 to "__call__" of "Sync" has incompatible type "int"; expected "Scale"  [arg-type]
# pyright says: Argument missing for parameter "x"  [reportCallIssue]
Scale.weigh("a", 1)
# mypy says: Argument 1 to "__call__" of "Sync" has incompatible type "str"; expected "Scale"  [arg-type]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "self" of type "Scale" in function "__call__"  [reportArgumentType]

# Of the class, and of nothing.
Scale.made("a")
# mypy says: Argument 1 to "__call__" of "Sync" has incompatible type "str"; expected "int"  [arg-type]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "x" of type "int" in function "__call__"  [reportArgumentType]
Scale.made.submit("a")
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "str"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]
Scale.made.submit(Scale, 1)
# mypy says: No overload variant of "submit" of "Runnable" matches argument types "type[Scale]", "int"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
Scale.amade.submit("a")
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "str"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]
Scale.known("a")
# mypy says: Argument 1 to "__call__" of "Sync" has incompatible type "str"; expected "int"  [arg-type]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "x" of type "int" in function "__call__"  [reportArgumentType]
Scale.known.submit(fs)
# mypy says: Argument 1 to "submit" of "Runnable" has incompatible type "Future[str]"; expected "int | Future[int]"  [arg-type]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Future[str]" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]
scale.known.submit("a")
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "str"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]

# One kind for another.
bound: Task[[str], str] = scale.weigh
# mypy says: Incompatible types in assignment (expression has type "Task[[int], str]", variable has type "Task[[str], str]")  [assignment]
# pyright says: Type "Task[(x: int), str]" is not assignable to declared type "Task[(str), str]"  [reportAssignmentType]
bound_async: AsyncTask[[int], str] = Scale.made
# mypy says: Incompatible types in assignment (expression has type "Task[[int], str]", variable has type "AsyncTask[[int], str]")  [assignment]
# pyright says: Type "Task[(x: int), str]" is not assignable to declared type "AsyncTask[(int), str]"  [reportAssignmentType]
text: str = Scale.amade(1)
# mypy says: Incompatible types in assignment (expression has type "Coroutine[Any, Any, str]", variable has type "str")  [assignment]
# pyright says: Type "CoroutineType[Any, Any, str]" is not assignable to declared type "str"  [reportAssignmentType]
