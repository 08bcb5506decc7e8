"""What works, and yet a type checker says otherwise; what to do instead is in the comments.

Here, and here only, one checker may accept what the other one rejects.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar, assert_type, overload

from anabranch.flows import Future, FutureList, Runnable, Task, gather, lift, task
from typing_tests.functions import add, none, one, pair, ten, total, var

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

fi = none.submit()
fs = one.submit(1)


# A future in a keyword, in a container, or behind the eighth position: lift(future).
add.submit(x=fi)
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "Future[int]"  [call-overload]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "x" of type "int" in function "submit"  [reportArgumentType]
add.submit(1, y=fi)
# mypy says: No overload variant of "submit" of "Runnable" matches argument types "int", "Future[int]"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "y" of type "int" in function "submit"  [reportArgumentType]
total.submit([fi, 1])
# mypy says: List item 0 has incompatible type "Future[int]"; expected "int"  [list-item]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "list[Future[int] | int]" cannot be assigned to parameter "a" of type "Arg[list[int]]" in function "submit"  [reportArgumentType]
ten.submit(1, 2, 3, 4, 5, 6, 7, 8, fi)
# mypy says: No overload variant of "submit" of "Runnable" matches argument types "int", "int", "int", "int", "int", "int", "int", "int", "Future[int]"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "i" of type "int" in function "submit"  [reportArgumentType]
var.submit(1, fi, k="a")
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "xs" of type "int" in function "submit"  [reportArgumentType]
add.submit(x=lift(fi))
ten.submit(1, 2, 3, 4, 5, 6, 7, 8, lift(fi))

# Keywords beside wait_for, and in map: after(future), and positions.
add.submit(1, y=2, wait_for=[fi])
# mypy says: No overload variant of "submit" of "Runnable" matches argument types "int", "int", "list[Future[int]]"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
add.map(x=[1, 2])
# mypy says: Unexpected keyword argument "x" for overloaded function "map" of "Mappable"  [call-overload]
# mypy says: No overload variant of "map" of "Mappable" matches argument type "list[int]"  [call-overload]
# pyright says: No overloads for "map" match the provided arguments  [reportCallIssue]
add.after(fi).submit(1, y=2)

# A generic function takes a future for a value of that type: lift(future), or an annotation.
assert_type(pair.submit(fi), Future[list[Future[int]]])
assert_type(pair.submit(lift(fi)), Future[list[int]])
pair.map([1])
# mypy says: Argument 1 to "map" of "Mappable" has incompatible type "list[int]"; expected "Iterable[Never | Future[Never]] | Future[Iterable[Never]] | unmapped[Never]"  [arg-type]
assert_type(Task[[int], list[int]](pair).map([1]), FutureList[list[int]])


class Box:
    """Has a generic method."""

    @task
    def put(self, x: T) -> list[T]:
        return [x]


Box().put(1)
# mypy says: Argument 1 to "__call__" of "Sync" has incompatible type "int"; expected "Never"  [arg-type]


# Of an overloaded function the first overload counts: an annotation.
@overload
def twice(x: int) -> int: ...
@overload
def twice(x: str) -> str: ...
def twice(x: int | str) -> int | str:
    return x + x if isinstance(x, int) else x + x


task(twice).submit("a")
# mypy says: No overload variant of "submit" of "Runnable" matches argument type "str"  [call-overload]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]


# What returns Any is to mypy Any itself: Task(function), or a return type.
@task
def anything(x: int) -> Any:
    return x


anything.submit("a")
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "a" of type "Arg[int]" in function "submit"  [reportArgumentType]


# A generator function may be one that returns an iterator: annotate it with Generator.
@task
def letters() -> Iterator[str]:
    yield "a"


assert_type(letters(), Iterator[str])

# Futures of several types: annotate the list, as in list[Future[int | str]].
assert_type(gather([fi, fs]), FutureList[int | str])
# mypy says: Expression is of type "FutureList[object]", not "FutureList[int | str]"  [assert-type]
several: list[Future[int | str]] = [fi, fs]
assert_type(gather(several), FutureList[int | str])


# What takes a task of one parameter takes none with optional ones: Concatenate.
def given_one(t: Runnable[[int], R]) -> Future[R]:
    return t.submit(1)


def given_any(
    t: Runnable[Concatenate[int, P], R], /, *args: P.args, **kwargs: P.kwargs
) -> Future[R]:
    return t.submit(1, *args, **kwargs)


given_one(add)
# pyright says: Argument of type "Task[(x: int, y: int = 0), int]" cannot be assigned to parameter "t" of type "Runnable[(int), R@given_one]" in function "given_one"  [reportArgumentType]
assert_type(given_any(add, y=2), Future[int])
