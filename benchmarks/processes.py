"""Work in processes of its own, which leave nothing behind."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import ParamSpec, TypeVar

import psutil

P = ParamSpec("P")
R = TypeVar("R")

#: How many seconds processes have to end when they are told to.
GRACE = 15.0


class ChildError(Exception):
    """What went wrong in a child process; its text is the traceback."""


def call_in_process(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function in a new process, and return what it returned.

    The process has nothing from this one but the places that modules are imported from. Whatever
    it started and left running is ended.

    Raises:
        ChildError: The function raised, or the process ended without a word.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    # Not a daemon: those must not have children.
    process = context.Process(target=_report, args=(theirs, partial(function, *args, **kwargs)))
    process.start()
    theirs.close()
    try:
        succeeded, value = ours.recv()
        process.join(GRACE)
    except EOFError:
        process.join(GRACE)
        raise ChildError(f"its process ended with exit code {process.exitcode}") from None
    finally:
        ours.close()
        if process.is_alive():
            end(psutil.Process(process.pid))
        process.join()
    if not succeeded:
        raise ChildError(value)
    result: R = value
    return result


def _report(
    connection: Connection[tuple[bool, object], object], work: Callable[[], object]
) -> None:
    # Registered first, it runs last: when what was started has had its chance to end in order.
    atexit.register(end_children)
    exit_on_sigterm()
    share_import_path()
    try:
        outcome: tuple[bool, object] = (True, work())
    except Exception:
        outcome = (False, traceback.format_exc())
    connection.send(outcome)


def exit_on_sigterm() -> None:
    """Have SIGTERM leave this process in good order, so that what it started ends with it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def share_import_path() -> None:
    """Let all processes that this one starts import what it can, whatever folder they start in."""
    places = [Path(place or ".").resolve() for place in sys.path]
    standard = (Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve())
    foreign = [str(each) for each in places if not any(map(each.is_relative_to, standard))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(foreign))


def redirect_output(path: Path) -> None:
    """Append what this process prints, and those that it starts, to a file instead."""
    with path.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)


def end_children() -> None:
    """End the processes that this one has started, and those that they have."""
    for child in psutil.Process().children():
        end(child)


def end(process: psutil.Process) -> None:
    """End a process, in good order if it can, and the processes that it has started."""
    with suppress(psutil.NoSuchProcess):
        family = [process, *process.children(recursive=True)]
        process.terminate()
        psutil.wait_procs([process], timeout=GRACE)
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(family, timeout=GRACE)
