"""What Ray's workers print: waiting until this process has shown all of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final, cast

from anabranch.runners.ray import _native
from anabranch.runners.ray._environment import END_OF_OUTPUT

#: How long the output is waited for at most, in seconds. As a rule Ray needs some tenths.
_PATIENCE: Final = 5.0

#: The same where Ray would show our markers: what it allows itself at the end of a process.
_PATIENCE_WITHOUT_MARKERS: Final = 0.5


def wait_for_output(patience: float = _PATIENCE) -> None:
    """Wait until the output of the workers of this process's own instance has been shown.

    Ray tells of no event for that. Its log monitor goes round the files with the output, publishes
    what is new in each, and begins again. So we put markers into one more file, each when the one
    before has come in: when nothing else came in between two, all files had been read to their end.

    Args:
        patience: How long to wait at most, in seconds.
    """
    if not _native.hides(END_OF_OUTPUT):
        time.sleep(min(_PATIENCE_WITHOUT_MARKERS, patience))
        return
    deadline = time.monotonic() + patience
    lines: SimpleQueue[str] = SimpleQueue()

    def listen(batch: Mapping[str, object]) -> None:
        for line in cast("Sequence[str]", batch["lines"]):
            lines.put(line)

    def next_line() -> str:
        return lines.get(timeout=max(deadline - time.monotonic(), 0))

    with (
        suppress(Empty, OSError),
        _native.listener_to_output(listen),
        (_native.log_folder() / "worker-anabranch.out").open("a") as file,
    ):

        def lines_before_a_marker() -> list[str]:
            print(END_OF_OUTPUT, file=file, flush=True)
            return list(iter(next_line, END_OF_OUTPUT))

        lines_before_a_marker()
        while lines_before_a_marker():
            pass
