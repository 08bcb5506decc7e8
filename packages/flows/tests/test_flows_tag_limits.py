"""Limits on how many task runs with a tag execute at a time."""

from __future__ import annotations

import contextvars
import threading
from contextlib import ExitStack

import anyio
import pytest
import tagged_tasks as shared
from tagged_tasks import RUNNERS, AtWork, async_child, child, untagged

from anabranch.flows import (
    Cancelled,
    ConcurrentTaskRunner,
    Future,
    SequentialTaskRunner,
    TaskRunner,
    UpstreamFailed,
    flow,
    set_tag_limit,
    tags,
    task,
    unmapped,
)
from anabranch.futures import WouldDeadlockError
from anabranch.futures.testing import Gate, Ticket, VirtualClock

no_limit_is_left = shared.no_limit_is_left


@task(tags=["db"])
def wait_at(ticket: Ticket, at_work: AtWork) -> None:
    """Be at work until the gate opens."""
    with at_work:
        ticket.wait()


@task(tags=["db"])
def note(value: int, seen: list[int]) -> int:
    """Write down that this has run."""
    seen.append(value)
    return value


class TestCounting:
    """No more runs are at work than there are places."""

    def test_submitted_runs(self) -> None:
        """Of eight runs on forty threads, two are at work while the others are pending."""
        set_tag_limit("db", 2)
        at_work = AtWork()

        @flow
        def work() -> None:
            with Gate() as gate:
                futures = [wait_at.submit(gate.ticket, at_work) for _ in range(8)]
                gate.await_arrival()
                gate.await_arrival()
                # The threads take runs in their order: what could start has started by now.
                assert untagged.submit().result() == "free"
                assert at_work.now == 2
                assert [str(each.state) for each in futures].count("Pending()") == 6

        work()
        assert (at_work.most, at_work.total) == (2, 8)

    @pytest.mark.parametrize("runner", RUNNERS)
    @pytest.mark.anyio
    async def test_async_runs(self, runner: TaskRunner) -> None:
        """Async runs keep to a limit as well, on every runner and event loop."""
        set_tag_limit("db", 2)
        at_work = AtWork()

        @flow(task_runner=runner)
        async def work() -> list[int]:
            return await async_child.map([at_work] * 20)

        assert await work() == [1] * 20
        assert at_work.most == (1 if isinstance(runner, SequentialTaskRunner) else 2)

    def test_first_come_first_served(self) -> None:
        """Runs that wait for a place start in the order in which they were submitted."""
        set_tag_limit("db", 1)
        seen: list[int] = []

        @flow
        def work() -> None:
            note.map(range(100), unmapped(seen))

        work()
        assert seen == list(range(100))

    @pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
    def test_many(self, count: int) -> None:
        """Hundreds of runs, and thousands, may wait for two places."""
        set_tag_limit("db", 2)
        at_work = AtWork()

        @flow
        def work() -> int:
            return sum(child.map([at_work] * count).result())

        assert work() == count
        assert at_work.most <= 2

    def test_other_tags_and_no_tags_are_free(self) -> None:
        """A limit is for the runs with its tag, and for no others."""
        set_tag_limit("db", 1)
        at_work = AtWork()

        @flow
        def work() -> None:
            with Gate() as gate:
                wait_at.submit(gate.ticket, at_work)
                gate.await_arrival()
                assert untagged.submit().result() == "free"
                assert untagged.with_options(tags=["web"]).submit().result() == "free"

        work()

    def test_tags_of_the_block(self) -> None:
        """Tags that surround a submission count like the task's own."""
        set_tag_limit("nightly", 1)

        @flow
        def work() -> None:
            with Gate() as gate, tags("nightly"):
                first = wait_at.submit(gate.ticket, AtWork())
                gate.await_arrival()
                second = untagged.submit()
                assert str(second.state) == "Pending()"
                gate.open()
                assert second.result() == "free"
                assert first.done()

        work()

    def test_runs_that_are_tried_again(self) -> None:
        """A run has its place in each of its attempts, and gives it back after the last."""
        set_tag_limit("db", 1)
        attempts: list[int] = []

        @task(tags=["db"], retries=2)
        def fail() -> None:
            attempts.append(1)
            raise LookupError("gone")

        @flow
        def work() -> str:
            failed = [fail.submit(), fail.submit()]
            assert [str(each.wait()) for each in failed] == ["Failed('LookupError: gone')"] * 2
            assert str(fail.run()) == "Failed('LookupError: gone')"
            return str(note.submit(1, []).wait())

        assert work() == "Completed()"
        assert len(attempts) == 9


