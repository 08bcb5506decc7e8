"""What this process is connected to: one instance of Ray, shared by the runners that use it."""

from __future__ import annotations

import logging
import pickle
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, cast, final
from urllib.parse import urlsplit
from weakref import WeakSet, WeakValueDictionary

import ray

from anabranch.futures.runner import SerialThread
from anabranch.runners.ray import _native
from anabranch.runners.ray._link import Link
from anabranch.runners.ray._origin import FlowOrigin
from anabranch.runners.ray._output import wait_for_output
from anabranch.runners.ray._questions import InstanceLostError, Questions
from anabranch.runners.ray._relay import Inbox, KeptRelay, end_relay, start_relay
from anabranch.runners.ray._startup import AUTO, LOCAL, Target
from anabranch.runners.ray._watch import Server, Watch

if TYPE_CHECKING:
    from anabranch.futures import TaskRun
    from anabranch.futures.runner import ScopeOwner
    from anabranch.runners.ray._home import Home
    from anabranch.runners.ray._native import Exported, Ref
    from anabranch.runners.ray._parcel import Letter
    from anabranch.runners.ray._relay import RelayHandle
    from anabranch.runners.ray._run import RayRun

#: How long our own threads are waited for at the end, in seconds; and those that may wait for an
#: instance that is lost.
_PATIENCE: Final = 2.0
_PATIENCE_LOST: Final = 0.3

#: How long somebody else's instance may be gone before it is lost: it may be made to come back.
_PATIENCE_ELSEWHERE: Final = 10.0

_logger = logging.getLogger("anabranch.task_runner.ray")

T = TypeVar("T")


