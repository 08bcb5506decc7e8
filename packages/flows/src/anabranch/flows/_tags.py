"""Tags: labels for the runs that are submitted in a block of code."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Final

#: The tags that surround the code that is running.
current_tags: Final[ContextVar[frozenset[str]]] = ContextVar(
    "current_tags",
    default=frozenset(),
)


def tags(*names: str) -> AbstractContextManager[frozenset[str]]:
    """Label the task runs that are submitted or called inside a ``with`` block.

    ``with tags("nightly", "io"):`` adds these labels to the tasks' own. They belong to the code
    that is running, not to a thread or a flow: tasks called by tasks and subflows called in the
    block have them as well, and blocks inside each other add up.

    Args:
        *names: The labels.

    Returns:
        A context manager; it gives all labels that are in force in its block.

    Raises:
        TypeError: A label is no string.
    """
    return _tagged(checked_tags("tags()", names))


@contextmanager
def _tagged(names: frozenset[str]) -> Generator[frozenset[str]]:
    token = current_tags.set(current_tags.get() | names)
    try:
        yield current_tags.get()
    finally:
        current_tags.reset(token)


def checked_tags(where: str, names: object) -> frozenset[str]:
    """Return tags as a set.

    Args:
        where: What errors say that the tags were given to.
        names: The tags.

    Raises:
        TypeError: They are no strings, or one string in place of several.
    """
    if isinstance(names, str):
        raise TypeError(
            f"{where} got tags={names!r}, a string, whose letters would be the tags; "
            f"give several, as in tags=[{names!r}]"
        )
    if not isinstance(names, Iterable):
        raise TypeError(f"{where} got tags={names!r}; give strings, as in tags=['io']")
    found = frozenset(names)
    for name in found:
        if not isinstance(name, str):
            raise TypeError(
                f"{where} got the tag {name!r}; tags are strings, such as {str(name)!r}"
            )
    return found
