"""Many futures at once: gathering, waiting, and taking them as they come."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.lowlevel
import pytest

from anabranch.futures import (
    Cancelled,
    Completed,
    Failed,
    Future,
    FutureList,
    TaskRun,
    WouldDeadlockError,
    as_completed,
    gather,
    unmapped,
    wait,
    wait_async,
)
from anabranch.futures.runner import BlockingSection, StoredValue, set_blocking_section

BOOM = LookupError("boom")


def make(name: str = "a", *, loops: frozenset[int] = frozenset()) -> Future[int]:
    """Make a pending future of a run of this name."""
    return Future(TaskRun(name, name, name), loops=loops)


def completed(value: int) -> Future[int]:
    """Make a future that has completed."""
    future = make(str(value))
    future.set_final(Completed(value))
    return future


def failed(name: str = "failed") -> Future[int]:
    """Make a future that has failed."""
    future = make(name)
    future.set_final(Failed(BOOM))
    return future


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run async tests on both kinds of event loop."""
    return str(request.param)


# ------------------------------------------------------------------------- gather


def test_gather_gives_values_in_their_order() -> None:
    """A list's value is the list of the values, in order, whatever the order of the ends."""
    one, two, three = make(), make(), make()
    futures = gather([one, two, three])
    for future, value in ((three, 3), (one, 1)):
        future.set_final(Completed(value))
        assert not futures.done()
    two.set_final(Completed(2))
    assert futures.done()
    assert futures.result() == [1, 2, 3]


def test_gather_takes_any_iterable() -> None:
    """Futures may come from a generator."""
    assert gather(completed(number) for number in range(3)).result() == [0, 1, 2]


def test_gathering_nothing_is_done_at_once() -> None:
    """The list of no futures has completed with no values."""
    futures: FutureList[int] = gather([])
    assert futures.done()
    assert futures.result() == []
    assert list(futures) == []
    assert len(futures) == 0


def test_gather_fails_as_soon_as_one_fails() -> None:
    """A list has failed when the first of its futures has, though others go on."""
    slow, other = make(), make()
    futures = gather([slow, other])
    other.set_final(Failed(BOOM))
    assert futures.done()
    with pytest.raises(LookupError, match="boom") as caught:
        futures.result()
    assert caught.value is BOOM
    slow.set_final(Cancelled())
    assert isinstance(futures.state, Failed), "the first failure stands"


def test_a_blocking_wait_for_a_list_ends_with_the_first_failure() -> None:
    """A thread that waits for a list is woken when one of its futures fails."""
    slow, other = make("slow"), make("other")
    futures = gather([slow, other])
    waiting = threading.Event()
    outcome: list[object] = []

    def wait_for_list() -> None:
        waiting.set()
        outcome.append(futures.exception())

    thread = threading.Thread(target=wait_for_list, daemon=True)
    thread.start()
    waiting.wait()
    other.set_final(Failed(BOOM))
    thread.join(timeout=5)
    try:
        assert outcome == [BOOM]
    finally:
        slow.set_final(Cancelled())
        thread.join()


def test_a_list_is_a_sequence_of_its_futures() -> None:
    """A list is indexed, searched, reversed and unpacked like any other."""
    one, two, three = completed(1), completed(2), completed(3)
    futures = gather([one, two, three])
    assert futures[0] is one
    assert futures[-1] is three
    assert two in futures
    assert make() not in futures
    assert futures.index(three) == 2
    assert list(reversed(futures)) == [three, two, one]
    first, *rest = futures
    assert first is one
    assert rest == [two, three]


def test_a_slice_of_a_list_is_a_list() -> None:
    """A slice is itself the future of the values in it."""
    futures = gather([completed(1), completed(2), failed()])
    part = futures[:2]
    assert isinstance(part, FutureList)
    assert part.result() == [1, 2]
    with pytest.raises(LookupError, match="boom"):
        futures[1:].result()


def test_lists_nest() -> None:
    """A list of lists has the nested list of values."""
    late = make()
    nested = gather([gather([completed(1), late]), gather([completed(3)])])
    assert not nested.done()
    late.set_final(Completed(2))
    assert nested.result() == [[1, 2], [3]]


def test_a_list_times_out() -> None:
    """A wait for a list obeys its timeout."""
    futures = gather([completed(1), make()])
    assert futures.wait(timeout=0) is None
    with pytest.raises(TimeoutError, match=r"Run 'gather-\w+' has not ended after 0 s"):
        futures.result(timeout=0)


def test_a_list_says_why_it_has_no_truth_value() -> None:
    """Asking a list of futures for its truth raises, with what was probably meant."""
    with pytest.raises(TypeError, match=r"no truth value.*len\(futures\) or futures\.done\(\)"):
        bool(gather([completed(1)]))


