"""Behaviours of flows: how they end, what they return, and flows inside flows."""

from __future__ import annotations

import os
from typing import Final, cast

import anyio

from anabranch.flows._context import flow_run
from anabranch.flows._decorators import flow
from anabranch.flows._exceptions import ParameterError
from anabranch.flows.testing._functions import (
    Log,
    add,
    add_async,
    fail,
    hold,
    library,
    note,
    process,
    total,
)
from anabranch.futures import (
    Backend,
    Completed,
    Failed,
    FlowRun,
    Future,
    FutureList,
    RunnerNotStartedError,
    RunTimedOutError,
    State,
    TimedOut,
    wait_async,
)
from anabranch.futures.runner import AnyFunction
from anabranch.futures.testing import (
    Behaviour,
    Gate,
    Subject,
    Ticket,
    new_tally,
    raises,
    registrar,
    run_on_each_loop,
)

ROWS: Final[list[Behaviour]] = []
behaviour: Final = registrar(ROWS)


# ---------------------------------------------------------------------------- final states


@behaviour("ends a flow that returns None as the sum of its runs")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    def body(*messages: str) -> None:
        add.submit(1)
        for message in messages:
            add.submit(fail.submit(message))

    assert str(body.run()) == "Completed('All states completed.')"
    state = body.run("gone")
    assert str(state) == "Failed('2/3 states failed.')"
    with raises(LookupError, "gone"):
        state.result()
    several = body.run("one", "two").result(raise_on_failure=False)
    assert isinstance(several, ExceptionGroup)
    assert sorted(str(each) for each in several.exceptions) == ["one", "two"]


@behaviour("ends a flow that returns data as Completed with it, and warns of unseen failures")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    def body() -> str:
        fail.submit("seen").wait()
        fail.submit("unseen")
        return "data"

    with Log() as log:
        state = body.run()
    assert isinstance(state, Completed)
    assert state.value == "data"
    warning = f"Failed without anyone having looked at how they ended: 'fail-{fail.key}-1'"
    assert warning in log.messages()


@behaviour("ends a flow that returns futures or states as the sum of those")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    def body() -> list[object]:
        return [add.submit(1), {"state": fail.submit("gone").wait()}, add.submit(2)]

    state = body.run()
    assert str(state) == "Failed('1/3 states failed.')"
    with raises(LookupError, "gone"):
        state.result()


@behaviour("ends a flow that raises as Failed with that, and the call raises it")
def _(subject: Subject) -> None:
    error = KeyError("the body's own")

    @flow(task_runner=subject.make())
    def body() -> int:
        add.submit(1)
        raise error

    state = body.run()
    assert isinstance(state, Failed)
    assert state.exception is error
    with raises(KeyError, "the body's own"):
        body()


@behaviour("brings over what a flow returns, so that it can be read afterwards")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    def body() -> dict[str, FutureList[int] | list[Future[int]]]:
        return {"mapped": add.map([1, 2], [1, 1]), "one": [add.submit(5)]}

    returned = body()
    assert isinstance(returned["mapped"], FutureList)
    assert returned["mapped"].result() == [2, 3]
    assert returned["one"][0].result() == 5


@behaviour("gives each run of a flow a duplicate of its runner, and leaves the original alone")
def _(subject: Subject) -> None:
    runner = subject.make()
    body = flow(task_runner=runner)(lambda: add.submit(1).result())
    assert [body(), body()] == [1, 1]
    with raises(RunnerNotStartedError, "has not been started"):
        runner.submit(add, 1)


# ---------------------------------------------------------------------------- sync and async


@behaviour("runs async flows on trio and on asyncio")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    async def body() -> int:
        one = add.submit(1)
        assert (await one.wait_async()) is one.state
        assert (await wait_async([one])).done == [one]
        return await add_async.submit(one, await add.submit(one, 1))

    async def main() -> None:
        assert await body() == 3
        state = await body.run()
        assert isinstance(state, Completed)

    run_on_each_loop(main)


@behaviour("runs sync flows where an event loop runs already")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    def body() -> int:
        return add.submit(add_async.submit(1), 1).result()

    async def main() -> None:
        await anyio.lowlevel.checkpoint()
        assert body() == 2

    run_on_each_loop(main)


