"""A run that this worker process executes, as what it submits, calls and logs sees it."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Final, cast, final

import ray

from anabranch.futures import TaskRun
from anabranch.futures.runner import (
    SYSTEM_CLOCK,
    AnyFunction,
    LogSink,
    Reporter,
    RunScope,
    RunStop,
    SerialThread,
    current_scope,
    forwarded_logs,
)
from anabranch.runners.ray._home import Home
from anabranch.runners.ray._letters import Mailbox, letter_thread
from anabranch.runners.ray._native import on_completed
from anabranch.runners.ray._native import pickle as dumps
from anabranch.runners.ray._relay import find_relay, is_gone

if TYPE_CHECKING:
    from anabranch.futures import TaskRunner
    from anabranch.futures.runner import PackedRecord, Shipment
    from anabranch.runners.ray._attempts import AttemptLog
    from anabranch.runners.ray._interrupts import Interrupts
    from anabranch.runners.ray._parcel import LastWords, Letter
    from anabranch.runners.ray._relay import RelayHandle

#: How long a run goes on before anything is said about it while it does, in seconds. Most are over
#: by then, and their ends tell all.
_A_WHILE: Final = 0.02

#: How long the relay may take for a letter, and how long after it was lost it is called again.
_PATIENCE: Final = 10.0
_RETRY_PAUSE: Final = 0.5


@final
class Errand:
    """A run that this process executes, and its way to the process of its flow.

    Args:
        home: Where it belongs.
        run: The run.
        log: What has happened to it here.
        interrupts: Interrupts it.
        goes_on: In a batch, called if the run goes on for a while; see `BatchWork`.

    Attributes:
        home: Where it belongs.
        run: The run.
        stopping: Stops it, as far as that goes without an interrupt.
    """

    def __init__(
        self,
        home: Home,
        run: TaskRun,
        log: AttemptLog,
        interrupts: Interrupts,
        goes_on: Callable[[], int] | None = None,
    ) -> None:
        self.home: Final = home
        self.run: Final = run
        self.stopping: Final = RunStop()
        self._log: Final = log
        self._interrupts: Final = interrupts
        self._goes_on: Final = goes_on
        self._mailbox: Final = Mailbox(self._post)
        self._is_public = self._is_listening = self._is_over = False
        self._told = 0
        # Held while it is decided whether the relay is told of the run.
        self._lock = threading.Lock()
        self._reporter: Reporter | None = None
        self._origin: ErrandOrigin | None = None
        go_public = partial(letter_thread.call_soon, self._go_public)
        self._cancel_timer = SYSTEM_CLOCK.call_later(_A_WHILE, go_public)

    # ------------------------------------------------------------------ the run

    @contextmanager
    def executing(self, shipment: Shipment, runner: TaskRunner) -> Generator[None]:
        """Surround the attempts of the run with a scope, and have what they log logged at home.

        Args:
            shipment: The run.
            runner: Where it submits to.
        """
        self._reporter = Reporter(self.say, dumps)
        scope = RunScope(shipment.flow_run, shipment.task_run, 1, runner, self._reporter)
        sink = LogSink(self.home.levels, self._say_record, self.run.id, self.run.name)
        self.stopping.reach(scope)
        errand_token, scope_token = current_errand.set(self), current_scope.set(scope)
        try:
            with forwarded_logs(sink):
                yield
        finally:
            current_errand.reset(errand_token)
            current_scope.reset(scope_token)

    @property
    def origin(self) -> ErrandOrigin:
        """What this run is to those that it submits."""
        if self._origin is None:
            self._origin = ErrandOrigin(self)
        return self._origin

    def relay(self) -> RelayHandle:
        """Return the relay of the process where the run belongs; blocks.

        Raises:
            Exception: It is gone.
        """
        return find_relay(self.home.relay)

    def note_abandoned(self, run: TaskRun) -> None:
        """Have a run below this one counted as abandoned; of this one, its end tells."""
        if run.id != self.run.id:
            self.say(("abandoned", run))

    # ------------------------------------------------------------------ letters

    def say(self, letter: Letter) -> None:
        """Send a letter home, some time before the run's end.

        Args:
            letter: Made of what can be imported everywhere.
        """
        self._mailbox.add(letter)

    def note_posted(self) -> None:
        """Take note that letters which are to arrive before this run's end are on their way."""
        self._mailbox.note_posted()

    def tell_moments(self) -> None:
        """Tell of an attempt, now that there is more than one."""
        letter_thread.call_soon(self._go_public)
        letter_thread.call_soon(self._tell_moments)

    def _say_record(self, record: PackedRecord) -> None:
        self.say(("log", dict(record)))

    def _go_public(self) -> None:
        """Say that the run goes on, and listen whether it is to stop."""
        with self._lock:
            if self._is_public or self._is_over:
                return
            self._is_public = True
            self._mailbox.open()
        if self._goes_on is not None:
            self._mailbox.post(("goes on", self._goes_on()))
        self._listen()
        self._tell_moments()

    def _listen(self) -> None:
        if self._is_over:
            return
        try:
            came = self.relay().wait_for.remote(self.run.id)
        except Exception as error:  # It is gone: what it belongs to is, or is about to be.
            self._note_signal(error)
        else:
            self._is_listening = True
            on_completed(came, self._note_signal)

    def _note_signal(self, outcome: object) -> None:
        # In a thread of Ray's, where nothing may block.
        if self._is_over:
            return
        if isinstance(outcome, BaseException):
            listen = partial(letter_thread.call_soon, self._listen_again)
            SYSTEM_CLOCK.call_later(_RETRY_PAUSE, listen)
        else:
            _stopper.call_soon(self._stop)

    def _listen_again(self) -> None:
        """Listen to the relay that Ray has made anew; without one, nobody wants the run."""
        if is_gone(self.home.relay):
            _stopper.call_soon(self._stop)
        else:
            self._listen()

    def _stop(self) -> None:
        if not self._is_over:
            self.stopping()
            self._interrupts.stop()

    def _tell_moments(self) -> None:
        if not self._is_public:
            return
        # Of a run below another that is the business of the process that has submitted it, which
        # hears of it at the end.
        moments = self._log.history[self._told :] if self.home.run_id is None else ()
        if moments:
            self._mailbox.post(("moments", self._log.first_attempt, self._told, moments))
            self._told += len(moments)
        else:
            self._mailbox.post()

    def _post(self, letters: Sequence[Letter]) -> None:
        posted = pickle.dumps((self.home.run_id or self.run.id, letters))
        with suppress(Exception):  # It is lost with the relay.
            get = cast("AnyFunction[object]", ray.get)
            get(self.relay().post.remote(posted), timeout=_PATIENCE)

    def finish(self) -> LastWords:
        """Take note that the run is about to end, and return what is left to say."""
        self._interrupts.end()
        self._cancel_timer()
        with self._lock:
            self._is_over = True
        if self._reporter is not None:
            self._reporter.finish()
        words = self._mailbox.close()
        if self._is_listening:
            with suppress(Exception):
                self.relay().give.remote(self.run.id)
        return words


@final
class ErrandOrigin:
    """What a run on a worker is to the runs that it submits.

    Args:
        errand: The run.

    Attributes:
        home: Where runs belong that come from here.
    """

    def __init__(self, errand: Errand) -> None:
        home = errand.home
        self.home: Final = Home(home.relay, home.run_id or errand.run.id, home.levels)
        self._errand: Final = errand

    def hear(self, words: LastWords, then: Callable[[], object]) -> None:
        """Send the letters home with those of this run, which are to arrive after the others."""
        letters, others_are_on_their_way = words
        if others_are_on_their_way:
            self._errand.note_posted()
        if letters is not None:
            self.read(cast("Sequence[Letter]", pickle.loads(letters)))
        then()

    def read(self, letters: Sequence[Letter]) -> None:
        """Send letters home."""
        for letter in letters:
            self._errand.say(letter)


# Apart from the letters, which may have to wait for the relay.
_stopper: Final = SerialThread("anabranch-ray-stop")

#: What the calling code is a part of, on a worker.
current_errand: Final[ContextVar[Errand | None]] = ContextVar("current_errand", default=None)
