"""A flow that runs in place, with a subflow on a Dask cluster that lives as long as it does."""

from __future__ import annotations

from anabranch.flows import SequentialTaskRunner, flow, task
from anabranch.runners.dask import DaskTaskRunner


@task
def hello_local() -> None:
    print("Hello!")


@task
def hello_dask() -> None:
    print("Hello from Dask!")


@flow(task_runner=SequentialTaskRunner())
def sequential_flow() -> None:
    hello_local.submit()
    dask_subflow()
    hello_local.submit()


@flow(task_runner=DaskTaskRunner())
def dask_subflow() -> None:
    hello_dask.submit()


if __name__ == "__main__":
    sequential_flow()
