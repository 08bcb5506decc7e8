"""What states a run goes through, who is told of them, and that no others can be."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anabranch.futures import (
    Cancellation,
    Cancelled,
    Completed,
    Future,
    Pending,
    Retrying,
    Running,
    State,
    TaskRun,
    Unfinished,
)
from anabranch.futures.runner import Listener

RUN = TaskRun("1", "run", "task")

#: What may follow what; a run begins Pending, and anything may be the last so far.
FOLLOWERS: dict[str, set[str]] = {
    "Pending": {"Running", "Completed", "Cancelled"},
    "Running": {"Retrying", "Completed", "Cancelled"},
    "Retrying": {"Running", "Completed", "Cancelled"},
    "Completed": set(),
    "Cancelled": set(),
}


def new_run(listener: Listener | None = None) -> Future[int]:
    """Make the future of a run."""
    return Future(RUN, listener=listener)


def names(states: tuple[State[int] | Unfinished, ...]) -> list[str]:
    """Return the names of states, after a check that they are in the order of their times."""
    assert all(first.timestamp <= second.timestamp for first, second in pairwise(states))
    return [type(each).__name__ for each in states]


#: What runners do to a run: what it may be in for that to succeed, and what it is in then.
ACTIONS: dict[str, tuple[Callable[[Future[int]], bool], set[str], str]] = {
    "set_running": (Future.set_running, {"Pending", "Retrying"}, "Running"),
    "set_retrying": (lambda run: run.set_retrying(Retrying()), {"Running"}, "Retrying"),
    "set_final": (
        lambda run: run.set_final(Completed(1)),
        {"Pending", "Running", "Retrying"},
        "Completed",
    ),
    "set_final_unless_running": (
        lambda run: run.set_final_unless_running(Cancelled()),
        {"Pending", "Retrying"},
        "Cancelled",
    ),
    "abandon": (
        lambda run: run.abandon(Cancelled()),
        {"Pending", "Running", "Retrying"},
        "Cancelled",
    ),
    "cancel": (lambda run: run.cancel() is not Cancellation.CANNOT_STOP, set(), ""),
}


@settings(max_examples=40)
@given(st.lists(st.sampled_from(sorted(ACTIONS)), max_size=12))
@example(["set_running", "set_retrying"] * 2 + ["set_final"])
def test_whatever_is_done_to_a_run_its_history_is_legal(actions: list[str]) -> None:
    """Each act succeeds in the right states only, says so, and adds one state to the history."""
    told: list[Running | Retrying] = []
    run = new_run(lambda _, state: told.append(state))
    expected = ["Pending"]
    for name in actions:
        act, allowed, following = ACTIONS[name]
        is_allowed = expected[-1] in allowed
        assert act(run) is is_allowed
        if is_allowed:
            expected.append(following)
        assert names(run.history) == expected
        assert type(run.state).__name__ == expected[-1]
        assert run.is_running() is (expected[-1] == "Running")
        assert run.done() is (expected[-1] in ("Completed", "Cancelled"))
    assert [type(each).__name__ for each in told] == [
        each for each in expected if each in ("Running", "Retrying")
    ]


@settings(max_examples=40)
@given(st.lists(st.sampled_from(sorted(ACTIONS)), min_size=2, max_size=8))
def test_whoever_acts_at_the_same_time_the_history_is_legal(actions: list[str]) -> None:
    """However the acts of several threads fall together, no history comes about that cannot be."""
    run = new_run()
    barrier = threading.Barrier(3)

    def act(mine: list[str]) -> None:
        barrier.wait()
        for name in mine:
            ACTIONS[name][0](run)

    threads = [threading.Thread(target=act, args=(actions[n::2],)) for n in range(2)]
    for thread in threads:
        thread.start()
    barrier.wait()
    seen = [names(run.history) for _ in range(10)]
    for thread in threads:
        thread.join()
    seen.append(names(run.history))
    for each in seen:
        assert each[0] == "Pending"
        assert all(second in FOLLOWERS[first] for first, second in pairwise(each)), each
    assert all(later[: len(earlier)] == earlier for earlier, later in pairwise(seen))


def test_the_history_keeps_the_states_themselves() -> None:
    """What the history shows of a wait between attempts is what was given, with its message."""
    run = new_run()
    waiting = Retrying(message="once more")
    end: State[object] = Completed(1)
    run.set_running()
    run.set_retrying(waiting)
    assert run.state is waiting
    assert run.history[-1] is waiting
    run.set_running()
    run.set_final(end)
    _, _, before, _, last = run.history
    assert before is waiting
    assert last is end


def test_a_run_that_waits_for_its_next_attempt_is_not_running() -> None:
    """Between attempts a run is over at once if it is cancelled, and the history says so."""
    run = new_run()
    run.set_running()
    assert not run.set_final_unless_running(Cancelled())
    run.set_retrying(Retrying())
    assert "Retrying()" in repr(run)
    assert run.set_final_unless_running(Cancelled())
    assert names(run.history) == ["Pending", "Running", "Retrying", "Cancelled"]
    assert not run.set_running()


def test_the_end_in_the_history_counts_as_a_look() -> None:
    """Whoever reads the history of a run that has ended has seen how it ended."""
    run = new_run()
    assert len(run.history) == 1
    assert not run.was_observed()
    run.set_final(Completed(1))
    assert len(run.history) == 2
    assert run.was_observed()


# ------------------------------------------------------------------------- listeners


def test_a_listener_is_told_of_all_but_the_end() -> None:
    """It gets the run and each Running and Retrying in order, as the history has them."""
    told: list[tuple[TaskRun, Running | Retrying]] = []
    run = new_run(lambda *what: told.append(what))
    assert told == []
    run.set_running()
    run.set_running()
    run.set_retrying(Retrying(message="again"))
    run.set_retrying(Retrying(message="refused"))
    run.set_running()
    run.set_final(Completed(1))
    run.set_running()
    assert [each for each, _ in told] == [RUN] * 3
    assert [(type(each).__name__, each.message) for _, each in told] == [
        (type(each).__name__, each.message) for each in run.history[1:-1]
    ]
    assert [each.timestamp for _, each in told] == [each.timestamp for each in run.history[1:-1]]


def test_a_listener_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What a listener raises is logged with the run's name, and is not in the run's way."""

    def fail(_: TaskRun, state: Running | Retrying) -> None:
        raise ZeroDivisionError(type(state).__name__)

    run = new_run(fail)
    with caplog.at_level(logging.ERROR, "anabranch.futures"):
        assert run.set_running()
        assert run.set_retrying(Retrying())
    assert [each.getMessage() for each in caplog.records] == ["A listener of run 'run' failed"] * 2
    assert "ZeroDivisionError: Running" in caplog.text
    assert isinstance(run.state, Retrying)


def test_a_listener_may_look_at_the_run() -> None:
    """A listener is called outside the run's lock."""
    seen: list[list[str]] = []
    run = new_run(lambda *_: seen.append(names(run.history)))
    run.set_running()
    assert seen == [["Pending", "Running"]]


def test_a_pending_run_has_a_time() -> None:
    """The first state of the history is Pending since the run was submitted."""
    (state,) = new_run().history
    assert isinstance(state, Pending)
    assert state.timestamp.tzinfo is not None
