"""What a run says gets home, in its order and before its end."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Sequence

import pytest

from anabranch.runners.ray import _letters
from anabranch.runners.ray._letters import Mailbox, letter_thread
from anabranch.runners.ray._parcel import SILENCE, LastWords, Letter


class Home:
    """Where letters are posted to."""

    def __init__(self) -> None:
        self.come: list[Letter] = []

    def post(self, letters: Sequence[Letter]) -> None:
        self.come.extend(letters)

    def hear(self, words: LastWords) -> None:
        """Take what comes with the end of the run."""
        pickled, _ = words
        if pickled is not None:
            self.come.extend(pickle.loads(pickled))


def test_what_is_over_soon_says_all_at_its_end() -> None:
    """Of an mailbox that was never open nothing is posted; who says nothing costs nothing."""
    home = Home()
    mailbox = Mailbox(home.post)
    assert mailbox.close() == SILENCE
    mailbox.add(("log", 1))
    pickled, others = mailbox.close()
    assert (home.come, others) == ([], False)
    assert pickle.loads(pickled or b"") == [("log", 1)]


def test_what_is_posted_is_waited_for() -> None:
    """The end tells that letters are on their way, be they of the run or of one below it."""
    home = Home()
    mailbox = Mailbox(home.post)
    mailbox.open()
    mailbox.add(("moments", 1))
    letter_thread.call(mailbox.post)
    assert mailbox.close() == SILENCE
    mailbox.add(("log", 1))
    letter_thread.call(mailbox.post)
    assert mailbox.close() == (None, True)
    below = Mailbox(home.post)
    below.note_posted()
    assert below.close() == (None, True)


def test_much_to_say_does_not_burden_the_end() -> None:
    """Letters that are large are posted at the end, also if the mailbox was never open."""
    home = Home()
    mailbox = Mailbox(home.post)
    mailbox.add(("log", "x" * 20_000))
    assert mailbox.close() == (None, True)
    assert home.come == [("log", "x" * 20_000)]


def test_the_end_comes_after_all_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters that were about to be posted when the run ended come with its end, not after it."""
    monkeypatch.setattr(_letters, "_PAUSE", 60.0)  # This test says when they are posted.
    home = Home()
    is_on_its_way, arrives, is_over = threading.Event(), threading.Event(), threading.Event()
    ways = iter([arrives, is_over])

    def post(letters: Sequence[Letter]) -> None:
        is_on_its_way.set()
        next(ways).wait()
        home.post(letters)

    def be_late() -> None:
        while not letter_thread._queue.qsize():  # Until the end waits for the first letter.
            pass
        letter_thread.call_soon(mailbox.post)
        arrives.set()

    mailbox = Mailbox(post)
    mailbox.open()
    mailbox.add(("log", 1))
    letter_thread.call_soon(mailbox.post)
    is_on_its_way.wait()
    mailbox.add(("log", 2))
    late = threading.Thread(target=be_late)
    late.start()
    try:
        home.hear(mailbox.close())
        assert home.come == [("log", 1), ("log", 2)]
    finally:
        is_over.set()
        late.join()
