"""Scripts without their guard: worker processes import them, and so begin them anew."""

from __future__ import annotations

import hashlib
import importlib
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final, Protocol, cast
from uuid import uuid4

#: What a script without its guard is told.
UNGUARDED: Final = (
    "This script makes a Dask cluster whose worker processes import the script, and that would "
    'make another one. Put what it runs under `if __name__ == "__main__":`, so that importing it '
    "runs nothing"
)


def refuse_unguarded_script() -> None:
    """End this process if it is a worker that is only just importing the script of its parent.

    Its parent says what is wrong. It cannot be told of it in another way: so early, a process has
    nobody to answer, and all that Dask knows is that it has died.

    Raises:
        RuntimeError: It is, and its parent does not listen; the message says what the script lacks.
    """
    if not getattr(multiprocessing.current_process(), "_inheriting", False):
        return
    notices = list(_folder().glob(f"{_prefix()}*"))
    if not notices:
        raise RuntimeError(UNGUARDED)
    for notice in notices:
        notice.write_text("unguarded")
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # There may be none.
            stream.flush()
    os._exit(1)


@contextmanager
def explaining_unguarded_script(*, starts_none: bool) -> Generator[None]:
    """Raise the one clear error if worker processes that are started here find no guard.

    Args:
        starts_none: Whether the first worker process is started later, when nobody would see it
            fail: the runs would wait for ever. Then one that does nothing is started at once.

    Raises:
        RuntimeError: They did; the message says what the script lacks.
    """
    notice = _folder() / f"{_prefix()}-{uuid4().hex}"
    try:
        notice.touch(mode=0o600, exist_ok=False)
    except OSError:  # The processes speak for themselves then.
        yield
        return
    try:
        if starts_none:
            _start_process()
            if _is_told(notice):
                raise RuntimeError
        yield
    except Exception:
        if _is_told(notice):
            raise RuntimeError(UNGUARDED) from None
        raise
    finally:
        with suppress(OSError):
            notice.unlink()


def _start_process() -> None:
    config = cast("_DaskConfig", importlib.import_module("dask.config"))
    method = str(config.get("distributed.worker.multiprocessing-method"))
    if method == "fork":  # It imports nothing.
        return
    context = cast("_Context", multiprocessing.get_context(method))
    process = context.Process(target=nothing, daemon=True)
    process.start()
    process.join()


def nothing() -> None:
    """Do nothing, once the script has been imported."""


class _Context(Protocol):
    def Process(self, *, target: Callable[[], None], daemon: bool) -> BaseProcess: ...


class _DaskConfig(Protocol):
    def get(self, key: str) -> object: ...


def _is_told(notice: Path) -> bool:
    try:
        return bool(notice.read_text())
    except OSError:  # Somebody tidies up there.
        return False


def _folder() -> Path:
    return Path(tempfile.gettempdir())


def _prefix() -> str:
    """Return the beginning of a name that a process and its children know, and nobody else."""
    key = bytes(multiprocessing.current_process().authkey)
    return f"anabranch-{hashlib.sha256(b'guard' + key).hexdigest()[:32]}"
