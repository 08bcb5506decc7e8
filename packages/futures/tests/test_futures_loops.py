"""Event loops: found from inside, entered from outside, and hosted in threads of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest

from anabranch.futures import Backend
from anabranch.futures.runner import EventLoop, LoopThread, default_backend, running_loop

BACKENDS: list[Backend] = ["trio", "asyncio"]


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run async tests on both kinds of event loop."""
    return str(request.param)


def find_loop() -> EventLoop:
    """Return the loop that runs in this thread."""
    loop = running_loop()
    assert loop is not None
    return loop


def test_there_is_no_loop_in_plain_code() -> None:
    """In a thread without an event loop, none is found."""
    assert running_loop() is None


def test_trio_is_the_default_where_it_is_installed() -> None:
    """Loops of our own are trio's, if it is there."""
    assert default_backend() == "trio"


@pytest.mark.anyio
async def test_the_running_loop_is_found(anyio_backend: str) -> None:
    """In async code the loop is found, with its kind and its thread."""
    loop = find_loop()
    assert loop.backend == anyio_backend
    assert loop.thread_id == threading.get_ident()


@pytest.mark.anyio
async def test_a_loop_is_entered_from_other_threads() -> None:
    """A function that another thread hands over is called in the loop's own thread."""
    loop, called, threads = find_loop(), anyio.Event(), list[int]()

    def note() -> None:
        threads.append(threading.get_ident())
        called.set()

    accepted: list[bool] = []
    threading.Thread(target=lambda: accepted.append(loop.call_soon(note))).start()
    await called.wait()
    assert threads == [loop.thread_id]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loop_that_has_ended_says_so(backend: Backend) -> None:
    """Entering a loop that is gone does nothing, and tells."""

    async def main() -> EventLoop:
        return find_loop()

    loop = anyio.run(main, backend=backend)
    called: list[None] = []
    assert not loop.call_soon(lambda: called.append(None))
    assert called == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loop_thread_runs_beside_its_starter(backend: Backend) -> None:
    """The function runs in a named daemon thread, on the loop asked for, until it returns."""
    seen: list[tuple[str, str, bool]] = []
    loops: list[tuple[EventLoop, anyio.Event]] = []

    async def main(ready: Callable[[], None]) -> None:
        thread, leave = threading.current_thread(), anyio.Event()
        seen.append((thread.name, find_loop().backend, thread.daemon))
        loops.append((find_loop(), leave))
        ready()
        await leave.wait()
        seen.append(("left", "", True))

    thread = LoopThread(main, backend=backend, name="beside")
    thread.start()
    assert seen == [("beside", backend, True)]
    loop, leave = loops[0]
    assert loop.call_soon(leave.set)
    thread.join()
    assert seen[-1][0] == "left"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loop_thread_that_does_not_get_ready_raises_when_started(backend: Backend) -> None:
    """An error before the function is ready comes out of start, in the starter's thread."""
    error = LookupError("not ready")

    async def main(ready: Callable[[], None]) -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    with pytest.raises(LookupError, match=r"^not ready$") as caught:
        LoopThread(main, backend=backend).start()
    assert caught.value is error


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("error", [LookupError("later"), KeyboardInterrupt("later")])
def test_a_loop_thread_that_fails_later_raises_when_joined(
    backend: Backend, error: BaseException
) -> None:
    """An error after the function was ready comes out of join, once."""
    go_on = threading.Event()

    async def main(ready: Callable[[], None]) -> None:
        ready()
        await anyio.to_thread.run_sync(go_on.wait)
        raise error

    thread = LoopThread(main, backend=backend)
    thread.start()
    go_on.set()
    with pytest.raises(type(error), match=r"^later$") as caught:
        thread.join()
    assert caught.value is error
    thread.join()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loop_thread_that_returns_without_getting_ready(backend: Backend) -> None:
    """A function that returns at once leaves nobody waiting."""

    async def main(ready: Callable[[], None]) -> None:
        return

    thread = LoopThread(main, backend=backend)
    thread.start()
    thread.join()


@pytest.mark.anyio
async def test_a_loop_thread_can_be_started_in_a_running_loop(anyio_backend: str) -> None:
    """Loops of both kinds run beside a running one, which they do not disturb."""
    for backend in BACKENDS:
        found: list[str] = []

        async def main(ready: Callable[[], None], found: list[str] = found) -> None:
            found.append(find_loop().backend)
            ready()

        thread = LoopThread(main, backend=backend)
        thread.start()
        thread.join()
        assert found == [backend]
    assert find_loop().backend == anyio_backend
