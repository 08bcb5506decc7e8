"""The runner for Ray."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, TypeVar, final

import anyio
import anyio.to_thread

from anabranch.futures import (
    ConcurrencyType,
    Future,
    MissingDependencyError,
    TaskRunner,
    WorkItem,
)
from anabranch.futures.runner import current_scope
from anabranch.runners.ray._environment import import_variables, unchanged_environment

if TYPE_CHECKING:
    from anabranch.runners.ray._connection import Connection, Lease
    from anabranch.runners.ray._session import Session

R = TypeVar("R")


@final
class RayTaskRunner(TaskRunner):
    """Runs tasks in parallel, in the worker processes of a Ray instance.

    Without settings, each process has one local instance: it starts with the first runner that is
    started, and ends with the last. A Ray that you have started or connected to yourself is used
    as it is, and left as it is.

    Values stay in Ray until they are asked for. A future passed to another task on this runner
    becomes a Ray ref, so that values go from worker to worker. A failed task makes those that
    depend on it fail in Ray, without starting. Ray itself retries nothing: a run with retries is
    tried again by its worker, and by this runner when its worker was lost. Like everything that Ray
    gives to a task, arrays among the values are read-only.

    Args:
        address: The instance to connect to, such as ``ray://192.0.2.255:10001``,
            ``192.0.2.255:6379`` or ``auto``. If None, it is the one that the environment variable
            ``RAY_ADDRESS`` names, else a local one for as long as it is needed.
        init_kwargs: More arguments for ``ray.init``, such as ``num_cpus``. Unless it says
            otherwise, the namespace is ``anabranch``, and a local instance has no dashboard.

    Raises:
        TypeError: A setting is not of the type that it should be.
        ValueError: The address is empty, or is among ``init_kwargs``.
    """

    def __init__(
        self, address: str | None = None, init_kwargs: Mapping[str, object] | None = None
    ) -> None:
        super().__init__()
        if not isinstance(address, str | None):
            raise TypeError(
                f"RayTaskRunner(address={address!r}): the address is a string, such as "
                "'ray://192.0.2.255:10001' or 'auto'; leave it out for a local instance"
            )
        if address is not None and not address.strip():
            raise ValueError(
                "RayTaskRunner(address=''): the address is empty; leave it out for a local instance"
            )
        if not isinstance(init_kwargs, Mapping | None):
            raise TypeError(
                f"RayTaskRunner(init_kwargs={init_kwargs!r}): they are a dict of arguments for "
                "ray.init, such as {'num_cpus': 4}"
            )
        if init_kwargs and "address" in init_kwargs:
            raise ValueError(
                "RayTaskRunner(init_kwargs={'address': ...}): the address is a setting of its own; "
                f"use RayTaskRunner(address={init_kwargs['address']!r})"
            )
        self._address: Final = address
        self._init_kwargs: Final = dict(init_kwargs or {})
        self._session: Session | None = None
        self._connection: Connection | None = None

    @property
    def concurrency_type(self) -> ConcurrencyType:
        """Parallel: many tasks at a time, in several processes."""
        return ConcurrencyType.PARALLEL

    def _settings(self) -> Mapping[str, object]:
        return {"address": self._address, "init_kwargs": dict(self._init_kwargs)}

    async def _start(self, exit_stack: AsyncExitStack) -> None:
        # Not the shared limiter: its threads may all be waiting for runs of this runner.
        limiter = anyio.CapacityLimiter(1)
        lease = await anyio.to_thread.run_sync(self._make_lease, limiter=limiter)

        async def end() -> None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(lease.close, limiter=anyio.CapacityLimiter(1))
            self._session = self._connection = None

        exit_stack.push_async_callback(end)
        await anyio.to_thread.run_sync(self._open, lease, limiter=limiter)

    def _make_lease(self) -> Lease:
        # Imported here because it takes Ray, which is heavy, and is not installed everywhere.
        try:
            with unchanged_environment(import_variables()):
                from anabranch.runners.ray._connection import Lease  # noqa: PLC0415 - see above
                from anabranch.runners.ray._startup import Target  # noqa: PLC0415 - see above
        except ImportError as error:
            raise MissingDependencyError(
                f"RayTaskRunner needs the library 'ray', which cannot be imported ({error}). "
                'Install it: pip install "anabranch-runners-ray", or pip install '
                '"anabranch-flows[ray]"'
            ) from error
        return Lease(Target.of(self._address, self._init_kwargs), self.logger, self._lost)

    def _lost(self, message: str) -> None:
        from anabranch.runners.ray._outcome import crashed  # noqa: PLC0415 - as for the lease

        for future in list(self._unfinished):
            future.set_final(crashed(future.task_run, message))

    def _open(self, lease: Lease) -> None:
        from anabranch.runners.ray._session import Session  # noqa: PLC0415 - as for the lease
        from anabranch.runners.ray._worker import run_parcel  # noqa: PLC0415 - likewise

        self._connection = connection = lease.open()
        self._session = Session(connection, run_parcel)

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        connection, session = self._connection, self._session
        assert connection is not None, "dispatch() refuses work while it is not started"
        assert session is not None, "likewise"
        scope = current_scope.get()
        # What is submitted elsewhere than in the runner's own flow is nobody's business there.
        owner = scope.owner if scope is not None and scope.runner is self else None
        return session.submit(item, self.admit, connection.origin(owner, self.note_abandoned))
