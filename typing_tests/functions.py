"""Tasks and flows that the cases share: one of each shape that types have to follow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Sequence
from typing import Literal, NoReturn, TypedDict, TypeVar

from anabranch.flows import flow, task

T = TypeVar("T")


class Point(TypedDict):
    """A record that only its literal form can make."""

    x: int


@task
def add(x: int, y: int = 0) -> int:
    """Add y to x."""
    return x + y


@task(retries=2, name="one", tags=["a"])
def one(x: int) -> str:
    return str(x)


@task
async def aone(x: int) -> str:
    return str(x)


@task(retries=2, timeout=None)
async def aadd(x: int, y: int = 0) -> int:
    return x + y


@task()
def none() -> int:
    return 1


@task
def var(*xs: int, k: str = "") -> int:
    return len(xs) + len(k)


@task
def kws(a: str, **kw: int) -> int:
    return len(a) + len(kw)


@task
def konly(a: int, *, k: str) -> int:
    return a + len(k)


@task
def posonly(a: int, /, b: str) -> int:
    return a + len(b)


@task
def pair(x: T) -> list[T]:
    return [x, x]


@task
async def apair(x: T) -> list[T]:
    return [x, x]


@task
def total(xs: list[int]) -> int:
    return sum(xs)


@task
def union(x: int | str) -> int:
    return int(x)


@task
def opt(x: int | None = None) -> int:
    return x or 0


@task
def show(x: object) -> None:
    str(x)


@task
def eight(a: int, b: str, c: int, d: str, e: int, f: str, g: int, h: str) -> bytes:
    return b"".join(str(each).encode() for each in (a, b, c, d, e, f, g, h))


@task
def ten(a: int, b: int, c: int, d: int, e: int, f: int, g: int, h: int, i: int, j: str = "") -> int:
    return a + b + c + d + e + f + g + h + i + len(j)


@task
def lit(mode: Literal["a", "b"], scale: float = 1.0) -> int:
    return len(mode) * int(scale)


@task
def cb(fn: Callable[[int], int], xs: Sequence[float]) -> int:
    return fn(len(xs))


@task
def td(p: Point) -> Point:
    return p


@task
def robust(x: int | BaseException) -> int:
    return 0 if isinstance(x, BaseException) else x


@task
def boom(x: int) -> NoReturn:
    raise ValueError(x)


@task
async def aboom(x: int) -> NoReturn:
    raise ValueError(x)


@task
def count_to(n: int) -> Generator[int, None, None]:
    yield from range(n)


@task
async def acount_to(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number


class Scale:
    """Methods as tasks."""

    @task
    def weigh(self, x: int) -> str:
        """Weigh x."""
        return f"{x} kg"

    @task(retries=2)
    async def aweigh(self, x: int, unit: str = "") -> bytes:
        return f"{x} {unit}".encode()

    @task
    @classmethod
    def made(cls, x: int) -> str:
        return f"{cls.__name__} {x}"

    @task
    @classmethod
    async def amade(cls, x: int) -> str:
        return f"{cls.__name__} {x}"

    @task
    @staticmethod
    def known(x: int) -> str:
        return str(x)

    @task
    def reset(self) -> int:
        return 0


class FineScale(Scale):
    """Its methods are inherited."""


scale = Scale()


def plain(x: int, y: str = "") -> float:
    return x + len(y)


async def aplain(x: int) -> bytes:
    return str(x).encode()


@flow
def main_flow(n: int, tag: str = "") -> int:
    """Return n."""
    return n + len(tag)


@flow(name="async flow")
async def aflow(n: int) -> str:
    return str(n)
