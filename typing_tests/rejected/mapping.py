"""Maps and streams over what does not fit the function."""

from __future__ import annotations

from anabranch.flows import FutureList, Stream, gather, unmapped
from typing_tests.functions import add, aone, konly, none, one, total

fi = none.submit()
fs = one.submit(1)
texts = one.map([1])

# Maps.
add.map(["a"])
# mypy says: List item 0 has incompatible type "str"; expected "int | Future[int]"  [list-item]
# pyright says: Argument of type "list[str]" cannot be assigned to parameter "a" of type "Each[int]" in function "map"  [reportArgumentType]
add.map(1)
# mypy says: No overload variant of "map" of "Mappable" matches argument type "int"  [call-overload]
# pyright says: Argument of type "Literal[1]" cannot be assigned to parameter "a" of type "Each[int]" in function "map"  [reportArgumentType]
add.map([1], 2)
# mypy says: No overload variant of "map" of "Mappable" matches argument types "list[int]", "int"  [call-overload]
# pyright says: Argument of type "Literal[2]" cannot be assigned to parameter "b" of type "Each[int]" in function "map"  [reportArgumentType]
add.map([1], unmapped("a"))
# mypy says: Argument 1 to "unmapped" has incompatible type "str"; expected "int"  [arg-type]
# pyright says: Argument of type "unmapped[str]" cannot be assigned to parameter "b" of type "Each[int]" in function "map"  [reportArgumentType]
add.map([fs])
# mypy says: List item 0 has incompatible type "Future[str]"; expected "int | Future[int]"  [list-item]
# pyright says: Argument of type "list[Future[str]]" cannot be assigned to parameter "a" of type "Each[int]" in function "map"  [reportArgumentType]
add.map([1], [2], [3])
# mypy says: No overload variant of "map" of "Mappable" matches argument types "list[int]", "list[int]", "list[int]"  [call-overload]
# pyright says: No overloads for "map" match the provided arguments  [reportCallIssue]
add.map()
# mypy says: All overload variants of "map" of "Mappable" require at least one argument  [call-overload]
# pyright says: No overloads for "map" match the provided arguments  [reportCallIssue]
add.map(fi)
# mypy says: Argument 1 to "map" of "Mappable" has incompatible type "Future[int]"; expected "Iterable[int | Future[int]] | Future[Iterable[int]] | unmapped[int]"  [arg-type]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "a" of type "Each[int]" in function "map"  [reportArgumentType]
add.map([1], wait_for=[1])
# mypy says: List item 0 has incompatible type "int"; expected "Future[object]"  [list-item]
# pyright says: Argument of type "list[int]" cannot be assigned to parameter "wait_for" of type "WaitFor" in function "map"  [reportArgumentType]
add.map([1], max_pending=1)
# mypy says: Unexpected keyword argument "max_pending" for overloaded function "map" of "Mappable"  [call-overload]
# mypy says: No overload variant of "map" of "Mappable" matches argument types "list[int]", "int"  [call-overload]
# pyright says: No overloads for "map" match the provided arguments  [reportCallIssue]
add.map([1], y=2)
# mypy says: Unexpected keyword argument "y" for overloaded function "map" of "Mappable"  [call-overload]
# mypy says: No overload variant of "map" of "Mappable" matches argument types "list[int]", "int"  [call-overload]
# pyright says: No overloads for "map" match the provided arguments  [reportCallIssue]
one.map(texts)
# mypy says: Argument 1 to "map" of "Mappable" has incompatible type "FutureList[str]"; expected "Iterable[int | Future[int]] | Future[Iterable[int]] | unmapped[int]"  [arg-type]
# pyright says: Argument of type "FutureList[str]" cannot be assigned to parameter "a" of type "Each[int]" in function "map"  [reportArgumentType]
aone.map(texts)
# mypy says: Argument 1 to "map" of "Mappable" has incompatible type "FutureList[str]"; expected "Iterable[int | Future[int]] | Future[Iterable[int]] | unmapped[int]"  [arg-type]
# pyright says: Argument of type "FutureList[str]" cannot be assigned to parameter "a" of type "Each[int]" in function "map"  [reportArgumentType]
none.map([1])
# mypy says: Invalid self argument "Task[[], int]" to attribute function "map" with type "def [A] map(Callable[[A], object], Iterable[A | Future[A]] | Future[Iterable[A]] | unmapped[A], /, *, wait_for: Iterable[Future[object]] = ...) -> FutureList[R_co]"  [misc]
# mypy says: Argument 1 to "map" of "Mappable" has incompatible type "list[int]"; expected "Iterable[Never | Future[Never]] | Future[Iterable[Never]] | unmapped[Never]"  [arg-type]
# pyright says: Type of "map" is unknown  [reportUnknownMemberType]
# pyright says: Cannot access attribute "map" for class "Task[(), int]"  [reportAttributeAccessIssue]
konly.map([1])
# mypy says: Invalid self argument "Task[[int, NamedArg(str, 'k')], int]" to attribute function "map" with type "def [A] map(Callable[[A], object], Iterable[A | Future[A]] | Future[Iterable[A]] | unmapped[A], /, *, wait_for: Iterable[Future[object]] = ...) -> FutureList[R_co]"  [misc]
# pyright says: Type of "map" is unknown  [reportUnknownMemberType]
# pyright says: Cannot access attribute "map" for class "Task[(a: int, *, k: str), int]"  [reportAttributeAccessIssue]
unmapped()
# mypy says: Missing positional argument "value" in call to "unmapped"  [call-arg]
# pyright says: Argument missing for parameter "value"  [reportCallIssue]
unmapped(1, 2)
# mypy says: Too many arguments for "unmapped"  [call-arg]
# pyright says: Expected 1 positional argument  [reportCallIssue]

