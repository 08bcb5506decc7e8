"""An elevator stops on every floor of a tower, in order, thanks to the sequential runner."""

from __future__ import annotations

import random

from anabranch.flows import SequentialTaskRunner, flow, task


@task
def stop_at_floor(floor: int) -> None:
    situation = random.choice(["on fire", "clear"])
    print(f"elevator stops on {floor} which is {situation}")


@flow(name="towering-infernflow", task_runner=SequentialTaskRunner())
def glass_tower() -> None:
    for floor in range(1, 39):
        stop_at_floor.submit(floor)


if __name__ == "__main__":
    glass_tower()
