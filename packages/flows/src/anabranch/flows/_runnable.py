"""The typed calls that tasks and flows share.

One set of overloads serves sync and async, tasks and flows: the self type of each is what the class
is called with, and its result is the class's own. The overloads are written by
``build-support/generate_overloads.py``.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable
from typing import Concatenate, Final, Generic, ParamSpec, TypeAlias, TypeVar, overload

from anabranch.futures import Future, State, unmapped
from anabranch.futures.runner import AnyCoroutine

P = ParamSpec("P")
Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")
H = TypeVar("H")

Arg: TypeAlias = T | Future[T]
Each: TypeAlias = Iterable[T | Future[T]] | Future[Iterable[T]] | unmapped[T]
WaitFor: TypeAlias = Iterable[Future[object]]


_NOTHING: Final[tuple[Future[object], ...]] = ()


def checked_wait_for(name: str, wait_for: object) -> tuple[Future[object], ...]:
    """Return what a run is to wait for.

    Args:
        name: What errors call the task or the flow.
        wait_for: What `submit` was given.

    Raises:
        TypeError: It is no futures.
    """
    if wait_for is _NOTHING:
        return _NOTHING
    futures = (wait_for,) if isinstance(wait_for, Future) else wait_for
    if isinstance(futures, Iterable) and not isinstance(futures, str):
        found = tuple(futures)
        if all(isinstance(each, Future) for each in found):
            return found
    raise TypeError(
        f"{name}.submit(wait_for={wait_for!r}): give the futures to wait for, as in "
        "wait_for=[first, second]"
    )


class Runnable(abc.ABC, Generic[P, R_co]):
    """What can be called and submitted: a task or a flow."""

    @abc.abstractmethod
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> object:
        """Call the function; see `Sync` and `Async`."""

    @abc.abstractmethod
    def _submit(
        self, args: tuple[object, ...], kwargs: dict[str, object], wait_for: object
    ) -> Future[R_co]:
        """Have the function run with these arguments."""

    @overload
    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Future[R_co]: ...
    # generated: submit
    @overload
    def submit(
        self: Callable[Concatenate[A, Q], object],
        a: Arg[A],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Future[R_co]: ...
    @overload
    def submit(
        self: Callable[Concatenate[A, B, Q], object],
        a: Arg[A],
        b: Arg[B],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Future[R_co]: ...
    @overload
    def submit(
        self: Callable[Concatenate[A, B, C, Q], object],
        a: Arg[A],
        b: Arg[B],
        c: Arg[C],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Future[R_co]: ...
    @overload
    def submit(
        self: Callable[Concatenate[A, B, C, D, Q], object],
        a: Arg[A],
        b: Arg[B],
        c: Arg[C],
        d: Arg[D],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Future[R_co]: ...
    @overload
    def submit(
        self: Callable[Concatenate[A, B, C, D, E, Q], object],
        a: Arg[A],
        b: Arg[B],
        c: Arg[C],
        d: Arg[D],
        e: Arg[E],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Future[R_co]: ...
    @overload
    def submit(
        self: Callable[Concatenate[A, B, C, D, E, F, Q], object],
        a: Arg[A],
        b: Arg[B],
        c: Arg[C],
        d: Arg[D],
        e: Arg[E],
        f: Arg[F],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Future[R_co]: ...
    @overload
    def submit(
        self: Callable[Concatenate[A, B, C, D, E, F, G, Q], object],
        a: Arg[A],
        b: Arg[B],
        c: Arg[C],
        d: Arg[D],
        e: Arg[E],
        f: Arg[F],
        g: Arg[G],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Future[R_co]: ...
    @overload
    def submit(
        self: Callable[Concatenate[A, B, C, D, E, F, G, H, Q], object],
        a: Arg[A],
        b: Arg[B],
        c: Arg[C],
        d: Arg[D],
        e: Arg[E],
        f: Arg[F],
        g: Arg[G],
        h: Arg[H],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Future[R_co]: ...
    # end
    # generated: submit with wait_for
    @overload
    def submit(
        self: Callable[[], object],
        /,
        *,
        wait_for: WaitFor,
    ) -> Future[R_co]: ...
    @overload
    def submit(
        self: Callable[[A], object],
        a: Arg[A],
        /,
        *,
        wait_for: WaitFor,
    ) -> Future[R_co]: ...
    @overload
    def submit(
        self: Callable[[A, B], object],
        a: Arg[A],
        b: Arg[B],
        /,
        *,
        wait_for: WaitFor,
    ) -> Future[R_co]: ...
    @overload
    def submit(
        self: Callable[[A, B, C], object],
        a: Arg[A],
        b: Arg[B],
        c: Arg[C],
        /,
        *,
        wait_for: WaitFor,
    ) -> Future[R_co]: ...
    @overload
    def submit(
        self: Callable[[A, B, C, D], object],
        a: Arg[A],
        b: Arg[B],
        c: Arg[C],
        d: Arg[D],
        /,
        *,
        wait_for: WaitFor,
    ) -> Future[R_co]: ...
    @overload
    def submit(
        self: Callable[[A, B, C, D, E], object],
        a: Arg[A],
        b: Arg[B],
        c: Arg[C],
        d: Arg[D],
        e: Arg[E],
        /,
        *,
        wait_for: WaitFor,
    ) -> Future[R_co]: ...
    @overload
    def submit(
        self: Callable[[A, B, C, D, E, F], object],
        a: Arg[A],
        b: Arg[B],
        c: Arg[C],
        d: Arg[D],
        e: Arg[E],
        f: Arg[F],
        /,
        *,
        wait_for: WaitFor,
    ) -> Future[R_co]: ...
    @overload
    def submit(
        self: Callable[[A, B, C, D, E, F, G], object],
        a: Arg[A],
        b: Arg[B],
        c: Arg[C],
        d: Arg[D],
        e: Arg[E],
        f: Arg[F],
        g: Arg[G],
        /,
        *,
        wait_for: WaitFor,
    ) -> Future[R_co]: ...
    @overload
    def submit(
        self: Callable[[A, B, C, D, E, F, G, H], object],
        a: Arg[A],
        b: Arg[B],
        c: Arg[C],
        d: Arg[D],
        e: Arg[E],
        f: Arg[F],
        g: Arg[G],
        h: Arg[H],
        /,
        *,
        wait_for: WaitFor,
    ) -> Future[R_co]: ...
    # end
    def submit(self, /, *args: object, **kwargs: object) -> Future[R_co]:
        """Have the function run, and return its future.

        Takes the function's own arguments. Each of them may be a future, or hold futures at any
        depth: the function is called once they are done, with their values. Should one of them
        fail, it is not called, and ends as ``UpstreamFailed``. (To a type checker, futures fit the
        first eight positions; elsewhere pass ``lift(future)``.)

        Args:
            *args: Positional arguments.
            **kwargs: Keyword arguments, and ``wait_for``: futures that must complete before the
                function is called, without giving it an argument.

        Returns:
            The future of the run.

        Raises:
            NotSubmittableError: There is no task runner here to submit to.
            TypeError: The arguments do not fit the function.
        """
        wait_for = kwargs.pop("wait_for", _NOTHING) if kwargs else _NOTHING
        return self._submit(args, kwargs, wait_for)


class Sync(Runnable[P, R_co]):
    """A runnable whose function is an ordinary one."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the function here and now, and return what it returns.

        Raises:
            BaseException: What the run failed with.
        """
        return self._run_here(args, kwargs).result()

    def run(self, *args: P.args, **kwargs: P.kwargs) -> State[R_co]:
        """Run the function here and now, and return the state that the run ended in."""
        return self._run_here(args, kwargs)

    @abc.abstractmethod
    def _run_here(self, args: tuple[object, ...], kwargs: dict[str, object]) -> State[R_co]:
        """Run the function in the calling thread."""


class Async(Runnable[P, R_co]):
    """A runnable whose function is a coroutine function."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the function in the calling async task, when awaited, and return what it returns.

        Raises:
            BaseException: What the run failed with.
        """
        return (await self._run_here(args, kwargs)).result()

    def run(self, *args: P.args, **kwargs: P.kwargs) -> AnyCoroutine[State[R_co]]:
        """Run the function in the calling async task, and return the state that it ended in."""
        return self._run_here(args, kwargs)

    @abc.abstractmethod
    async def _run_here(self, args: tuple[object, ...], kwargs: dict[str, object]) -> State[R_co]:
        """Run the function in the calling async task."""