@behaviour("runs the async tasks of a sync flow on the event loop that the flow asks for")
def _(subject: Subject) -> None:
    backends: tuple[Backend, ...] = ("trio", "asyncio")
    for backend in backends:
        body = flow(task_runner=subject.make(), backend=backend)(lambda: library.submit().result())
        assert body() == backend


# ---------------------------------------------------------------------------- flows in flows


@behaviour("runs a flow that is called in a flow in place, as one run of it, on its own runner")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    def inner(x: int) -> FutureList[int]:
        return add.map([x, x + 1], [0, 0])

    @flow
    def outer() -> int:
        return total.submit(inner(add.submit(1).result())).result()

    @flow(task_runner=subject.make())
    def failing() -> None:
        add.submit(1)
        flow(task_runner=subject.make())(lambda: fail("gone")).run()

    @flow(task_runner=subject.make())
    def nested() -> int:
        return total.submit(inner(add.submit(1).result())).result()

    assert outer() == 3
    assert nested() == 3
    assert str(failing.run()) == "Failed('1/2 states failed.')"


@behaviour("runs submitted subflows beside each other, never in a place of the runner")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    def inner(ticket: Ticket, x: int) -> tuple[int, int]:
        ticket.wait()
        process.submit().wait()
        return add.submit(x, 1).result(), os.getpid()

    with Gate() as gate:

        @flow(task_runner=subject.make())
        def outer() -> list[tuple[int, int]]:
            runs = [inner.submit(gate.ticket, number) for number in range(2)]
            for _ in runs:
                gate.await_arrival()
            gate.open()
            return [run.result() for run in runs]

        assert outer() == [(1, os.getpid()), (2, os.getpid())]


@behaviour("lets a flow call itself, and submit itself")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make())
    def descend(depth: int) -> int:
        if depth == 0:
            return add.submit(1).result()
        below = descend(depth - 1) if depth % 2 else descend.submit(depth - 1).result()
        return add.submit(below, 1).result()

    assert descend(2) == 3


# ---------------------------------------------------------------------------- options of flows


@behaviour("retries a flow with a fresh runner, and forgets the failures of the attempt before")
def _(subject: Subject) -> None:
    attempts: list[int] = []

    @flow(task_runner=subject.make(), retries=2, retry_delay=0.01)
    def body() -> None:
        attempts.append(flow_run.attempt)
        add.submit(1)
        if flow_run.attempt < 3:
            fail.submit("gone")

    assert str(body.run()) == "Completed('All states completed.')"
    assert attempts == [1, 2, 3]


@behaviour("ends a flow whose time is up as TimedOut, and cancels what it has submitted")
def _(subject: Subject) -> None:
    futures: list[Future[int]] = []
    with new_tally() as tally, Gate() as gate:

        @flow(task_runner=subject.make(), timeout=0.05)
        async def body() -> None:
            futures.append(hold.submit(gate.ticket))
            futures.append(note.submit(tally, futures[-1]))
            await futures[-1]

        state = anyio.run(body.run)
        assert isinstance(state, TimedOut), state
        assert isinstance(state.exception, RunTimedOutError)
        assert all(future.done() for future in futures)
        gate.open()
        assert len(tally) == 0


@behaviour("names flow runs by a template, and calls the hooks of flows")
def _(subject: Subject) -> None:
    calls: list[tuple[str, str]] = []

    def hook(made: object, run: FlowRun, state: State[object]) -> None:
        calls.append((run.name, state.name))

    @flow(
        task_runner=subject.make(),
        flow_run_name="run-of-{x}",
        on_running=lambda made, run, state: calls.append((run.name, state.name)),
        on_completion=hook,
        on_failure=hook,
    )
    def body(x: int) -> int:
        return add.submit(x, 1).result() // (x - 1)

    assert body(2) == 3
    assert isinstance(body.run(1), Failed)
    assert calls == [
        ("run-of-2", "Running"),
        ("run-of-2", "Completed"),
        ("run-of-1", "Running"),
        ("run-of-1", "Failed"),
    ]


@behaviour("checks and converts the parameters of a flow if it is asked to")
def _(subject: Subject) -> None:
    @flow(task_runner=subject.make(), validate_parameters=True)
    def body(x: int) -> int:
        return add.submit(x, 1).result()

    call = cast("AnyFunction[int]", body)
    assert call("2") == 3
    run = cast("AnyFunction[State[int]]", body.run)
    assert isinstance(run("two").result(raise_on_failure=False), ParameterError)
