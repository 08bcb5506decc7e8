"""Streams of results: `imap` and `imap_unordered`."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator

import anyio
import pytest
from stream_tasks import METHODS, add, double, double_async, stream_of

from anabranch.flows import (
    ConcurrentTaskRunner,
    Future,
    SequentialTaskRunner,
    Stream,
    Task,
    TaskRunner,
    UpstreamFailedError,
    flow,
    task,
    unmapped,
)
from anabranch.futures import NotSubmittableError, RunnerNotStartedError
from anabranch.futures.testing import Gate

RUNNERS = [SequentialTaskRunner, ConcurrentTaskRunner]


@task
def fail_on_odd(x: int) -> int:
    """Raise for odd numbers."""
    if x % 2:
        raise LookupError(f"{x} is odd")
    return x


class Numbers(Iterator[int]):
    """Counts up for ever, and keeps account of what was taken and whether it was closed."""

    def __init__(self) -> None:
        self.taken = 0
        self.is_closed = False
        self._items = self._count()

    def _count(self) -> Iterator[int]:
        while True:
            self.taken += 1
            yield self.taken - 1

    def __next__(self) -> int:
        return next(self._items)

    def generator(self) -> Iterator[int]:
        """Return a generator that can be closed."""
        try:
            yield from self
        finally:
            self.is_closed = True


class Cancelled:
    """A task under a stream of three runs: one has ended, one is being run, one is waiting."""

    def __init__(self, gate: Gate) -> None:
        self.started: list[int] = []
        self.numbers = Numbers()
        self._all_taken = threading.Event()
        ticket = gate.ticket

        @task
        def hold(x: int) -> int:
            self.started.append(x)
            if x == 0:
                self._all_taken.wait()
            else:
                ticket.wait()
            return x

        self.task = hold

    def inputs(self) -> Iterator[int]:
        """Count up, and say when the third has been taken."""
        try:
            for x in self.numbers:
                if x == 2:
                    self._all_taken.set()
                yield x
        finally:
            self.numbers.is_closed = True


def in_flow(body: Callable[[], object], runner: object = ConcurrentTaskRunner) -> object:
    """Run a function in a flow, and return what it returns."""
    assert isinstance(runner, TaskRunner) or callable(runner)
    return flow(task_runner=runner)(body)()


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("work", [double, double_async], ids=["sync", "async"])
class TestResults:
    def test_results_come_in_the_order_of_the_inputs(
        self, runner: type[TaskRunner], work: object
    ) -> None:
        """`imap` gives the results in the order of the inputs, and then ends."""

        def body() -> list[int]:
            stream = stream_of("imap", work, range(20), max_pending=7)
            results = list(stream)
            assert list(stream) == [], "it has ended"
            return results

        assert in_flow(body, runner) == [2 * x for x in range(20)]

    def test_all_results_come_in_some_order(self, runner: type[TaskRunner], work: object) -> None:
        """`imap_unordered` gives every result once."""

        def body() -> list[int]:
            return sorted(stream_of("imap_unordered", work, range(20), max_pending=7))

        assert in_flow(body, runner) == [2 * x for x in range(20)]

    @pytest.mark.anyio
    @pytest.mark.parametrize("method", METHODS)
    async def test_in_async_flows(
        self, runner: type[TaskRunner], work: object, method: str
    ) -> None:
        """In an async flow, the same streams are async iterators."""

        @flow(task_runner=runner)
        async def body() -> list[int]:
            return [x async for x in stream_of(method, work, range(20), max_pending=7)]

        assert sorted(await body()) == [2 * x for x in range(20)]


def test_unordered_results_come_as_the_runs_end() -> None:
    """A slow run holds up nobody behind it in `imap_unordered`."""

    def body() -> list[int]:
        with Gate() as gate:
            ticket = gate.ticket

            @task
            def hold_first(x: int) -> int:
                if x == 0:
                    ticket.wait()
                return x

            stream = hold_first.imap_unordered(range(6), max_pending=3)
            early = [next(stream) for _ in range(5)]
            gate.open()
            return [*sorted(early), *stream]

    assert in_flow(body) == [1, 2, 3, 4, 5, 0]


# ------------------------------------------------------------------------- inputs


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("runner", RUNNERS)
class TestInputs:
    def test_inputs_are_zipped(self, runner: type[TaskRunner], method: str) -> None:
        """Several inputs go in step, beside values that every run gets, also by keyword."""

        def body() -> list[list[int]]:
            ten = add.submit(4, 6)
            return [
                sorted(stream_of(method, add, [1, ten], (x for x in (20, 30)))),
                sorted(stream_of(method, add, [1, 2], unmapped(5))),
                sorted(stream_of(method, add, unmapped(5), y=[1, 2])),
                sorted(stream_of(method, add, [1, 2], y=unmapped(ten))),
            ]

        assert in_flow(body, runner) == [[21, 40], [6, 7], [6, 7], [11, 12]]

    def test_futures_of_iterables(self, runner: type[TaskRunner], method: str) -> None:
        """A future of a list and a list of futures are inputs like lists."""

        @task
        def numbers() -> list[int]:
            return [1, 2]

        def body() -> list[int]:
            mapped = double.map(numbers.submit())
            return sorted(stream_of(method, add, numbers.submit(), mapped))

        assert in_flow(body, runner) == [3, 6]

    def test_streams_of_streams(self, runner: type[TaskRunner], method: str) -> None:
        """A stream is an input like any other, and as lazy."""

        def body() -> list[int]:
            numbers = Numbers()
            inner = stream_of(method, double, numbers.generator(), max_pending=3)
            with stream_of(method, double, inner, max_pending=3) as outer:
                found = [next(outer) for _ in range(20)]
            assert numbers.taken <= 20 + 3 + 3
            return found

        found = in_flow(body, runner)
        assert isinstance(found, list)
        assert len(found) == 20
        assert all(x % 4 == 0 for x in found)

    def test_nothing_gives_nothing(self, runner: type[TaskRunner], method: str) -> None:
        """A stream over an empty input is at its end."""
        assert in_flow(lambda: list(stream_of(method, add, [], [])), runner) == []

    def test_waiting_for_others(self, runner: type[TaskRunner], method: str) -> None:
        """`wait_for` holds every run back, though it be an iterator."""

        def body() -> int:
            failed = fail_on_odd.submit(1)
            stream = stream_of(method, double, range(3), wait_for=iter([failed]))
            count = 0
            for _ in range(3):
                with pytest.raises(UpstreamFailedError, match="upstream ended in state Failed"):
                    next(stream)
                count += 1
            return count

        assert in_flow(body, runner) == 3

    def test_a_short_input_is_named_in_its_place(
        self, runner: type[TaskRunner], method: str
    ) -> None:
        """Inputs of different lengths raise when the results before that are handed out."""

        def body() -> list[int]:
            numbers = Numbers()
            stream = stream_of(method, add, numbers.generator(), [10, 20])
            results = [next(stream), next(stream)]
            with pytest.raises(
                ValueError,
                match=rf"add.{method}\(\).*argument 2 ended after 2 and argument 1 goes on",
            ):
                next(stream)
            assert numbers.is_closed
            assert list(stream) == []
            return sorted(results)

        assert in_flow(body, runner) == [10, 21]

    def test_an_input_that_raises_ends_the_stream_in_its_place(
        self, runner: type[TaskRunner], method: str
    ) -> None:
        """What an input raises comes out behind the results before it."""

        def broken() -> Iterator[int]:
            yield from range(3)
            raise LookupError("no more to read")

        def body() -> list[int]:
            stream = stream_of(method, double, broken())
            results: list[int] = []
            with pytest.raises(LookupError, match="no more to read"):
                results.extend(stream)
            assert list(stream) == []
            return sorted(results)

        assert in_flow(body, runner) == [0, 2, 4]

    def test_the_failed_future_of_an_input_is_raised(
        self, runner: type[TaskRunner], method: str
    ) -> None:
        """An input whose run has failed raises what that failed with."""

        def body() -> int:
            with pytest.raises(LookupError, match="1 is odd"):
                next(stream_of(method, double, fail_on_odd.submit(1)))
            with pytest.raises(TypeError, match=r"got 2 for argument 1, which is not iterable"):
                next(stream_of(method, double, fail_on_odd.submit(2)))
            return 1

        assert in_flow(body, runner) == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("args", "kwargs", "kind", "message"),
    [
        ((), {}, TypeError, r"add.imap\w*\(\) has nothing to map over"),
        ((unmapped(1),), {}, TypeError, r"add.imap\w*\(\) has nothing to map over"),
        (([1], 2), {}, TypeError, r"got 2 for argument 2, which is not iterable.*unmapped\(\)"),
        (([1],), {"y": 2}, TypeError, r"got 2 for argument 'y'.*unmapped\(\)"),
        (([1],), {"z": [2]}, TypeError, r"add\(\) cannot be called so.*'z'"),
        (([1],), {"max_pending": 0}, ValueError, r"add.imap\w*\(max_pending=0\): at least one"),
        (([1],), {"max_pending": 2.5}, TypeError, r"add.imap\w*\(max_pending=2.5\).*such as 100"),
        (([1],), {"max_pending": True}, TypeError, r"max_pending=True\).*leave it out for 256"),
    ],
)
def test_bad_arguments_are_refused_at_once(
    method: str,
    args: tuple[object, ...],
    kwargs: dict[str, object],
    kind: type[Exception],
    message: str,
) -> None:
    """Arguments that cannot be right are refused by the call, not by the first step."""
    with pytest.raises(kind, match=message):
        stream_of(method, add, *args, **kwargs)


@pytest.mark.parametrize("method", METHODS)
def test_outside_any_flow_the_first_step_is_refused(method: str) -> None:
    """A stream can be made outside a flow, but has nowhere to submit its runs to."""
    stream = stream_of(method, add, [1, 2])
    with pytest.raises(NotSubmittableError, match="'add' was submitted outside any flow"):
        next(stream)
    assert list(stream) == []


@pytest.mark.parametrize("method", METHODS)
def test_a_stream_that_outlives_its_flow(method: str) -> None:
    """After its flow a stream submits nothing more, and says why."""
    streams: list[Stream[int]] = []

    def body() -> int:
        streams.append(stream_of(method, double, [1, 2, 3], max_pending=1))
        return next(streams[0])

    assert in_flow(body) == 2
    with pytest.raises((NotSubmittableError, RunnerNotStartedError), match="'double'"):
        next(streams[0])


# ------------------------------------------------------------------------- laziness


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("max_pending", [1, 3])
def test_no_more_than_max_pending_are_taken(method: str, max_pending: int) -> None:
    """The window fills up while runs are held, and is never exceeded."""
    numbers = Numbers()
    seen: list[int] = []
    with Gate() as gate:
        ticket = gate.ticket

        @task
        def hold(x: int) -> int:
            ticket.wait()
            return x

        def watch() -> None:
            for _ in range(max_pending):
                gate.await_arrival()
            seen.append(numbers.taken)
            gate.open()

        def body() -> int:
            stream = stream_of(method, hold, numbers, max_pending=max_pending)
            for count in range(1, 30):
                next(stream)
                seen.append(numbers.taken - count + 1)
            return 0

        watcher = threading.Thread(target=watch)
        watcher.start()
        in_flow(body)
        watcher.join()
    assert seen[0] == max_pending
    assert max(seen) == max_pending


@pytest.mark.parametrize("method", METHODS)
def test_what_runs_in_place_does_not_run_ahead(method: str) -> None:
    """Where submitting a run means to run it, a step takes one item."""
    numbers = Numbers()

    def body() -> list[int]:
        taken = []
        for _ in zip(stream_of(method, double, numbers), range(4), strict=False):
            taken.append(numbers.taken)
        return taken

    assert in_flow(body, SequentialTaskRunner) == [1, 2, 3, 4]


@pytest.mark.parametrize("method", METHODS)
def test_results_are_not_kept(method: str) -> None:
    """Neither a result that was handed out nor the futures among the inputs are kept."""

    class Thing:
        """Something that can be referred to weakly."""

    @task
    def make(_: int) -> Thing:
        return Thing()

    things: list[weakref.ref[Thing]] = []
    futures: list[weakref.ref[Future[int]]] = []

    def inputs() -> Iterator[Future[int]]:
        for x in range(60):
            future = double.submit(x)
            futures.append(weakref.ref(future))
            yield future
            del future

    def body() -> int:
        stream = make.imap(inputs(), max_pending=3)
        if method == "imap_unordered":
            stream = make.imap_unordered(inputs(), max_pending=3)
        for thing in stream:
            things.append(weakref.ref(thing))
        # What the stream has in flight, and what the pool's one thread is about to let go of.
        return sum(each() is not None for each in things) + sum(
            each() is not None for each in futures
        )

    alive = in_flow(body, ConcurrentTaskRunner(max_workers=1))
    assert isinstance(alive, int)
    assert len(things) == 60
    assert alive <= 6


# ------------------------------------------------------------------------- failures


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("runner", RUNNERS)
class TestFailures:
    def test_the_stream_goes_on_behind_a_failure(
        self, runner: type[TaskRunner], method: str
    ) -> None:
        """A step raises what its run failed with, and the next one goes on."""

        def body() -> list[object]:
            stream = stream_of(method, fail_on_odd, range(6), max_pending=2)
            outcomes: list[object] = []
            while True:
                try:
                    outcomes.append(next(stream))
                except StopIteration:
                    return sorted(outcomes, key=str)
                except LookupError as error:
                    outcomes.append(str(error))

        assert in_flow(body, runner) == [0, "1 is odd", 2, "3 is odd", 4, "5 is odd"]

    @pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
    def test_a_run_cannot_end_the_loop(
        self, runner: type[TaskRunner], method: str, kind: type[Exception]
    ) -> None:
        """A task that raises StopIteration does not end the stream silently."""

        @task
        def stop(x: int) -> int:
            raise kind(x)

        def body() -> int:
            with pytest.raises(RuntimeError, match=r"Run 'stop-.*' raised Stop\w*Iteration"):
                next(stream_of(method, stop, [1]))
            return 0

        assert in_flow(body, runner) == 0

    def test_failures_that_came_out_are_not_warned_of(
        self, runner: type[TaskRunner], method: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The runs whose outcomes were handed out, or cancelled, count as looked at."""

        def body() -> int:
            stream = stream_of(method, fail_on_odd, itertools.repeat(1))
            with pytest.raises(LookupError, match="1 is odd"):
                next(stream)
            stream.close()
            return 0

        caplog.set_level("WARNING")
        assert in_flow(body, runner) == 0
        warned = [each for each in caplog.messages if "Failed without anyone" in each]
        if runner is SequentialTaskRunner:  # Others may have failed before they were cancelled.
            assert warned == []