class TestSeveralTags:
    """Places under several limits are taken together."""

    def test_who_waits_for_one_place_keeps_no_other(self) -> None:
        """A run that cannot have all its places leaves the others to those behind it."""
        set_tag_limit("db", 1)
        set_tag_limit("gpu", 1)

        @flow
        def work() -> None:
            with Gate() as gate:
                wait_at.submit(gate.ticket, AtWork())
                gate.await_arrival()
                both = untagged.with_options(tags=["db", "gpu"]).submit()
                other = untagged.with_options(tags=["gpu"]).submit()
                assert other.result() == "free"
                assert str(both.state) == "Pending()"
                gate.open()
                assert both.result() == "free"

        work()

    def test_every_limit_is_kept(self) -> None:
        """Runs with all kinds of tags, many at a time, keep to each limit and all end."""
        limits = {"a": 1, "b": 2, "c": 3}
        counters = {tag: AtWork() for tag in limits}
        for tag, limit in limits.items():
            set_tag_limit(tag, limit)

        def execute(names: str) -> None:
            with ExitStack() as stack:
                for name in names:
                    stack.enter_context(counters[name])

        kinds = ["a", "b", "c", "ab", "bc", "ca", "abc"]
        tasks = [(task(tags=list(kind))(execute), kind) for kind in kinds]

        @flow
        def work() -> None:
            for _ in range(30):
                for each, kind in tasks:
                    each.submit(kind)

        work()
        assert all(counters[tag].most <= limit for tag, limit in limits.items())
        assert all(counter.total == 120 for counter in counters.values())


