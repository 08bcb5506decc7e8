"""What a behaviour is, and how a table of them is run."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final, Self, final

import anyio
import attrs

from anabranch.futures import ConcurrencyType, Future, TaskRun, TaskRunner
from anabranch.futures.runner import make_item, new_run_id
from anabranch.futures.testing._functions import same


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

    @property
    def runner(self) -> TaskRunner:
        """A started runner, shared by the behaviours."""
        if self._runner is None:
            self._runner = self.make().__enter__()
        return self._runner

    @property
    def concurrency_type(self) -> ConcurrencyType:
        """How the tasks of the runner relate in time."""
        return self.make().concurrency_type

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.__exit__(None, None, None)


@final
@attrs.frozen
class Behaviour:
    """Something that every task runner must do.

    Attributes:
        name: What it does, as one sentence.
        check: Raises AssertionError if the runner does not.
        not_for: The kinds of runners that truly cannot, each with the reason.
    """

    name: str
    check: Callable[[Subject], None]
    not_for: Mapping[ConcurrencyType, str] = {}

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
    outcome: str
    details: str = ""


def judge(behaviour: Behaviour, subject: Subject) -> Verdict:
    """Check one behaviour of one runner."""
    reason = behaviour.not_for.get(subject.concurrency_type)
    if reason is not None:
        return Verdict(behaviour, "-", reason)
    try:
        behaviour.check(subject)
    except Exception:  # Whatever is raised is what is reported.
        return Verdict(behaviour, "no", traceback.format_exc())
    return Verdict(behaviour, "yes")


def judge_all(behaviours: Iterable[Behaviour], make: Callable[[], TaskRunner]) -> list[Verdict]:
    """Check a table of behaviours of one runner, which is started once.

    Args:
        behaviours: The table.
        make: Makes a runner that has not been started.
    """
    with Subject(make) as subject:
        return [judge(behaviour, subject) for behaviour in behaviours]


def report(verdicts: Mapping[str, Iterable[Verdict]]) -> str:
    """Return a Markdown table of behaviours by runner.

    Args:
        verdicts: For each runner's name, what `judge_all` returned.
    """
    rows: dict[str, dict[str, str]] = {}
    for runner, column in verdicts.items():
        for verdict in column:
            rows.setdefault(verdict.behaviour.name, {})[runner] = verdict.outcome
    lines = [
        "| behaviour | " + " | ".join(verdicts) + " |",
        "|---|" + "---|" * len(verdicts),
    ]
    for name, outcomes in rows.items():
        lines.append(
            f"| {name} | " + " | ".join(outcomes.get(each, "") for each in verdicts) + " |"
        )
    return "\n".join(lines)


def raises(kind: type[BaseException], *words: str) -> AbstractContextManager[None]:
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
NOT_IN_PLACE: Final = {
    ConcurrencyType.SEQUENTIAL: "its submit returns when the run has ended, in sync code"
}


def registrar(
    rows: list[Behaviour],
) -> Callable[..., Callable[[Callable[[Subject], None]], Callable[[Subject], None]]]:
    """Return a decorator that puts checks into a table, with their names."""

    def behaviour(
        name: str, not_for: Mapping[ConcurrencyType, str] | None = None
    ) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
        def register(check: Callable[[Subject], None]) -> Callable[[Subject], None]:
            rows.append(Behaviour(name, check, not_for or {}))
            return check

        return register

    return behaviour


def submit_after(subject: Subject, upstream: Future[Any], *args: object) -> Future[Any]:
    """Submit `same` to run after another run, whose value it does not get."""
    run = TaskRun(new_run_id(), "later", "same")
    return subject.runner.dispatch(make_item(same, args, {}, task_run=run, wait_for=(upstream,)))


def run_on_each_loop(main: Callable[[], Awaitable[None]]) -> None:
    """Run an async check on trio and on asyncio."""
    for backend in ("trio", "asyncio"):
        anyio.run(main, backend=backend)
