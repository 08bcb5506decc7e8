"""What a run holds is lent to others while the run waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import anyio
import pytest

from anabranch.futures import Completed, Future, TaskRun, WouldDeadlockError
from anabranch.futures.runner import current_lease, lent, lent_async, make_item


def pending(loops: frozenset[int] = frozenset()) -> Future[int]:
    """Return the future of some run."""
    return Future(TaskRun("1", "run-1", "run"), loops=loops)


class Held:
    """A lease that writes down what happens to it."""

    def __init__(self, back: Future[object] | None = None) -> None:
        self.events: list[str] = []
        self.waits_again = threading.Event()
        self._back = back

    def belongs_to(self, run: Future[object]) -> None:
        self.events.append(f"belongs to {run.task_run.name}")

    def lend(self) -> None:
        self.events.append("lend")

    def take_back(self) -> Future[object] | None:
        self.events.append("take back")
        self.waits_again.set()
        return self._back


@pytest.fixture
def held() -> Iterator[Held]:
    """Let the test hold something."""
    lease = Held()
    token = current_lease.set(lease)
    yield lease
    current_lease.reset(token)


class TestInThreads:
    """Blocking waits."""

    def test_a_wait(self, held: Held) -> None:
        """A wait lends it and takes it back, also if the wait is in vain."""
        assert pending().wait(timeout=0) is None
        with pytest.raises(TimeoutError):
            pending().result(timeout=0)
        assert held.events == ["lend", "take back"] * 2

    def test_no_wait(self, held: Held) -> None:
        """Where there is nothing to wait for, nothing is lent."""
        future = pending()
        future.set_final(Completed(1))
        assert future.result() == 1
        with pytest.raises(WouldDeadlockError):
            pending(frozenset({threading.get_ident()})).result()
        assert held.events == []

    def test_the_wait_for_what_was_lent(self) -> None:
        """A run goes on when it has it back, and lends nothing while it waits for that."""
        awaited, back = pending(), pending()
        lease = Held(back)
        log: list[object] = []

        def work() -> None:
            current_lease.set(lease)
            log.append(awaited.result())
            log.append(back.done())

        thread = threading.Thread(target=work)
        thread.start()
        awaited.set_final(Completed(1))
        assert lease.waits_again.wait(timeout=20)
        assert log == []
        back.set_final(Completed(2))
        thread.join()
        assert log == [1, True]
        assert lease.events == ["lend", "take back"]

    def test_an_exception(self) -> None:
        """What is raised while it is lent does not wait until it is back."""
        lease = Held(pending())
        with pytest.raises(KeyboardInterrupt), lent(lease):
            raise KeyboardInterrupt
        assert lease.events == ["lend", "take back"]

    def test_a_wait_that_would_never_end(self) -> None:
        """A thread does not wait for what is held by runs that need its event loop."""
        lease = Held(pending(frozenset({threading.get_ident()})))
        with pytest.raises(WouldDeadlockError, match="Use `await future`"), lent(lease):
            pass


class TestInLoops:
    """Waits in async code."""

    @pytest.mark.anyio
    async def test_a_wait(self, held: Held) -> None:
        """A wait lends it and takes it back, also if the wait is in vain."""
        current_lease.set(held)
        assert await pending().wait_async(timeout=0) is None
        assert held.events == ["lend", "take back"]

    @pytest.mark.anyio
    async def test_the_wait_for_what_was_lent(self) -> None:
        """A run goes on when it has it back, and lends nothing while it waits for that."""
        awaited, back = pending(), pending()
        lease = Held(back)
        log: list[object] = []

        async def work() -> None:
            current_lease.set(lease)
            log.append(await awaited)
            log.append(back.done())

        async with anyio.create_task_group() as group:
            group.start_soon(work)
            await anyio.wait_all_tasks_blocked()
            awaited.set_final(Completed(1))
            await anyio.wait_all_tasks_blocked()
            assert log == []
            assert lease.events == ["lend", "take back"]
            back.set_final(Completed(2))
        assert log == [1, True]
        assert lease.events == ["lend", "take back"]

    @pytest.mark.anyio
    async def test_cancellation(self) -> None:
        """A cancelled wait takes it back as soon as may be, and does not wait for that."""
        lease = Held(pending())
        with anyio.CancelScope() as scope:
            async with lent_async(lease):
                scope.cancel()
                await anyio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert lease.events == ["lend", "take back"]


def test_submitted_runs_hold_nothing(held: Held) -> None:
    """What a run holds is lent when that run waits, and not when one that it submitted does."""
    item = make_item(print, (), {}, task_run=TaskRun("1", "run-1", "run"))
    assert item.variables is not None
    assert item.variables[current_lease] is None
    assert current_lease.get() is held
