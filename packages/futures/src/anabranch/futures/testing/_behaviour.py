"""What a behaviour is, and how a table of them is run."""

from __future__ import annotations

import gc
import sys
import tempfile
import threading
import traceback
import weakref
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from types import MappingProxyType, TracebackType
from typing import Any, Final, Literal, Protocol, Self, TypeAlias, TypedDict, TypeVar, Unpack, final
from weakref import WeakSet

import anyio
import attrs

from anabranch.futures import (
    Backend,
    ConcurrencyType,
    Future,
    Retrying,
    RetryPolicy,
    Running,
    TaskRun,
    TaskRunner,
)
from anabranch.futures.runner import AnyFunction, Listener, make_item, new_run_id
from anabranch.futures.testing._functions import Tally, same
from anabranch.futures.testing._gate import open_gates_of

T = TypeVar("T")

#: How long one behaviour may take, in seconds: long enough for a cluster to start on a busy
#: machine, and for a lost worker to be missed.
TIME_LIMIT: Final = 120.0

#: Which runners cannot show a behaviour, each with the reason: by how their tasks relate in time,
#: or by their names, such as ``"ray"``.
Reasons: TypeAlias = Mapping[ConcurrencyType | str, str]


@final
class Subject:
    """The runner under test.

    It starts when the first behaviour asks for it and ends with the context, so that a cluster is
    started once for the whole table.

    Args:
        make: Makes a runner that has not been started, of the same settings each time.

    Attributes:
        make: The same.
    """

    def __init__(self, make: Callable[[], TaskRunner]) -> None:
        self.make = make
        self._runner: TaskRunner | None = None
        self._given_up: Final[WeakSet[threading.Thread]] = WeakSet()
        self._lock: Final = threading.Lock()

    @property
    def runner(self) -> TaskRunner:
        """A started runner, shared by the behaviours."""
        check = threading.current_thread()
        with self._lock:
            is_late, runner = check in self._given_up, self._runner
        if not is_late and runner is None:
            runner = self.make().__enter__()
            with self._lock:
                is_late = check in self._given_up  # As the runner was starting.
                if not is_late:
                    self._runner = runner
            if is_late:
                _leave_by_error(runner)
        if is_late or runner is None:
            raise RuntimeError("this check was given up: its time was over")
        return runner

    @property
    def concurrency_type(self) -> ConcurrencyType:
        """How the tasks of the runner relate in time."""
        return self.make().concurrency_type

    @property
    def name(self) -> str:
        """The runner's short name."""
        return self.make().name

    def give_up(self, check: threading.Thread | None = None) -> None:
        """Do without the started runner, which has lost a run, and may never end.

        The next behaviour has another one. This one is left by an exception, in a thread of its
        own that nobody waits for.

        Args:
            check: The thread that is still at a check; it gets no runner any more.
        """
        with self._lock:
            if check is not None:
                self._given_up.add(check)
            runner, self._runner = self._runner, None
        if runner is not None:
            threading.Thread(target=_leave_by_error, args=(runner,), daemon=True).start()

    def leave(self) -> None:
        """Leave the started runner, if there is one; the next behaviour has another."""
        with self._lock:
            runner, self._runner = self._runner, None
        if runner is not None:
            runner.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()


def _leave_by_error(runner: TaskRunner) -> None:
    error = TimeoutError("a behaviour did not end")
    with suppress(BaseException):  # It is broken in any case.
        runner.__exit__(type(error), error, None)


@final
@attrs.frozen
class Behaviour:
    """Something that every task runner must do.

    Attributes:
        name: What it does, as one sentence.
        check: Raises AssertionError if the runner does not.
        not_for: The runners that cannot, by their kinds or their names, each with the reason.
    """

    name: str
    check: Callable[[Subject], None]
    not_for: Reasons = MappingProxyType({})

    def reason_against(self, subject: Subject) -> str | None:
        """Return why a runner cannot show this; None if it can."""
        return self.not_for.get(subject.name) or self.not_for.get(subject.concurrency_type)

    def __str__(self) -> str:
        return self.name


