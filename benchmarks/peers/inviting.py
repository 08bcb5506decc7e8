"""Lets other engines take part where they can."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from benchmarks.model import Sample, Stage

#: Peers are expensive to start, and far from the limits: a few rounds tell enough.
ROUNDS = 3


def is_there(stage: Stage, name: str, module: str) -> bool:
    """Return whether an engine can be imported; if not, a note says so."""
    if importlib.util.find_spec(module) is not None:
        return True
    stage.notes.append(
        f"{name} was left out: it cannot be imported here (to have it: pip install {module})"
    )
    return False


def invite(stage: Stage, name: str, take: Callable[[], Sample]) -> None:
    """Let an engine take part; where it fails, a note says so and the others go on."""

    def take_or_note() -> Sample:
        try:
            return take()
        except Exception as error:  # Whatever is wrong with it, it is not ours.
            reason = str(error).strip().rpartition("\n")[2]
            stage.notes.append(f"{name} failed: {reason}")
            return {}

    stage.add(name, take_or_note, rounds=ROUNDS)
