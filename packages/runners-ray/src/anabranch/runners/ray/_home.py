"""Where a run belongs: to a run that the process of its flow has submitted."""

from __future__ import annotations

from typing import TypeAlias, final

import attrs

from anabranch.futures.runner import LogLevels

#: A home as it travels: tuples of texts and numbers pickle quickly.
PackedHome: TypeAlias = tuple[str, str | None, int, int]


@final
@attrs.frozen
class Home:
    """Where a run has its logs and its outcomes sent, from whatever worker it is on.

    Attributes:
        relay: The name of the relay of the flow's process.
        run_id: The run that was submitted there, if it is another one, which this one is below.
        levels: Which log records are wanted there.
    """

    relay: str
    run_id: str | None
    levels: LogLevels

    def packed(self) -> PackedHome:
        """Return it as it travels."""
        return self.relay, self.run_id, self.levels.ours, self.levels.others

    @classmethod
    def unpacked(cls, packed: PackedHome) -> Home:
        """Return what has travelled."""
        relay, run_id, ours, others = packed
        return cls(relay, run_id, LogLevels(ours, others))
