"""What the tests of streams run, and how they call a method of either name."""

from __future__ import annotations

from anabranch.flows import Stream, task

METHODS = ["imap", "imap_unordered"]


@task
def double(x: int) -> int:
    """Double."""
    return 2 * x


@task
async def double_async(x: int) -> int:
    """Double, asynchronously."""
    return 2 * x


@task
def add(x: int, y: int = 0) -> int:
    """Add."""
    return x + y


def stream_of(method: str, of: object, *args: object, **kwargs: object) -> Stream[int]:
    """Call a method by its name, whatever the types."""
    stream: Stream[int] = getattr(of, method)(*args, **kwargs)
    return stream