@final
class Connection(Link):
    """The instance of Ray that this process uses, as long as any runner does.

    Args:
        target: What to start or connect to; None if the user has done that.

    Attributes:
        target: The same; for a user's own instance, its address.
        users: The leases of those who use it; changed by those who hold the lock of leases.
        runs: The runs that were submitted to it here, by their ids.
        relay_name: What workers call the relay of this process.
        inbox: What workers have left there.

    Raises:
        RuntimeError: What this process is connected to is gone.
        InstanceLostError: It has been lost just now.
    """

    def __init__(self, target: Target | None) -> None:
        super().__init__()
        self.users: Final[set[Lease]] = set()
        self.runs: Final[WeakValueDictionary[str, RayRun[object]]] = WeakValueDictionary()
        self.inbox: Final = Inbox(self.completions, self._read)
        # Ray's processes end with the thread that started them, and started in the main thread
        # it would take over SIGTERM: so they get a thread that lives for as long as they do.
        self._owner: Final = SerialThread("anabranch-ray-owner") if target is not None else None
        self._questions: Final = Questions()
        self._known: Final[WeakSet[Exported]] = WeakSet()
        self._is_closed = False
        self._kept_door: Ref | None = None
        self.dashboard_url = ""
        if self._owner is not None and target is not None:
            self.dashboard_url = _start(target, self._owner)
        self._session: Final = _native.session_id()
        self.target: Final = target or Target(self._session[0], {})
        self.is_local = self.target.is_local
        self._is_client = _native.is_client()
        # Ray itself is slow to notice, asks what is gone and waits for the answer, or ends this
        # process.
        try:
            self._watch: Final = Watch(self._servers(), self._end_lost)
        except ConnectionRefusedError as error:
            if self._owner is not None:
                self._owner.call(_native.shut_down)
                self._owner.close()
            raise RuntimeError(
                f"The Ray instance at {self._session[0]} that this process is connected to is "
                f"gone ({error}). Call ray.shutdown() first, so that the runner connects anew"
            ) from error
        try:
            # Made now, because later nobody might answer.
            self._kept_door = ray.put(None)
            self.cpus = self.ask(_native.cpus)
            kept = KeptRelay.take(self._session) if self._owner is None else None
            self.relay_name, self._relay = kept or self.ask(start_relay)
        except BaseException:  # Nobody else would end what has been begun.
            self._watch.close()
            if self._owner is not None and self.find_loss() is None:
                self._owner.call(_native.shut_down)
                self._owner.close()
            raise
        self.inbox.open(self._relay)

    def is_open(self) -> bool:
        """Whether this process is still connected, and to the same instance."""
        return not self._is_closed and self.find_loss() is None and self._is_connected()

    def _is_connected(self) -> bool:
        return ray.is_initialized() and self._session == _native.session_id()

    def has_ended(self) -> bool:
        """Whether the instance is lost, or is not used any more."""
        return self._kept_door is None

    def _door(self) -> Ref | None:
        return self._kept_door

    def refuse(self, target: Target) -> None:
        """Refuse another address than the one that this process is connected to.

        Raises:
            RuntimeError: It is certain that the address names another instance.
        """
        wanted = target.address
        if wanted in (LOCAL, AUTO, self.target.address) or self._is_client or "://" in wanted:
            return
        if _resolved(wanted) != _resolved(self._session[0]):
            raise RuntimeError(
                f"RayTaskRunner(address={wanted!r}): this process is connected to the Ray instance "
                f"at {self._session[0]} already, and Ray allows one at a time. Leave the runner or "
                "call ray.shutdown() first, or leave out the address to use that instance"
            )

    # ------------------------------------------------------------------ losing the instance

    def _servers(self) -> Iterator[Server]:
        patience = 0.0 if self.target.is_local else _PATIENCE_ELSEWHERE
        if self._is_client:
            if (address := _native.client_address()) is not None:
                yield _server("server for clients", address, patience)
            return
        yield _server("control service (gcs_server)", self._session[0], patience)
        # Known to that service, which is there, or this would not go on. It never comes back.
        if (node := _native.own_node()) is not None:
            yield Server("node manager (raylet)", node)

    def find_loss(self) -> str | None:
        """Return what has become of the instance if it is lost; waits while that is in doubt.

        To be asked before Ray is asked anything that it might never answer.
        """
        server = self._watch.loss()
        return None if server is None else self._describe_loss(server)

    def _describe_loss(self, server: Server) -> str:
        return f"The Ray instance at {self._session[0]} is lost: its {server} is gone"

    def ask(self, function: Callable[[], T]) -> T:
        """Call a function that asks Ray for something, and return or raise what it does.

        Raises:
            InstanceLostError: There will be no answer.
        """
        return self._questions.ask(function)

    def _end_lost(self, server: Server) -> None:
        loss = self._describe_loss(server)
        self._kept_door = None
        _logger.error("%s", loss)
        self._questions.give_up(loss)
        self.inbox.close()
        try:
            for user in list(self.users):
                user.lost(loss)
        finally:
            if self._owner is not None:
                # With it goes what is left of an instance of our own, where the system sees to it.
                self._owner.close()
                # Else Ray would end this process when it has looked for the instance in vain.
                if ray.is_initialized() and (self._is_client or self._is_connected()):
                    _native.shut_down()

    def wait_until_lost(self) -> None:
        """Wait until what a loss entails is over: only then can Ray connect anew."""
        self._watch.close()

    # ------------------------------------------------------------------ values and runs

    def submit(self, exported: Exported, arguments: Sequence[object]) -> Sequence[Ref]:
        """Have a function called in Ray.

        Raises:
            InstanceLostError: There is no instance to do it.
            Exception: Something cannot be pickled.
        """
        if (loss := self.find_loss()) is not None:
            raise InstanceLostError(loss)
        if exported in self._known:
            return exported.remote(*arguments)
        # At first Ray hands the function to its control service, and waits until that has it.
        refs = self.ask(partial(exported.remote, *arguments))
        self._known.add(exported)
        return refs

    # ------------------------------------------------------------------ what workers say

    def remember(self, run: RayRun[object]) -> None:
        """Take note of a run, of which something may be heard while it goes on."""
        self.runs[run.task_run.id] = run

    def relay_of(self, home: Home) -> RelayHandle:
        """Return the relay of this process."""
        del home
        return self._relay

    def origin(
        self, owner: ScopeOwner | None, note_abandoned: Callable[[TaskRun], object]
    ) -> FlowOrigin:
        """Return what this process is to the runs that come from here; see `FlowOrigin`."""
        return FlowOrigin(self.relay_name, self.inbox, owner, note_abandoned)

    def _read(self, posted: bytes) -> None:
        run_id, letters = cast("tuple[str, list[Letter]]", pickle.loads(posted))
        run = self.runs.get(run_id)
        if run is not None:
            run.read(letters)

    # ------------------------------------------------------------------ the end

    def close(self, logger: logging.Logger) -> None:
        """End what we started; for the last user. All runs have ended, or been given up."""
        self._watch.close()
        self.inbox.close()
        patience = _PATIENCE if self.find_loss() is None else _PATIENCE_LOST
        for thread in (self._questions, self.helper, self.completions):
            if not thread.close(patience):
                logger.warning("Abandoned a thread of the Ray runner that does not end")
        self._kept_door = None
        if self._owner is None and self.is_open():
            KeptRelay.keep(self._session, self.relay_name, self._relay, self._is_connected)
        elif self.is_open():
            end_relay(self._relay)
        if self._owner is None:
            return
        is_open = self.is_open()
        self._is_closed = True
        if is_open:
            self._owner.call(self._shut_down)
        self._owner.close()

    def _shut_down(self) -> None:
        try:
            if self.target.is_local:
                wait_for_output()
        finally:
            _native.shut_down()


