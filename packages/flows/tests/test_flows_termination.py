"""SIGTERM: real processes, really terminated."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import anyio
import pytest
from real_scripts import run_and_signal

from anabranch.flows import flow, task

SIGTERM = signal.SIGTERM

#: What a shell reports for a process that SIGTERM has ended.
TERMINATED = 143

#: Says that it has started when a run waits for another attempt.
IN_A_DELAY = """
import logging
class Told(logging.Handler):
    def emit(self, record):
        if "the next one follows" in record.getMessage():
            say("started")
logging.basicConfig(level=logging.INFO)
logging.getLogger("anabranch").addHandler(Told())
"""

SCRIPTS = {
    "a wait for a result": """
@flow
def main():
    block.submit().result()
main()
""",
    "the body's own sleep": """
@flow
def main():
    say("started")
    time.sleep(3600)
main()
""",
    "a hundred stuck threads": """
@flow(task_runner=ConcurrentTaskRunner(max_workers=100))
def main():
    [block.submit() for _ in range(100)]
main()
""",
    "a task in place": """
@flow(task_runner=SequentialTaskRunner())
def main():
    block.submit()
main()
""",
    "a task with a time limit, called": """
@flow
def main():
    block.with_options(timeout=3600)()
main()
""",
    "a body with a time limit": """
@flow(timeout=3600)
def main():
    say("started")
    threading.Event().wait()
main()
""",
    "async tasks": """
@flow
def main():
    [block_async.submit() for _ in range(20)]
main()
""",
    "a task that blocks its loop": """
@flow
def main():
    block_the_loop.submit()
main()
""",
    "a submitted subflow": """
@flow
def inner():
    block.submit()
@flow
def main():
    inner.submit()
main()
""",
    "a submitted async subflow": """
@flow
async def inner():
    block.submit()
    await block_async()
@flow
def main():
    inner.submit()
main()
""",
    "a subflow in place": """
@flow
def inner():
    block.submit()
@flow
def main():
    inner()
main()
""",
    "the delay before another attempt of a task": IN_A_DELAY
    + """
@task(retries=1, retry_delay=3600)
def fail():
    raise LookupError
@flow
def main():
    fail.submit()
main()
""",
    "the delay before another attempt of the flow": IN_A_DELAY
    + """
@flow(retries=1, retry_delay=3600)
def main():
    raise LookupError
main()
""",
    "an async flow on trio": """
@flow
async def main():
    block.submit()
    await block_async()
anyio.run(main, backend="trio")
""",
    "an async flow on asyncio": """
@flow
async def main():
    block.submit()
    await block_async()
anyio.run(main, backend="asyncio")
""",
    "an async flow inside a sync one": """
@flow
async def inner():
    await block_async()
@flow
def main():
    anyio.run(inner)
main()
""",
    "a sync flow inside a loop": """
@flow
def inner():
    block.submit().result()
async def main():
    inner()
anyio.run(main)
""",
    "async flows that overlap": """
@flow
async def short(other_started):
    await other_started.wait()
@flow
async def long(started):
    started.set()
    await block_async()
async def main():
    event = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(short, event)
        group.start_soon(long, event)
anyio.run(main)
""",
    "a body that does not let itself be cancelled": """
@flow
async def main():
    try:
        await block_async()
    except BaseException:
        pass
    return "went on"
anyio.run(main)
say("not reached")
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_sigterm_ends_the_program(name: str) -> None:
    """One SIGTERM ends a flow whatever blocks it, with the exit code that says so."""
    ended = run_and_signal(SCRIPTS[name], SIGTERM)
    assert ended.code == TERMINATED, ended.log
    # Where the signal met one task of asyncio, and another was about to end, asyncio tells of it.
    log, _, _ = ended.log.partition("unhandled exception during asyncio.run() shutdown")
    assert "Traceback" not in log, ended.log
    assert "not reached" not in ended.output
    if "does not let itself" not in name:
        assert "in state Cancelled" in ended.log, ended.log


@pytest.mark.slow
def test_what_was_submitted_is_cancelled() -> None:
    """Pending runs are cancelled, hooks are told, and clean-up is done on the way out."""
    script = """
@task
async def wait_quietly():
    await anyio.sleep_forever()
@task
def never_called(_):
    say("called")
def told(flow, run, state):
    say(f"{type(state).__name__} {flow.name}")
@flow(on_cancellation=told, task_runner=ConcurrentTaskRunner(max_workers=1))
def main():
    try:
        never_called.submit(wait_quietly.submit())
        block.submit().result()
    finally:
        say("cleaned up")
main()
"""
    ended = run_and_signal(script, SIGTERM)
    assert ended.code == TERMINATED, ended.log
    assert [line for line in ended.output.splitlines() if line != "started"] == [
        "cleaned up",
        "Cancelled main",
    ]
    assert "Task run 'never_called" in ended.log
    assert "Finished in state Cancelled" in ended.log


