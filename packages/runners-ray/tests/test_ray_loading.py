"""What a worker imports is imported as a whole, though Ray may interrupt it at any time."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from anabranch.runners.ray._loading import interrupts_deferred

#: Interrupts itself as it imports a module, and then runs an event loop all the same.
_SCRIPT = """
import signal, sys
import anyio.lowlevel
from anabranch.runners.ray._loading import load_backend

backend, module = sys.argv[1:]

class Interrupter:
    def find_spec(self, name, path, target=None):
        if name == module:
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)

async def main():
    await anyio.lowlevel.checkpoint()
    return "ran"

sys.meta_path.insert(0, Interrupter())
try:
    load_backend(backend)
except KeyboardInterrupt:
    print("interrupted")
load_backend(backend)
print(anyio.run(main, backend=backend))
"""


@pytest.mark.parametrize(
    ("backend", "module"),
    [("trio", "trio._core._io_epoll"), ("asyncio", "anyio._backends._asyncio")],
)
def test_an_interrupted_import_of_a_loop_leaves_no_half_of_it_behind(
    backend: str, module: str
) -> None:
    """A run that is cancelled while its loop is imported does no harm to those that follow it."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, backend, module],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("interrupted\nran\n", "")


def test_interrupts_come_at_the_end() -> None:
    """What an interrupt would cut short is done, the interrupt follows, and others come at once."""
    handler, done = signal.getsignal(signal.SIGINT), list[str]()
    try:
        with interrupts_deferred():
            signal.raise_signal(signal.SIGINT)
            done.append("the rest")
    except KeyboardInterrupt:
        done.append("the interrupt")
    assert done == ["the rest", "the interrupt"]
    with pytest.raises(ValueError, match="own"), interrupts_deferred():
        raise ValueError("own")
    assert signal.getsignal(signal.SIGINT) is handler


def test_interrupts_come_to_no_other_thread() -> None:
    """In other threads than the main one there is nothing to defer."""
    done = threading.Event()

    def body() -> None:
        with interrupts_deferred():
            done.set()

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert done.is_set()
