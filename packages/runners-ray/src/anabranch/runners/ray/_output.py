"""What Ray's workers print: waiting until this process has shown all of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, cast

from anabranch.runners.ray import _native
from anabranch.runners.ray._environment import END_OF_OUTPUT, LINES_AT_A_TIME

#: How long the output is waited for at most, in seconds. As a rule Ray needs some tenths.
_PATIENCE: Final = 5.0

#: The same where Ray would show our markers: what it allows itself at the end of a process.
_PATIENCE_WITHOUT_MARKERS: Final = 0.5


def wait_for_output() -> None:
    """Wait until the output of the workers of this process's own instance has been shown.

    Ray tells of no event for that. Its log monitor goes round the files with the output, publishes
    what is new in each, and begins again. So we put markers into one more file, each when the one
    before has come in: when nothing else comes in between, there is nothing left. Only lines that
    Ray writes for itself, one for each task, can hide something behind them for some rounds.
    """
    if not _native.shows_output():
        return
    if not _native.hides(END_OF_OUTPUT):
        time.sleep(_PATIENCE_WITHOUT_MARKERS)
        return
    deadline = time.monotonic() + _PATIENCE
    lines: SimpleQueue[str] = SimpleQueue()

    def listen(batch: Mapping[str, object]) -> None:
        for line in cast("Sequence[str]", batch["lines"]):
            lines.put(line)

    def next_line() -> str:
        return lines.get(timeout=max(deadline - time.monotonic(), 0))

    folder = _native.log_folder()
    rounds = 1 + max(map(_count_hidden_lines, folder.glob("worker*")), default=0) // LINES_AT_A_TIME
    with (
        suppress(Empty, OSError),
        _native.listener_to_output(listen),
        (folder / "worker-anabranch.out").open("a") as file,
    ):

        def lines_before_a_marker() -> list[str]:
            print(END_OF_OUTPUT, file=file, flush=True)
            return list(iter(next_line, END_OF_OUTPUT))

        lines_before_a_marker()
        quiet = 0
        while quiet < rounds:
            quiet = 0 if lines_before_a_marker() else quiet + 1


def _count_hidden_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(line.startswith(b":") for line in file)