@pytest.mark.slow
def test_a_second_one_does_not_break_the_way_out() -> None:
    """A SIGTERM that comes while a flow cleans up is not heard any more."""
    script = """
import signal
@flow
def main():
    try:
        block.submit().result()
    finally:
        signal.raise_signal(signal.SIGTERM)
        say("cleaned up")
main()
"""
    ended = run_and_signal(script, SIGTERM)
    assert (ended.code, ended.output) == (TERMINATED, "cleaned up\n"), ended.log
    assert "Finished in state Cancelled" in ended.log


@pytest.mark.slow
def test_the_users_own_handler_is_left_alone() -> None:
    """Where the program handles SIGTERM itself, a flow does not interfere."""
    script = """
import signal
may_end = threading.Event()
def handle(*_):
    say("handled")
    may_end.set()
signal.signal(signal.SIGTERM, handle)
@task
def wait():
    say("started")
    may_end.wait()
@flow
def main():
    wait.submit().result()
main()
say("went on" if signal.getsignal(signal.SIGTERM) is handle else "replaced")
"""
    ended = run_and_signal(script, SIGTERM)
    assert (ended.code, ended.output) == (0, "handled\nwent on\n"), ended.log


@pytest.mark.slow
def test_sigterm_works_where_ctrl_c_is_ignored() -> None:
    """A process that a shell started in the background ignores Ctrl-C, but not SIGTERM."""
    script = """
@flow
def main():
    block.submit().result()
main()
"""
    ended = run_and_signal(script, SIGTERM, ignores_ctrl_c=True)
    assert ended.code == TERMINATED, ended.log
    assert "Finished in state Cancelled" in ended.log


@pytest.mark.slow
def test_a_flow_in_another_thread_installs_nothing() -> None:
    """Outside the main thread a flow leaves SIGTERM to its default, which ends the process."""
    script = """
@flow
def main():
    block.submit().result()
thread = threading.Thread(target=main)
thread.start()
thread.join()
"""
    assert run_and_signal(script, SIGTERM).code == -SIGTERM


# ------------------------------------------------------------------------- in this process


@pytest.fixture
def default_handler() -> Iterator[None]:
    """Have SIGTERM do what it does by default."""
    before = signal.signal(SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(SIGTERM, before)


def handler() -> object:
    """Return the handler of SIGTERM."""
    return signal.getsignal(SIGTERM)


@pytest.mark.usefixtures("default_handler")
def test_the_default_comes_back() -> None:
    """A flow handles SIGTERM as long as it lasts, also around its subflows, and no longer."""

    @flow
    def inner() -> bool:
        return handler() is not signal.SIG_DFL

    @flow
    def outer() -> list[bool]:
        return [inner(), handler() is not signal.SIG_DFL]

    assert outer() == [True, True]
    assert handler() is signal.SIG_DFL
    with pytest.raises(LookupError):
        flow(raise_lookup_error)()
    assert handler() is signal.SIG_DFL


def raise_lookup_error() -> None:
    """Raise."""
    raise LookupError


@pytest.mark.anyio
@pytest.mark.usefixtures("default_handler")
async def test_the_default_comes_back_after_async_flows() -> None:
    """Async flows handle SIGTERM until the last of them has ended, in whatever order they do."""
    first_may_end, second_started = anyio.Event(), anyio.Event()

    @flow
    async def first() -> None:
        await first_may_end.wait()

    @flow
    async def second() -> bool:
        second_started.set()
        await first_ended.wait()
        return handler() is not signal.SIG_DFL

    first_ended = anyio.Event()
    results: list[bool] = []

    async def run_second() -> None:
        results.append(await second())

    async with anyio.create_task_group() as group:
        async with anyio.create_task_group() as inner_group:
            inner_group.start_soon(first)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(run_second)
            await second_started.wait()
            first_may_end.set()
        first_ended.set()
    assert results == [True]
    assert handler() is signal.SIG_DFL


@pytest.mark.usefixtures("default_handler")
def test_a_handler_that_a_flow_installs_stays() -> None:
    """A handler that the user's code installs inside a flow is not taken away again."""

    def own(*_: object) -> None:
        """Do nothing."""

    flow(lambda: signal.signal(SIGTERM, own))()
    assert handler() is own


@pytest.mark.usefixtures("default_handler")
def test_other_threads_install_nothing() -> None:
    """A flow in a thread of its own does not touch the handler."""
    seen: list[object] = []
    thread = threading.Thread(target=flow(lambda: seen.append(handler())))
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


@pytest.mark.usefixtures("default_handler")
def test_tasks_outside_flows_install_nothing() -> None:
    """A task that is called in no flow leaves SIGTERM alone."""
    assert task(handler)() is signal.SIG_DFL