# Lists of futures.
total.submit(texts)
# mypy says: Argument 1 to "submit" of "Runnable" has incompatible type "FutureList[str]"; expected "list[int] | Future[list[int]]"  [arg-type]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "FutureList[str]" cannot be assigned to parameter "a" of type "Arg[list[int]]" in function "submit"  [reportArgumentType]
total.submit(gather([fs]))
# mypy says: List item 0 has incompatible type "Future[str]"; expected "Future[int]"  [list-item]
# pyright says: No overloads for "submit" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "FutureList[str]" cannot be assigned to parameter "a" of type "Arg[list[int]]" in function "submit"  [reportArgumentType]
names: FutureList[str] = add.map([1])
# mypy says: Incompatible types in assignment (expression has type "FutureList[int]", variable has type "FutureList[str]")  [assignment]
# pyright says: Type "FutureList[int]" is not assignable to declared type "FutureList[str]"  [reportAssignmentType]
values: list[str] = add.map([1]).result()
# mypy says: Incompatible types in assignment (expression has type "list[int]", variable has type "list[str]")  [assignment]
# pyright says: Type "list[int]" is not assignable to declared type "list[str]"  [reportAssignmentType]
texts[0] = fs
# mypy says: Unsupported target for indexed assignment ("FutureList[str]")  [index]
# pyright says: "__setitem__" method not defined on type "FutureList[str]"  [reportIndexIssue]
texts["0"]
# mypy says: No overload variant of "__getitem__" of "FutureList" matches argument type "str"  [call-overload]
# pyright says: No overloads for "__getitem__" match the provided arguments  [reportCallIssue]
# pyright says: Argument of type "Literal['0']" cannot be assigned to parameter "index" of type "slice[SupportsIndex | None, SupportsIndex | None, SupportsIndex | None]" in function "__getitem__"  [reportArgumentType]
gather([1])
# mypy says: Argument 1 to "gather" has incompatible type "list[int]"; expected "Iterable[Future[Never]]"  [arg-type]
# pyright says: Argument of type "list[int]" cannot be assigned to parameter "futures" of type "Iterable[Future[R@gather]]" in function "gather"  [reportArgumentType]
gather(fi)
# mypy says: Argument 1 to "gather" has incompatible type "Future[int]"; expected "Iterable[Future[Never]]"  [arg-type]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "futures" of type "Iterable[Future[R@gather]]" in function "gather"  [reportArgumentType]

