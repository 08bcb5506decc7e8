"""Signals: what they interrupt."""

from __future__ import annotations

import threading

import pytest

from anabranch.futures.runner import start_thread


class Interrupted(threading.Thread):
    """A thread whose start is interrupted, as a condition makes it come out."""

    def start(self) -> None:
        """Raise what a condition raises that a signal has interrupted."""
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise RuntimeError("release unlocked lock")  # noqa: B904 - as it is raised there


class Refused(threading.Thread):
    """A thread that the machine does not give."""

    def start(self) -> None:
        """Raise what is raised then."""
        raise RuntimeError("can't start new thread")


def test_a_signal_during_the_start_of_a_thread_comes_out_as_it_is() -> None:
    """Ctrl-C is not taken for a machine without threads, nor that for Ctrl-C."""
    with pytest.raises(KeyboardInterrupt):
        start_thread(Interrupted())
    with pytest.raises(RuntimeError, match="can't start new thread"):
        start_thread(Refused())
