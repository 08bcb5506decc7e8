"""What runs need of the connection to Ray; this is what they have on workers."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, cast

import ray
from ray.exceptions import RayError

from anabranch.futures import ResultUnavailableError
from anabranch.futures.runner import SYSTEM_CLOCK, SerialThread
from anabranch.runners.ray import _native
from anabranch.runners.ray._home import Home
from anabranch.runners.ray._relay import find_relay

if TYPE_CHECKING:
    from anabranch.runners.ray._native import Exported, Ref
    from anabranch.runners.ray._relay import RelayHandle
    from anabranch.runners.ray._run import RayRun

T = TypeVar("T")

#: How long a cancelled run has to end, with its worker process if need be, before Ray is to kill
#: that, in seconds. More than the worker gives it.
_LAST_RESORT: Final = 10.0


class Link:
    """Brings values over, and has runs stopped.

    Attributes:
        is_local: Whether it leads to an instance of our own, which has what it began with.
        completions: The thread in which runs end. Ray's own thread, which tells of the ends, must
            not be held up by callbacks, nor by what they submit.
        helper: The thread for what waits for other things than runs, such as fetching the values
            of other runners.
        cpus: How many CPUs the instance has; 0 where short runs are not collected.
    """

    def __init__(self) -> None:
        self.is_local: bool = False
        self.completions: Final = SerialThread("anabranch-ray")
        self.helper: Final = SerialThread("anabranch-ray-helper")
        self.cpus = 0
        self._is_client = False
        self._is_closed = False

    def is_open(self) -> bool:
        """Whether Ray can be asked."""
        return ray.is_initialized()

    def find_loss(self) -> str | None:
        """Return what has become of the instance if it is lost; waits while that is in doubt.

        To be asked before Ray is asked anything that it might never answer.
        """
        return None

    def has_ended(self) -> bool:
        """Whether nothing can be sent any more."""
        return False

    def ask(self, function: Callable[[], T]) -> T:
        """Call a function that asks Ray for something, and return or raise what it does.

        Raises:
            InstanceLostError: There will be no answer.
        """
        return function()

    def while_open(self, function: Callable[[], object]) -> None:
        """Call a function that asks Ray for something, unless nobody is there to answer."""
        if self.is_open():
            function()

    def submit(self, exported: Exported, arguments: Sequence[object]) -> Sequence[Ref]:
        """Have a function called in Ray.

        Raises:
            InstanceLostError: There is no instance to do it.
            Exception: Something cannot be pickled.
        """
        return exported.remote(*arguments)

    def remember(self, run: RayRun[object]) -> None:
        """Take note of a run, of which something may be heard while it goes on."""

    def relay_of(self, home: Home) -> RelayHandle:
        """Return the relay of the process where a run belongs; blocks.

        Raises:
            Exception: It is gone.
        """
        return find_relay(home.relay)

    # ------------------------------------------------------------------ values

    def fetch(self, ref: Ref | None, run_name: str, pickled: bytes | None) -> object:
        """Bring over the value of a run, unless it has come already, pickled.

        Raises:
            ResultUnavailableError: Ray no longer has it.
        """
        loss = None if self._is_closed else self.find_loss()
        is_open = self.is_open()  # Asked first, because ray.get would start an instance.
        if pickled is not None and (is_open or loss is not None):
            # If that fails, it is by foreign code, and Ray says what it makes of the same.
            with suppress(Exception, SystemExit):
                return pickle.loads(pickled)
        if loss is not None:
            raise ResultUnavailableError(
                f"The value of run {run_name!r} was left in Ray. {loss}. Run the task again"
            )
        if not is_open:
            raise ResultUnavailableError(
                f"The value of run {run_name!r} was left in Ray, and the connection to it has "
                "ended. Call .result() before the runner is left, or return the future from the "
                "flow"
            )
        if ref is None:  # It has come with others, and Ray has none of its own.
            return pickle.loads(cast("bytes", pickled))
        try:
            return ray.get(ref)
        except (RayError, ConnectionError, SystemExit) as error:
            raise ResultUnavailableError(
                f"The value of run {run_name!r} cannot be fetched from Ray: {error}. "
                "Run the task again, or have it store its value elsewhere"
            ) from error

    def fetch_many(self, refs: Sequence[Ref]) -> Sequence[object]:
        """Bring values over together; none if one of them cannot be had."""
        if self.is_open():
            with suppress(RayError, ConnectionError, SystemExit):
                return ray.get(list(refs))
        return ()

    def mark_as_read(self, ref: Ref) -> None:
        """Have Ray not complain that nobody has looked at the error behind a ref."""
        if not self.has_ended():  # It cannot be asked for that once it is lost.
            _native.mark_as_read(ref)

    # ------------------------------------------------------------------ stopping runs

    def stop(self, run_id: str, home: Home, ref: Ref, ended: threading.Event) -> None:
        """Have a run stopped: taken out of the queue, or interrupted, or killed by itself.

        Args:
            run_id: The run.
            home: Where it belongs.
            ref: Any ref of it.
            ended: Set when Ray has reported the end of the run.
        """
        if self.has_ended():  # What ran on a lost instance has ended, or is out of reach.
            return
        SYSTEM_CLOCK.call_later(_LAST_RESORT, partial(self._kill_later, ref, ended))
        # What has not begun ends by this. What has takes no notice: Ray interrupts it at any place,
        # such as in the midst of an import, so it listens to the relay instead.
        self.cancel(ref)
        self.helper.call_soon(partial(self._tell, run_id, home))

    def cancel(self, ref: Ref) -> None:
        """Have what has not begun taken out of Ray's queue."""
        self._cancel(ref, force=False)

    def _tell(self, run_id: str, home: Home) -> None:
        if self.is_open():
            with suppress(Exception):  # Without a relay there is the last resort.
                self.relay_of(home).give.remote(run_id)

    def _kill_later(self, ref: Ref, ended: threading.Event) -> None:
        if not ended.is_set() and not self.has_ended():
            self.helper.call_soon(partial(self._cancel, ref, force=True))

    def _cancel(self, ref: Ref, *, force: bool) -> None:
        def cancel(_: object) -> None:
            # It refuses some kinds of work; then the run ends when it ends.
            with suppress(ValueError, TypeError, RayError):
                ray.cancel(ref, force=force, recursive=False)

        door = self._door()
        if door is None:
            return  # The connection is closed, and what ran on it has ended, or Ray is in trouble.
        if self._is_client:
            cancel(None)
        else:
            # In Ray's own thread, where the ends of runs come in. In any other, a cancellation
            # that meets the end of its run aborts this process ("Tried to complete task that was
            # not pending").
            _native.on_completed(door, cancel)

    def _door(self) -> Ref | None:
        """Return something that is there: who waits for it comes into Ray's own thread."""
        try:
            return ray.put(None)
        except RayError:  # Its disk may be full. The relay is told all the same.
            return None
