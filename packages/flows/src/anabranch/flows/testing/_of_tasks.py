"""Behaviours of tasks: what can be one, how it is called, what it sees, and how it is tried."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Final

from anabranch.flows._context import flow_run, task_run
from anabranch.flows._decorators import flow, task
from anabranch.flows._tags import tags
from anabranch.flows._task import Task
from anabranch.flows.testing._functions import (
    Double,
    Log,
    Order,
    Scale,
    add,
    add_async,
    amount,
    count,
    count_async,
    end_in,
    fail,
    fail_as_told,
    forget_to_await,
    hold,
    kind,
    leave_program,
    log_and_print,
    process,
    see,
    see_async,
    sleep_noted,
    total,
    try_until,
    try_until_async,
)
from anabranch.futures import (
    Cancelled,
    Completed,
    ConcurrencyType,
    Crashed,
    Failed,
    Running,
    RunTimedOutError,
    State,
    TaskRun,
    TimedOut,
    UpstreamFailed,
    UpstreamFailedError,
    allow_failure,
    exponential_backoff,
    lift,
    quote,
    unmapped,
)
from anabranch.futures.testing import (
    NOT_IN_PLACE,
    Behaviour,
    Gate,
    Subject,
    new_tally,
    raises,
    registrar,
)

ROWS: Final[list[Behaviour]] = []
behaviour: Final = registrar(ROWS)


# ---------------------------------------------------------------------------- calling


@behaviour("runs a task that is called directly in place, and returns its value")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    def body() -> tuple[int, int, str]:
        assert process.submit().wait() is not None
        with raises(LookupError, "gone"):
            fail("gone")
        return process(), add.submit(add(1, 1), 1).result(), str(fail.run("gone"))

    pid, value, state = body()
    assert (pid, value) == (os.getpid(), 3)
    assert state == "Failed('LookupError: gone')"


@behaviour(
    "executes submitted tasks in this process",
    not_for={ConcurrencyType.PARALLEL: "it executes them in others"},
)
def _(subject: Subject) -> None:
    assert flow(task_runner=subject.make())(lambda: process.submit().result())() == os.getpid()


@behaviour(
    "executes submitted tasks in other processes",
    not_for={
        ConcurrencyType.SEQUENTIAL: "it executes them in this one",
        ConcurrencyType.CONCURRENT: "it executes them in this one",
    },
)
def _(subject: Subject) -> None:
    assert flow(task_runner=subject.make())(lambda: process.submit().result())() != os.getpid()


@behaviour("passes values from task to task: sync and async, mapped, and in containers")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    def body() -> list[object]:
        one = add.submit(1)
        mapped = add_async.map([one, 2, 3], unmapped(10))
        return [
            add.submit(add_async.submit(one, 1), lift(one)).result(),
            mapped.result(),
            total.submit(mapped).result(),
            amount.submit(Order({"a": [lift(one), 2], "b": [lift(mapped[0])]})).result(),
            total.submit(quote([1, 2])).result(),
        ]

    assert body() == [3, [11, 12, 13], 36, 14, 3]


@behaviour("runs functions of all kinds: lambdas, closures, partials, callables and methods")
def _(subject: Subject) -> None:
    factor = 3
    kinds: list[Callable[[int], object]] = [
        lambda x: x * factor,
        Double(),
        Double().__call__,
        functools.partial(pow, 2),
        functools.partial(add.function, y=1),
        Scale(5).weigh.function,
    ]

    @flow(task_runner=subject.make())
    def body() -> list[object]:
        found = [task(each).submit(4).result() for each in kinds]
        methods = [Scale(3).weigh.submit(2), Scale(3).weigh_async.submit(2), Scale.named.submit(1)]
        return [*found, *(each.result() for each in methods)]

    assert body() == [12, 8, 8, 16, 5, 20, 6, 6, "Scale 1"]


@behaviour("returns what a generator yields as a list")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    def body() -> list[object]:
        runs = [count.submit(2), count_async.submit(3), Scale.count.submit(1)]
        return [run.result() for run in runs]

    assert body() == [[0, 1], [0, 1, 2], [0]]


@behaviour("fails a sync task that returns a coroutine, and says what to do")
def _(subject: Subject) -> None:
    state = flow(task_runner=subject.make())(lambda: forget_to_await.submit().wait()).run()
    with raises(TypeError, "'forget_to_await' returned a coroutine", "Decorate"):
        state.result()


@behaviour("ends a task in the state that it returns")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    def body() -> list[object]:
        ended = end_in.submit(Completed(4))
        failed = fail_as_told.submit()
        return [ended.result(), str(failed.wait())]

    assert body() == [4, "Failed('as it was told')"]


@behaviour("tells failures alike: of a run, behind it, and to those that allow for it")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    def body() -> str:
        failed = fail.submit("gone")
        behind = add.submit(add.submit(failed))
        waiting = add.submit(1, wait_for=[failed])
        tolerant = kind.submit(allow_failure(failed))
        assert str(failed.wait()) == "Failed('LookupError: gone')"
        assert type(failed.exception()) is LookupError
        assert isinstance(failed.result(raise_on_failure=False), LookupError)
        state = behind.wait()
        assert isinstance(state, UpstreamFailed)
        assert type(state.cause) is LookupError
        with raises(UpstreamFailedError, failed.task_run.name, "gone"):
            behind.result()
        assert isinstance(waiting.wait(), UpstreamFailed)
        return tolerant.result()

    assert body() == "LookupError"


# ---------------------------------------------------------------------------- what a run sees


@behaviour("shows a run itself, its flow run, its parameters and its tags, wherever it executes")
def _(subject: Subject) -> None:
    @flow(name="watched", flow_run_name="my-run", task_runner=subject.make())
    def body() -> tuple[object, ...]:
        with tags("around"):
            future = see.submit(lift(add.submit(1)), 2)
        run, seen = future.task_run, future.result()
        assert not task_run
        return run.name, run.id, flow_run.id, seen, see_async.submit(5).result()

    name, run_id, flow_run_id, seen, seen_async = body()
    assert seen == {
        "names": ("see", name, "watched", "my-run"),
        "ids": (run_id, flow_run_id),
        "parameters": {"x": 1, "more": (2,), "y": "z"},
        "tags": {"own", "around"},
        "attempts": (1, 1),
    }, seen
    assert seen_async == {"x": 5}


@behaviour("names runs by their task and a number, by a template, or as a callable says")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    def body() -> list[str]:
        futures = [
            add.submit(1),
            add.submit(2),
            add.with_options(task_run_name="{x}-and-{y}").submit(1, 2),
            add.with_options(task_run_name=lambda: "called").submit(1),
        ]
        assert [future.result() for future in futures] == [1, 2, 3, 1]
        return [future.task_run.name for future in futures]

    assert body() == [f"add-{add.key}-0", f"add-{add.key}-1", "1-and-2", "called"]


@behaviour("logs each run from its creation to its end")
def _(subject: Subject) -> None:
    runner = subject.make()

    @flow(name="logged", task_runner=runner)
    def body() -> None:
        add.submit(1).wait()
        fail.submit("gone").wait()

    with Log() as log:
        body.run()
    messages = log.messages()
    name = f"add-{add.key}-0"
    concurrency = runner.concurrency_type.value
    expected = [
        f"Starting {str(runner)!r}; submitted tasks will be run {concurrency}...",
        f"Created task run {name!r} for task 'add'",
        "Finished in state Completed()",
        "Finished in state Failed('LookupError: gone')",
    ]
    places = [messages.index(each) for each in expected]
    assert places == sorted(places)
    assert messages[-1] == "Finished in state Failed('1/2 states failed.')"
    sent = (f"Executing {name!r} immediately...", f"Submitted task run {name!r} for execution.")
    assert len({*sent} & {*messages}) == 1
    ends = [each for each in log.records if getattr(each, "task_run_name", None) == name]
    assert [each.getMessage() for each in ends] == ["Finished in state Completed()"]


@behaviour("brings what a task logs and prints to the handlers of this process")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make(), log_prints=True)
    def body() -> str:
        return log_and_print.submit("word").result()

    with Log() as log:
        assert body() == "word"
    found = [each for each in log.records if each.getMessage() in ("logged word", "printed word")]
    assert len(found) == 2
    assert {vars(each)["task_name"] for each in found} == {"log_and_print"}


# ---------------------------------------------------------------------------- hooks


@behaviour("calls hooks in this process, before the flow ends")
def _(subject: Subject) -> None:
    calls: list[tuple[str, str, int]] = []

    def hook(made: object, run: TaskRun, state: State[object] | Running) -> None:
        assert isinstance(made, Task)
        calls.append((made.name, state.name, os.getpid()))

    async def hook_async(made: object, run: TaskRun, state: State[object]) -> None:
        hook(made, run, state)

    @flow(task_runner=subject.make())
    def body() -> str:
        add.with_options(on_running=hook, on_completion=[hook]).submit(1).wait()
        fail.with_options(on_completion=hook, on_failure=hook_async).submit("gone").wait()
        return "done"

    body()
    pid = os.getpid()
    assert sorted(calls) == [
        ("add", "Completed", pid),
        ("add", "Running", pid),
        ("fail", "Failed", pid),
    ]


@behaviour(
    "calls the hooks of runs that crashed or were cancelled",
    not_for={
        ConcurrencyType.SEQUENTIAL: "in sync code a task that exits ends the program, and there is "
        "no time to cancel a run in"
    },
)
def _(subject: Subject) -> None:
    calls: list[str] = []

    def hook(made: object, run: TaskRun, state: State[object] | Running) -> None:
        calls.append(state.name)

    with new_tally() as tally, Gate() as gate:

        @flow(task_runner=subject.make())
        def body() -> str:
            crashed = leave_program.with_options(on_crashed=hook).submit(tally)
            assert isinstance(crashed.wait(), Crashed)
            first = hold.submit(gate.ticket)
            behind = add.with_options(on_cancellation=hook).submit(first)
            behind.cancel()
            assert isinstance(behind.wait(), Cancelled)
            gate.open()
            return "done"

        body()
    assert sorted(calls) == ["Cancelled", "Crashed"]


# ---------------------------------------------------------------------------- attempts


@behaviour("retries tasks, submitted or called, sync or async, and logs each failed attempt")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    def body() -> str:
        delay = exponential_backoff(0.01)
        for each in (try_until, try_until_async):
            with new_tally() as tally:
                run = each.with_options(retries=2, retry_delay=delay).submit(tally, 3)
                assert run.result() == 3
                assert tally.words() == ["1", "2", "3"]
        with new_tally() as tally:
            assert try_until.with_options(retries=1)(tally, 2) == 2
        return "done"

    with Log() as log:
        body()
    retried = [each for each in log.messages() if each.startswith("Attempt 1 of ")]
    assert len(retried) == 3, retried


@behaviour("calls a hook for each attempt, and asks the condition whether there is another")
def _(subject: Subject) -> None:
    attempts: list[str] = []

    def hook(made: object, run: TaskRun, state: State[object] | Running) -> None:
        attempts.append(state.name)

    with new_tally() as tally:

        @flow(task_runner=subject.make())
        def body() -> str:
            told = try_until.with_options(retries=5, on_running=hook, retry_condition=is_first)
            assert isinstance(told.submit(tally, 5).wait(), Failed)
            return "done"

        body()
        assert tally.words() == ["1", "2"]
    assert attempts == ["Running", "Running"]


def is_first(state: State[object]) -> bool:
    """Whether the first attempt has failed so, for a retry policy."""
    return isinstance(state, Failed) and "attempt 1 " in str(state)


@behaviour("ends tasks whose time is up as TimedOut, submitted or called, sync or async")
def _(subject: Subject) -> None:
    with new_tally() as tally, Gate() as gate:

        @flow(task_runner=subject.make())
        def body() -> str:
            quick = sleep_noted.with_options(timeout=0.05).submit(tally)
            assert isinstance(quick.wait(), TimedOut)
            with raises(RunTimedOutError, quick.task_run.name):
                quick.result()
            assert tally.words() == ["started", "stopped"]
            limited = hold.with_options(timeout=0.05)
            assert isinstance(limited.submit(gate.ticket).wait(timeout=30), TimedOut)
            assert isinstance(limited.run(gate.ticket), TimedOut)
            return "done"

        body()


@behaviour("takes options for other runners, and ignores them")
def _(subject: Subject) -> None:
    names = {"sequential", "concurrent", "dask", "ray", "nowhere"} - {subject.name}
    elsewhere = add.with_options(runner_options={name: {"unheard_of": 1} for name in names})

    @flow(task_runner=subject.make())
    def body() -> list[int]:
        first = elsewhere.submit(1, 1)
        return [first.result(), elsewhere.submit(lift(first), 1).result(), elsewhere(3, 1)]

    assert body() == [2, 3, 4]


@behaviour("says which submitted runs are running and which are pending", not_for=NOT_IN_PLACE)
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    def body() -> int:
        with Gate() as gate:
            first = hold.submit(gate.ticket, 3)
            gate.await_arrival()
            behind = add.submit(first, 1)
            assert behind.state.name == "Pending"
            assert not first.done()
            gate.open()
            return behind.result()

    assert body() == 4
