"""Types that stay general wherever they are used."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

R = TypeVar("R")

#: A function of any parameters: there is no other way to say so than by `...`.
AnyFunction: TypeAlias = Callable[..., R]

#: What an async function returns: what passes between it and its event loop is the loop's affair.
AnyCoroutine: TypeAlias = Coroutine[Any, Any, R]