def test_repr_counts_the_futures() -> None:
    """A list is shown with the number of its futures."""
    assert repr(gather([completed(1), make()])) == "<FutureList of 2 futures>"


def test_a_list_gives_the_same_object_each_time() -> None:
    """The list of values is built once."""
    futures = gather([completed(1)])
    assert futures.result() is futures.result()


class FarValue(StoredValue[int]):
    """A value that counts how often it is fetched."""

    fetched = 0

    def _fetch(self) -> int:
        self.fetched += 1
        return 5


def test_gathering_fetches_nothing() -> None:
    """Values that lie elsewhere stay there until the list's value is read."""
    far, future = FarValue(), make()
    future.set_final(Completed(far))
    futures = gather([future])
    assert futures.done()
    assert isinstance(futures.wait(), Completed)
    assert far.fetched == 0
    assert futures.result() == [5]
    assert far.fetched == 1


@pytest.mark.anyio
async def test_a_list_can_be_awaited() -> None:
    """In async code a list is awaited for its values, or raises the first failure."""
    one, two = make(), make()
    futures = gather([one, two])
    async with anyio.create_task_group() as group:

        async def wait_for_list() -> None:
            assert await futures == [1, 2]

        group.start_soon(wait_for_list)
        await anyio.wait_all_tasks_blocked()
        two.set_final(Completed(2))
        one.set_final(Completed(1))
    with pytest.raises(LookupError, match="boom"):
        await gather([make(), failed()])


def test_a_list_needs_the_loops_of_its_futures() -> None:
    """A blocking wait for a list raises in a thread that one of its futures needs."""
    here = frozenset({threading.get_ident()})
    futures = gather([make("one"), make("needy", loops=here)])
    with pytest.raises(WouldDeadlockError, match="would never end"):
        futures.wait(timeout=0)


def test_a_list_needs_no_loop_of_a_run_that_has_ended() -> None:
    """Once the runs that need this thread's loop have ended, the list may be waited for in it."""
    needy, other = make("needy", loops=frozenset({threading.get_ident()})), make("other")
    futures = gather([needy, other])
    needy.set_final(Completed(1))
    assert futures.wait(timeout=0) is None
    other.set_final(Completed(2))
    assert futures.result() == [1, 2]


class Helping(BlockingSection):
    """A section that completes what is waited for itself, as a pool's thread may."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def wait(self, future: Future[object], timeout: float | None = None) -> None:
        """Complete the runs that the future waits for."""
        for run in future.missing():
            self.names.append(run.task_run.name)
            run.set_final(Completed(len(self.names)))


def test_a_wait_for_a_list_shows_the_section_each_run() -> None:
    """A pool's thread that waits for a list may run what it waits for, one after the other."""
    section = Helping()
    before = set_blocking_section(section)
    try:
        assert gather([make("one"), make("two"), completed(0)]).result() == [1, 2, 0]
    finally:
        set_blocking_section(before)
    assert section.names == ["one", "two"]


# ------------------------------------------------------------------------- wait


def test_wait_divides_done_from_not_done() -> None:
    """Wait returns the futures that are done and those that are not, in their order."""
    one, two, three = completed(1), make(), failed()
    done, not_done = wait([one, two, three], timeout=0)
    assert done == [one, three]
    assert not_done == [two]


def test_wait_for_all() -> None:
    """Without a timeout, wait returns when every run has ended, raising no failure."""
    one, two = make(), failed()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait, [one, two])
        one.set_final(Completed(1))
        assert waiting.result() == ([one, two], [])


def test_wait_for_nothing() -> None:
    """Waiting for no futures ends at once."""
    assert wait([]) == ([], [])
    assert wait(iter([])).done == []


# ------------------------------------------------------------------------- as_completed


def test_futures_come_in_the_order_of_their_ends() -> None:
    """Runs that have ended come first; the others come as they end."""
    one, two, three = make(), completed(2), make()
    stream = as_completed([one, two, three])
    assert next(stream) is two
    three.set_final(Failed(BOOM))
    assert next(stream) is three
    one.set_final(Completed(1))
    assert next(stream) is one
    with pytest.raises(StopIteration):
        next(stream)


def test_a_thread_is_woken_by_each_end() -> None:
    """A thread in the stream waits for the next end, and takes them all."""
    futures = [make(str(number)) for number in range(20)]
    taking = threading.Event()

    def take() -> list[Future[int]]:
        taking.set()
        return list(as_completed(futures))

    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(take)
        taking.wait()
        for future in reversed(futures):
            future.set_final(Completed(1))
        assert {id(each) for each in taken.result()} == {id(each) for each in futures}
        assert len(taken.result()) == len(futures)


def test_each_future_comes_once() -> None:
    """A future that is named twice comes once."""
    one = completed(1)
    assert list(as_completed([one, one])) == [one]


