"""Greets four travellers, on the task runner of your choice.

    python examples/greetings.py --runner sequential|concurrent|dask|ray|mixed

``mixed`` greets on the concurrent runner, then calls a subflow that greets on Ray.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from anabranch.flows import ConcurrentTaskRunner, SequentialTaskRunner, TaskRunner, flow, task
from anabranch.runners.dask import DaskTaskRunner
from anabranch.runners.ray import RayTaskRunner

RUNNERS: dict[str, Callable[[], TaskRunner]] = {
    "sequential": SequentialTaskRunner,
    "concurrent": ConcurrentTaskRunner,
    "dask": DaskTaskRunner,
    "ray": RayTaskRunner,
}


@task
def say_hello(name: str) -> None:
    print(f"hello {name}")


@task
def say_goodbye(name: str) -> None:
    print(f"goodbye {name}")


@flow
def greetings(names: list[str]) -> None:
    for name in names:
        say_hello.submit(name)
        say_goodbye.submit(name)


@flow(task_runner=RayTaskRunner)
def ray_greetings(names: list[str]) -> None:
    for name in names:
        say_hello.submit(name)
        say_goodbye.submit(name)


@flow(name="greetings")
def mixed_greetings(names: list[str]) -> None:
    for name in names:
        say_hello.submit(name)
        say_goodbye.submit(name)
    ray_greetings(names)


def main() -> None:
    parser = argparse.ArgumentParser(description="Greet four travellers.")
    parser.add_argument("--runner", choices=[*RUNNERS, "mixed"], default="concurrent")
    runner = parser.parse_args().runner

    names = ["arthur", "trillian", "ford", "marvin"]
    if runner == "mixed":
        mixed_greetings(names)
    else:
        greetings.with_options(task_runner=RUNNERS[runner])(names)


if __name__ == "__main__":
    main()
