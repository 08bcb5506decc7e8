"""The few things that are asked of Ray itself, with types."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeAlias, cast

import ray
import ray.util.client
from ray import cloudpickle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from anabranch.futures.runner import AnyFunction
from anabranch.runners.ray._parcel import Entry, Pickler

#: The handle of something that lies, or will lie, in Ray.
Ref: TypeAlias = "ray.ObjectRef[object]"

#: What Ray calls the thread that shows the workers' output, and its part in that.
_PRINTER: Final = "ray_print_logs"


class Exported(Protocol):
    """A function that Ray's workers know."""

    def remote(self, *args: object) -> Sequence[Ref]:
        """Have it called; each `Ref` among the arguments itself is replaced by its value."""
        ...


class _Adaptable(Protocol):
    def options(self, **options: object) -> Exported: ...


class _Remote(Protocol):
    def __call__(
        self, *, num_returns: int, max_retries: int, name: str
    ) -> Callable[[Entry], Exported]: ...


class _RemoteWith(Protocol):
    def __call__(self, **options: object) -> Callable[[AnyFunction[object]], _Called]: ...


class _Called(Protocol):
    def remote(self, *args: object) -> Ref: ...


class _Watchable(Protocol):
    def _on_completed(self, callback: Callable[[object], None]) -> None: ...


#: What workers have printed, as it comes in here: some lines of one of them.
Batch: TypeAlias = Mapping[str, object]


class _Dispatcher(Protocol):
    _lock: AbstractContextManager[object]
    handlers: list[tuple[str, Callable[[Batch], None]]]


class _Node(Protocol):
    def get_logs_dir_path(self) -> str: ...


def export(entry: Entry, name: str) -> Exported:
    """Make an entry known to Ray, as a task that gives a value and an outcome.

    The outcome tells how the run has ended without bringing over what it returned, unless that is
    small; or it is the error of the value.
    """
    remote = cast("_Remote", ray.remote)
    # No retries by Ray: how often a run is tried is counted in one place, and not in this one.
    return remote(num_returns=2, max_retries=0, name=name)(entry)


def adapted(exported: Exported, options: Mapping[str, object]) -> Exported:
    """Return what calls the same function, known to Ray already, with other options.

    Raises:
        TypeError, ValueError: Ray refuses the options.
    """
    return cast("_Adaptable", exported).options(**options)


def cluster_resources() -> Mapping[str, float]:
    """Return what the cluster has of everything, in use or not."""
    return cast("Callable[[], Mapping[str, float]]", ray.cluster_resources)()


def on_completed(ref: Ref, callback: Callable[[object], None]) -> None:
    """Have ``callback`` called, in a thread of Ray's, with the value or the error behind a ref."""

    def call(found: object, ref: Ref = ref) -> None:
        # It holds the ref for so long. Ray takes two steps to what is large, and aborts this
        # process ("Check failed: ... ObjectUnknownOwner") if the ref is dropped between them.
        del ref
        callback(found)

    cast("_Watchable", ref)._on_completed(call)


def mark_as_read(ref: Ref) -> None:
    """Have Ray not complain that nobody has looked at the error behind a ref."""
    on_completed(ref, _ignore)


def _ignore(_: object) -> None:
    return None


def is_client() -> bool:
    """Whether this process is connected by the Ray client, as addresses with ``ray://`` say."""
    is_connected = cast("Callable[[], bool]", ray.util.client.ray.is_connected)
    return is_connected()


def cpus() -> int:
    """Return how many CPUs the instance has; at least one."""
    return max(1, int(cluster_resources().get("CPU", 1)))


def session_id() -> tuple[str, str]:
    """Return what tells this process's connection from any other."""
    context = ray.get_runtime_context()
    return str(context.gcs_address), str(context.get_job_id())


def living_nodes() -> Sequence[str]:
    """Return the ids of the nodes of the cluster."""
    return [str(node["NodeID"]) for node in _nodes() if node.get("Alive")]


def call_on(node_id: str, function: AnyFunction[object], *args: object) -> Ref:
    """Have a function called on a node, whatever that is busy with."""
    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    remote = cast("_RemoteWith", ray.remote)
    return remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(function).remote(*args)


def own_node() -> tuple[str, int] | None:
    """Return where the raylet listens that this process is attached to, if Ray tells."""
    own = str(ray.get_runtime_context().get_node_id())
    for node in _nodes():
        if node.get("NodeID") == own:
            return str(node["NodeManagerAddress"]), int(str(node["NodeManagerPort"]))
    return None


def _nodes() -> list[dict[str, object]]:
    return cast("Callable[[], list[dict[str, object]]]", ray.nodes)()


def client_address() -> str | None:
    """Return the host and the port that the Ray client is connected to, if it tells."""
    context = cast("Callable[[], object]", ray.util.client.ray.get_context)()
    # It has no public name.
    address = getattr(getattr(context, "client_worker", None), "_conn_str", None)
    return str(address) if address else None


def own_ip_address() -> str:
    """Return this machine's address in the network."""
    return cast("Callable[[], str]", ray.util.get_node_ip_address)()


def pickle(value: object) -> bytes:
    """Pickle a value the way it is done for a run."""
    return cast("Pickler", cloudpickle).dumps(value)


def refuse_unpicklable(value: object) -> None:
    """Raise what pickling a value the way Ray does raises; large parts are not copied for it."""
    cast("Pickler", cloudpickle).dumps(value, protocol=5, buffer_callback=_ignore)


def shows_output() -> bool:
    """Whether Ray shows here what the workers print."""
    return any(thread.name == _PRINTER for thread in threading.enumerate())


def filter_output(is_shown: Callable[[Batch], bool]) -> None:
    """Have a function asked of all output from now on whether Ray is to show it here.

    Raises:
        ImportError, AttributeError: This version of Ray has another way of showing it.
    """
    from ray._private import ray_logging  # noqa: PLC0415 - it may be gone from a later version

    def filtered(show: Callable[[Batch], None], batch: Batch) -> None:
        if is_shown(batch):
            show(batch)

    dispatcher = cast("_Dispatcher", ray_logging.global_worker_stdstream_dispatcher)
    with dispatcher._lock:
        dispatcher.handlers = [
            (name, partial(filtered, handler) if name == _PRINTER else handler)
            for name, handler in dispatcher.handlers
        ]


def output_folder() -> Path:
    """Return where the processes of this process's own instance write their output.

    Raises:
        ImportError, AttributeError: This version of Ray does not tell.
    """
    from ray._private import worker  # noqa: PLC0415 - see above

    return Path(cast("_Node", worker._global_node).get_logs_dir_path())


def shut_down() -> None:
    """End the instance that this process started, or its connection to another."""
    if "wait_for_processes" in inspect.signature(ray.shutdown).parameters:
        ray.shutdown(wait_for_processes=True)
    else:  # Earlier versions do not know it.
        ray.shutdown()
