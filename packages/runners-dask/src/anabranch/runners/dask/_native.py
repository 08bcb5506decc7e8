"""What this package uses of Dask's objects, and how Dask is imported.

The protocols stand in for Dask's own classes: those are not typed throughout, and naming them in
signatures would import them.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context
from typing import Literal, Protocol, cast

from anabranch.futures import MissingDependencyError
from anabranch.futures.runner import AnyFunction


class _FutureState(Protocol):
    exception: BaseException | None

    def retry(self) -> None:
        """Take note that the key is to be computed anew."""
        ...

    def cancel(self) -> None:
        """Take note that the key is not wanted any more; in the client's loop."""
        ...


class NativeFuture(Protocol):
    """A ``distributed.Future``."""

    key: str
    _state: _FutureState

    @property
    def status(self) -> Literal["pending", "cancelled", "finished", "lost", "error"] | None:
        """How the key is doing, as far as the client knows."""
        ...

    def done(self) -> bool:
        """Whether the key has ended, however it did."""
        ...

    def result(self, timeout: float | None = None) -> object:
        """Bring the value over, or raise what the key failed with."""
        ...

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the key failed with, if it did."""
        ...

    def release(self) -> None:
        """Let go of the key, and of the value if nobody else holds it."""
        ...


class Loop(Protocol):
    """The event loop of a client, in its own thread."""

    def add_callback(self, callback: AnyFunction[object], *args: object) -> None:
        """Have a function, which may be async, called in the loop; thread-safe."""
        ...


class _Scheduler(Protocol):
    address: str

    def set_metadata(self, *, keys: list[str], value: object) -> Awaitable[object]:
        """Keep something in the scheduler, under a path of names."""
        ...


class Client(Protocol):
    """A ``distributed.Client``."""

    id: str
    status: str
    generation: int
    connection_args: Mapping[str, object]

    @property
    def scheduler(self) -> _Scheduler:
        """The scheduler, to be asked something."""
        ...

    @property
    def loop(self) -> Loop:
        """The client's event loop."""
        ...

    @property
    def dashboard_link(self) -> str | None:
        """Where the dashboard is, if there is one."""
        ...

    def submit(
        self,
        function: AnyFunction[object],
        *args: object,
        key: str,
        pure: bool,
    ) -> NativeFuture:
        """Have a function called on a worker."""
        ...

    def map(
        self,
        function: AnyFunction[object],
        *values: Sequence[object],
        key: list[str],
        pure: bool,
    ) -> object:
        """Have a function called on workers, once for each value."""
        ...

    def run(
        self,
        function: AnyFunction[object],
        *args: object,
        workers: list[str] | None,
        on_error: str,
    ) -> Awaitable[object]:
        """Have a function called in worker processes, beside their tasks.

        It is to be awaited if called in the client's loop, as it is here.
        """
        ...

    def run_on_scheduler(
        self, function: AnyFunction[object], *args: object, **kwargs: object
    ) -> Awaitable[object]:
        """Have a function called in the scheduler's process.

        It is to be awaited if called in the client's loop, and gives what it returned elsewhere.
        """
        ...

    def _send_to_scheduler(self, message: Mapping[str, object]) -> None:
        """Send a message some time soon; they arrive in their order, and those of others too."""
        ...

    def subscribe_topic(self, topic: str, handler: Callable[[tuple[float, object]], None]) -> None:
        """Have events of a topic handed to a function, in the loop."""
        ...

    def unsubscribe_topic(self, topic: str) -> None:
        """Have no more events of a topic sent; the client keeps its function all the same."""
        ...

    def close(self) -> None:
        """Disconnect, and end the loop if it is the client's own."""
        ...


class _ClientClass(Protocol):
    def __call__(self, address: object, **kwargs: object) -> Client: ...


class _WorkersScheduler(Protocol):
    address: str

    def log_event(self, *, topic: str, msg: object) -> Awaitable[object]:
        """Send an event to who listens for its topic; it is there once this has been awaited."""
        ...

    def get_metadata(self, *, keys: list[str], default: object) -> Awaitable[object]:
        """Return what is kept in the scheduler under a path of names."""
        ...


