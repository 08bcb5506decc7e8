"""What a library does that needs futures alone: it takes any task runner, and brings none.

python with_futures.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar, assert_never, assert_type, final

from anabranch.futures import (
    Cancelled,
    Completed,
    ConcurrencyType,
    Crashed,
    Failed,
    Future,
    FutureList,
    State,
    TaskRunner,
    TimedOut,
    UpstreamFailed,
    WorkItem,
    gather,
    lift,
)
from anabranch.futures.runner import run_item, run_item_in_new_loop, when_ready

R = TypeVar("R")
T = TypeVar("T")


def map_reduce(
    runner: TaskRunner,
    function: Callable[[T], R],
    items: Sequence[T],
    reduce: Callable[[list[R]], R],
) -> Future[R]:
    """Apply a function to each item, and another one to all that comes of it."""
    results: FutureList[R] = gather(runner.submit(function, item) for item in items)
    return runner.submit(reduce, lift(results))


def told(state: State[object]) -> str:
    """Return in a word or two how a run ended."""
    match state:
        case Completed(value):
            return f"gave {value}"
        case Failed(exception):
            return f"raised {type(exception).__name__}"
        case TimedOut() | Cancelled():
            return "was stopped"
        case Crashed(message):
            return f"broke: {message}"
        case UpstreamFailed():
            return f"was spared by {type(state.cause).__name__}"
        case _:
            assert_never(state)


@final
class EagerTaskRunner(TaskRunner):
    """The smallest runner that there is: it runs what is submitted there and then."""

    @property
    def concurrency_type(self) -> ConcurrencyType:
        """Sequential: in the order of their submission."""
        return ConcurrencyType.SEQUENTIAL

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        run: Future[R] = Future(item.task_run, listener=item.listener)
        self.admit(run)

        def execute() -> None:
            if run.set_running():
                run.set_final(run_item_in_new_loop(item) if item.is_async else run_item(item))

        when_ready(item, execute, run.set_final)
        return run


def inverse(number: float) -> float:
    """Return 1 / number."""
    return 1 / number


def total(numbers: list[float]) -> float:
    """Return the sum of numbers."""
    return sum(numbers)


def main() -> None:
    """Try it with numbers that have inverses, and with one that has none."""
    with EagerTaskRunner() as runner:
        some = assert_type(map_reduce(runner, inverse, [1.0, 2.0, 4.0], total), Future[float])
        print("the sum", told(some.wait()))
        none = map_reduce(runner, inverse, [1.0, 0.0], total)
        print("the sum", told(none.wait()))


if __name__ == "__main__":
    main()