def test_nothing_completes() -> None:
    """A stream of no futures is at its end."""
    assert list(as_completed([])) == []


def test_a_stream_times_out_and_goes_on() -> None:
    """Over time, a step raises with the number of runs still going, which may yet come."""
    one, two, three = make(), completed(2), make()
    stream = as_completed([one, two, three], timeout=0)
    assert next(stream) is two
    for _ in range(2):
        with pytest.raises(TimeoutError, match=r"^2 runs have not ended within the timeout$"):
            next(stream)
    one.set_final(Completed(1))
    assert next(stream) is one


@pytest.mark.anyio
async def test_futures_come_in_async_for() -> None:
    """In async code the stream is an async iterator."""
    one, two = make("one"), completed(2)
    taken: list[Future[int]] = []
    async with anyio.create_task_group() as group:

        async def take() -> None:
            async for future in as_completed([one, two]):
                taken.append(future)

        group.start_soon(take)
        await anyio.wait_all_tasks_blocked()
        assert taken == [two]
        threading.Thread(target=one.set_final, args=(Completed(1),)).start()
    assert taken == [two, one]


@pytest.mark.anyio
async def test_an_async_stream_times_out() -> None:
    """In async code too, a step raises when the time is over."""
    stream = as_completed([make(), completed(1)], timeout=0)
    assert (await anext(stream)).result() == 1
    with pytest.raises(TimeoutError, match=r"^1 runs have not ended within the timeout$"):
        await anext(stream)


def test_a_stream_refuses_to_wait_for_runs_that_all_need_this_thread() -> None:
    """A step raises only if every run that is left needs this thread's loop."""
    here = frozenset({threading.get_ident()})
    needy, free = make("needy", loops=here), make("free")
    stream = as_completed([needy, free], timeout=0)
    with pytest.raises(TimeoutError, match="2 runs have not ended"):
        next(stream)
    free.set_final(Completed(1))
    assert next(stream) is free
    with pytest.raises(WouldDeadlockError, match="would never end"):
        next(stream)
    needy.set_final(Completed(2))
    assert next(stream) is needy


def test_unmapped_holds_its_value() -> None:
    """An unmapped argument is a mark around a value."""
    assert unmapped([1, 2]).value == [1, 2]


# ---------------------------------------------------------------------------- the first failure


def test_waiting_ends_with_the_first_failure() -> None:
    """With fail_fast, a wait returns as soon as one run has ended otherwise than well."""
    first, second, third = (make() for _ in range(3))
    first.set_final(Completed(1))
    second.set_final(Failed(ValueError("gone")))
    done, not_done = wait([third, first, second], fail_fast=True)
    assert done == [first, second]
    assert not_done == [third]


def test_waiting_for_the_first_failure_may_see_none() -> None:
    """With fail_fast, a wait returns when all have ended well, and when its time is over."""
    first, second = make(), make()
    first.set_final(Completed(1))
    assert wait([first, first], fail_fast=True).done == [first, first]
    assert wait([first, second], fail_fast=True, timeout=0).not_done == [second]


@pytest.mark.anyio
async def test_waiting_for_many_in_a_loop() -> None:
    """The async form returns when all have ended, when one has failed, or when its time is over."""
    first, second = make(), make()
    first.set_final(Failed(ValueError("gone")))
    assert (await wait_async([first, second], fail_fast=True)).not_done == [second]
    assert (await wait_async([first, second], timeout=0)).not_done == [second]
    second.set_final(Completed(2))
    assert (await wait_async([first, second])).done == [first, second]
    assert (await wait_async([second], fail_fast=True)).done == [second]


class EndsBetweenLooks(Future[int]):
    """A future that ends as soon as it has been seen not to have."""

    def done(self) -> bool:
        """Tell, and end."""
        was_done = super().done()
        self.set_final(Completed(1))
        return was_done


def test_a_future_that_ends_meanwhile_is_in_one_of_the_two() -> None:
    """A wait loses no future that ends while it is divided into done and not done."""
    future = EndsBetweenLooks(TaskRun("a", "a", "a"))
    assert wait([future], timeout=0) == ([], [future])


@pytest.mark.anyio
async def test_waiting_again_and_again_leaves_nothing_behind() -> None:
    """A wait that is over, in whichever way, is kept by no run that goes on."""
    future, unreachable = make(), make(loops=frozenset({threading.get_ident()}))
    for _ in range(3):
        wait([future], fail_fast=True, timeout=0)
        await wait_async([future], fail_fast=True, timeout=0)
        with as_completed([future], timeout=0) as ends, pytest.raises(TimeoutError):
            next(ends)
        with pytest.raises(WouldDeadlockError):
            wait([unreachable], fail_fast=True)
    assert not future._callbacks
    assert not unreachable._callbacks
