"""The unit of work: run ids, coroutine functions, and items."""

from __future__ import annotations

import contextvars
import functools
import logging
import os
import pickle
import re
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from anabranch.futures import (
    Completed,
    FlowRun,
    Future,
    Retrying,
    RetryPolicy,
    RunContext,
    Running,
    TaskRun,
    allow_failure,
)
from anabranch.futures.runner import (
    NO_RETRIES,
    is_async_function,
    make_item,
    new_run_id,
    with_retries,
)

RUN = TaskRun("1", "run", "task")


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run async tests on both kinds of event loop."""
    return str(request.param)


def test_run_ids_are_32_hexadecimal_digits() -> None:
    """A run id looks like that of a uuid."""
    assert re.fullmatch("[0-9a-f]{32}", new_run_id())


def test_run_ids_are_unique_among_threads() -> None:
    """Threads that make ids at once never make the same."""

    def make_some(_: int) -> list[str]:
        return [new_run_id() for _ in range(1000)]

    with ThreadPoolExecutor(8) as pool:
        ids = [run_id for some in pool.map(make_some, range(8)) for run_id in some]
    assert len(set(ids)) == 8000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_run_ids_are_unique_among_forked_processes() -> None:
    """A forked child makes ids of its own, though it starts with its parent's memory."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # The child only makes an id.
        child = os.fork()
    if child == 0:
        os.write(writer, new_run_id().encode())
        os._exit(0)
    try:
        theirs = os.read(reader, 32).decode()
    finally:
        os.close(reader)
        os.close(writer)
        os.waitpid(child, 0)
    ours = new_run_id()
    assert re.fullmatch("[0-9a-f]{32}", theirs)
    assert ours[:20] != theirs[:20]


class CallableWithCoroutine:
    """An object that is called with await."""

    async def __call__(self) -> None:
        """Do nothing."""


class Methods:
    """Has methods of both kinds."""

    async def coroutine(self) -> None:
        """Do nothing."""

    def plain(self) -> None:
        """Do nothing."""


async def coroutine_function(number: int = 0) -> int:
    """Return the number."""
    return number


def test_coroutine_functions_are_recognised() -> None:
    """Functions, partials, methods and callables are recognised by what calling them gives."""
    assert is_async_function(coroutine_function)
    assert is_async_function(functools.partial(coroutine_function, 1))
    assert is_async_function(Methods().coroutine)
    assert is_async_function(CallableWithCoroutine())
    assert not is_async_function(print)
    assert not is_async_function(functools.partial(print, 1))
    assert not is_async_function(Methods().plain)
    assert not is_async_function(Methods)


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


def test_an_item_captures_the_submitters_variables() -> None:
    """The context variables are those of the moment of submission."""
    token = VARIABLE.set("submitted")
    try:
        item = make_item(print, (), {}, task_run=RUN)
        VARIABLE.set("later")
    finally:
        VARIABLE.reset(token)
    assert item.variables is not None
    assert item.variables[VARIABLE] == "submitted"


def test_an_item_knows_what_it_depends_on() -> None:
    """The futures among the arguments, positional or not, and those waited for are found."""
    one, two, three, four = (Future[int](TaskRun(name, name, name)) for name in "abcd")
    item = make_item(
        print,
        (1, [one]),
        {"key": allow_failure(two)},
        task_run=RUN,
        wait_for=(three, allow_failure(four)),
    )
    assert item.upstreams == (one, three)
    assert item.tolerated == (two, four)
    assert not item.is_plain


def test_another_number_of_retries_is_all_that_changes(caplog: pytest.LogCaptureFixture) -> None:
    """The delay stays, and so does an item whose number it is; bad numbers are refused."""
    logger = logging.getLogger(__name__)
    item = make_item(print, (), {}, task_run=RUN, retry=RetryPolicy(1, delay=2.5))
    assert with_retries(item, 3, logger).retry == RetryPolicy(3, delay=2.5)
    assert with_retries(item, 0, logger).retry is NO_RETRIES
    assert with_retries(item, 1, logger) is item
    with pytest.raises(ValueError, match="retries=-1: it cannot be negative"):
        with_retries(item, -1, logger)
    assert not caplog.messages


def test_retries_that_nobody_listens_for_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Who submitted an item without retries is told as ever, and the log has the retries."""
    told: list[object] = []
    item = make_item(print, (), {}, task_run=RUN, listener=lambda _, state: told.append(state))
    listener = with_retries(item, 3, logging.getLogger(__name__)).listener
    assert listener is not None
    running, retrying = Running(), Retrying(message="once more")
    listener(RUN, running)
    listener(RUN, retrying)
    assert told == [running, retrying]
    assert caplog.messages == ["Run 'run': once more"]


def test_an_item_knows_whether_it_is_async() -> None:
    """Whether calling the function gives a coroutine is found out, unless it is told."""
    assert make_item(coroutine_function, (), {}, task_run=RUN).is_async
    assert not make_item(print, (), {}, task_run=RUN).is_async
    assert make_item(print, (), {}, task_run=RUN, is_async=True).is_async


@pytest.mark.parametrize(
    "travels",
    [
        TaskRun("1", "run", "task", frozenset({"tag"})),
        FlowRun("2", "humongous-mink", "flow"),
        RunContext(FlowRun("2", "humongous-mink", "flow"), RUN, 3),
    ],
    ids=lambda travels: type(travels).__name__,
)
def test_who_is_running_travels(travels: object) -> None:
    """What tells who is running is picklable, comparable, hashable and read-only."""
    copy = pickle.loads(pickle.dumps(travels))
    assert copy == travels
    assert hash(copy) == hash(travels)
    with pytest.raises(AttributeError):
        copy.flow_run = copy.name = "other"


def test_the_attempts_of_a_run_are_counted_from_one() -> None:
    """A context is of the first attempt unless it says otherwise."""
    assert RunContext().attempt == 1


def test_futures_in_an_item_may_have_ended() -> None:
    """An upstream that has completed is an upstream still."""
    future: Future[int] = Future(RUN)
    future.set_final(Completed(1))
    assert make_item(print, (future,), {}, task_run=RUN).upstreams == (future,)
