"""Tests of what is shared by many runs and many threads: counts, locks and ids."""

from __future__ import annotations

import os
import pickle
import threading

import pytest

from anabranch.futures import Completed, Future, TaskRun
from anabranch.futures._locks import SharedLocks
from anabranch.futures.runner import AtomicCount, new_run_id, new_run_serial

RUN = TaskRun("1", "run", "task")


class Book:
    """Keeps runs until they have ended, and writes down how often it is told of that."""

    def __init__(self) -> None:
        self.released: list[Future[object]] = []

    def release(self, run: Future[object]) -> None:
        """Take note of an end."""
        self.released.append(run)


class BrokenBook(Book):
    """Fails when it is told."""

    def release(self, run: Future[object]) -> None:
        raise ValueError("the book is full")


def test_a_count_tells_how_often_one_was_added() -> None:
    """To look at a count does not change it."""
    count = AtomicCount()
    assert int(count) == 0
    for _ in range(3):
        count.add()
    assert (int(count), int(count)) == (3, 3)
    count.add()
    assert int(count) == 4


def test_threads_count_together() -> None:
    """What several threads add at once is all counted, while others look."""
    count = AtomicCount()

    def add() -> None:
        for _ in range(1_000):
            count.add()
            int(count)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert int(count) == 4_000


def test_shared_locks_are_few_and_reentrant() -> None:
    """Any number of things share a few locks, and one thread may hold the same one twice."""
    shared = SharedLocks()
    locks = [shared.take() for _ in range(1_000)]
    assert 1 < len({id(lock) for lock in locks}) < 100
    with locks[0], next(lock for lock in locks[1:] if lock is locks[0]):
        pass


def test_a_run_has_one_id_and_name_however_it_was_given() -> None:
    """A run made of a serial number equals its pickled copy, which knows the number no more."""
    run = TaskRun(new_run_serial(), "fetch-e7d3799e", "fetch", frozenset({"io"}), 3)
    assert (len(run.id), run.name) == (32, "fetch-e7d3799e-3")
    copy = pickle.loads(pickle.dumps(run))
    assert copy == run
    assert hash(copy) == hash(run)
    assert repr(copy) == repr(run)
    assert run == TaskRun(run.id, run.name, "fetch", frozenset({"io"}))
    assert run != TaskRun(new_run_serial(), "fetch-e7d3799e", "fetch", frozenset({"io"}), 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_ids_stay_unique_and_the_same_beyond_a_fork() -> None:
    """A forked process makes ids of its own, and gives the runs from before the ids they had."""
    before = TaskRun(new_run_serial(), "run", "task")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, f"{before.id} {new_run_id()}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    same, new = os.read(reader, 100).decode().split()
    os.close(reader)
    os.close(writer)
    assert same == before.id
    assert new[:20] != before.id[:20]


def test_who_keeps_a_run_is_told_of_its_end_before_others() -> None:
    """Keepers hear of the end of a run first, and once."""
    future: Future[int] = Future(RUN)
    book = Book()
    heard: list[int] = []
    future.add_done_callback(lambda _: heard.append(len(book.released)))
    future.keep((book,))
    assert book.released == []
    future.set_final(Completed(1))
    future.set_final(Completed(2))
    assert book.released == [future]
    assert heard == [1]


def test_who_comes_to_keep_an_ended_run_is_told_at_once() -> None:
    """A run that has ended already is released to its keeper."""
    future: Future[int] = Future(RUN)
    future.set_final(Completed(1))
    book = Book()
    future.keep((book,))
    assert book.released == [future]


def test_a_keeper_that_fails_is_in_nobodys_way(caplog: pytest.LogCaptureFixture) -> None:
    """What a keeper raises is logged, and whoever waits for the run is woken all the same."""
    future: Future[int] = Future(RUN)
    heard: list[object] = []
    future.keep((BrokenBook(),))
    future.add_done_callback(heard.append)
    assert future.set_final(Completed(1))
    assert heard == [future]
    assert "the book is full" in caplog.text