# Streams.
add.imap(["a"])
# mypy says: List item 0 has incompatible type "str"; expected "int | Future[int]"  [list-item]
# pyright says: Argument of type "list[str]" cannot be assigned to parameter "a" of type "EachInTurn[int]" in function "imap"  [reportArgumentType]
add.imap([1], max_pending="a")
# mypy says: No overload variant of "imap" of "Mappable" matches argument types "list[int]", "str"  [call-overload]
# pyright says: Argument of type "Literal['a']" cannot be assigned to parameter "max_pending" of type "int | None" in function "imap"  [reportArgumentType]
add.imap([1], window=2)
# mypy says: Unexpected keyword argument "window" for overloaded function "imap" of "Mappable"  [call-overload]
# mypy says: No overload variant of "imap" of "Mappable" matches argument types "list[int]", "int"  [call-overload]
# pyright says: No overloads for "imap" match the provided arguments  [reportCallIssue]
add.imap_unordered(["a"])
# mypy says: List item 0 has incompatible type "str"; expected "int | Future[int]"  [list-item]
# pyright says: Argument of type "list[str]" cannot be assigned to parameter "a" of type "EachInTurn[int]" in function "imap_unordered"  [reportArgumentType]
add.imap_unordered([fs], wait_for=[fi])
# mypy says: List item 0 has incompatible type "Future[str]"; expected "int | Future[int]"  [list-item]
# pyright says: Argument of type "list[Future[str]]" cannot be assigned to parameter "a" of type "EachInTurn[int]" in function "imap_unordered"  [reportArgumentType]
add.imap_unordered([1], wait_for=fi)
# mypy says: No overload variant of "imap_unordered" of "Mappable" matches argument types "list[int]", "Future[int]"  [call-overload]
# pyright says: Argument of type "Future[int]" cannot be assigned to parameter "wait_for" of type "WaitFor" in function "imap_unordered"  [reportArgumentType]
one.imap(one.imap([1]))
# mypy says: Argument 1 to "imap" of "Mappable" has incompatible type "Stream[str]"; expected "Iterable[int | Future[int]] | Future[Iterable[int]] | unmapped[int] | AsyncIterable[int | Future[int]]"  [arg-type]
# pyright says: Argument of type "Stream[str]" cannot be assigned to parameter "a" of type "EachInTurn[int]" in function "imap"  [reportArgumentType]
stream: Stream[str] = add.imap([1])
# mypy says: Incompatible types in assignment (expression has type "Stream[int]", variable has type "Stream[str]")  [assignment]
# pyright says: Type "Stream[int]" is not assignable to declared type "Stream[str]"  [reportAssignmentType]
next(add.imap([1])).upper()
# mypy says: "int" has no attribute "upper"  [attr-defined]
# pyright says: Type of "upper" is unknown  [reportUnknownMemberType]
# pyright says: Cannot access attribute "upper" for class "int"  [reportAttributeAccessIssue]
add.imap([1])[0]
# mypy says: Value of type "Stream[int]" is not indexable  [index]
# pyright says: "__getitem__" method not defined on type "Stream[int]"  [reportIndexIssue]


async def async_streams() -> None:
    async for text in aone.imap([1]):
        text.nope()
        # mypy says: "str" has no attribute "nope"  [attr-defined]
        # pyright says: Type of "nope" is unknown  [reportUnknownMemberType]
        # pyright says: Cannot access attribute "nope" for class "str"  [reportAttributeAccessIssue]
    async with add.imap([1]) as stream:
        stream.nope()
        # mypy says: "Stream[int]" has no attribute "nope"  [attr-defined]
        # pyright says: Type of "nope" is unknown  [reportUnknownMemberType]
        # pyright says: Cannot access attribute "nope" for class "Stream[int]"  [reportAttributeAccessIssue]
    await add.imap([1])
    # mypy says: Incompatible types in "await" (actual type "Stream[int]", expected type "Awaitable[Any]")  [misc]
    # pyright says: "Stream[int]" is not awaitable  [reportGeneralTypeIssues]
    (await add.map([1])).nope()
    # mypy says: "list[int]" has no attribute "nope"  [attr-defined]
    # pyright says: Type of "nope" is unknown  [reportUnknownMemberType]
    # pyright says: Cannot access attribute "nope" for class "list[int]"  [reportAttributeAccessIssue]
