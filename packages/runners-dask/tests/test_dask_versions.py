"""What is said of a cluster that has other packages than this process, or lacks some."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import NoReturn

import cloudpickle
import pytest
from dask_processes import scheduler_process, with_version, without_anabranch, worker_process

from anabranch.futures import Crashed, MissingDependencyError
from anabranch.runners.dask import DaskTaskRunner
from anabranch.runners.dask._versions import warn_of_differences

pytestmark = pytest.mark.slow


def increment(number: int) -> int:
    return number + 1


def same(value: object) -> object:
    return value


class Stranger:
    """Cannot be unpacked."""

    def __reduce__(self) -> tuple[object, ...]:
        return refuse, ()


def refuse() -> NoReturn:
    raise ModuleNotFoundError("No module named 'strange'")


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings of the runner."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "anabranch.task_runner.dask" and record.levelno == logging.WARNING
    ]


def test_other_versions_are_named_once_with_their_places(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning names each package that differs, both versions and where the other one is."""
    search = with_version(tmp_path / "site", "cloudpickle", "0.0.7")
    with_version(search, "anabranch-futures", "77.0")
    here = cloudpickle.__version__
    with (
        scheduler_process(tmp_path) as address,
        worker_process(address, tmp_path),
        worker_process(address, tmp_path, search=search) as worker,
        DaskTaskRunner(address) as runner,  # A warning of Dask's own would be an error.
    ):
        assert runner.submit(increment, 1).result() == 2
        (warning,) = warnings_in(caplog)
    assert warning.startswith(f"The Dask cluster at {address} has other versions than this process")
    assert f"cloudpickle is {here} here and 0.0.7 on the worker {worker};" in warning
    assert f"here and 77.0 on the worker {worker}." in warning
    assert "anabranch-futures is " in warning
    assert "distributed" not in warning
    assert warning.endswith("install the same versions on both")
    assert "Mismatched" not in str(warnings.filters)


def test_another_version_on_the_scheduler_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The scheduler counts as well, and so does a cluster that has no workers yet."""
    search = with_version(tmp_path / "site", "dask", "2001.1.1")
    with scheduler_process(tmp_path, search=search) as address, DaskTaskRunner(address):
        (warning,) = warnings_in(caplog)
    assert "and 2001.1.1 on the scheduler. What is pickled" in warning


def test_many_places_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Of many workers with the same difference the first are named, and the rest counted."""
    there = {f"tcp://{number}:1": {"Python": "2.7"} for number in range(9)}
    logger = logging.getLogger("anabranch.task_runner.dask")
    warn_of_differences(logger, "tcp://somewhere:1", {"Python": "2.7"}, there)
    (warning,) = warnings_in(caplog)
    assert (
        "2.7 on the scheduler and the workers tcp://0:1 and tcp://1:1 and tcp://2:1 and 6 more;"
        in warning
    )
    assert "here and not installed on" in warning


def test_equal_versions_are_not_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A cluster with the same packages is used without a word."""
    with (
        scheduler_process(tmp_path) as address,
        worker_process(address, tmp_path),
        DaskTaskRunner(address) as runner,
    ):
        assert runner.submit(increment, 1).result() == 2
        crashed = runner.submit(same, Stranger()).wait()
    assert warnings_in(caplog) == []
    assert "installed as here: ModuleNotFoundError: No module named 'strange'" in str(crashed)


def test_a_worker_without_this_package_is_named_at_the_start(tmp_path: Path) -> None:
    """A worker that cannot import what runs are sent in is an error, which says what to install."""
    search = without_anabranch(tmp_path / "site")
    with (
        scheduler_process(tmp_path) as address,
        worker_process(address, tmp_path),
        worker_process(address, tmp_path, search=search) as worker,
        pytest.raises(
            MissingDependencyError,
            match=rf"The Dask worker {worker} cannot import.*No module named 'anabranch'.*"
            'install "anabranch-runners-dask"',
        ),
    ):
        DaskTaskRunner(address).__enter__()


def test_a_scheduler_without_this_package_is_refused(tmp_path: Path) -> None:
    """A scheduler that cannot import what tasks are sent in is an error at once, with the fix."""
    search = without_anabranch(tmp_path / "site")
    with (
        scheduler_process(tmp_path, search=search) as address,
        pytest.raises(
            MissingDependencyError, match=r"No module named 'anabranch'.*anabranch-runners-dask"
        ),
    ):
        DaskTaskRunner(address).__enter__()


def test_a_run_that_cannot_be_unpacked_names_other_versions_there(tmp_path: Path) -> None:
    """The message of a run that could not be unpacked says what its worker has in other versions.

    The worker has come after the runner was started.
    """
    search = with_version(tmp_path / "site", "cloudpickle", "0.0.7")
    with (
        scheduler_process(tmp_path) as address,
        DaskTaskRunner(address) as runner,
        worker_process(address, tmp_path, search=search) as worker,
    ):
        state = runner.submit(same, Stranger()).wait()
    assert isinstance(state, Crashed)
    assert state.message is not None
    assert f"could not be unpacked on the Dask worker {worker}, where the same" in state.message
    assert (
        f"as here (cloudpickle is {cloudpickle.__version__} here and 0.0.7 there): "
        "ModuleNotFoundError: No module named 'strange'" in state.message
    )
