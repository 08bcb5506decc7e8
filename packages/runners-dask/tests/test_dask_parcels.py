"""Runs as they travel to workers, without a cluster."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from dask_tasks import increment

from anabranch.futures import TaskRun
from anabranch.futures.runner import LogLevels, RunStop, Shipment, make_item
from anabranch.runners.dask._home import Home
from anabranch.runners.dask._parcel import Packer, Parcel
from anabranch.runners.dask._stopping import stop_runs
from anabranch.runners.dask._worker import _Progress, execute

HOME = Home(f"anabranch-{'c' * 40}", "a" * 32, LogLevels(20, 30))


def same(value: object) -> object:
    """Return what is given."""
    return value


def touch(path: Path) -> None:
    """Leave a trace."""
    path.touch()


def test_what_is_sent_for_a_run_is_small() -> None:
    """A run of a small function costs less than a kilobyte; the function is pickled once."""
    packer = Packer(f"anabranch-{'c' * 40}")

    def pack(number: int) -> Parcel:
        run = TaskRun("a" * 32, "increment-811087cd-0", "increment")
        shipment = Shipment((number,), {}, True, run, None, False, None)
        return packer(make_item(increment, (number,), {}, task_run=run), shipment, HOME, 0)

    first, second = pack(1), pack(2)
    assert len(pickle.dumps(first)) < 1024
    assert first.function is second.function


def test_the_function_of_a_task_is_pickled_once() -> None:
    """So is one in a partial that binds nothing, as a task has it; what is bound may change."""
    packer = Packer("topic")

    def pack(function: Callable[..., object]) -> Parcel:
        run = TaskRun("a" * 32, "increment-0", "increment")
        shipment = Shipment((1,), {}, True, run, None, False, None)
        return packer(make_item(function, (1,), {}, task_run=run), shipment, HOME, 0)

    of_task, bound = functools.partial(increment), functools.partial(same, [])
    assert pack(of_task).function is pack(of_task).function
    assert pack(bound).function is not pack(bound).function


def test_a_parcel_travels_out_of_band() -> None:
    """The bytes of a parcel are not copied when Dask pickles it, and it is printed in short."""
    parcel = Parcel("topic", "a" * 32, "increment-0", b"function", b"x" * 100_000, HOME)
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(parcel, protocol=5, buffer_callback=buffers.append)
    assert len(pickled) < 1024
    copy = pickle.loads(pickled, buffers=buffers)
    assert bytes(copy.shipment) == parcel.shipment
    assert repr(copy) == "<Parcel of 'increment-0'>"


def test_a_small_parcel_travels_in_one_piece() -> None:
    """Each buffer is a part of the message, which is dear if there are many."""
    parcel = Parcel("topic", "a" * 32, "increment-0", b"function", b"x" * 1_000, HOME)
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(parcel, protocol=5, buffer_callback=buffers.append)
    assert buffers == []
    assert pickle.loads(pickled).shipment == parcel.shipment


def test_a_failure_brings_no_value_along() -> None:
    """Of a run that has failed, and whose attempts were announced, nothing is left to tell."""
    parcel = Parcel("topic", "a" * 32, "increment-0", b"function", b"shipment", HOME)
    events = list[object]()
    worker = SimpleNamespace(log_event=lambda _, event: events.append(event))
    progress = _Progress(cast("Any", worker), parcel, RunStop())
    progress.ended()
    assert events == []
    progress.ended(1)
    assert len(events) == 1


def test_a_run_that_is_refused_by_its_worker_is_cancelled(tmp_path: Path) -> None:
    """A worker refuses a run that it has been told to stop before it came."""
    parcel = Packer("topic")(
        make_item(touch, (tmp_path / "ran",), {}, task_run=TaskRun("a" * 32, "touch-0", "touch")),
        Shipment((), {}, True, TaskRun("a" * 32, "touch-0", "touch"), None, False, None),
        HOME,
        0,
    )
    stop_runs([parcel.run_id])
    with pytest.raises(match="'touch-0' ended in state Cancelled"):
        execute(parcel)
    assert not (tmp_path / "ran").exists()