class Worker(Protocol):
    """A ``distributed.Worker``."""

    security: object

    @property
    def address(self) -> str:
        """Where it listens."""
        ...

    @property
    def scheduler(self) -> _WorkersScheduler:
        """Its scheduler, to be asked something."""
        ...

    @property
    def loop(self) -> Loop:
        """The worker's event loop."""
        ...

    def log_event(self, topic: str, msg: object) -> None:
        """Send an event to who listens for its topic, some time soon."""
        ...

    def plugin_add(self, *, plugin: object, name: str) -> Awaitable[object]:
        """Have an object told when the worker ends; to be called in its loop."""
        ...


class LocalWorker(Protocol):
    """A ``distributed.Worker`` in this process."""

    def close(self, *, timeout: float, executor_wait: bool) -> Awaitable[object]:
        """End it, with or without waiting for its threads."""
        ...


class _Named(Protocol):
    name: str


class _WorkerProcess(Protocol):
    def kill(self, *, timeout: float, executor_wait: bool) -> Awaitable[None]:
        """End it in good order, or by force when the time is over."""
        ...


class Nanny(Protocol):
    """A ``distributed.Nanny``, which looks after a worker in a process of its own."""

    status: _Named
    process: _WorkerProcess | None

    def close_gracefully(self) -> None:
        """Have it not start another process when this one ends."""
        ...

    def close(self) -> Awaitable[object]:
        """End it, and the process."""
        ...


class ExistingCluster(Protocol):
    """What a runner needs of a cluster that is there; every cluster object of Dask's has it."""

    @property
    def scheduler_address(self) -> str:
        """Where its scheduler is."""
        ...


class ExistingClient(Protocol):
    """What tells a client that is there from other objects; it is a ``distributed.Client``."""

    @property
    def asynchronous(self) -> bool:
        """Whether it is used in its own event loop."""
        ...

    @property
    def scheduler(self) -> object:
        """Its scheduler, to be asked something."""
        ...

    @property
    def submit(self) -> AnyFunction[object]:
        """Have a function called on a worker."""
        ...


class Cluster(Protocol):
    """What every cluster class of Dask has."""

    def adapt(self, **kwargs: object) -> object:
        """Have the number of workers follow the load."""
        ...

    def close(self) -> object:
        """End the scheduler and the workers."""
        ...


class LocalCluster(Cluster, Protocol):
    """A ``distributed.LocalCluster``."""

    workers: Mapping[object, LocalWorker | Nanny]

    def sync(self, function: Callable[[], Awaitable[object]]) -> object:
        """Have an async function called in the cluster's loop, and wait for it."""
        ...


class Distributed(Protocol):
    """The module ``distributed``."""

    Client: _ClientClass
    Future: Callable[[str, object], NativeFuture]
    LocalCluster: type
    Nanny: type
    Worker: type


def import_distributed(runner: str = "DaskTaskRunner") -> Distributed:
    """Import ``distributed``.

    Args:
        runner: Who needs it, for the message.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        return cast("Distributed", importlib.import_module("distributed"))
    except ImportError as error:
        raise MissingDependencyError(
            f"{runner} needs {error.name or 'dask'}, which is not installed: "
            'pip install "anabranch-runners-dask", or with the flows '
            'pip install "anabranch-flows[dask]"'
        ) from error


def call_in_loop(loop: Loop, function: AnyFunction[object], *args: object) -> None:
    """Have a function called in a loop, without what surrounds the call here.

    A loop takes the context variables of whoever calls it, and what it opens keeps them for long.
    """
    Context().run(loop.add_callback, function, *args)


def import_dumps() -> Callable[[object], bytes]:
    """Import the ``dumps`` of ``cloudpickle``, which comes with Dask."""
    module = importlib.import_module("cloudpickle")
    return cast("Callable[[object], bytes]", module.dumps)


def import_sync() -> AnyFunction[object]:
    """Import what calls an async function in a loop of Dask's, from another thread, and waits."""
    module = importlib.import_module("distributed.utils")
    return cast("AnyFunction[object]", module.sync)
