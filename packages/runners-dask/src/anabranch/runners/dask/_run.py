"""A run on Dask: its key there, and its own future."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast, final

from anabranch.futures import (
    Cancellation,
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Future,
    State,
    UpstreamFailed,
    WorkItem,
)
from anabranch.futures.runner import (
    StoredValue,
    describe,
    failure_behind,
    pack,
    upstream_failure,
)
from anabranch.runners.dask._bare import bare
from anabranch.runners.dask._outcomes import crashed, failure_state

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anabranch.runners.dask._connection import Connection
    from anabranch.runners.dask._native import NativeFuture

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@final
class DaskValue(StoredValue[R]):
    """A value in the memory of a Dask worker."""

    __slots__ = ("_connection", "_native", "_run_name")

    def __init__(self, connection: Connection, native: NativeFuture, run_name: str) -> None:
        super().__init__()
        self._connection = connection
        self._native = native
        self._run_name = run_name

    def _fetch(self) -> R:
        return cast("R", self._connection.fetch(self._native, self._run_name))


@final
class DaskRun(Future[R_co]):
    """The future of a run on Dask.

    Until its end it holds what it depends on, and from its submission to Dask its key. Having
    completed it holds the key alone, and so the value, until it is dropped.
    """

    __slots__ = (
        "_connection",
        "_gate",
        "_gates",
        "_is_async",
        "_is_unwanted",
        "_native",
        "_upstreams",
        "_worker",
        "number",
    )

    def __init__(self, item: WorkItem[R_co], connection: Connection) -> None:
        loops: frozenset[int] = frozenset()
        for upstream in (*item.upstreams, *item.tolerated):
            loops |= upstream.needed_loops()
        super().__init__(item.task_run, loops=loops)
        #: Higher than that of any run that this one depends on.
        self.number = 0
        self._connection = connection
        self._is_async = item.is_async
        self._is_unwanted = False
        self._native: NativeFuture | None = None
        self._gate: NativeFuture | None = None
        # Dask cancels what depends on a key that nobody holds any more.
        self._upstreams: tuple[Future[object], ...] = (*item.upstreams, *item.tolerated)
        self._gates: list[NativeFuture] = []
        self._worker = ""

    # ------------------------------------------------------------------ starting

    def missing(self) -> Iterable[Future[object]]:
        """Return the runs that have to end before this one can."""
        return [each for each in self._upstreams if not each.done()]

    def native_in(self, connection: Connection) -> NativeFuture | None:
        """Return the run's key, if it has one on this connection."""
        return self._native if connection is self._connection else None

    def follow(self, upstream: Future[object]) -> None:
        """End this run as soon as that one has ended otherwise than well."""
        upstream.add_done_callback(self._upstream_ended)

    def ship(self, item: WorkItem[R_co]) -> None:
        """Hand the run over to Dask. All that it depends on has ended, or is on Dask too."""
        connection = self._connection
        natives = natives_in(connection, self._upstreams)
        # Looked for after that: an upstream that ended badly in between has no key any more.
        if self.done() or self.fail(upstream_failure(item)):
            return
        try:
            packed = pack(item, lambda future: id(future) in natives)
            parcel = connection.packer(item, packed.shipment)
        except Exception as error:  # Fetching, copying and pickling arguments runs foreign code.
            self.set_final(Failed(bare(error), message=describe(error)))
            return
        slots = {id(future): natives[id(future)] for future in packed.slots}
        others = [each for each in self._own_upstreams() if id(each) not in slots]
        try:
            gates = [each.gate() for each in others if not each.done()]
            if self.fail(upstream_failure(item)):  # One may have ended in between.
                return
            self._gates = [each for each in gates if each is not None]
            self._upstreams = tuple(self._own_upstreams())  # The values of others are on their way.
            native = connection.submit(self, parcel, [*slots.values(), *self._gates])
            self._native = native
            self._loops = frozenset()  # All that it waits for is on Dask.
            native.add_done_callback(self._native_ended)
        except Exception as error:  # Dask raises all sorts of them when the scheduler is gone.
            self.set_final(crashed(f"Dask did not take the run: {describe(error)}", error))
            return
        if self.done():  # Cancelled in the meantime, when there was no key to cancel.
            self._let_go()

    def _own_upstreams(self) -> list[DaskRun[object]]:
        return [each for each in self._upstreams if isinstance(each, DaskRun)]

    def gate(self) -> NativeFuture | None:
        """Return a key that ends as this run does, and has no value; None if it has no key."""
        native = self._native
        gate = self._gate
        if gate is None and native is not None:
            self._gate = gate = self._connection.gate(self, native)
        return gate

    def started_on(self, worker: str) -> None:
        """Take note that a worker has begun to execute the run."""
        self._worker = worker
        if self.set_running() or not self.done() or self._is_async:
            return
        if isinstance(self.final_state(), Cancelled):
            self._connection.report_straggler(self, worker)

    # ------------------------------------------------------------------ ending

    def cancel(self) -> Cancellation:
        """Ask for the run to be stopped; see `Future.cancel`."""
        self._is_unwanted = True
        if self.is_running():
            if not self._is_async:
                return Cancellation.CANNOT_STOP
            self._connection.stop(self, self._worker)
            return Cancellation.WILL_STOP
        self.set_final(Cancelled(message="The run was cancelled before it started."))
        ended_so = isinstance(self.final_state(), Cancelled)
        return Cancellation.CANCELLED if ended_so else Cancellation.CANNOT_STOP

    def set_final(self, state: State[object]) -> bool:
        """End the run, and let go of what it holds on Dask; see `Future.set_final`."""
        if not super().set_final(state):
            return False
        self._let_go()
        return True

    def _let_go(self) -> None:
        self._upstreams = ()
        self._gates = []
        self._gate = None
        if not isinstance(self.final_state(), Completed):
            native, self._native = self._native, None
            if native is not None and not native.done():
                self._connection.cancel(self, native)

    def fail(self, failure: UpstreamFailed | None) -> bool:
        """End the run because of one upstream, if there is a failure; returns whether there is."""
        if failure is not None:
            self.set_final(failure)
        return failure is not None

    def _upstream_ended(self, upstream: Future[object]) -> None:
        self.fail(failure_behind(upstream))

    def _native_ended(self, native: NativeFuture) -> None:
        if self.done():
            return
        name = self.task_run.name
        if native.status == "finished":
            self.set_final(Completed(DaskValue(self._connection, native, name)))
            return
        # What Dask says of a lost worker does not tell whose run it was. If an upstream has ended
        # too, and is only about to be told of it, then it ends this run as well.
        for upstream in self._own_upstreams():
            upstream.settle()
        if not self.done():
            is_lost = self._connection.is_lost()
            state = failure_state(self.task_run, native, is_lost=is_lost)
            if self._is_unwanted and isinstance(state, Crashed):
                # Ctrl-C reaches the worker processes too.
                state = Cancelled(message="The run was cancelled, and ended with its worker.")
            self.set_final(state)

    def settle(self) -> None:
        """End the run if Dask has told how it ended."""
        native = self._native
        if native is not None and native.done():
            self._native_ended(native)


def natives_in(
    connection: Connection, futures: Iterable[Future[object]]
) -> dict[int, NativeFuture]:
    """Return the keys of those futures that have one on a connection, by the futures' ids."""
    found: dict[int, NativeFuture] = {}
    for future in futures:
        if isinstance(future, DaskRun) and (native := future.native_in(connection)) is not None:
            found[id(future)] = native
    return found