@final
@attrs.frozen
class Verdict:
    """How a runner did.

    Attributes:
        behaviour: What was checked.
        outcome: ``"yes"``, ``"no"``, or ``"-"`` where it cannot.
        details: The reason, or the traceback.
    """

    behaviour: Behaviour
    outcome: Literal["yes", "no", "-"]
    details: str = ""


class Unable(Exception):
    """A runner cannot do what a check is about, and says so; a check raises it with the reason."""


def judge(behaviour: Behaviour, subject: Subject, *, time_limit: float = TIME_LIMIT) -> Verdict:
    """Check one behaviour of one runner.

    The check is made in a thread of its own, which is given up if the runner loses a run that the
    check waits for.

    Args:
        behaviour: What to check.
        subject: The runner.
        time_limit: How long it may take, in seconds.
    """
    reason = behaviour.reason_against(subject)
    if reason is not None:
        return Verdict(behaviour, "-", reason)
    verdicts: SimpleQueue[Verdict] = SimpleQueue()

    def check() -> None:
        try:
            behaviour.check(subject)
        except Unable as reason:
            verdicts.put(Verdict(behaviour, "-", str(reason)))
        except BaseException:  # Whatever is raised is what is reported.
            verdicts.put(Verdict(behaviour, "no", traceback.format_exc()))
        else:
            verdicts.put(Verdict(behaviour, "yes"))

    thread = threading.Thread(target=check, name=f"check: {behaviour}", daemon=True)
    thread.start()
    try:
        verdict = verdicts.get(timeout=time_limit)
    except Empty:
        where = _stack_of(thread)
        open_gates_of(thread)
        subject.give_up(thread)
        return Verdict(behaviour, "no", f"It did not end within {time_limit:g} s:\n{where}")
    thread.join()
    return verdict