# ------------------------------------------------------------------------- leaving early


def leave_by_break(stream: Stream[int]) -> None:
    """Leave the loop at the first result."""
    for _ in stream:
        break


def leave_by_error(stream: Stream[int]) -> None:
    """Leave the loop by an exception."""

    def loop() -> None:
        for _ in stream:
            raise KeyError("left")

    with pytest.raises(KeyError, match="left"), stream:
        loop()


def leave_by_close(stream: Stream[int]) -> None:
    """Take one and close, twice; nothing more comes."""
    assert next(stream) == 0
    stream.close()
    stream.close()
    assert list(stream) == []


def leave_by_with(stream: Stream[int]) -> None:
    """Leave the context."""
    with stream as same:
        assert next(same) == 0
    assert list(stream) == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("leave", [leave_by_break, leave_by_error, leave_by_close, leave_by_with])
def test_leaving_early_cancels_what_is_in_flight(
    method: str, leave: Callable[[Stream[int]], None]
) -> None:
    """However a stream is left, what has not started never does, and the inputs are closed."""

    def body() -> list[int]:
        with Gate() as gate:
            held = Cancelled(gate)
            streams = [stream_of(method, held.task, held.inputs(), max_pending=3)]
            leave(streams.pop())
            assert held.numbers.is_closed
            assert held.numbers.taken == 3
            gate.open()
            return held.started

    started = in_flow(body, ConcurrentTaskRunner(max_workers=1))
    assert isinstance(started, list)
    assert 2 not in started


