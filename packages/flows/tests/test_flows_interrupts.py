"""Ctrl-C: real processes, really interrupted."""

from __future__ import annotations

import signal

import pytest
from real_scripts import run_and_signal

pytestmark = pytest.mark.slow

SCRIPTS = {
    "threads": """
@flow
def main():
    [block.submit() for _ in range(20)]
main()
""",
    "async tasks": """
@flow
def main():
    [block_async.submit() for _ in range(20)]
main()
""",
    "a hundred threads": """
@flow(task_runner=ConcurrentTaskRunner(max_workers=100))
def main():
    [block.submit() for _ in range(100)]
main()
""",
    "a body with a time limit": """
@flow(timeout=3600)
def main():
    block.submit().result()
main()
""",
    "a task with a time limit, called": """
@flow
def main():
    block.with_options(timeout=3600)()
main()
""",
    "a task in place": """
@flow(task_runner=SequentialTaskRunner())
def main():
    block.submit()
main()
""",
    "an async task in sequence": """
@flow(task_runner=SequentialTaskRunner())
def main():
    block_async.submit()
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
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_ctrl_c_ends_the_program(name: str) -> None:
    """One Ctrl-C ends a flow whatever blocks it, as cancelled, and the process with it."""
    ended = run_and_signal(SCRIPTS[name], signal.SIGINT)
    # A shell makes 130 of it. Python ends itself by the signal, so that the shell ends its loops.
    assert ended.code == -signal.SIGINT, ended.log
    assert "Finished in state Cancelled" in ended.log
    assert "KeyboardInterrupt" in ended.log
