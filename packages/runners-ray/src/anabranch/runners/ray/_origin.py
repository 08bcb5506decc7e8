"""Where runs are submitted from: a flow's process, or a run on a worker."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol, cast, final

from anabranch.futures import TaskRun
from anabranch.futures.runner import LogLevels, ReportTaker, ScopeOwner, deliver_record
from anabranch.runners.ray._home import Home

if TYPE_CHECKING:
    from anabranch.futures.runner import PackedRecord
    from anabranch.runners.ray._parcel import LastWords, Letter
    from anabranch.runners.ray._relay import Inbox

_logger = logging.getLogger("anabranch.task_runner.ray")


class Origin(Protocol):
    """What a run comes from, and goes back to with what it has to say."""

    @property
    def home(self) -> Home:
        """Where runs belong that come from here."""
        ...

    def hear(self, words: LastWords, then: Callable[[], object]) -> None:
        """Take note of what a run has said at its end, then call something, soon."""
        ...

    def read(self, letters: Sequence[Letter]) -> None:
        """Take note of what a run has said, other than of itself."""
        ...


@final
class FlowOrigin:
    """The process of a flow.

    Args:
        relay: The name of its relay.
        inbox: What has been posted there.
        owner: Hears of the runs below those that come from here, if anybody does.
        note_abandoned: Told of those of them that were given up.

    Attributes:
        home: Where runs belong that come from here.
    """

    def __init__(
        self,
        relay: str,
        inbox: Inbox,
        owner: ScopeOwner | None,
        note_abandoned: Callable[[TaskRun], object],
    ) -> None:
        self.home: Final = Home(relay, None, LogLevels.of_this_process())
        self._inbox: Final = inbox
        self._reports: Final = None if owner is None else ReportTaker(owner)
        self._note_abandoned: Final = note_abandoned

    def hear(self, words: LastWords, then: Callable[[], object]) -> None:
        """Read the letters, when those that came before have been read; in the same thread."""
        letters, others_are_on_their_way = words

        def read() -> None:
            if letters is not None:
                self.read(cast("Sequence[Letter]", pickle.loads(letters)))
            then()

        if others_are_on_their_way:
            self._inbox.after_all(read)
        else:
            read()

    def read(self, letters: Sequence[Letter]) -> None:
        """Hand records to the handlers of this process, and reports to the flow's accounts."""
        for letter in letters:
            try:
                self._read(letter)
            except Exception:  # Handlers and filters of logs are foreign code.
                with suppress(Exception):  # They may raise once more.
                    _logger.exception("What a run on a Ray worker said could not be noted")

    def _read(self, letter: Letter) -> None:
        match letter:
            case ("log", dict(record)):
                deliver_record(cast("PackedRecord", record))
            case ("abandoned", TaskRun() as abandoned):
                self._note_abandoned(abandoned)
            case _:
                if self._reports is not None:
                    self._reports(letter)