class TestNotStarting:
    """Runs that never start leave nothing behind."""

    def test_cancelled_while_waiting(self) -> None:
        """A run that is cancelled while it waits makes way for those behind it."""
        set_tag_limit("db", 1)

        @flow
        def work() -> None:
            with Gate() as gate:
                wait_at.submit(gate.ticket, AtWork())
                gate.await_arrival()
                cancelled, following = note.submit(1, seen), note.submit(2, seen)
                cancelled.cancel()
                assert isinstance(cancelled.state, Cancelled)
                gate.open()
                assert following.result() == 2

        seen: list[int] = []
        work.run()
        assert seen == [2]

    def test_a_failed_upstream(self) -> None:
        """A run whose upstream fails needs no place, and keeps none."""
        set_tag_limit("db", 1)

        @task(tags=["db"])
        def fail() -> int:
            raise LookupError("gone")

        @flow
        def work() -> str:
            after = note.submit(fail.submit(), [])
            assert isinstance(after.wait(), UpstreamFailed)
            return str(note.submit(1, []).wait())

        assert work() == "Completed()"

    @pytest.mark.parametrize("runner", RUNNERS)
    def test_a_chain(self, runner: TaskRunner) -> None:
        """A run takes no place before its upstreams have ended, which may need it."""
        set_tag_limit("db", 1)
        seen: list[int] = []

        @flow(task_runner=runner)
        def work() -> int:
            future = note.submit(0, seen)
            for number in range(1, 50):
                future = note.submit(number, seen, wait_for=[future])
            return future.result()

        assert work() == 49
        assert seen == list(range(50))

    def test_an_upstream_that_has_not_ended(self) -> None:
        """A run that waits for another one keeps no place from those that need not."""
        set_tag_limit("db", 1)

        @flow(task_runner=ConcurrentTaskRunner(max_workers=2))
        def work() -> int:
            with Gate() as gate:
                upstream = task(gate.ticket.wait).submit()
                later = note.submit(1, [], wait_for=[upstream])
                assert note.submit(2, []).result() == 2
                assert str(later.state) == "Pending()"
            return later.result()

        assert work() == 1

    def test_submissions_of_a_cancelled_run(self) -> None:
        """A flow that is left by an exception cancels those that wait for a place."""
        set_tag_limit("db", 1)
        seen: list[int] = []

        @flow
        def work(gate: Gate) -> None:
            wait_at.submit(gate.ticket, AtWork())
            gate.await_arrival()
            future = note.submit(1, seen)
            future.add_done_callback(lambda _: gate.open())
            raise LookupError("gone")

        with Gate() as gate:
            assert str(work.run(gate)) == "Failed('LookupError: gone')"
        assert seen == []

    def test_a_run_that_is_out_of_time(self) -> None:
        """A run that has used up its time has no place, though its thread cannot be stopped."""
        set_tag_limit("db", 1)
        started, stop = threading.Event(), threading.Event()

        @task(tags=["db"], timeout=60)
        def stuck() -> None:
            started.set()
            stop.wait()

        @flow
        def work(clock: VirtualClock) -> list[str]:
            runs = [stuck.submit(), note.submit(1, [])]
            started.wait()
            clock.advance(60)
            return [type(each.wait()).__name__ for each in runs]

        with VirtualClock() as clock:
            assert work(clock) == ["TimedOut", "Completed"]
            stop.set()

    def test_an_interrupt(self) -> None:
        """A direct call that is ended by Ctrl-C gives its place back."""
        set_tag_limit("db", 1)

        @task(tags=["db"])
        def interrupt() -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupt()
        assert note(1, []) == 1

    def test_a_runner_that_is_not_started(self) -> None:
        """A submission that raises takes no place."""
        set_tag_limit("db", 1)
        kept: list[contextvars.Context] = []
        flow(lambda: kept.append(contextvars.copy_context()))()
        for _ in range(2):
            with pytest.raises(Exception, match="Cannot submit 'note-"):
                kept[0].run(note.submit, 1, [])


class TestDirectCalls:
    """Calls keep to the limits as submissions do."""

    def test_outside_any_flow(self) -> None:
        """Threads that call a task wait for its place."""
        set_tag_limit("db", 2)
        at_work = AtWork()
        with Gate() as gate:
            threads = [
                threading.Thread(target=wait_at, args=(gate.ticket, at_work)) for _ in range(5)
            ]
            for thread in threads:
                thread.start()
            gate.await_arrival()
            gate.await_arrival()
        for thread in threads:
            thread.join()
        assert (at_work.most, at_work.total) == (2, 5)

    @pytest.mark.anyio
    async def test_async_calls(self) -> None:
        """Async calls that are made at the same time keep to the limit."""
        set_tag_limit("db", 2)
        at_work = AtWork()
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(async_child, at_work)
        assert (at_work.most, at_work.total) == (2, 10)

    @pytest.mark.anyio
    async def test_a_cancelled_call(self) -> None:
        """An async call that is cancelled while it waits withdraws from the queue."""
        set_tag_limit("db", 1)
        release = anyio.Event()

        @task(tags=["db"])
        async def hold(started: anyio.Event) -> None:
            started.set()
            await release.wait()

        async with anyio.create_task_group() as group:
            started = anyio.Event()
            group.start_soon(hold, started)
            await started.wait()
            with anyio.CancelScope() as scope:
                scope.cancel()
                await async_child(AtWork())
            assert scope.cancelled_caught
            release.set()
        assert await async_child(AtWork()) == 1

    @pytest.mark.anyio
    async def test_a_call_that_could_never_go_on(self) -> None:
        """A sync call in a loop that has to run those that hold the places raises."""
        set_tag_limit("db", 1)
        release = anyio.Event()

        @task(tags=["db"])
        async def hold(started: anyio.Event) -> None:
            started.set()
            await release.wait()

        async with anyio.create_task_group() as group:
            started = anyio.Event()
            group.start_soon(hold, started)
            await started.wait()
            with pytest.raises(WouldDeadlockError, match=r"limit of 'db'.*Submit it and `await`"):
                note(1, [])
            release.set()
        assert note(1, []) == 1