def test_what_was_let_go_is_no_loss() -> None:
    """A flow that leaves a stream early and returns None has completed all the same."""

    @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
    def body() -> None:
        with Gate() as gate:
            held = Cancelled(gate)
            with stream_of("imap", held.task, held.inputs(), max_pending=3) as stream:
                assert next(stream) == 0
            gate.open()

    assert str(body.run()) == "Completed('All states completed.')"


def test_a_dropped_stream_in_a_cycle_is_closed() -> None:
    """The garbage collector closes a stream as well."""

    def body() -> bool:
        closed = threading.Event()

        def numbers() -> Iterator[int]:
            try:
                yield from itertools.count()
            finally:
                closed.set()

        cycle: list[object] = [double.imap(numbers(), max_pending=2)]
        cycle.append(cycle)
        assert isinstance(cycle[0], Stream)
        next(cycle[0])
        del cycle
        gc.collect()
        return closed.wait(10)  # Not by the collector itself, which may be at work anywhere.

    assert in_flow(body) is True


def test_iterators_that_are_no_generators_are_left_alone() -> None:
    """A file among the inputs is not closed: whoever opened it may want to read on."""

    class File(Numbers):
        """An iterator with a `close` of its own."""

        def close(self) -> None:
            """Close."""
            self.is_closed = True

    def body() -> tuple[int, bool]:
        file = File()
        with double.imap(file, max_pending=2) as stream:
            next(stream)
        return next(file) - file.taken, file.is_closed

    assert in_flow(body) == (-1, False)


