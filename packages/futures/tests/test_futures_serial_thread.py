"""A thread that does one thing after the other."""

from __future__ import annotations

from typing import NoReturn

import pytest

from anabranch.futures.runner import SerialThread


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_serial_thread_outlives_what_it_calls(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """What a function raises is logged, and those that come after it are called all the same."""

    def fail() -> NoReturn:
        raise kind("out")

    thread = SerialThread("serial")
    thread.call_soon(fail)
    assert thread.call(lambda: 1) == 1
    assert "Something failed in the thread 'serial'" in caplog.text
    assert thread.close(30)