def _stack_of(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return "" if frame is None else "".join(traceback.format_stack(frame))


def judge_all(
    behaviours: Iterable[Behaviour],
    make: Callable[[], TaskRunner],
    *,
    time_limit: float = TIME_LIMIT,
) -> list[Verdict]:
    """Check a table of behaviours of one runner, which is started once.

    Args:
        behaviours: The table.
        make: Makes a runner that has not been started.
        time_limit: How long each of them may take, in seconds.
    """
    with Subject(make) as subject:
        return [judge(behaviour, subject, time_limit=time_limit) for behaviour in behaviours]


def report(verdicts: Mapping[str, Iterable[Verdict]]) -> str:
    """Return a Markdown table of behaviours by runner, with the reasons of those who cannot.

    Args:
        verdicts: For each runner's name, what `judge_all` returned.
    """
    rows: dict[str, dict[str, str]] = {}
    reasons: dict[str, int] = {}
    for runner, column in verdicts.items():
        for verdict in column:
            outcome: str = verdict.outcome
            if outcome == "-":
                outcome = f"- ({reasons.setdefault(verdict.details, len(reasons) + 1)})"
            rows.setdefault(verdict.behaviour.name, {})[runner] = outcome
    lines = [
        "| behaviour | " + " | ".join(verdicts) + " |",
        "|---|" + "---|" * len(verdicts),
    ]
    for name, outcomes in rows.items():
        lines.append(
            f"| {name} | " + " | ".join(outcomes.get(each, "") for each in verdicts) + " |"
        )
    if reasons:
        lines.append("")
        lines.extend(f"{number}. {reason}" for reason, number in reasons.items())
    return "\n".join(lines)


def raises(kind: type[BaseException], *words: str) -> AbstractContextManager[None, bool]:
    """Assert that the body raises an exception of this kind whose message has these words."""
    return _Raises(kind, words)


class _Raises:
    def __init__(self, kind: type[BaseException], words: tuple[str, ...]) -> None:
        self._kind = kind
        self._words = words

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        assert error is not None, f"{self._kind.__name__} was not raised"
        if not isinstance(error, self._kind):
            return False
        for word in self._words:
            assert word in str(error), f"{word!r} is not in {str(error)!r}"
        return True


#: For behaviours of runs that go on while the test looks.
NOT_IN_PLACE: Final[Reasons] = {
    ConcurrencyType.SEQUENTIAL: "its submit returns when the run has ended, in sync code"
}

#: For behaviours of processes that runs execute in.
ONLY_IN_PARALLEL: Final[Reasons] = {
    ConcurrencyType.SEQUENTIAL: "its runs execute in this process",
    ConcurrencyType.CONCURRENT: "its runs execute in this process",
}


#: The future of a run of any function.
AnyFuture: TypeAlias = Future[Any]  # type: ignore[explicit-any]  # Only the function knows.

#: Raises AssertionError if a runner does not behave.
Check: TypeAlias = Callable[[Subject], None]


class Registrar(Protocol):
    """Takes the name of a behaviour, and gives a decorator for its check."""

    def __call__(self, name: str, not_for: Reasons | None = None) -> Callable[[Check], Check]: ...


def registrar(rows: list[Behaviour]) -> Registrar:
    """Return a decorator that puts checks into a table, with their names."""

    def behaviour(name: str, not_for: Reasons | None = None) -> Callable[[Check], Check]:
        def register(check: Check) -> Check:
            rows.append(Behaviour(name, check, not_for or {}))
            return check

        return register

    return behaviour


class ItemOptions(TypedDict, total=False):
    """What `make_item` takes besides a call."""

    wait_for: tuple[object, ...]
    backend: Backend | None
    retry: RetryPolicy
    time_limit: float | None
    listener: Listener | None


def submit_after(subject: Subject, upstream: Future[object], *args: object) -> AnyFuture:
    """Submit `same` to run after another run, whose value it does not get."""
    return dispatch(subject, same, *args, wait_for=(upstream,))


def dispatch(
    subject: Subject,
    function: AnyFunction[object],
    /,
    *args: object,
    **options: Unpack[ItemOptions],
) -> AnyFuture:
    """Submit a function with the options of `make_item`."""
    return dispatch_to(subject.runner, function, *args, **options)


def dispatch_to(
    runner: TaskRunner,
    function: AnyFunction[object],
    /,
    *args: object,
    **options: Unpack[ItemOptions],
) -> AnyFuture:
    """Submit a function to this runner, with the options of `make_item`."""
    run_id = new_run_id()
    name = getattr(function, "__name__", "function")
    run = TaskRun(run_id, f"{name}-{run_id[-8:]}", name)
    return runner.dispatch(make_item(function, args, {}, task_run=run, **options))


def run_on_each_loop(main: Callable[[], Awaitable[None]]) -> None:
    """Run an async check on trio and on asyncio."""
    for backend in ("trio", "asyncio"):
        anyio.run(main, backend=backend)


@contextmanager
def new_tally() -> Generator[Tally]:
    """Make a tally that lasts as long as the context."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Tally(str(Path(folder) / "tally"))


def assert_vanishes(reference: weakref.ref[T], what: str) -> None:
    """Assert that nothing refers to an object any more, as soon as those who did are through."""
    gone = threading.Event()
    if (value := reference()) is not None:
        weakref.finalize(value, gone.set)
        del value
        for _ in range(_LOOKS):
            gc.collect()
            if gone.wait(_PATIENCE / _LOOKS):
                break
    assert reference() is None, f"{what} is kept"


_LOOKS: Final = 100

#: How long something that should happen at once may take, in seconds.
_PATIENCE: Final = 10.0


@final
class Listening:
    """Notes what a run becomes, for `dispatch`; a listener, called in this process.

    Attributes:
        states: What it has become, as it comes.
    """

    def __init__(self) -> None:
        self.states: SimpleQueue[Running | Retrying] = SimpleQueue()

    def __call__(self, run: TaskRun, state: Running | Retrying) -> None:
        self.states.put(state)

    def next(self) -> Running | Retrying:
        """Wait for what it becomes next, and return that."""
        return self.states.get(timeout=_PATIENCE)

    def until_running(self) -> None:
        """Wait until it has become Running."""
        assert isinstance(self.next(), Running)

    def names(self) -> list[str]:
        """Return the names of what it has become so far, and forget them."""
        found = []
        while not self.states.empty():
            found.append(self.states.get().name)
        return found
