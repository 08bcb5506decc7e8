"""The typed ways to have a task run once for each item of its arguments.

The overloads are written by ``build-support/generate_overloads.py``.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterable, Callable, Iterator
from contextlib import closing, nullcontext
from typing import Final, ParamSpec, TypeAlias, TypeVar, overload

from anabranch.flows._rows import Rows
from anabranch.flows._runnable import A, B, C, D, E, Each, F, G, H, Runnable, T, WaitFor
from anabranch.flows._streams import ResultStream, checked_max_pending
from anabranch.futures import Future, FutureList, Stream
from anabranch.futures.runner import AsTheyEnd, InFlight, InOrder, current_scope

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

#: What a stream takes besides: an async iterable.
EachInTurn: TypeAlias = Each[T] | AsyncIterable[T | Future[T]]


class Mappable(Runnable[P, R_co]):
    """What can be submitted once for each item: a task.

    Attributes:
        name: What it is called.
    """

    def __init__(self, name: str) -> None:
        self.name: Final = name

    @abc.abstractmethod
    def _check(self, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """Refuse arguments that do not fit the function."""

    # generated: map
    @overload
    def map(
        self: Callable[[A], object],
        a: Each[A],
        /,
        *,
        wait_for: WaitFor = (),
    ) -> FutureList[R_co]: ...
    @overload
    def map(
        self: Callable[[A, B], object],
        a: Each[A],
        b: Each[B],
        /,
        *,
        wait_for: WaitFor = (),
    ) -> FutureList[R_co]: ...
    @overload
    def map(
        self: Callable[[A, B, C], object],
        a: Each[A],
        b: Each[B],
        c: Each[C],
        /,
        *,
        wait_for: WaitFor = (),
    ) -> FutureList[R_co]: ...
    @overload
    def map(
        self: Callable[[A, B, C, D], object],
        a: Each[A],
        b: Each[B],
        c: Each[C],
        d: Each[D],
        /,
        *,
        wait_for: WaitFor = (),
    ) -> FutureList[R_co]: ...
    @overload
    def map(
        self: Callable[[A, B, C, D, E], object],
        a: Each[A],
        b: Each[B],
        c: Each[C],
        d: Each[D],
        e: Each[E],
        /,
        *,
        wait_for: WaitFor = (),
    ) -> FutureList[R_co]: ...
    @overload
    def map(
        self: Callable[[A, B, C, D, E, F], object],
        a: Each[A],
        b: Each[B],
        c: Each[C],
        d: Each[D],
        e: Each[E],
        f: Each[F],
        /,
        *,
        wait_for: WaitFor = (),
    ) -> FutureList[R_co]: ...
    @overload
    def map(
        self: Callable[[A, B, C, D, E, F, G], object],
        a: Each[A],
        b: Each[B],
        c: Each[C],
        d: Each[D],
        e: Each[E],
        f: Each[F],
        g: Each[G],
        /,
        *,
        wait_for: WaitFor = (),
    ) -> FutureList[R_co]: ...
    @overload
    def map(
        self: Callable[[A, B, C, D, E, F, G, H], object],
        a: Each[A],
        b: Each[B],
        c: Each[C],
        d: Each[D],
        e: Each[E],
        f: Each[F],
        g: Each[G],
        h: Each[H],
        /,
        *,
        wait_for: WaitFor = (),
    ) -> FutureList[R_co]: ...
    # end
    def map(self, *args: object, **kwargs: object) -> FutureList[R_co]:
        """Submit one run for each item of the arguments, and return their futures.

        Args:
            *args: Iterables of the same length, whose items may be futures; futures of iterables;
                and values marked with `unmapped`, which every run gets as they are.
            **kwargs: The same by keyword, and ``wait_for``, as for `submit`.

        Returns:
            The futures, which are themselves a future of the list of values.

        Raises:
            ValueError: The iterables differ in length.
            TypeError: No argument is an iterable, or the arguments do not fit the function.
            NotSubmittableError: There is no task runner here to submit to.
        """
        wait_for = _reusable(kwargs.pop("wait_for", ()))
        rows = Rows(f"{self.name}.map()", args, kwargs)
        with closing(rows):  # All of them before the first is submitted: they may not fit together.
            calls = list(rows)
        scope = current_scope.get()
        runner = None if scope is None else scope.runner
        with nullcontext() if runner is None else runner.together():
            return FutureList(
                [self._submit(call_args, call_kwargs, wait_for) for call_args, call_kwargs in calls]
            )

    # generated: imap
    @overload
    def imap(
        self: Callable[[A], object],
        a: EachInTurn[A],
        /,
        *,
        max_pending: int | None = None,
        wait_for: WaitFor = (),
    ) -> Stream[R_co]: ...
    @overload
    def imap(
        self: Callable[[A, B], object],
        a: EachInTurn[A],
        b: EachInTurn[B],
        /,
        *,
        max_pending: int | None = None,
        wait_for: WaitFor = (),
    ) -> Stream[R_co]: ...
    @overload
    def imap(
        self: Callable[[A, B, C], object],
        a: EachInTurn[A],
        b: EachInTurn[B],
        c: EachInTurn[C],
        /,
        *,
        max_pending: int | None = None,
        wait_for: WaitFor = (),
    ) -> Stream[R_co]: ...
    @overload
    def imap(
        self: Callable[[A, B, C, D], object],
        a: EachInTurn[A],
        b: EachInTurn[B],
        c: EachInTurn[C],
        d: EachInTurn[D],
        /,
        *,
        max_pending: int | None = None,
        wait_for: WaitFor = (),
    ) -> Stream[R_co]: ...
    @overload
    def imap(
        self: Callable[[A, B, C, D, E], object],
        a: EachInTurn[A],
        b: EachInTurn[B],
        c: EachInTurn[C],
        d: EachInTurn[D],
        e: EachInTurn[E],
        /,
        *,
        max_pending: int | None = None,
        wait_for: WaitFor = (),
    ) -> Stream[R_co]: ...
    @overload
    def imap(
        self: Callable[[A, B, C, D, E, F], object],
        a: EachInTurn[A],
        b: EachInTurn[B],
        c: EachInTurn[C],
        d: EachInTurn[D],
        e: EachInTurn[E],
        f: EachInTurn[F],
        /,
        *,
        max_pending: int | None = None,
        wait_for: WaitFor = (),
    ) -> Stream[R_co]: ...
    @overload
    def imap(
        self: Callable[[A, B, C, D, E, F, G], object],
        a: EachInTurn[A],
        b: EachInTurn[B],
        c: EachInTurn[C],
        d: EachInTurn[D],
        e: EachInTurn[E],
        f: EachInTurn[F],
        g: EachInTurn[G],
        /,
        *,
        max_pending: int | None = None,
        wait_for: WaitFor = (),
    ) -> Stream[R_co]: ...
    @overload
    def imap(
        self: Callable[[A, B, C, D, E, F, G, H], object],
        a: EachInTurn[A],
        b: EachInTurn[B],
        c: EachInTurn[C],
        d: EachInTurn[D],
        e: EachInTurn[E],
        f: EachInTurn[F],
        g: EachInTurn[G],
        h: EachInTurn[H],
        /,
        *,
        max_pending: int | None = None,
        wait_for: WaitFor = (),
    ) -> Stream[R_co]: ...
    # end
    def imap(self, *args: object, max_pending: int | None = None, **kwargs: object) -> Stream[R_co]:
        """Return the results for each item of the arguments, in their order, as a stream.

        For inputs too long for `map`, or endless ones. Nothing is taken from them and nothing is
        submitted before it is needed, and nothing that was handed out is kept. The stream is for
        one consumer, in ``for`` or in ``async for``. A step raises what its run failed with; the
        next step goes on with the next result.

        Leaving the loop early cancels the runs in flight and closes the generators among the
        inputs, as soon as the stream is dropped; ``with stream:`` and ``async with stream:`` do so
        for certain, and ``stream.close()`` at once.

        Args:
            *args: Iterables, whose items may be futures, to be taken from in step; futures of
                iterables; values marked with `unmapped`; and in ``async for`` async iterables.
            max_pending: How many runs may have been submitted whose results have not been taken
                from the stream; 256 if None.
            **kwargs: Arguments by keyword, and ``wait_for``, as for `submit`.

        Returns:
            The stream. Its steps raise besides: ``ValueError`` when an iterable ends before
            another, in the place of the result that is not to be had; what an iterable raised,
            likewise; and ``NotSubmittableError`` where there is no task runner to submit to.

        Raises:
            TypeError: No argument is an iterable, or they do not fit the function, or
                ``max_pending`` is no whole number.
            ValueError: ``max_pending`` is less than 1.
        """
        return self._stream("imap", args, kwargs, max_pending, InOrder())

    # generated: imap_unordered
    @overload
    def imap_unordered(
        self: Callable[[A], object],
        a: EachInTurn[A],
        /,
        *,
        max_pending: int | None = None,
        wait_for: WaitFor = (),
    ) -> Stream[R_co]: ...
    @overload
    def imap_unordered(
        self: Callable[[A, B], object],
        a: EachInTurn[A],
        b: EachInTurn[B],
        /,
        *,
        max_pending: int | None = None,
        wait_for: WaitFor = (),
    ) -> Stream[R_co]: ...
    @overload
    def imap_unordered(
        self: Callable[[A, B, C], object],
        a: EachInTurn[A],
        b: EachInTurn[B],
        c: EachInTurn[C],
        /,
        *,
        max_pending: int | None = None,
        wait_for: WaitFor = (),
    ) -> Stream[R_co]: ...
    @overload
    def imap_unordered(
        self: Callable[[A, B, C, D], object],
        a: EachInTurn[A],
        b: EachInTurn[B],
        c: EachInTurn[C],
        d: EachInTurn[D],
        /,
        *,
        max_pending: int | None = None,
        wait_for: WaitFor = (),
    ) -> Stream[R_co]: ...
    @overload
    def imap_unordered(
        self: Callable[[A, B, C, D, E], object],
        a: EachInTurn[A],
        b: EachInTurn[B],
        c: EachInTurn[C],
        d: EachInTurn[D],
        e: EachInTurn[E],
        /,
        *,
        max_pending: int | None = None,
        wait_for: WaitFor = (),
    ) -> Stream[R_co]: ...
    @overload
    def imap_unordered(
        self: Callable[[A, B, C, D, E, F], object],
        a: EachInTurn[A],
        b: EachInTurn[B],
        c: EachInTurn[C],
        d: EachInTurn[D],
        e: EachInTurn[E],
        f: EachInTurn[F],
        /,
        *,
        max_pending: int | None = None,
        wait_for: WaitFor = (),
    ) -> Stream[R_co]: ...
    @overload
    def imap_unordered(
        self: Callable[[A, B, C, D, E, F, G], object],
        a: EachInTurn[A],
        b: EachInTurn[B],
        c: EachInTurn[C],
        d: EachInTurn[D],
        e: EachInTurn[E],
        f: EachInTurn[F],
        g: EachInTurn[G],
        /,
        *,
        max_pending: int | None = None,
        wait_for: WaitFor = (),
    ) -> Stream[R_co]: ...
    @overload
    def imap_unordered(
        self: Callable[[A, B, C, D, E, F, G, H], object],
        a: EachInTurn[A],
        b: EachInTurn[B],
        c: EachInTurn[C],
        d: EachInTurn[D],
        e: EachInTurn[E],
        f: EachInTurn[F],
        g: EachInTurn[G],
        h: EachInTurn[H],
        /,
        *,
        max_pending: int | None = None,
        wait_for: WaitFor = (),
    ) -> Stream[R_co]: ...
    # end
    def imap_unordered(
        self, *args: object, max_pending: int | None = None, **kwargs: object
    ) -> Stream[R_co]:
        """Return the results for each item of the arguments, as the runs end, as a stream.

        It is `imap`, but for the order: a slow run does not hold up the results of others.
        """
        return self._stream("imap_unordered", args, kwargs, max_pending, AsTheyEnd())

    def _stream(
        self,
        method: str,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        max_pending: object,
        runs: InFlight[R_co],
    ) -> Stream[R_co]:
        limit = checked_max_pending(f"{self.name}.{method}", max_pending)
        wait_for = _reusable(kwargs.pop("wait_for", ()))
        name = f"{self.name}.{method}()"
        rows = Rows(name, args, kwargs)
        self._check(args, kwargs)

        def submit(call_args: tuple[object, ...], call_kwargs: dict[str, object]) -> Future[R_co]:
            return self._submit(call_args, call_kwargs, wait_for)

        return ResultStream(name, rows, submit, runs, limit)


def _reusable(wait_for: object) -> object:
    # An iterator would be used up by the first run.
    return tuple(wait_for) if isinstance(wait_for, Iterator) else wait_for
