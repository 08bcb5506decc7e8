"""Watching servers by a connection that is held open, and giving up what is asked of lost ones."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NoReturn

import pytest

from anabranch.runners.ray._questions import InstanceLostError, Questions
from anabranch.runners.ray._watch import Server, Watch

pytestmark = pytest.mark.timeout(30)


class Losses:
    """What a watch has told of."""

    def __init__(self) -> None:
        self._told: queue.SimpleQueue[Server] = queue.SimpleQueue()

    def note(self, server: Server) -> None:
        """Take note of a loss."""
        self._told.put(server)

    def next(self) -> Server:
        """Wait for a loss."""
        return self._told.get(timeout=20)

    def none(self) -> bool:
        """Whether there was no loss but those that were waited for."""
        return self._told.empty()


def listener(port: int = 0) -> socket.socket:
    """Return a socket that accepts connections."""
    return socket.create_server(("127.0.0.1", port))


def server_at(listening: socket.socket, patience: float = 0.0) -> Server:
    """Return what a watch is told about a listening socket."""
    return Server("test server", ("127.0.0.1", listening.getsockname()[1]), patience)


@contextmanager
def watch(server: Server, losses: Losses) -> Iterator[Watch]:
    """Watch a server for the time of a block."""
    watch = Watch([server], losses.note)
    try:
        yield watch
    finally:
        watch.close()


def test_ray_watch_tells_of_a_server_that_is_gone() -> None:
    """When a server's connections end and it accepts none any more, the watch says so, once."""
    losses = Losses()
    listening = listener()
    server = server_at(listening)
    with watch(server, losses) as watching:
        held, _ = listening.accept()
        assert watching.loss() is None
        listening.close()
        held.close()
        assert losses.next() == server
        assert watching.loss() == server
    assert losses.none()
    assert str(server).startswith("test server at 127.0.0.1:")


def test_ray_watch_bears_with_servers_that_close_what_is_idle() -> None:
    """A server that ends an idle connection, or says something on it, is not lost."""
    losses = Losses()
    with listener() as listening, watch(server_at(listening), losses) as watching:
        for _ in range(3):
            held, _ = listening.accept()
            held.sendall(b"settings of some protocol")
            held.close()
        listening.accept()[0].close()
        assert watching.loss() is None
    assert losses.none()


def test_ray_watch_has_patience_with_servers_that_come_back() -> None:
    """While a server may come back it is in doubt whether it is lost; who asks then waits."""
    losses = Losses()
    listening = listener()
    server = server_at(listening, patience=1000.0)
    with watch(server, losses) as watching, ThreadPoolExecutor() as pool:
        held, _ = listening.accept()
        listening.close()
        held.close()
        while watching._is_sure.is_set():
            threading.Event().wait(0.001)
        asked = pool.submit(watching.loss)
        assert not asked.done()
        with listener(server.address[1]) as again:
            held, _ = again.accept()
            with held:
                assert asked.result(20) is None
    assert losses.none()


def test_ray_watch_is_closed_while_it_is_in_doubt() -> None:
    """Closing a watch does not wait for a server that may come back; and that is no loss."""
    losses = Losses()
    listening = listener()
    with watch(server_at(listening, patience=1000.0), losses) as watching:
        held, _ = listening.accept()
        listening.close()
        held.close()
        while watching._is_sure.is_set():
            threading.Event().wait(0.001)
    assert watching.loss() is None
    assert losses.none()
    watching.close()  # Once more does no harm.


def test_ray_watch_refuses_what_is_gone_already() -> None:
    """A server that refuses the first connection is an error, and leaves no thread."""
    listening = listener()
    gone = server_at(listening)
    listening.close()
    before = threading.active_count()
    with pytest.raises(ConnectionRefusedError):
        Watch([gone], Losses().note)
    assert threading.active_count() == before


def test_ray_watch_lets_be_what_cannot_be_reached() -> None:
    """A server that only others can reach is not watched, and is not lost."""
    losses = Losses()
    with watch(Server("hidden", ("host.invalid", 1)), losses) as watching:
        assert watching.loss() is None
    assert losses.none()


def test_ray_questions_are_answered_or_given_up() -> None:
    """Who asks gets the answer or the error; nobody waits for an instance that is lost."""
    questions = Questions()
    never = threading.Event()
    asked = threading.Event()

    def fail() -> NoReturn:
        raise LookupError("asked")

    def hang() -> None:
        asked.set()
        never.wait()

    with ThreadPoolExecutor() as pool:
        assert questions.ask(lambda: 5) == 5
        with pytest.raises(LookupError, match="asked"):
            questions.ask(fail)
        waiting = pool.submit(questions.ask, hang)
        asked.wait()
        questions.give_up("it is lost")
        with pytest.raises(InstanceLostError, match="it is lost"):
            waiting.result(20)
        with pytest.raises(InstanceLostError, match="it is lost"):
            questions.ask(lambda: 6)
    assert not questions.close(0), "its thread still asks"
    never.set()
    assert questions.close(20)
