"""The settings of the Ray runner, which need no Ray."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from typing import Any, cast

import pytest

from anabranch.futures import ConcurrencyType, RunnerNotStartedError
from anabranch.runners.ray import RayTaskRunner

_NO_RAY = """
    import sys

    class NoRay:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "ray":
                raise ImportError("there is no ray here")
            return None

    sys.meta_path.insert(0, NoRay())
"""


def _run_script(script: str) -> str:
    source = textwrap.dedent(script)
    run = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_ray_runner_keeps_its_settings() -> None:
    """A duplicate and a pickled copy have the settings of the original."""
    runner = RayTaskRunner("ray://192.0.2.255:10001", {"namespace": "mine"})
    assert runner.duplicate() == runner
    assert pickle.loads(pickle.dumps(runner)) == runner
    assert runner != RayTaskRunner("ray://192.0.2.255:10001")
    assert RayTaskRunner() == RayTaskRunner(init_kwargs={})


def test_ray_runner_is_not_changed_by_what_it_was_made_of() -> None:
    """Changing the dict that a runner was made with does not change the runner."""
    init_kwargs: dict[str, object] = {"num_cpus": 2}
    runner = RayTaskRunner(init_kwargs=init_kwargs)
    init_kwargs["num_cpus"] = 4
    assert runner == RayTaskRunner(init_kwargs={"num_cpus": 2})


def test_ray_runner_says_what_it_is() -> None:
    """Name, string, representation and concurrency tell what the runner is."""
    runner = RayTaskRunner("auto")
    assert runner.name == "ray"
    assert str(runner) == "RayTaskRunner"
    assert repr(runner) == "RayTaskRunner(address='auto', init_kwargs={})"
    assert runner.concurrency_type is ConcurrencyType.PARALLEL


def test_ray_runner_refuses_an_address_among_the_init_kwargs() -> None:
    """An address among the init_kwargs is an error that shows where it belongs."""
    with pytest.raises(ValueError, match=r"use RayTaskRunner\(address='auto'\)"):
        RayTaskRunner(init_kwargs={"address": "auto"})
    with pytest.raises(ValueError, match=r"use RayTaskRunner\(address='auto'\)"):
        RayTaskRunner("ray://192.0.2.255:10001", {"address": "auto"})


def test_ray_runner_refuses_an_empty_address() -> None:
    """An empty address is an error that tells how to ask for a local instance."""
    with pytest.raises(ValueError, match="leave it out for a local instance"):
        RayTaskRunner("")


def test_ray_runner_refuses_settings_of_other_types() -> None:
    """Settings of the wrong type are errors that show what is right."""
    with pytest.raises(TypeError, match=r"address=10001\): the address is a string"):
        RayTaskRunner(cast("Any", 10001))
    with pytest.raises(TypeError, match=r"init_kwargs=4\): they are a dict"):
        RayTaskRunner(init_kwargs=cast("Any", 4))


def test_ray_runner_refuses_work_before_it_is_started() -> None:
    """Submitting to a runner that is not started is an error that shows how to start it."""
    with pytest.raises(RunnerNotStartedError, match=r"with RayTaskRunner\(\) as runner"):
        RayTaskRunner().submit(pow, 2, 10)


def test_ray_is_not_imported_with_its_runner() -> None:
    """Importing, making and comparing runners does not import Ray."""
    assert "ray" not in _run_script(
        """
        import sys
        from anabranch.runners.ray import RayTaskRunner
        assert RayTaskRunner("auto").duplicate() == RayTaskRunner("auto")
        print(sorted({name.partition(".")[0] for name in sys.modules} & {"ray", "grpc"}))
        """
    )


def test_ray_runner_without_ray_says_what_to_install() -> None:
    """Starting the runner where Ray is not installed raises an error with the command for it."""
    script = """
        from anabranch.futures import MissingDependencyError
        from anabranch.runners.ray import RayTaskRunner

        runner = RayTaskRunner()
        try:
            with runner:
                pass
        except MissingDependencyError as error:
            print(error)
    """
    printed = _run_script(textwrap.dedent(_NO_RAY) + textwrap.dedent(script))
    assert "RayTaskRunner needs the library 'ray'" in printed
    assert "there is no ray here" in printed
    assert 'pip install "anabranch-runners-ray"' in printed
    assert 'pip install "anabranch-flows[ray]"' in printed
