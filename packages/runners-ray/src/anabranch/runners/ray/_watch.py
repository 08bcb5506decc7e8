"""Noticing at once that a server is gone, without asking it anything."""

from __future__ import annotations

import errno
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, final

import attrs

from anabranch.futures.runner import start_thread

#: How long a server may take to accept a connection, in seconds, and how often it is tried.
_CONNECTING: Final = 2.0
_PAUSE: Final = 0.2

# A machine that is switched off closes nothing. It is asked for a sign of life after some quiet,
# and is gone when it has given none to this many questions. In seconds, where these are.
_KEEPALIVE: Final[Mapping[str, int]] = {
    "TCP_KEEPIDLE": 10,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 4,
}

#: What says something of this process, and nothing of the server.
_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_logger = logging.getLogger("anabranch.task_runner.ray")


@final
@attrs.frozen
class Server:
    """A server that must not end.

    Attributes:
        name: What it is, for messages.
        address: Where it listens: the host and the port.
        patience: How long it may be gone before it counts as lost, in seconds.
    """

    name: str
    address: tuple[str, int]
    patience: float = 0.0

    def __str__(self) -> str:
        host, port = self.address
        return f"{self.name} at {host}:{port}"


@final
class Watch:
    """Holds a connection open to each of some servers, to see it end when its server does.

    The system closes the connections of a process that has been killed, so it is told at once,
    whatever the server's own protocol is. A server that merely has no time for idle connections
    accepts another one.

    Args:
        servers: Which ones; the next is asked for when there is a connection to the one before.
            One that cannot be reached this way is not watched.
        lost: Called once, in a thread of the watch, with the server that is gone.

    Raises:
        ConnectionRefusedError: A server is gone already.
    """

    def __init__(self, servers: Iterable[Server], lost: Callable[[Server], object]) -> None:
        self._lost: Final = lost
        self._loss: Server | None = None
        self._selector: Final = selectors.DefaultSelector()
        # Clear while a server may be gone.
        self._is_sure: Final = threading.Event()
        self._is_sure.set()
        self._is_closing: Final = threading.Event()
        self._closing, self._closed = socket.socketpair()
        self._selector.register(self._closed, selectors.EVENT_READ)
        self._thread: Final = threading.Thread(
            target=self._work, name="anabranch-ray-watch", daemon=True
        )
        try:
            for server in servers:
                try:
                    self._connect(server)
                except ConnectionRefusedError:
                    raise
                except OSError:
                    _logger.debug("Cannot watch %s", server, exc_info=True)
            start_thread(self._thread)
        except BaseException:
            self._release()
            self._closing.close()
            raise

    def loss(self) -> Server | None:
        """Return the server that is gone; waits, as long as that server's patience, if in doubt."""
        if not self._is_sure.is_set():
            self._is_sure.wait()
        return self._loss

    def close(self) -> None:
        """End the watch, and wait until what is called for a loss has returned."""
        self._is_closing.set()
        self._closing.close()
        self._thread.join()

    # ------------------------------------------------------------------ in the thread

    def _work(self) -> None:
        try:
            self._loss = self._wait_for_loss()
        finally:
            self._is_sure.set()
            self._release()
        if self._loss is not None:
            self._lost(self._loss)

    def _wait_for_loss(self) -> Server | None:
        while True:
            for key, _ in self._selector.select():
                if not isinstance(server := key.data, Server):
                    return None
                assert isinstance(key.fileobj, socket.socket)
                if _is_open(key.fileobj):
                    continue
                self._is_sure.clear()
                self._selector.unregister(key.fileobj)
                key.fileobj.close()
                if not self._reconnect(server):
                    return server
                self._is_sure.set()

    def _reconnect(self, server: Server) -> bool:
        deadline = time.monotonic() + server.patience
        while True:
            try:
                self._connect(server)
            except OSError as error:
                if error.errno not in _SHORTAGES and time.monotonic() >= deadline:
                    return False
            else:
                return True
            if self._is_closing.wait(_PAUSE):  # Nobody wants to know any more.
                return True

    def _connect(self, server: Server) -> None:
        connection = socket.create_connection(server.address, _CONNECTING)
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if (option := getattr(socket, name, None)) is not None:  # Not on every system.
                connection.setsockopt(socket.IPPROTO_TCP, option, value)
        self._selector.register(connection, selectors.EVENT_READ, server)

    def _release(self) -> None:
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()


def _is_open(connection: socket.socket) -> bool:
    """Take what has come in, which is of no interest, and return whether more may come."""
    try:
        return bool(connection.recv(65536))
    except BlockingIOError:
        return True
    except OSError:  # There was no sign of life, or it was ended in some other way.
        return False
