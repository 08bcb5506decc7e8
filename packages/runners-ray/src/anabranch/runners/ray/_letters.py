"""What a run on a worker says: letters while it goes on, and last words at its end."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, final

from anabranch.futures.runner import SYSTEM_CLOCK, SerialThread
from anabranch.runners.ray._parcel import SILENCE, LastWords, Letter

#: How long letters are collected before they are posted, in seconds.
_PAUSE: Final = 0.02

#: How many bytes of letters may come along with the end of a run, which is handed down to what
#: depends on it if it has failed.
_MAX_SIZE: Final = 10_000

#: Where all that runs here say while they go on is said, one thing after the other.
letter_thread: Final = SerialThread("anabranch-ray-letters")


@final
class Mailbox:
    """Collects the letters of a run, and posts them from when it is open.

    Until then they wait for the run's end: most runs are over soon, and their ends tell all.

    Args:
        post: Sends letters, together, and returns when they are safe; called in the thread of
            letters.
    """

    def __init__(self, post: Callable[[Sequence[Letter]], object]) -> None:
        self._send: Final = post
        # Without a lock: the garbage collector may run code that logs, and comes here again.
        self._letters: Final[deque[Letter]] = deque()
        self._is_open = self._is_due = self._has_posted = False

    def add(self, letter: Letter) -> None:
        """Have a letter sent some time before the run's end.

        Args:
            letter: Made of what can be imported everywhere.
        """
        self._letters.append(letter)
        if self._is_open and not self._is_due:
            self._is_due = True
            SYSTEM_CLOCK.call_later(_PAUSE, partial(letter_thread.call_soon, self.post))

    def open(self) -> None:
        """Post letters from now on; not after `close`."""
        self._is_open = True

    def post(self, *letters_besides: Letter) -> None:
        """Send what has been collected; in the thread of letters, once the mailbox is open.

        Args:
            letters_besides: Are sent after that.
        """
        letters = [*self._taken(), *letters_besides]
        if letters:
            if any(letter[0] != "moments" for letter in letters):
                self._has_posted = True
            self._send(letters)

    def note_posted(self) -> None:
        """Take note that letters which are to arrive before the run's end are on their way."""
        self._has_posted = True

    def close(self) -> LastWords:
        """Return what is left to say at the run's end; all else has been sent."""
        # In its thread, or a part of them might be posted right now, and come too late.
        letters = letter_thread.call(self._taken) if self._is_open else self._taken()
        if not letters:
            return (None, True) if self._has_posted else SILENCE
        pickled = pickle.dumps(letters)
        if len(pickled) <= _MAX_SIZE:
            return pickled, self._has_posted
        letter_thread.call(partial(self._send, letters))
        return None, True

    def _taken(self) -> list[Letter]:
        self._is_due = False
        letters: list[Letter] = []
        with suppress(IndexError):
            while True:
                letters.append(self._letters.popleft())
        return letters
