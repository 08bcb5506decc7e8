"""Runs in flight: which comes next, how they are waited for, and what is kept."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator

import anyio
import pytest

from anabranch.futures import (
    Completed,
    Future,
    TaskRun,
    WouldDeadlockError,
    as_completed,
)
from anabranch.futures.runner import (
    AsTheyEnd,
    BlockingSection,
    InFlight,
    InOrder,
    RunScope,
    current_scope,
    set_blocking_section,
)

KINDS: list[type[InFlight[int]]] = [InOrder, AsTheyEnd]


class Counting(Future[int]):
    """A future that counts what it is asked and told."""

    __slots__ = ("looked_at", "told")

    def __init__(self, name: str, loops: frozenset[int] = frozenset()) -> None:
        super().__init__(TaskRun(name, name, name), loops=loops)
        self.looked_at = 0
        self.told = 0

    def is_running(self) -> bool:
        """Count, and tell."""
        self.looked_at += 1
        return super().is_running()

    def needed_loops(self) -> frozenset[int]:
        """Count, and tell."""
        self.looked_at += 1
        return super().needed_loops()

    def awaited(self) -> None:
        """Count."""
        self.told += 1


def made(count: int) -> list[Counting]:
    """Make pending futures."""
    return [Counting(str(number)) for number in range(count)]


def filled(kind: type[InFlight[int]], runs: list[Counting]) -> InFlight[int]:
    """Make a collection of runs in flight."""
    in_flight = kind()
    for run in runs:
        in_flight.add(run)
    return in_flight


def end(run: Future[int], value: int = 0) -> None:
    """Complete a run."""
    run.set_final(Completed(value))


@pytest.fixture
def section() -> Iterator[Looking]:
    """Have this thread's waits go through a section that looks at what it might help."""
    looking = Looking()
    before = set_blocking_section(looking)
    yield looking
    set_blocking_section(before)


class Looking(BlockingSection):
    """A section that ends the first run that it may help with, as a pool's thread would."""

    def __init__(self) -> None:
        self.helped: list[str] = []

    def wait(self, future: Future[object], timeout: float | None = None) -> None:
        """Help, and say that it waits for what it cannot help with."""
        future.awaited()
        for run in future.missing():
            self.helped.append(run.task_run.name)
            run.set_final(Completed(0))
            return


@pytest.mark.parametrize("kind", KINDS)
class TestBoth:
    def test_there_is_nothing_in_nothing(self, kind: type[InFlight[int]]) -> None:
        """Where there are no runs, no wait begins."""
        in_flight = kind()
        assert len(in_flight) == 0
        assert not in_flight.is_next_done()
        assert in_flight.join() is None
        assert in_flight.clear() == []

    @pytest.mark.anyio
    async def test_there_is_nothing_to_await_in_nothing(self, kind: type[InFlight[int]]) -> None:
        """Where there are no runs, no wait begins in a loop either."""
        assert await kind().join_async() is None

    def test_a_wait_takes_nothing_out(self, kind: type[InFlight[int]]) -> None:
        """The run that a wait returned stays in until it is taken out."""
        runs = made(2)
        in_flight = filled(kind, runs)
        end(runs[0])
        assert in_flight.is_next_done()
        assert in_flight.join() is runs[0]
        assert in_flight.join() is runs[0]
        assert len(in_flight) == 2
        in_flight.pop()
        assert len(in_flight) == 1
        assert not in_flight.is_next_done()
        assert in_flight.join(timeout=0) is None

    @pytest.mark.anyio
    async def test_a_wait_in_a_loop(self, kind: type[InFlight[int]]) -> None:
        """An async task is woken from another thread, or when the time is over."""
        runs = made(2)
        in_flight = filled(kind, runs)
        assert await in_flight.join_async(timeout=0) is None
        async with anyio.create_task_group() as group:

            async def take() -> None:
                assert await in_flight.join_async() is runs[0]

            group.start_soon(take)
            await anyio.wait_all_tasks_blocked()
            threading.Thread(target=end, args=(runs[0],)).start()

    def test_what_was_taken_out_is_not_kept(self, kind: type[InFlight[int]]) -> None:
        """A run that was taken out dies with its last user."""
        in_flight = kind()
        runs = made(3)
        references = [weakref.ref(run) for run in runs]
        for run in runs:
            in_flight.add(run)
            end(run)
            assert in_flight.join() is run
            in_flight.pop()
        in_flight.add(Counting("another"))
        del run, runs
        assert [each() for each in references] == [None] * 3

    def test_clearing_gives_back_all(self, kind: type[InFlight[int]]) -> None:
        """All runs come back in their order, and their ends are of no interest any more."""
        runs = made(3)
        in_flight = filled(kind, runs)
        end(runs[1])
        assert in_flight.clear() == runs
        end(runs[0])
        assert len(in_flight) == 0
        assert in_flight.join() is None

    def test_the_own_loop_is_not_waited_for(self, kind: type[InFlight[int]]) -> None:
        """A blocking wait is refused in a thread that the next run needs."""
        needy = Counting("needy", loops=frozenset({threading.get_ident()}))
        in_flight = filled(kind, [needy])
        with pytest.raises(WouldDeadlockError, match="would never end"):
            in_flight.join()
        end(needy)
        assert in_flight.join() is needy


