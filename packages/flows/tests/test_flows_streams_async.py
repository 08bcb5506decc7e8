"""Streams of results in event loops."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import anyio
import anyio.lowlevel
import pytest
from stream_tasks import METHODS, add, double, double_async, stream_of

from anabranch.flows import SequentialTaskRunner, flow, task
from anabranch.futures import WouldDeadlockError


async def ticks(count: int, closed: list[str] | None = None) -> AsyncIterator[int]:
    """Count up, with a pause before each number."""
    try:
        for x in range(count):
            await anyio.lowlevel.checkpoint()
            yield x
    finally:
        if closed is not None:
            closed.append("closed")


@pytest.mark.anyio
@pytest.mark.parametrize("method", METHODS)
class TestAsync:
    async def test_async_inputs(self, method: str) -> None:
        """In `async for`, inputs of all kinds are zipped."""

        @flow
        async def body() -> list[int]:
            stream = stream_of(method, add, ticks(5), range(5))
            futures = double.map(range(3))
            outer = stream_of(method, add, stream_of(method, double_async, ticks(3)), futures)
            return [*[x async for x in stream], *[x async for x in outer]]

        found = await body()
        assert sorted(found[:5]) == [0, 2, 4, 6, 8]
        assert len(found) == 8

    async def test_a_future_of_an_iterable_is_awaited(self, method: str) -> None:
        """A run that the loop itself has to make may give the input."""

        @task
        async def numbers() -> list[int]:
            return [1, 2]

        @flow
        async def body() -> list[int]:
            return [x async for x in stream_of(method, double_async, numbers.submit())]

        assert sorted(await body()) == [2, 4]

    async def test_a_plain_loop_over_an_async_input_is_refused(self, method: str) -> None:
        """`for` over a stream with an async input says that `async for` is needed."""

        @flow
        async def body() -> int:
            with pytest.raises(TypeError, match=r"async iterable for argument 1.*`async for "):
                next(stream_of(method, double, ticks(3)))
            return 0

        assert await body() == 0

    async def test_a_plain_loop_that_would_never_end_is_refused(self, method: str) -> None:
        """`for` over runs that need this loop raises, and `async for` can take over."""

        @flow
        async def body() -> list[int]:
            stream = stream_of(method, double_async, range(3))
            with pytest.raises(WouldDeadlockError, match=r"double_async.imap.*`async for`"):
                next(stream)
            return [x async for x in stream]

        assert sorted(await body()) == [0, 2, 4]

    async def test_a_plain_loop_over_threads_works(self, method: str) -> None:
        """`for` over runs in threads does what it says, in an async flow too."""

        @flow
        async def body() -> list[int]:
            return sorted(stream_of(method, double, range(3)))

        assert await body() == [0, 2, 4]

    async def test_the_window_is_kept(self, method: str) -> None:
        """While async runs are held, `max_pending` inputs have been taken."""
        taken: list[int] = []

        def numbers() -> Iterator[int]:
            for x in itertools.count():
                taken.append(x)
                yield x

        @flow
        async def body() -> list[int]:
            go_on = anyio.Event()

            @task
            async def hold(x: int) -> int:
                await go_on.wait()
                return x

            found: list[int] = []

            async def consume() -> None:
                async for x in stream_of(method, hold, numbers(), max_pending=5):
                    found.append(x)
                    if len(found) == 20:
                        break

            async with anyio.create_task_group() as group:
                group.start_soon(consume)
                await anyio.wait_all_tasks_blocked()
                assert len(taken) == 5
                go_on.set()
            return found

        assert sorted(await body()) == list(range(20))
        assert len(taken) <= 20 + 5

    async def test_leaving_cancels_and_closes(self, method: str) -> None:
        """`async with` cancels what is in flight and closes async generators."""
        closed: list[str] = []
        stopped: list[int] = []

        others = anyio.Event()

        @task
        async def hold(x: int) -> int:
            if x == 0:
                await others.wait()
                return x
            others.set()
            try:
                await anyio.sleep_forever()
            finally:
                stopped.append(x)
            return x

        @flow
        async def body() -> int:
            found = []
            async with stream_of(method, hold, ticks(100, closed), max_pending=4) as stream:
                async for x in stream:
                    found.append(x)
                    break
            assert closed == ["closed"]
            assert [x async for x in stream] == []
            return found[0]

        assert await body() == 0
        assert 1 in stopped

    async def test_giving_up_a_step_loses_nothing(self, method: str) -> None:
        """A step that is cancelled has neither lost a result nor an item."""
        send, receive = anyio.create_memory_object_stream[int](10)

        @flow
        async def body() -> list[int]:
            found: list[int] = []
            stream = stream_of(method, add, range(3), receive)
            for x in range(3):
                with anyio.move_on_after(0):
                    found.append(await anext(stream))
                await send.send(10 * x)
            send.close()
            return [*found, *[x async for x in stream]]

        with receive:
            assert sorted(await body()) == [0, 11, 22]

    async def test_ready_results_leave_room_for_others(self, method: str) -> None:
        """A loop over results that are there already can be cancelled."""

        @flow(task_runner=SequentialTaskRunner())
        async def body() -> int:
            futures = double.map(range(3))
            await futures
            with anyio.CancelScope() as scope:
                async for _ in stream_of(method, double, itertools.cycle(futures)):
                    scope.cancel()
            return 0

        assert await body() == 0

    async def test_failures_in_async_loops(self, method: str) -> None:
        """A step raises what its run failed with, and the next one goes on."""

        @task
        async def stop(x: int) -> int:
            if x == 1:
                raise StopAsyncIteration
            return x

        @flow
        async def body() -> list[int]:
            stream = stream_of(method, stop, range(3), max_pending=1)
            first = await anext(stream)
            with pytest.raises(RuntimeError, match="raised StopAsyncIteration"):
                await anext(stream)
            short = stream_of(method, add, ticks(3), [1])
            assert await anext(short) == 1
            with pytest.raises(ValueError, match="argument 2 ended after 1"):
                await anext(short)
            return [first, *[x async for x in stream]]

        assert await body() == [0, 2]
