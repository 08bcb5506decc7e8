"""The package as a whole: its public names, and what importing it costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import anabranch.flows


def test_the_public_names_are_sorted_and_there() -> None:
    """Everything in `__all__` exists, and the list is sorted."""
    names = anabranch.flows.__all__
    assert names == sorted(names)
    assert all(hasattr(anabranch.flows, name) for name in names)


def test_public_objects_say_where_they_are_imported_from() -> None:
    """No public class or function names a private module as its home."""
    for name in anabranch.flows.__all__:
        module = getattr(getattr(anabranch.flows, name), "__module__", "anabranch")
        assert "._" not in str(module), name


def printed_by(code: str) -> str:
    """Return what a new Python prints that runs some code."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    return done.stdout.strip()


@pytest.mark.slow
def test_importing_flows_imports_nothing_heavy() -> None:
    """Importing the flows brings no runner's backend, no event loop, and nothing for a few."""
    heavy = {"dask", "distributed", "ray", "numpy", "pandas", "cloudpickle", "pydantic", "coolname"}
    heavy |= {"trio", "asyncio", "concurrent.futures", "multiprocessing", "ssl", "subprocess"}
    heavy |= {"pytest", "anabranch.futures.testing", "anabranch.flows.testing"}
    code = f"import sys, anabranch.flows; print(sorted({heavy} & set(sys.modules)))"
    assert printed_by(code) == "[]"


@pytest.mark.slow
def test_flows_of_sync_tasks_import_no_event_loop() -> None:
    """Neither runner of this process needs an event loop for what is not async."""
    code = """if True:
        import sys
        from anabranch.flows import SequentialTaskRunner, flow, task

        @task
        def add(x, y):
            return x + y

        @flow
        def total():
            return add.submit(add.submit(1, 2), add(3, 4)).result()

        print(total(), total.with_options(task_runner=SequentialTaskRunner())())
        print(sorted({"trio", "asyncio"} & set(sys.modules)))
        """
    assert printed_by(code) == "10 10\n[]"


@pytest.mark.parametrize("name", ["_mappable.py", "_runnable.py"])
def test_the_generated_overloads_hold_eight_positions(name: str) -> None:
    """Futures are typed for the first eight positions of `submit`, with and without `wait_for`."""
    assert anabranch.flows.__file__ is not None
    source = (Path(anabranch.flows.__file__).parent / name).read_text()
    assert source.count("h: ") >= 1
