"""Clients of clusters that are there already."""

from __future__ import annotations

import importlib
import logging
import socket
import ssl
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol, cast, final

import anyio

from anabranch.futures.runner import AnyFunction, EventLoop, LoopThread, describe, running_loop
from anabranch.runners.dask._native import Client, Distributed, Loop
from anabranch.runners.dask._quiet import quiet_about_giving_up, quiet_about_versions

if TYPE_CHECKING:
    from collections.abc import Callable

_logger = logging.getLogger("anabranch.task_runner.dask")

_TLS: Final = (
    "give its tls:// address, and the same security as the scheduler has, as in "
    "DaskTaskRunner(address='tls://...', client_kwargs={'security': "
    "distributed.Security(tls_ca_file=..., tls_client_cert=..., tls_client_key=..., "
    "require_encryption=True)})"
)


@final
class _MuteError(OSError):
    """Something takes connections and says nothing."""


@final
class _NoCertificateError(ConnectionError):
    """There is nothing to speak TLS with."""


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
        ConnectionError: No scheduler answers there, or none that speaks as it was told to.
    """
    # A loop of ours: a client that cannot connect would leave its own one running.
    with _loop() as loop:
        try:
            _refuse_bad(address, connect_timeout(client_kwargs), client_kwargs)
            with quiet_about_versions():
                client = distributed.Client(address, **{"loop": loop, **client_kwargs})
        except _NoCertificateError as error:
            raise ConnectionError(str(error)) from None
        except OSError as error:
            seconds = connect_timeout(client_kwargs)
            raise ConnectionError(
                f"No Dask scheduler answers at {address} within {seconds:g} s. "
                f"{_remedy(address, error)}"
            ) from error
        try:
            yield client
        finally:
            close_client(client)


def _remedy(address: str, error: OSError) -> str:
    start = "tart one with `dask scheduler`, or leave out `address` to have a local cluster made"
    if address.startswith("tls://"):
        return (
            "If it does not want TLS, give its tcp:// address; if it does, check its certificate "
            f"and the one in client_kwargs={{'security': ...}} ({describe(_root(error))}). S{start}"
        )
    if isinstance(error, _MuteError):
        return (
            "Something listens there and says nothing. If that is a scheduler which wants TLS, "
            f"{_TLS}. Else s{start}"
        )
    return f"S{start}"


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def check_running(what: str, status: object, advice: str) -> None:
    """Raise if a client or cluster that was given is not in use (any more).

    Args:
        what: What it is.
        status: Its status, a word or a member of an enumeration.
        advice: What to do about it.

    Raises:
        ConnectionError: It is not.
    """
    name = getattr(status, "name", status)
    if name != "running":
        raise ConnectionError(
            f"The Dask {what} given to DaskTaskRunner is not running: its status is {name!r}. "
            f"{advice}"
        )


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


class _Security(Protocol):
    def get_connection_args(self, role: str) -> Mapping[str, ssl.SSLContext | None]: ...


class _SecurityModule(Protocol):
    Security: AnyFunction[_Security]


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


def _refuse_bad(address: str, timeout: float, client_kwargs: Mapping[str, object]) -> None:
    """Raise if an address is none, or something takes connections there and then says nothing.

    A client that is given the one is not closed properly; for the other it would wait without
    limit. A scheduler speaks first, unless it wants TLS.
    """
    comm = cast("_Comm", importlib.import_module("distributed.comm"))
    registry = cast("_Registry", importlib.import_module("distributed.comm.registry"))
    scheme, _ = comm.parse_address(address)
    registry.get_backend(scheme)
    context: ssl.SSLContext | None = None
    if scheme == "tls":
        security = _security(client_kwargs.get("security"))
        if security is None:
            return  # It is made later.
        context = security.get_connection_args("client").get("ssl_context")
        if context is None:
            raise _NoCertificateError(
                f"The Dask scheduler at {address} wants TLS, and no certificate is given for it: "
                f"{_TLS}"
            )
    elif scheme != "tcp":
        return
    try:
        connection = socket.create_connection(comm.get_address_host_port(address), timeout)
    except OSError:
        return  # It may be about to start: the client keeps trying.
    with connection:
        try:
            if context is None:
                connection.recv(1)
            else:
                with context.wrap_socket(connection) as encrypted:
                    encrypted.recv(1)
        except TimeoutError as error:
            raise _MuteError from error


def _security(security: object) -> _Security | None:
    """Return what Dask makes of the argument; None if it depends on where the client connects."""
    config = cast("_DaskConfig", importlib.import_module("dask.config"))
    make = cast("_SecurityModule", importlib.import_module("distributed.security")).Security
    if isinstance(security, Mapping):
        return make(**security)
    if security is True or (not security and config.get("distributed.client.security-loader")):
        return None
    return cast("_Security", security) if security else make()


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
