"""Clients of clusters that are there already."""

from __future__ import annotations

import importlib
import logging
import socket
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, cast, final

import anyio

from anabranch.futures.runner import EventLoop, LoopThread, describe, running_loop
from anabranch.runners.dask._native import Client, Distributed, Loop
from anabranch.runners.dask._quiet import quiet_about_giving_up

if TYPE_CHECKING:
    from collections.abc import Callable

_logger = logging.getLogger("anabranch.task_runner.dask")


@contextmanager
def connected_client(
    distributed: Distributed, address: str, client_kwargs: Mapping[str, object]
) -> Generator[Client]:
    """Connect to a scheduler, for as long as the context lasts.

    Args:
        distributed: The module.
        address: The scheduler's.
        client_kwargs: What the client is called with besides.

    Raises:
        ConnectionError: No scheduler answers there.
    """
    # A loop of ours: a client that cannot connect would leave its own one running.
    with _loop() as loop:
        try:
            _refuse_bad(address, connect_timeout(client_kwargs))
            client = distributed.Client(address, **{"loop": loop, **client_kwargs})
        except OSError as error:
            seconds = connect_timeout(client_kwargs)
            raise ConnectionError(
                f"No Dask scheduler answers at {address} within {seconds:g} s. "
                "Start one with `dask scheduler`, or leave out `address` to have a local cluster "
                "made"
            ) from error
        try:
            yield client
        finally:
            close_client(client)


def close_client(client: Client) -> None:
    """Disconnect a client, if need be without the scheduler's consent."""
    try:
        with quiet_about_giving_up():
            client.close()
    except (TimeoutError, OSError) as error:
        _logger.debug("The Dask client did not close in time: %s", describe(error))


class _DaskConfig(Protocol):
    def get(self, key: str) -> object: ...


class _DaskUtils(Protocol):
    parse_timedelta: Callable[[object], float]


class _Comm(Protocol):
    parse_address: Callable[[str], tuple[str, str]]
    get_address_host_port: Callable[[str], tuple[str, int]]


class _Registry(Protocol):
    get_backend: Callable[[str], object]


def connect_timeout(client_kwargs: Mapping[str, object]) -> float:
    """Return how long a client of these arguments tries to connect, in seconds."""
    config = cast("_DaskConfig", importlib.import_module("dask.config"))
    utils = cast("_DaskUtils", importlib.import_module("dask.utils"))
    default = config.get("distributed.comm.timeouts.connect")
    return utils.parse_timedelta(client_kwargs.get("timeout", default))


def _refuse_bad(address: str, timeout: float) -> None:
    """Raise if an address is none, or something takes connections there and then says nothing.

    A client that is given the one is not closed properly; for the other it would wait without
    limit. A scheduler speaks first.
    """
    comm = cast("_Comm", importlib.import_module("distributed.comm"))
    registry = cast("_Registry", importlib.import_module("distributed.comm.registry"))
    scheme, _ = comm.parse_address(address)
    registry.get_backend(scheme)
    if scheme != "tcp":
        return
    try:
        connection = socket.create_connection(comm.get_address_host_port(address), timeout)
    except OSError:
        return  # It may be about to start: the client keeps trying.
    with connection:
        connection.recv(1)


@contextmanager
def _loop() -> Generator[Loop]:
    thread = _ClientLoop()
    thread.start()
    try:
        yield thread.loop
    finally:
        thread.stop()


@final
class _ClientLoop:
    """The event loop for one client, in a thread of its own.

    Attributes:
        loop: The loop, as Dask likes it.
    """

    loop: Loop
    _event_loop: EventLoop
    _stopped: anyio.Event

    def __init__(self) -> None:
        self._thread = LoopThread(self._main, backend="asyncio", name="anabranch-dask-client")
        self.start = self._thread.start

    def stop(self) -> None:
        self._event_loop.call_soon(self._stopped.set)
        self._thread.join()

    async def _main(self, ready: Callable[[], None]) -> None:
        self._stopped = anyio.Event()
        self._event_loop = cast("EventLoop", running_loop())
        self.loop = importlib.import_module("tornado.ioloop").IOLoop.current()
        ready()
        await self._stopped.wait()
