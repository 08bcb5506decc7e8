"""The runner's settings, without any cluster."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import distributed
import pytest

from anabranch.futures import ConcurrencyType
from anabranch.runners.dask import DaskTaskRunner


def make_cluster(**kwargs: object) -> object:
    """Stand in for a cluster class; not called here."""
    raise NotImplementedError(kwargs)


NOT_CALLABLE = 7


def run_script(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"cluster_class": make_cluster},
        {"cluster_kwargs": {"n_workers": 2}},
        {"adapt_kwargs": {"maximum": 2}},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_an_address_excludes_settings_for_a_new_cluster(settings: dict[str, Any]) -> None:
    """An address together with a setting for a new cluster is refused, naming both and the fix."""
    (name,) = settings
    with pytest.raises(ValueError, match=rf"address='somewhere:1'.*{name}.*[Ll]eave out") as info:
        DaskTaskRunner("somewhere:1", **settings)
    assert "leave out address" in str(info.value)


class ClusterThere:
    """Stands in for a cluster object; not connected to here."""

    scheduler_address = "tcp://somewhere:1"


class ClientThere:
    """Stands in for a client; not used here."""

    asynchronous = False
    scheduler = ClusterThere()

    def submit(self, *args: object) -> object:
        raise NotImplementedError(args)


@pytest.mark.parametrize(
    "existing",
    [{"cluster": ClusterThere()}, {"client": ClientThere()}],
    ids=" and ".join,
)
@pytest.mark.parametrize("name", ["cluster_class", "cluster_kwargs", "adapt_kwargs"])
def test_an_object_excludes_settings_for_a_new_cluster(existing: dict[str, Any], name: str) -> None:
    """An existing cluster or client together with a setting for a new one is refused alike."""
    value: Any = make_cluster if name == "cluster_class" else {"n": 1}
    (given,) = existing
    with pytest.raises(ValueError, match=rf"\({given}=\.\.\.\).*{name}.*or leave out {given}"):
        DaskTaskRunner(**existing, **{name: value})


@pytest.mark.parametrize(
    "settings",
    [
        {"address": "somewhere:1", "cluster": ClusterThere()},
        {"address": "somewhere:1", "client": ClientThere()},
        {"cluster": ClusterThere(), "client": ClientThere()},
    ],
    ids=" and ".join,
)
def test_one_thing_says_which_cluster_to_use(settings: dict[str, Any]) -> None:
    """An address, a cluster and a client exclude one another."""
    names = " and ".join(settings)
    with pytest.raises(ValueError, match=rf"each of {names} says.*Give one of them"):
        DaskTaskRunner(**settings)


def test_a_client_excludes_arguments_for_one() -> None:
    """Arguments for a client make no sense beside one."""
    with pytest.raises(ValueError, match=r"client_kwargs.*the client is there.*Leave out"):
        DaskTaskRunner(client=ClientThere(), client_kwargs={"name": "me"})


def test_an_object_that_is_none_is_refused() -> None:
    """What is no cluster or client is refused, naming the argument that it may be meant for."""
    nonsense: Any = "somewhere:1"
    with pytest.raises(TypeError, match=r"cluster must be.*not 'somewhere:1'.*address=\.\.\."):
        DaskTaskRunner(cluster=nonsense)
    with pytest.raises(TypeError, match=r"client must be.*not 'somewhere:1'.*address=\.\.\."):
        DaskTaskRunner(client=nonsense)
    swapped: Any = ClusterThere()
    with pytest.raises(TypeError, match=r"client must be.*cluster=\.\.\."):
        DaskTaskRunner(client=swapped)


@pytest.mark.parametrize("nonsense", [7, "", b"report.html"])
def test_a_report_needs_the_path_of_a_file(nonsense: Any) -> None:  # noqa: ANN401 - as it says
    """What is no path is refused at once."""
    with pytest.raises(TypeError, match=r"performance_report_path must be.*'report\.html'; not"):
        DaskTaskRunner(performance_report_path=nonsense)


def test_a_path_is_the_same_however_it_is_given() -> None:
    """Runners with the same path are equal, be it a string or a path object."""
    runner = DaskTaskRunner(performance_report_path=Path("there", "report.html"))
    assert runner == DaskTaskRunner(performance_report_path=str(Path("there", "report.html")))
    assert runner != DaskTaskRunner()
    assert pickle.loads(pickle.dumps(runner)) == runner


def test_the_report_is_the_sixth_setting() -> None:
    """The settings keep their order, and objects are named."""
    runner = DaskTaskRunner(None, None, None, None, None, "report.html")
    assert runner == DaskTaskRunner(performance_report_path="report.html")
    positional: Any = (None, None, None, None, None, None, ClusterThere())
    with pytest.raises(TypeError, match="positional arguments"):
        DaskTaskRunner(*positional)


def test_an_address_may_come_with_empty_settings() -> None:
    """Settings that say nothing are no contradiction to an address."""
    runner = DaskTaskRunner("somewhere:1", cluster_kwargs={}, adapt_kwargs=None)
    assert repr(runner).startswith("DaskTaskRunner(address='somewhere:1'")


@pytest.mark.parametrize("name", ["client_kwargs", "cluster_kwargs"])
def test_asynchronous_is_the_runners_own_business(name: str) -> None:
    """`asynchronous` is refused in both sets of keyword arguments."""
    settings: dict[str, Any] = {name: {"asynchronous": True}}
    with pytest.raises(ValueError, match=rf"{name}=\{{'asynchronous'.*leave it out"):
        DaskTaskRunner(**settings)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("LocalCluster", "is not a dotted path"),
        ("no_such_module.Cluster", "importing 'no_such_module' failed with ModuleNotFoundError"),
        ("distributed.NoSuchCluster", "module 'distributed' has no 'NoSuchCluster'"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_at_once(path: str, why: str) -> None:
    """A dotted path that cannot be imported is refused, saying which and what is wrong with it."""
    with pytest.raises(ValueError, match=f"cluster_class='{path}'.*{why}"):
        DaskTaskRunner(cluster_class=path)


@pytest.mark.parametrize("nonsense", [7, f"{__name__}.NOT_CALLABLE"])
def test_something_that_makes_no_cluster_is_refused(nonsense: Any) -> None:  # noqa: ANN401 - as it says
    """What is neither a class nor callable, nor the path of something that is, is refused."""
    with pytest.raises(TypeError, match=r"cluster_class must be a class, another callable.*7"):
        DaskTaskRunner(cluster_class=nonsense)


def test_a_path_means_what_it_leads_to() -> None:
    """A runner given the path of a class equals one that is given the class."""
    by_path = DaskTaskRunner(cluster_class="distributed.LocalCluster")
    assert by_path == DaskTaskRunner(cluster_class=distributed.LocalCluster)
    assert by_path != DaskTaskRunner(cluster_class=make_cluster)
    assert by_path != DaskTaskRunner()


def test_settings_survive_duplication_and_pickling() -> None:
    """A duplicate and a pickled copy have the same settings."""
    runner = DaskTaskRunner(
        cluster_class=make_cluster,
        cluster_kwargs={"n_workers": 2},
        adapt_kwargs={"maximum": 3},
        client_kwargs={"name": "me"},
    )
    assert runner.duplicate() == runner
    assert pickle.loads(pickle.dumps(runner)) == runner


def test_settings_are_the_runners_own() -> None:
    """Changing a dict after it was given changes no runner."""
    kwargs = {"n_workers": 2}
    runner = DaskTaskRunner(cluster_kwargs=kwargs)
    kwargs["n_workers"] = 3
    assert runner == DaskTaskRunner(cluster_kwargs={"n_workers": 2})


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, ConcurrencyType.PARALLEL),
        ({"processes": True}, ConcurrencyType.PARALLEL),
        ({"processes": None}, ConcurrencyType.PARALLEL),
        ({"processes": False}, ConcurrencyType.CONCURRENT),
    ],
)
def test_the_concurrency_type_is_the_truth(
    kwargs: dict[str, object], expected: ConcurrencyType
) -> None:
    """Only a cluster without processes of its own is merely concurrent."""
    assert DaskTaskRunner(cluster_kwargs=kwargs).concurrency_type is expected


@pytest.mark.parametrize("processes", [True, False])
def test_no_cluster_keeps_to_a_clock_of_a_test(*, processes: bool) -> None:
    """Not even the threads of a cluster in this process know the clock of who submits to it."""
    assert not DaskTaskRunner(cluster_kwargs={"processes": processes}).keeps_to_clock


def test_the_runner_has_its_names() -> None:
    """The runner is called what its users and its logger expect."""
    runner = DaskTaskRunner()
    assert runner.name == "dask"
    assert str(runner) == "DaskTaskRunner"
    assert runner.logger.name == "anabranch.task_runner.dask"
    assert DaskTaskRunner.__module__ == "anabranch.runners.dask"


def test_constructing_a_runner_imports_no_dask() -> None:
    """Dask is not imported before a runner is started."""
    done = run_script(
        """
        import sys
        from anabranch.runners.dask import DaskTaskRunner
        DaskTaskRunner(cluster_kwargs={"n_workers": 1}).duplicate()
        print({"dask", "distributed", "cloudpickle"} & set(sys.modules))
        """
    )
    assert done.stdout == "set()\n", done.stderr


def test_a_missing_dask_is_named_when_the_runner_starts() -> None:
    """Without Dask a runner can be made; starting it names what is missing and how to get it."""
    done = run_script(
        """
        import sys

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("dask", "distributed"):
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        sys.meta_path.insert(0, Blocker())
        from anabranch.futures import MissingDependencyError
        from anabranch.runners.dask import DaskTaskRunner
        runner = DaskTaskRunner()
        try:
            with runner:
                pass
        except MissingDependencyError as error:
            print(error)
        """
    )
    assert done.stdout == (
        "DaskTaskRunner needs distributed, which is not installed: "
        'pip install "anabranch-runners-dask", or with the flows '
        'pip install "anabranch-flows[dask]"\n'
    ), done.stderr
