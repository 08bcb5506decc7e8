"""Letting exceptions out of task groups as they were raised."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager


@asynccontextmanager
async def unwrapped(exit_stack: AsyncExitStack) -> AsyncGenerator[AsyncExitStack]:
    """Enter an exit stack that lets the exception of its body out as it was raised.

    Task groups on the stack would wrap it into an exception group. Their children's exceptions
    still come out: the engine's own children raise none.
    """
    body_error: BaseException | None = None
    try:
        async with exit_stack:
            try:
                yield exit_stack
            except BaseException as error:  # Whatever it is comes out again.
                body_error = error
                raise
    except BaseExceptionGroup as group:
        interrupts = (KeyboardInterrupt, SystemExit)
        interrupt = next((each for each in _leaves(group) if isinstance(each, interrupts)), None)
        if interrupt is not None:
            body_error = interrupt
        elif body_error is None or not _holds_only(group, body_error):
            raise
    # Raised out here, it gets neither the group as its context nor loses a cause of its own.
    if body_error is not None:
        raise body_error


def _holds_only(found: BaseException, error: BaseException) -> bool:
    # Compared by what is inside: what passes through a task group may be a copy of a group.
    own = [id(each) for each in _leaves(error)]
    return all(id(each) in own for each in _leaves(found))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