class TestScope:
    """What a limit is for."""

    def test_two_flows_share_the_limit_of_the_process(self) -> None:
        """A limit of the process counts the runs of all flows together."""
        set_tag_limit("db", 1)
        at_work = AtWork()

        @flow
        def work() -> None:
            for _ in range(50):
                child.submit(at_work)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (at_work.most, at_work.total) == (1, 150)

    def test_a_flow_has_limits_of_its_own(self) -> None:
        """A flow's limit holds for each of its runs, apart from other runs and other flows."""
        at_work = AtWork()

        @flow(tag_limits={"db": 1})
        def limited(ticket: Ticket) -> None:
            wait_at.submit(ticket, at_work)
            wait_at.submit(ticket, at_work)

        @flow
        def work() -> None:
            with Gate() as gate:
                limited.submit(gate.ticket)
                limited.submit(gate.ticket)
                wait_at.submit(gate.ticket, at_work)
                for _ in range(3):
                    gate.await_arrival()

        work()
        assert (at_work.most, at_work.total) == (3, 5)

    def test_subflows_share_the_limit_of_their_flow(self) -> None:
        """A flow's limit counts the runs of its subflows, called or submitted, with its own."""
        at_work = AtWork()

        @flow
        def inner() -> None:
            for _ in range(20):
                child.submit(at_work)

        @flow(tag_limits={"db": 1})
        def outer() -> None:
            inner.submit()
            inner.submit()
            child.map([at_work] * 20)
            inner()

        outer()
        assert (at_work.most, at_work.total) == (1, 80)

    @pytest.mark.parametrize(("of_process", "outer", "inner"), [(1, 2, 2), (2, 1, 2), (2, 2, 1)])
    def test_the_narrowest_limit_counts(self, of_process: int, outer: int, inner: int) -> None:
        """Where several limits apply to a tag, a run needs a place under each."""
        set_tag_limit("db", of_process)
        at_work = AtWork()

        @flow(tag_limits={"db": inner}, task_runner=ConcurrentTaskRunner(max_workers=2))
        def inner_flow() -> None:
            with Gate() as gate:
                futures = [wait_at.submit(gate.ticket, at_work) for _ in range(3)]
                gate.await_arrival()
                # The other thread takes runs in their order.
                assert untagged.submit().result() == "free"
                assert [str(each.state) for each in futures[1:]] == ["Pending()"] * 2

        flow(tag_limits={"db": outer})(lambda: inner_flow())()
        assert (at_work.most, at_work.total) == (1, 3)

    @pytest.mark.anyio
    async def test_async_flows(self) -> None:
        """An async flow has limits as a sync one has."""
        at_work = AtWork()

        @flow(tag_limits={"db": 2})
        async def work() -> None:
            await async_child.map([at_work] * 20)
            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(async_child, at_work)

        await work()
        assert (at_work.most, at_work.total) == (2, 30)

    def test_with_options(self) -> None:
        """A flow's limits are options like the others."""

        @flow(tag_limits={"db": 1}, task_runner=ConcurrentTaskRunner(max_workers=2))
        def work() -> bool:
            with Gate() as gate:
                wait_at.submit(gate.ticket, AtWork())
                gate.await_arrival()
                future = child.submit(AtWork())
                untagged.submit().result()
                return future.is_running() or future.done()

        assert not work()
        assert work.with_options(tag_limits={})()


