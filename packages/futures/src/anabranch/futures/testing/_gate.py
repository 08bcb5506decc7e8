"""A gate that runs wait at until a test opens it, wherever they run."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Final, Self, final
from weakref import WeakSet

import attrs

#: How long a test waits for something that should happen at once, in seconds.
_PATIENCE: Final = 30.0


@final
@attrs.frozen
class Ticket:
    """What a run needs to wait at a gate; picklable.

    Attributes:
        port: The gate's port on this machine.
    """

    port: int

    def announce(self) -> None:
        """Announce this run at the gate, and go on."""
        with suppress(ConnectionError), socket.create_connection(("127.0.0.1", self.port)):
            pass

    def wait(self) -> None:
        """Announce this run at the gate, and wait until the gate is opened."""
        try:
            address = ("127.0.0.1", self.port)
            with socket.create_connection(address, timeout=_PATIENCE) as connection:
                # A gate that closes at this very moment may lose the connection without a word;
                # what is sent to nobody is answered.
                connection.sendall(b".")
                connection.recv(1)  # Nothing is sent: it returns when the gate is opened.
        except ConnectionError:
            pass  # Refused or reset: the gate has been opened and is gone.


@final
class Gate:
    """Holds runs back, so that a test decides when they go on; no sleeping, in any process.

    A run given the gate's `ticket` calls its ``wait``. The test waits for it to have come with
    `await_arrival`, and lets all go on with `open`, or by leaving the context.
    """

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(_PATIENCE)
        self._waiting: list[socket.socket] = []
        self._made_in: Final = threading.get_ident()
        with _gates_lock:
            _gates.add(self)

    @property
    def ticket(self) -> Ticket:
        """What a run needs to wait here."""
        return Ticket(self._server.getsockname()[1])

    def await_arrival(self) -> None:
        """Wait until one more run has come to the gate."""
        connection, _ = self._server.accept()
        self._waiting.append(connection)
        connection.settimeout(_PATIENCE)
        with suppress(ConnectionError):  # It has been stopped already.
            connection.recv(1)

    def await_departure(self) -> None:
        """Wait until a run that has come to the gate is gone from there: it has been stopped."""
        with suppress(ConnectionError):  # It went without a goodbye.
            self._waiting[-1].recv(1)  # Nothing more is sent: it returns when the run is gone.

    def open(self) -> None:
        """Let those waiting, and all who come later, go on."""
        for connection in self._waiting:
            with suppress(OSError):  # It ends what another thread is at with it.
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._waiting.clear()
        with suppress(OSError):  # It wakes a thread that waits for an arrival.
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()  # Those who have not been seen to arrive are let go as well.

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.open()


_gates: Final[WeakSet[Gate]] = WeakSet()
_gates_lock: Final = threading.Lock()


def open_gates_of(thread: threading.Thread) -> None:
    """Open the gates that were made in a thread, which does not get to it itself."""
    with _gates_lock:
        gates = list(_gates)
    for gate in gates:
        if gate._made_in == thread.ident:
            gate.open()