@final
class Lease:
    """One runner's use of the connection of this process.

    Args:
        target: Where the runner wants its tasks to run.
        logger: Where it logs.
        lost: Called with what has become of the instance, if it is lost meanwhile.
    """

    # Ray allows one connection in a process. The lock is held while Ray starts and ends, so that
    # those who come meanwhile find out which of the two it was.
    _lock = threading.Lock()
    _current: Connection | None = None

    def __init__(
        self, target: Target, logger: logging.Logger, lost: Callable[[str], object]
    ) -> None:
        self.lost: Final = lost
        self._target: Final = target
        self._logger: Final = logger
        self._connection: Connection | None = None
        self._is_over = False

    def open(self) -> Connection:
        """Start using a connection, making it if there is none.

        Raises:
            RuntimeError: There is one, to another address, or to what is gone.
            InstanceLostError: It has been lost just now.
        """
        with Lease._lock:
            if self._is_over:
                raise RuntimeError("The runner has ended before it was started")
            connection = Lease._current
            if connection is not None and connection.find_loss() is not None:
                connection.wait_until_lost()
            if connection is None or not connection.is_open():
                connection = self._make()
            else:
                connection.refuse(self._target)
                self._log_reuse(connection)
            Lease._current = self._connection = connection
            connection.users.add(self)
        nodes = len(connection.ask(_native.living_nodes))
        self._logger.info("Using Ray cluster with %d node%s", nodes, "" if nodes == 1 else "s")
        if connection.dashboard_url:
            self._logger.info("The Ray UI is available at %s", connection.dashboard_url)
        return connection

    def _make(self) -> Connection:
        if ray.is_initialized():
            connection = Connection(None)
            try:
                connection.refuse(self._target)
            except BaseException:
                connection.close(self._logger)  # Nobody else would end its watch.
                raise
            self._log_reuse(connection)
            return connection
        if self._target.is_local:
            self._logger.info("Creating a local Ray instance")
        else:
            self._logger.info("Connecting to an existing Ray instance at %s", self._target.address)
        return Connection(self._target)

    def _log_reuse(self, connection: Connection) -> None:
        self._logger.info("Using the Ray instance that this process is connected to already")
        unused = [
            name
            for name, value in self._target.init_kwargs.items()
            if connection.target.init_kwargs.get(name) != value
        ]
        if unused:
            self._logger.warning(
                "init_kwargs have no effect on an instance that is running: %s", ", ".join(unused)
            )

    def close(self) -> None:
        """Stop using the connection, and end it if nobody else uses it."""
        with Lease._lock:
            self._is_over = True
            connection, self._connection = self._connection, None
            if connection is None:
                return
            connection.users.remove(self)
            if not connection.users:
                if Lease._current is connection:
                    Lease._current = None
                connection.close(self._logger)


def _start(target: Target, owner: SerialThread) -> str:
    try:
        return owner.call(target.init)
    except BaseException:
        owner.call(ray.shutdown)  # What had been started when it failed.
        owner.close()
        raise


def _resolved(address: str) -> tuple[str, str]:
    """Return the IP address and the port of an address as ``ray.init`` takes it."""
    host, _, port = address.rpartition(":")
    if host in ("localhost", "127.0.0.1"):
        host = _native.own_ip_address()
    try:
        return socket.gethostbyname(host), port
    except OSError:
        return host, port


def _server(name: str, address: str, patience: float) -> Server:
    parts = urlsplit(f"//{address}")
    return Server(name, (parts.hostname or "", parts.port or 0), patience)
