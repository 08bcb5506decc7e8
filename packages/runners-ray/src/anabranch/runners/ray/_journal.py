"""What a worker notes of a batch while it executes it, to be found if its process is lost.

A file on the worker's machine outlives the process, and costs microseconds for each run. It is
removed when the batch has ended, or when it has been read.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Final, Self, cast, final

import ray

from anabranch.futures.runner import AnyFunction
from anabranch.runners.ray._native import call_on, living_nodes

#: How long the machines of the cluster have to look for a journal, in seconds.
_PATIENCE: Final = 20.0


@final
class Journal:
    """Notes which run of a batch has begun, and how those before it have ended.

    Without a file, such as on a full disk, nothing is noted.

    Args:
        batch_id: The batch.
    """

    def __init__(self, batch_id: str) -> None:
        self._path: Final = _path(batch_id)
        self._file: int | None = None

    def __enter__(self) -> Self:
        with suppress(OSError):
            self._file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file)
            with suppress(OSError):
                self._path.unlink()

    def note(self, entry: bytes | None) -> None:
        """Note that another run begins, and how the one before it has ended, if there is one."""
        if self._file is not None:
            try:
                noted = pickle.dumps(entry)
                if os.write(self._file, noted) < len(noted):
                    raise OSError("The disk is full")
            except OSError:  # Half a journal would say that runs have not begun which have.
                self.__exit__()
                self._file = None


def take_journal(batch_id: str) -> list[bytes] | None:
    """Return how the runs of a batch have ended that were over, and remove the journal.

    One more has begun. None if there is no journal on this machine.
    """
    path = _path(batch_id)
    try:
        noted = path.read_bytes()
        path.unlink()
    except OSError:
        return None
    entries: list[bytes | None] = []
    with suppress(EOFError, pickle.UnpicklingError):
        file = BytesIO(noted)
        while True:
            entries.append(cast("bytes | None", pickle.load(file)))
    return [entry for entry in entries if entry is not None] if entries else None


def find_journal(batch_id: str) -> list[bytes] | None:
    """`take_journal`, on whatever machine of the cluster it is; blocks."""
    found = take_journal(batch_id)
    if found is not None:
        return found
    refs = [call_on(node, take_journal, batch_id) for node in living_nodes()]
    get = cast("AnyFunction[list[bytes] | None]", ray.get)
    for ref in refs:
        with suppress(Exception):  # That machine has gone meanwhile, or is stuck.
            found = get(ref, timeout=_PATIENCE)
            if found is not None:
                return found
    return None


def _path(batch_id: str) -> Path:
    return Path(tempfile.gettempdir()) / f"anabranch-ray-{batch_id}"