def five_at_a_gate() -> tuple[Gate, list[Future[None]], AtWork]:
    """Submit five runs, of which the first has come to a gate."""
    gate, at_work = Gate(), AtWork()
    futures = [wait_at.submit(gate.ticket, at_work) for _ in range(5)]
    gate.await_arrival()
    return gate, futures, at_work


class TestChanges:
    """A limit can be changed while runs wait."""

    @pytest.mark.parametrize("limit", [5, None])
    def test_raised_or_removed(self, limit: int | None) -> None:
        """Those that wait go on as soon as there is room."""
        set_tag_limit("db", 1)

        @flow
        def work() -> None:
            gate, _, at_work = five_at_a_gate()
            with gate:
                assert at_work.now == 1
                set_tag_limit("db", limit)
                for _ in range(4):
                    gate.await_arrival()
                assert at_work.now == 5

        work()

    def test_lowered(self) -> None:
        """Those that are at work go on, and nobody starts before there is room."""
        set_tag_limit("db", 2)
        at_work = AtWork()

        @flow(task_runner=ConcurrentTaskRunner(max_workers=2))
        def work() -> None:
            with Gate() as first, Gate() as second:
                one = wait_at.submit(first.ticket, at_work)
                wait_at.submit(second.ticket, at_work)
                first.await_arrival()
                second.await_arrival()
                set_tag_limit("db", 1)
                waiting = child.submit(at_work)
                first.open()
                one.result()
                assert untagged.submit().result() == "free"
                assert str(waiting.state) == "Pending()"
                second.open()
                assert waiting.result() == 1

        work()
        assert at_work.most == 2

    def test_set_again(self) -> None:
        """Those that have places of a limit that was removed count under the next one."""
        set_tag_limit("db", 1)

        @flow(task_runner=ConcurrentTaskRunner(max_workers=2))
        def work() -> None:
            with Gate() as gate:
                wait_at.submit(gate.ticket, AtWork())
                gate.await_arrival()
                set_tag_limit("db", None)
                assert child.submit(AtWork()).result() == 1
                set_tag_limit("db", 1)
                waiting = child.submit(AtWork())
                # The other thread takes runs in their order.
                assert untagged.submit().result() == "free"
                assert str(waiting.state) == "Pending()"
                gate.open()
                assert waiting.result() == 1

        work()


class TestBadInput:
    """Errors name what is wrong and show how it is meant."""

    def test_set_tag_limit(self) -> None:
        """A tag is a string, and a limit a whole number of at least 1, or None."""
        with pytest.raises(TypeError, match=r"set_tag_limit\(3, 2\): tags are strings, .* '3'"):
            set_tag_limit(3, 2)  # type: ignore[arg-type]  # That is what is tested.
        for limit in ("2", 1.5, True):
            with pytest.raises(TypeError, match=r"set_tag_limit\('db', .*whole number, such as 2"):
                set_tag_limit("db", limit)  # type: ignore[arg-type]  # That is what is tested.
        for limit in (0, -1):
            with pytest.raises(ValueError, match=r"at least 1.*; None takes the limit away"):
                set_tag_limit("db", limit)

    def test_flow_option(self) -> None:
        """A flow's limits are a mapping of tags to such numbers."""
        with pytest.raises(TypeError, match=r"@flow got tag_limits=2; .*{'database': 2}"):
            flow(tag_limits=2)  # type: ignore[call-overload]  # That is what is tested.
        with pytest.raises(TypeError, match=r"@flow got tag_limits={3: 2}: tags are strings"):
            flow(tag_limits={3: 2})  # type: ignore[dict-item]  # That is what is tested.
        with pytest.raises(TypeError, match="the limit is a whole number, such as 2"):
            flow(tag_limits={"db": None})  # type: ignore[dict-item]  # That is what is tested.
        with pytest.raises(ValueError, match="at least 1, or no run would ever start"):
            flow(tag_limits={"db": 0})
