"""Options for task runners: how a task takes them, and which items have them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import TypeVar

import pytest

from anabranch.flows import (
    ConcurrentTaskRunner,
    Future,
    SequentialTaskRunner,
    TaskRunner,
    flow,
    task,
)
from anabranch.futures import WorkItem
from anabranch.futures.runner import current_scope

R = TypeVar("R")

RUNNERS = [SequentialTaskRunner, ConcurrentTaskRunner]
OPTIONS = {"dask": {"priority": 10}, "ray": {"num_gpus": 1}}


@task(runner_options=OPTIONS)
def add(x: int, y: int = 1) -> int:
    """Add two numbers."""
    return x + y


class Options:
    """Takes note of the options of what is submitted."""

    def __init__(self) -> None:
        self.seen: list[Mapping[str, Mapping[str, object]]] = []

    def __call__(
        self, item: WorkItem[R], submit: Callable[[WorkItem[R]], Future[R]], /
    ) -> Future[R]:
        """Submit it as it is."""
        self.seen.append(item.runner_options)
        return submit(item)


@pytest.mark.parametrize("make", RUNNERS)
def test_local_runners_ignore_options(make: Callable[[], TaskRunner]) -> None:
    """A task with options for others runs on a local runner, also if they are for that one."""
    own = add.with_options(runner_options={"sequential": {"x": 1}, "concurrent": {"x": 1}})

    @flow(task_runner=make())
    def body() -> list[int]:
        return [add.submit(1).result(), own.submit(2).result(), add(3), *add.map([4, 5]).result()]

    assert body() == [2, 3, 4, 5, 6]


def test_every_item_of_a_task_has_its_options() -> None:
    """What is submitted and mapped has the options; other tasks have none; the last ones count."""
    other = add.with_options(runner_options={"dask": {"retries": 1}})
    plain = task(lambda: 1)

    @flow(task_runner=SequentialTaskRunner())
    def body() -> list[Mapping[str, Mapping[str, object]]]:
        options = Options()
        scope = current_scope.get()
        assert scope is not None
        assert scope.runner is not None
        scope.runner.around_submit = options
        add.submit(1)
        add.map([1])
        other.submit(1)
        plain.submit()
        return options.seen

    assert body() == [OPTIONS, OPTIONS, {"dask": {"retries": 1}}, {}]


def test_options_are_kept_as_they_were() -> None:
    """A task keeps its options whatever becomes of the mappings, and takes them along."""
    options = {"dask": {"priority": 10}}
    made = add.with_options(runner_options=options)
    options["dask"]["priority"] = 20
    copy = pickle.loads(pickle.dumps(made.with_options(name="plus")))
    assert copy._options["runner_options"] == {"dask": {"priority": 10}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priority": 10}, r"name the runner that they are for, as in runner_options=\{\"dask\": "),
        ({SequentialTaskRunner: {}}, r"name the runner that they are for, as in runner_options="),
        ({"dask": {1: 2}}, r"1 is not the name of an option, as in runner_options=\{\"dask\": \{"),
        (["dask"], r"give the names of runners and options for each, as in runner_options=\{\"da"),
        (None, r"give the names of runners and options for each"),
    ],
)
def test_options_are_checked_at_decoration(options: object, message: str) -> None:
    """What is no mapping of names to mappings is refused, and shown how it should be."""
    wrong: dict[str, object] = {"runner_options": options}
    with pytest.raises(TypeError, match=rf"@task\(runner_options=.*{message}"):
        task(**wrong)  # type: ignore[call-overload]  # That is the point.
    with pytest.raises(TypeError, match=message):
        add.with_options(**wrong)  # type: ignore[arg-type]  # That is the point.