def test_in_order() -> None:
    """Runs come in the order in which they were put in, whatever the order of their ends."""
    runs = made(3)
    in_flight = filled(InOrder, runs)
    end(runs[2])
    assert not in_flight.is_next_done()
    end(runs[0])
    assert in_flight.join() is runs[0]


def test_as_they_end() -> None:
    """Runs come in the order of their ends, also those that had ended before they were put in."""
    runs = made(4)
    end(runs[3])
    in_flight = filled(AsTheyEnd, runs)
    for number in (1, 0, 2):
        end(runs[number])
    taken = []
    while (run := in_flight.join()) is not None:
        taken.append(run.task_run.name)
        in_flight.pop()
    assert taken == ["3", "1", "0", "2"]


def test_clearing_wakes_who_waits() -> None:
    """A thread that waits for the first end goes on when all runs are let go of."""
    in_flight = filled(AsTheyEnd, made(2))
    waiting = threading.Event()
    outcome: list[object] = []

    def wait() -> None:
        waiting.set()
        outcome.append(in_flight.join())

    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait()
    in_flight.clear()
    thread.join()
    assert outcome == [None]


def test_a_waiting_thread_helps_the_oldest(section: Looking) -> None:
    """A pool's thread that waits for any end may run what has not started, the oldest first."""
    runs = made(4)
    runs[0].set_running()
    in_flight = filled(AsTheyEnd, runs)
    for expected in (1, 2, 3):
        assert in_flight.join() is runs[expected]
        in_flight.pop()
    assert section.helped == ["1", "2", "3"]


def test_waits_do_not_look_at_all_runs(section: Looking) -> None:
    """Many waits for many runs look at each run a few times, and tell each only once."""
    runs = made(500)
    for run in runs[:200]:
        run.set_running()
    in_flight = filled(AsTheyEnd, runs)
    for run in runs[200:]:
        assert in_flight.join() is run
        in_flight.pop()
    assert {run.told for run in runs} == {1}
    looks = sum(run.looked_at for run in runs)
    assert looks < 4 * len(runs)


def test_another_scope_tells_the_runs_again(section: Looking) -> None:
    """Runs that one run has said it waits for are told so by the next one, too."""
    runs = made(4)
    in_flight = filled(AsTheyEnd, runs)
    in_flight.join()
    in_flight.pop()
    token = current_scope.set(RunScope())
    try:
        in_flight.join()
    finally:
        current_scope.reset(token)
    assert [run.told for run in runs] == [1, 2, 2, 2]


# ------------------------------------------------------------------------- closing streams


def test_a_closed_stream_is_at_its_end() -> None:
    """A stream of futures that was closed gives no more, and has cancelled nothing."""
    runs = made(3)
    end(runs[1])
    with as_completed(runs) as stream:
        assert next(stream) is runs[1]
    stream.close()
    assert list(stream) == []
    end(runs[0])
    assert list(stream) == []
    assert not runs[2].done()


@pytest.mark.anyio
async def test_a_stream_is_closed_in_loops() -> None:
    """`async with` closes a stream, too."""
    runs = made(2)
    end(runs[1])
    async with as_completed(runs) as stream:
        assert await anext(stream) is runs[1]
    assert [run async for run in stream] == []