def test_running_async_tasks_are_told_to_stop() -> None:
    """Async tasks in flight are cancelled where they are."""
    stopped: list[int] = []
    others = threading.Event()

    @task
    async def sleep(x: int) -> int:
        others.set()
        try:
            await anyio.sleep_forever()
        finally:
            stopped.append(x)
        return x

    def inputs() -> Iterator[int]:
        yield 0
        others.wait()  # Until the first is being run.
        raise KeyboardInterrupt

    def body() -> int:
        with pytest.raises(KeyboardInterrupt), sleep.imap(inputs()) as stream:
            next(stream)
        return 0

    assert in_flow(body) == 0
    assert stopped == [0]


# ------------------------------------------------------------------------- in tasks


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("max_pending", [1, 5, 256])
@pytest.mark.parametrize("runner", [SequentialTaskRunner(), ConcurrentTaskRunner(max_workers=1)])
class TestInTasks:
    def test_streams_in_tasks_on_one_thread(
        self, runner: TaskRunner, method: str, max_pending: int
    ) -> None:
        """Tasks that consume streams of tasks do not starve a pool of one thread."""

        @task
        def parent(depth: int) -> int:
            if depth == 0:
                return 1
            children = stream_of(method, parent, [depth - 1] * 3, max_pending=max_pending)
            return 1 + sum(children)

        def body() -> list[int]:
            return sorted(stream_of(method, parent, [2] * 3, max_pending=max_pending))

        assert in_flow(body, runner) == [13] * 3

    @pytest.mark.anyio
    async def test_streams_in_the_tasks_of_async_flows(
        self, runner: TaskRunner, method: str, max_pending: int
    ) -> None:
        """Sync and async tasks of an async flow may consume streams of either."""

        @task
        def sync_parent(n: int) -> int:
            return sum(stream_of(method, double, range(n), max_pending=max_pending))

        @task
        async def async_parent(n: int) -> int:
            stream = stream_of(method, sync_parent, [n] * 3, max_pending=max_pending)
            return sum([x async for x in stream])

        @flow(task_runner=runner)
        async def body() -> list[int]:
            return [x async for x in stream_of(method, async_parent, [3, 3, 3])]

        assert await body() == [18] * 3


def test_streams_are_methods_of_tasks_alone() -> None:
    """Bound methods that are tasks have streams, flows have none."""

    class Scale:
        """A thing with a task for a method."""

        @task
        def weigh(self, x: int) -> int:
            """Weigh."""
            return 3 * x

    assert isinstance(Scale().weigh, Task)
    assert in_flow(lambda: list(Scale().weigh.imap([1, 2]))) == [3, 6]
    assert not hasattr(flow(lambda: 1), "imap")


@pytest.mark.parametrize("method", METHODS)
def test_items_that_compare_oddly_are_items_like_others(method: str) -> None:
    """The end of an input is not told by `==`, which arrays answer with an array."""

    class Array:
        """Equal to anything, and to nothing that can be asked."""

        __hash__ = None  # type: ignore[assignment]  # Like an array.

        def __eq__(self, other: object) -> bool:
            raise ValueError("the truth value of an array is ambiguous")

    name_of = task(lambda value: type(value).__name__)
    found = in_flow(lambda: list(stream_of(method, name_of, [Array(), Array()])))
    assert found == ["Array", "Array"]
