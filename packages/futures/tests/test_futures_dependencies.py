"""Runs that wait for others: started once, when all have ended, or failed at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import attrs

from anabranch.futures import (
    Cancelled,
    Completed,
    Failed,
    Future,
    RunCancelledError,
    TaskRun,
    UpstreamFailed,
    WorkItem,
    allow_failure,
    gather,
)
from anabranch.futures.runner import make_item, resolve_arguments, upstream_failure, when_ready

BOOM = LookupError("boom")


def make(name: str = "a") -> Future[int]:
    """Make a pending future of a run of this name."""
    return Future(TaskRun(name, name, name))


def item_of(*args: object) -> WorkItem[object]:
    """Make an item that depends on the futures among its arguments."""
    return make_item(print, args, {}, task_run=TaskRun("b", "b", "b"))


@attrs.define
class Recorder:
    """Notes what becomes of an item."""

    executed: int = 0
    failures: list[UpstreamFailed] = attrs.Factory(list)
    threads: list[int] = attrs.Factory(list)

    def execute(self) -> None:
        """Note that the item was started."""
        self.executed += 1
        self.threads.append(threading.get_ident())

    def watch(self, item: WorkItem[object]) -> None:
        """Wait for an item to be ready."""
        when_ready(item, self.execute, self.failures.append)


def test_an_item_without_upstreams_is_ready_at_once() -> None:
    """There is nothing to wait for."""
    seen = Recorder()
    seen.watch(item_of(1))
    assert seen.executed == 1


def test_an_item_whose_upstreams_have_completed_is_ready_at_once() -> None:
    """Runs that have ended well are not waited for."""
    one = make()
    one.set_final(Completed(1))
    seen = Recorder()
    seen.watch(item_of(one))
    assert seen.executed == 1


def test_an_item_is_ready_when_the_last_upstream_completes() -> None:
    """It is started once, in the thread in which the last of them ends."""
    one, two = make(), make()
    seen = Recorder()
    seen.watch(item_of(one, [two]))
    two.set_final(Completed(2))
    assert seen.executed == 0
    ending = threading.Thread(target=one.set_final, args=(Completed(1),))
    ending.start()
    ending.join()
    assert seen.executed == 1
    assert seen.threads == [ending.ident]
    assert seen.failures == []


def test_an_item_fails_with_the_first_upstream_that_does() -> None:
    """It does not wait for the others, and is never started."""
    one, two = make("one"), make("two")
    seen = Recorder()
    seen.watch(item_of(one, two))
    two.set_final(Failed(BOOM, message="LookupError: boom"))
    assert len(seen.failures) == 1
    assert seen.failures[0].cause is BOOM
    assert seen.failures[0].message == (
        "Run 'two' upstream ended in state Failed('LookupError: boom')"
    )
    one.set_final(Completed(1))
    assert seen.executed == 0


def test_an_item_whose_upstream_has_failed_fails_at_once() -> None:
    """Even if others have not ended."""
    failed = make("failed")
    failed.set_final(Failed(BOOM))
    seen = Recorder()
    seen.watch(item_of(make(), failed))
    assert [failure.cause for failure in seen.failures] == [BOOM]
    assert seen.executed == 0


def test_the_cause_of_a_cancelled_upstream_is_its_cancellation() -> None:
    """A dependant of a cancelled run never starts, and says why."""
    one = make("one")
    seen = Recorder()
    seen.watch(item_of(one))
    one.set_final(Cancelled(message="by the user"))
    assert isinstance(seen.failures[0].cause, RunCancelledError)
    assert "Cancelled('by the user')" in str(seen.failures[0].message)


def test_the_root_cause_is_handed_down() -> None:
    """At the end of a chain, the cause is the exception of the run that failed first."""
    one = make("one")
    one.set_final(UpstreamFailed(cause=BOOM, message="Run 'zero' failed"))
    failure = upstream_failure(item_of(one))
    assert failure is not None
    assert failure.cause is BOOM


def test_a_tolerated_upstream_may_fail() -> None:
    """A future marked with allow_failure is waited for, however it ends."""
    one = make("one")
    seen = Recorder()
    seen.watch(item_of(allow_failure(one)))
    assert seen.executed == 0
    one.set_final(Failed(BOOM))
    assert seen.executed == 1
    assert seen.failures == []


def test_a_failure_does_not_wait_for_tolerated_runs() -> None:
    """An upstream's failure counts at once, while a tolerated run is still going."""
    tolerated, one = make(), make()
    seen = Recorder()
    seen.watch(item_of(allow_failure(tolerated), one))
    one.set_final(Failed(BOOM))
    assert [failure.cause for failure in seen.failures] == [BOOM]
    tolerated.set_final(Failed(BOOM))
    assert seen.executed == 0


def test_only_some_runs_may_be_waited_for() -> None:
    """A runner whose backend orders the rest names those that it waits for itself."""
    native, foreign = make(), make()
    item = item_of(native, foreign)
    seen = Recorder()
    when_ready(item, seen.execute, seen.failures.append, waiting_for=[foreign])
    foreign.set_final(Completed(1))
    assert seen.executed == 1


def test_runs_that_have_not_ended_are_no_failure() -> None:
    """Asked too early, there is no failure to tell of."""
    assert upstream_failure(item_of(make())) is None


def test_upstreams_that_end_in_many_threads_start_an_item_once() -> None:
    """However the ends race, the item is started exactly once."""
    with ThreadPoolExecutor(8) as pool:
        for _ in range(50):
            upstreams = [make() for _ in range(8)]
            seen = Recorder()
            barrier = threading.Barrier(8)

            def end(future: Future[int], barrier: threading.Barrier = barrier) -> None:
                barrier.wait()
                future.set_final(Completed(1))

            seen.watch(item_of(upstreams))
            list(pool.map(end, upstreams))
            assert seen.executed == 1


def test_nested_lists_of_futures_have_their_values_when_an_item_is_ready() -> None:
    """Lists of lists are complete by the time that their last future starts the item."""
    last = make()
    nested = gather([gather([gather([last])])])
    item = item_of(nested)
    resolved: list[object] = []
    when_ready(item, lambda: resolved.append(resolve_arguments(item)[0]), resolved.append)
    last.set_final(Completed(1))
    assert resolved == [([[[1]]],)]


def test_the_message_of_an_upstream_failure_does_not_grow_along_a_chain() -> None:
    """However long the chain, its last run tells of the root in a line."""
    futures = [make(str(number)) for number in range(16)]
    for upstream, future in pairwise(futures):
        when_ready(item_of(upstream), lambda: None, future.set_final)
    futures[0].set_final(Failed(BOOM, message="LookupError: boom"))
    last = futures[-1].wait(timeout=0)
    assert isinstance(last, UpstreamFailed)
    assert "LookupError: boom" in str(last.message)
    assert len(str(last.message)) < 200


def test_a_long_chain_of_failures_does_not_overflow_the_stack() -> None:
    """3,000 runs, each on the one before, all fail when the first one does."""
    futures = [make(str(number)) for number in range(3000)]

    def depend(future: Future[int], upstream: Future[int]) -> None:
        when_ready(item_of(upstream), lambda: None, future.set_final)

    for upstream, future in pairwise(futures):
        depend(future, upstream)
    futures[0].set_final(Failed(BOOM))
    last = futures[-1].wait(timeout=0)
    assert isinstance(last, UpstreamFailed)
    assert last.cause is BOOM
