"""What Ray's workers print: waiting until this process has shown all of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, cast

from anabranch.runners.ray import _native
from anabranch.runners.ray._environment import lines_at_a_time

#: How long Ray may take for the next line, in seconds, and for all of them.
_PATIENCE: Final = 5.0
_PATIENCE_IN_ALL: Final = 30.0

#: How long versions of Ray are given that cannot be asked; what they allow themselves.
_PATIENCE_UNASKED: Final = 0.5

_MARKER: Final = ":anabranch_marker:"


def wait_for_output() -> None:
    """Wait until the output of the workers of this process's own instance has been shown.

    Ray tells of no event for that. Its log monitor goes round the files with the output, publishes
    what is new in each, and begins again. So we put markers into one more file, each when the one
    before has come in: when nothing else comes in between, there is nothing left.

    The lines that Ray itself writes, one for each task, are read but not published. So there may
    be rounds in which nothing comes in though there is more; as many as those lines can fill.
    """
    if not _native.shows_output():
        return
    try:
        lines = _filtered_lines()
        folder = _native.output_folder()
    except (ImportError, AttributeError):
        time.sleep(_PATIENCE_UNASKED)
        return
    deadline = time.monotonic() + _PATIENCE_IN_ALL
    rounds = 1 + max(map(_count_own_lines, folder.glob("worker*")), default=0) // lines_at_a_time()
    with suppress(Empty, OSError), (folder / "worker-anabranch.out").open("w") as file:
        # Ray keeps it from others who use the same instance.
        print(f":job_id:{_native.session_id()[1]}", file=file)
        quiet = -1  # What comes before the first marker tells nothing.
        while quiet < rounds and time.monotonic() < deadline:
            print(_MARKER, file=file, flush=True)
            others = sum(1 for _ in iter(lambda: lines.get(timeout=_PATIENCE), _MARKER))
            quiet = 0 if others or quiet < 0 else quiet + 1


def _filtered_lines() -> SimpleQueue[str]:
    """Return a queue of all lines as they come in; markers are not shown."""
    lines: SimpleQueue[str] = SimpleQueue()

    def note(batch: _native.Batch) -> bool:
        found = cast("Sequence[str]", batch["lines"])
        for line in found:
            lines.put(line)
        return _MARKER not in found

    _native.filter_output(note)
    return lines


def _count_own_lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(line.startswith(b":") for line in file)
    except OSError:  # Ray moves the files of workers that are gone.
        return 0
