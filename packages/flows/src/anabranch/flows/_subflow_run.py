"""The futures of flows that run beside the flow that submitted them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar, TypeVar, final

from anabranch.futures import Cancellation, Cancelled, Future, Retrying, Running, TaskRun

if TYPE_CHECKING:
    from anabranch.flows._flow_run import ActiveFlowRun

R_co = TypeVar("R_co", covariant=True)


@final
class SubflowRun(Future[R_co]):
    """The future of a subflow, which runs in a thread of its own, never in a place of a pool."""

    logs_its_end: ClassVar[bool] = True

    __slots__ = ("_has_started", "_run", "_stop", "_upstreams")

    def __init__(self, run: ActiveFlowRun) -> None:
        names = run.flow_run
        super().__init__(TaskRun(names.id, names.name, names.flow_name))
        self._run = run
        self._has_started = False
        self._stop: Callable[[], object] | None = None
        self._upstreams: tuple[Future[object], ...] = ()

    def depends_on(self, upstreams: tuple[Future[object], ...]) -> None:
        """Tell which runs have to end before the subflow starts."""
        self._upstreams = upstreams

    def missing(self) -> Iterable[Future[object]]:
        """Return the runs that have to end before the subflow starts."""
        return [each for each in self._upstreams if not each.done()]

    def needed_loops(self) -> frozenset[int]:
        """Return the threads of the event loops that those runs need."""
        return frozenset[int]().union(*(each.needed_loops() for each in self.missing()))

    def start(self) -> bool:
        """Take note that the subflow starts; returns False if it has been cancelled."""
        self._has_started = self.set_running()
        return self._has_started

    def note_progress(self, state: Running | Retrying) -> None:
        """Take note that the subflow waits for another attempt, or makes it."""
        if isinstance(state, Retrying):
            self.set_retrying(state)
        else:
            self.set_running()

    def stop_with(self, stop: Callable[[], object]) -> None:
        """Tell how the subflow's body is stopped, if it is async."""
        self._stop = stop

    def cancel(self) -> Cancellation:
        """Ask for the subflow to be stopped.

        One that has not started is over at once, and one that waits for another attempt soon. Of
        one that is running, the runs are cancelled; its body is, if it is async.
        """
        if not self._has_started and self.set_running():
            self.set_final(Cancelled(message="The run was cancelled before it started."))
            return Cancellation.CANCELLED
        if self.done():
            return Cancellation.CANNOT_STOP
        self._run.cancel()
        if self._stop is not None:
            self._stop()
        elif self.is_running():
            return Cancellation.CANNOT_STOP
        return Cancellation.WILL_STOP
