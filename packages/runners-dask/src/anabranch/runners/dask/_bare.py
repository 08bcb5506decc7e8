"""Exceptions without their tracebacks."""

from __future__ import annotations

from typing import TypeVar

E = TypeVar("E", bound=BaseException)


def bare(error: E) -> E:
    """Take the tracebacks off an exception, and off those that led to it; returns it.

    A traceback keeps alive what the functions in it were at, and a state is kept for long. One
    that has travelled is worse: Dask rebuilds it on top of the frames that unpickle it.
    """
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        each.__traceback__ = None
        waiting.extend(found for found in (each.__cause__, each.__context__) if found is not None)
        if isinstance(each, BaseExceptionGroup):
            waiting.extend(each.exceptions)
    return error
