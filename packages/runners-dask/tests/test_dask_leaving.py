"""Starting the runner, leaving it, and what may happen to a cluster in between."""

from __future__ import annotations

import gc
import logging
import os
import re
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import anyio
import distributed
import psutil
import pytest
from dask_tasks import dispatch, until

from anabranch.futures import (
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Future,
    ResultUnavailableError,
    RunCrashedError,
    UpstreamFailed,
    lift,
    wait,
)
from anabranch.futures.testing import Gate, Ticket
from anabranch.runners.dask import DaskTaskRunner
from anabranch.runners.dask._bare import bare
from anabranch.runners.dask._connection import Connection

pytestmark = pytest.mark.slow

#: A cluster that starts in no time: a scheduler and a worker in this process, on real sockets.
_LIGHT: dict[str, Any] = {
    "n_workers": 1,
    "threads_per_worker": 2,
    "processes": False,
    "protocol": "tcp://",
    "dashboard_address": ":0",
}

_PROCESSES: dict[str, Any] = {
    "n_workers": 1,
    "threads_per_worker": 1,
    "dashboard_address": ":0",
}


@pytest.fixture
def cluster() -> Iterator[distributed.LocalCluster]:
    with distributed.LocalCluster(**_LIGHT) as cluster:
        yield cluster


def increment(number: int) -> int:
    return number + 1


def wait_at(ticket: Ticket, value: int = 0) -> int:
    ticket.wait()
    return value


def die(log: Path, ticket: Ticket) -> int:
    with log.open("a") as file:
        file.write("executed\n")
    ticket.wait()
    os._exit(1)


def run_script(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script from a file: worker processes import it again."""
    path = folder / "script.py"
    path.write_text(textwrap.dedent(script))
    return subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, check=False, timeout=50
    )


def start_scheduler(file: Path) -> subprocess.Popen[str]:
    """Start a scheduler in a process of its own."""
    options = ["--port", "0", "--host", "127.0.0.1", "--no-dashboard", "--no-show"]
    module = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    return subprocess.Popen(
        [*module, *options, "--scheduler-file", str(file)],
        stderr=subprocess.PIPE,
        text=True,
    )


def address_of(scheduler: subprocess.Popen[str]) -> str:
    """Return the address that a scheduler prints when it has started."""
    assert scheduler.stderr is not None
    for line in scheduler.stderr:
        if found := re.search(r"Scheduler at: +(tcp://\S+)", line):
            return found[1]
    raise AssertionError("the scheduler did not start")


# ---------------------------------------------------------------------------- clusters


def test_the_default_cluster_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    """The log tells which kind of cluster is made."""
    caplog.set_level(logging.INFO, logger="anabranch")
    with DaskTaskRunner(cluster_kwargs=_LIGHT) as runner:
        assert runner.submit(increment, 1).result() == 2
    assert (
        "anabranch.task_runner.dask",
        logging.INFO,
        "Creating a new Dask cluster with `distributed.deploy.local.LocalCluster`",
    ) in caplog.record_tuples


def test_the_dashboard_is_announced_if_there_is_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The link to the dashboard is logged only where there is one, which takes bokeh."""
    caplog.set_level(logging.INFO, logger="anabranch")
    announced = "The Dask dashboard is available at http://127.0.0.1:"
    with DaskTaskRunner(cluster_kwargs=_LIGHT):
        assert announced in caplog.text
    for kwargs in ({"dashboard_address": None}, {"scheduler_kwargs": {"dashboard": False}}):
        caplog.clear()
        with DaskTaskRunner(cluster_kwargs={**_LIGHT, **kwargs}):
            assert announced not in caplog.text
    # As if bokeh were not installed.
    monkeypatch.setitem(sys.modules, "distributed.dashboard.scheduler", None)
    with DaskTaskRunner(cluster_kwargs=_LIGHT):
        assert announced not in caplog.text


def test_a_dashboard_port_that_is_taken_does_no_harm() -> None:
    """Where the usual dashboard port is taken, another is used without a word."""
    try:
        taken = socket.create_server(("", 8787))
    except OSError:  # All the same who has it.
        taken = socket.socket()
    kwargs = {key: value for key, value in _LIGHT.items() if key != "dashboard_address"}
    with taken, DaskTaskRunner(cluster_kwargs=kwargs) as runner:  # A warning would be an error.
        assert runner.submit(increment, 1).result() == 2
    without = {**kwargs, "dashboard_address": None}
    with taken, DaskTaskRunner(cluster_kwargs=without) as runner:
        assert runner.submit(increment, 1).result() == 2


def test_an_existing_cluster_is_used_and_left_as_it_was(
    cluster: distributed.LocalCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """With an address the runner uses the cluster there, and leaves nothing behind in it."""
    caplog.set_level(logging.INFO, logger="anabranch")
    scheduler = cluster.scheduler
    assert isinstance(scheduler, distributed.Scheduler)
    failures = scheduler.allowed_failures
    with DaskTaskRunner(cluster.scheduler_address) as runner:
        future = runner.submit(increment, 1)
        assert future.result() == 2
    assert f"Connecting to an existing Dask cluster at {cluster.scheduler_address}" in caplog.text
    assert cluster.status.name == "running"
    assert scheduler.allowed_failures == failures
    assert not scheduler.tasks
    with DaskTaskRunner(cluster.scheduler_address.removeprefix("tcp://")) as runner:
        assert runner.submit(increment, 1).result() == 2


def test_an_adaptive_cluster_gets_its_workers() -> None:
    """With adapt_kwargs the cluster has as many workers as its load asks for."""
    kwargs = {**_LIGHT, "n_workers": 0}
    with DaskTaskRunner(
        cluster_kwargs=kwargs, adapt_kwargs={"minimum": 0, "maximum": 1, "interval": "20ms"}
    ) as runner:
        assert runner.submit(increment, 1).result() == 2


def test_an_address_where_nobody_is_is_given_up() -> None:
    """An unreachable scheduler is an error after the timeout, which names the fix."""
    _assert_given_up("127.0.0.1:1", {"timeout": 0.2})


def test_an_address_that_says_nothing_is_given_up() -> None:
    """So is something that accepts connections and is no scheduler."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        _assert_given_up(f"tcp://127.0.0.1:{mute.getsockname()[1]}", {"timeout": "200ms"})


def _assert_given_up(address: str, client_kwargs: dict[str, Any]) -> None:
    runner = DaskTaskRunner(address, client_kwargs=client_kwargs)
    with pytest.raises(
        ConnectionError, match=rf"No Dask scheduler answers at {address} within 0.2 s.*dask sched"
    ):
        runner.__enter__()
    gc.collect()  # A client that was not closed would say so.


@pytest.mark.parametrize(
    ("address", "why"), [("nowhere", "missing port"), ("foo://nowhere:1", "unknown address scheme")]
)
def test_an_address_that_is_none_is_refused(address: str, why: str) -> None:
    """What cannot be an address is refused when the runner starts."""
    with pytest.raises(ValueError, match=why):
        DaskTaskRunner(address).__enter__()
    gc.collect()  # A client that was not closed would say so.


# ---------------------------------------------------------------------------- losses


def test_a_run_whose_worker_dies_has_crashed_and_is_not_run_again(tmp_path: Path) -> None:
    """A killed worker takes its run with it, which is executed once; the cluster goes on."""
    log = tmp_path / "log"
    with DaskTaskRunner(cluster_kwargs=_PROCESSES) as runner, Gate() as gate:
        doomed = runner.submit(die, log, gate.ticket)
        dependant = runner.submit(increment, lift(doomed))
        gate.await_arrival()
        gate.open()
        state = doomed.wait()
        assert isinstance(state, Crashed)
        assert re.search(r"The Dask worker tcp://127\S+ died while it had the run", str(state))
        with pytest.raises(RunCrashedError, match="died while it had the run") as info:
            doomed.result()
        assert type(info.value.__cause__).__name__ == "KilledWorker"
        after = dependant.wait()
        assert isinstance(after, UpstreamFailed)
        assert after.cause is state.exception
        assert runner.submit(increment, 1).result() == 2
    assert log.read_text() == "executed\n"


def test_a_lost_scheduler_crashes_what_is_left(tmp_path: Path) -> None:
    """When the scheduler goes away, its runs have crashed, and so have those that come later."""
    scheduler = start_scheduler(tmp_path / "scheduler.json")
    address = address_of(scheduler)
    worker = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny"],
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    try:
        settings = {"timeout": "300ms"}
        with DaskTaskRunner(address, client_kwargs=settings) as runner, Gate() as gate:
            kept = runner.submit(os.urandom, 1_000)
            kept.wait()
            small = runner.submit(increment, 1)
            small.wait()
            running = runner.submit(wait_at, gate.ticket)
            gate.await_arrival()
            dependant = runner.submit(increment, lift(running))
            scheduler.kill()
            state = running.wait()
            assert isinstance(state, Crashed)
            assert "Dask lost the run" in str(state)
            after = dependant.wait()
            assert isinstance(after, UpstreamFailed)
            assert after.cause is state.exception
            late = runner.submit(increment, 1).wait()
            assert isinstance(late, Crashed)
            assert "connection to the Dask scheduler is lost" in str(late)
            with pytest.raises(ResultUnavailableError, match=rf"{kept.task_run.name}.*brought"):
                kept.result()
            assert small.result() == 2  # It came along with the end.
    finally:
        worker.kill()
        worker.wait()
        scheduler.kill()
        scheduler.communicate()


# ---------------------------------------------------------------------------- leaving


def test_a_value_left_on_the_cluster_says_how_to_keep_it() -> None:
    """A value that nobody asked for is gone with the cluster; one that was fetched is not."""
    with DaskTaskRunner(cluster_kwargs=_LIGHT) as runner:
        left, kept = runner.submit(increment, 1), runner.submit(increment, 2)
        assert kept.result() == 3
    assert isinstance(left.state, Completed)
    with pytest.raises(
        ResultUnavailableError, match=rf"{left.task_run.name}.*left on a Dask cluster.*return it"
    ):
        left.result()
    assert kept.result() == 3


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_leaving_by_an_exception_cancels_what_has_not_started(backend: str) -> None:
    """What is waiting is cancelled, and what runs is joined, when an exception ends the block."""
    futures: list[Future[int]] = []

    async def main() -> None:
        with Gate() as gate:
            async with DaskTaskRunner(cluster_kwargs=_LIGHT).start() as runner:
                begun = threading.Semaphore(0)
                running = [
                    dispatch(runner, wait_at, gate.ticket, 7, listener=lambda *_: begun.release())
                    for _ in range(2)
                ]
                for _ in running:
                    await anyio.to_thread.run_sync(begun.acquire)
                pending = runner.submit(increment, 1)
                futures.extend([*running, pending])
                # By then the block is being left.
                pending.add_done_callback(lambda _: gate.open())
                raise KeyError("the body's own")

    with pytest.raises(KeyError, match="the body's own"):
        anyio.run(main, backend=backend)
    assert [type(future.state) for future in futures] == [Completed, Completed, Cancelled]


class ClusterOfTheDead(distributed.LocalCluster):
    """A cluster that tells how its workers were doing when it was closed."""

    found: ClassVar[list[str]] = []

    def close(self, timeout: float | None = None) -> Awaitable[None] | None:
        self.found[:] = [worker.status.name for worker in self.workers.values()]
        return super().close(timeout)


@pytest.mark.parametrize("knows", [False, True])
@pytest.mark.parametrize("processes", [False, True])
def test_leaving_by_ctrl_c_does_not_wait_for_blocked_workers(
    monkeypatch: pytest.MonkeyPatch, *, processes: bool, knows: bool
) -> None:
    """The runner's own workers are ended at once, whether it knows of their blocked runs or not."""
    if not knows:  # The news that they have begun is still on its way.
        monkeypatch.setattr(Connection, "_note_event", lambda *_: None)
    kwargs = {**_LIGHT, "processes": processes}
    runner = DaskTaskRunner(cluster_class=ClusterOfTheDead, cluster_kwargs=kwargs)
    futures: list[Future[int]] = []

    def leave_by_ctrl_c(gate: Gate) -> None:
        with runner:
            futures.extend(runner.submit(wait_at, gate.ticket) for _ in range(4))
            for _ in range(2):
                gate.await_arrival()
            raise KeyboardInterrupt

    with Gate() as gate:
        with pytest.raises(KeyboardInterrupt):
            leave_by_ctrl_c(gate)
        assert [type(future.state) for future in futures] == [Cancelled] * 4
        assert ClusterOfTheDead.found == ["closed"]


@pytest.mark.parametrize("processes", [False, True])
def test_leaving_does_not_wait_for_threads_that_were_abandoned(*, processes: bool) -> None:
    """Neither do workers hold up the exit whose threads are at runs that were given up."""
    kwargs = {**_LIGHT, "processes": processes}
    with Gate() as gate:
        with DaskTaskRunner(cluster_class=ClusterOfTheDead, cluster_kwargs=kwargs) as runner:
            future = runner.submit(wait_at, gate.ticket)
            gate.await_arrival()
            until(future.is_running)
            assert future.abandon(Cancelled())
            runner.note_abandoned(future.task_run)
        assert ClusterOfTheDead.found == ["closed"]


def test_leaving_by_ctrl_c_loses_nothing_that_was_printed(tmp_path: Path) -> None:
    """What tasks have printed is not lost with worker processes that are ended at once."""
    script = """
        import logging
        from anabranch.futures import wait
        from anabranch.futures.testing import Gate
        from anabranch.runners.dask import DaskTaskRunner

        def main(gate):
            kwargs = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
            with DaskTaskRunner(cluster_kwargs=kwargs) as runner:
                wait([runner.submit(print, f"line {number};") for number in range(20)])
                runner.submit(gate.ticket.wait)
                gate.await_arrival()
                raise KeyboardInterrupt

        if __name__ == "__main__":
            logging.disable(logging.CRITICAL)
            with Gate() as gate:
                main(gate)
        """
    done = run_script(tmp_path, script)
    # Found in whatever order: one process may print before the newline of the other.
    printed = re.findall(r"line \d+;", done.stdout)
    assert sorted(printed) == sorted(f"line {number};" for number in range(20))


def test_runs_cancelled_on_the_way_out_leave_nothing_on_a_cluster(
    cluster: distributed.LocalCluster, tmp_path: Path
) -> None:
    """A cluster that is not the runner's own is told to forget everything, before it is left."""
    scheduler = cluster.scheduler
    assert isinstance(scheduler, distributed.Scheduler)
    futures: list[Future[None]] = []

    def leave_in_a_hurry(gate: Gate) -> None:
        with DaskTaskRunner(cluster.scheduler_address) as runner:
            blockers = [runner.submit(wait_at, gate.ticket) for _ in range(2)]
            for blocker in blockers:
                gate.await_arrival()
                until(blocker.is_running)
            futures.extend(runner.submit((tmp_path / str(each)).touch) for each in range(100))
            canceller = runner._connection._canceller  # type: ignore[union-attr]  # It has started.

            def open_when_all_is_heard() -> None:
                wait(futures)
                canceller.finish()
                gate.open()

            threading.Thread(target=open_when_all_is_heard).start()
            raise KeyError

    with Gate() as gate, pytest.raises(KeyError):
        leave_in_a_hurry(gate)
    assert all(isinstance(future.state, Cancelled) for future in futures)
    until(lambda: not scheduler.tasks)
    assert list(tmp_path.iterdir()) == []


def test_giving_up_the_start_leaves_nothing_behind() -> None:
    """When the start is cancelled, what has been made of the cluster is ended again."""
    made: list[distributed.LocalCluster] = []

    async def main() -> None:
        with anyio.CancelScope() as scope:

            def make(**kwargs: Any) -> distributed.LocalCluster:  # noqa: ANN401 - whatever it takes
                anyio.from_thread.run_sync(scope.cancel)
                made.append(distributed.LocalCluster(**kwargs))
                return made[0]

            async with DaskTaskRunner(cluster_class=make, cluster_kwargs=_LIGHT).start():
                await anyio.sleep_forever()
        assert scope.cancelled_caught

    anyio.run(main, backend="trio")
    assert made[0].status.name == "closed"


def test_a_cluster_that_cannot_be_made_lets_its_error_out() -> None:
    """What goes wrong in making a cluster comes out as it is, and the runner can be made anew."""

    def make() -> None:
        raise OSError("no machines left")

    runner = DaskTaskRunner(cluster_class=make)
    with pytest.raises(OSError, match="no machines left"):
        runner.__enter__()


def test_nothing_is_left_running(tmp_path: Path) -> None:
    """After the runner has ended, its processes, sockets and threads are gone."""
    done = run_script(
        tmp_path,
        """
        import os
        import threading
        import psutil
        from anabranch.runners.dask import DaskTaskRunner

        def increment(number):
            return number + 1

        if __name__ == "__main__":
            with DaskTaskRunner(
                cluster_kwargs={"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
            ) as runner:
                assert [runner.submit(increment, n).result() for n in range(3)] == [1, 2, 3]
                children = psutil.Process().children(recursive=True)
                assert len(children) >= 2
            lines = [str(each.cmdline()) for each in psutil.Process().children(recursive=True)]
            print([line for line in lines if "resource_tracker" not in line])
            print(psutil.Process().net_connections())
            print(sorted(thread.name for thread in threading.enumerate() if not thread.daemon))
        """,
    )
    assert done.stderr == ""
    processes, sockets, threads = done.stdout.splitlines()
    assert (processes, sockets) == ("[]", "[]")
    # Dask's own, one each for a process, which it keeps for good; Python ends them at exit.
    assert set(re.findall(r"'([^']+)'", threads)) <= {
        "Dask-Callback-Thread_0",
        "Dask-Offload_0",
        "MainThread",
    }


def test_dask_adds_nothing_to_what_runs_report(tmp_path: Path) -> None:
    """Failures, crashes, cancellations and abandoned values print nothing on the terminal."""
    done = run_script(
        tmp_path,
        """
        import os
        from anabranch.futures import lift, wait
        from anabranch.futures.testing import Gate
        from anabranch.runners.dask import DaskTaskRunner

        class Stubborn(Exception):
            def __init__(self, one, two):
                super().__init__(one)

        def increment(number):
            return number + 1

        def fail():
            raise ValueError("no" * 20_000)

        def fail_stubbornly():
            raise Stubborn("this", "that")

        def die():
            os._exit(1)

        def wait_at(ticket):
            ticket.wait()

        if __name__ == "__main__":
            kwargs = {"n_workers": 1, "threads_per_worker": 1}
            with DaskTaskRunner(cluster_kwargs=kwargs) as runner, Gate() as gate:
                futures = [runner.submit(each) for each in (fail, fail_stubbornly)]
                futures += [runner.submit(increment, lift(each)) for each in futures]
                wait(futures)
                running = runner.submit(wait_at, gate.ticket)
                gate.await_arrival()
                for _ in range(5):
                    futures.append(runner.submit(increment, 1))
                    futures[-1].cancel()
                runner._connection._canceller.finish()
                gate.open()
                running.result()
                del running  # Dask says that it computes a value anew whose worker has died.
                futures.append(runner.submit(die))
                wait(futures)
                left = runner.submit(increment, 1)
            print([type(each.state).__name__ for each in futures[:4] + futures[-1:]])
        """,
    )
    assert done.stderr == ""
    assert done.stdout == "['Failed', 'Failed', 'UpstreamFailed', 'UpstreamFailed', 'Crashed']\n"


@pytest.mark.parametrize(
    "kwargs",
    [
        'cluster_kwargs={"n_workers": 2}',
        'cluster_kwargs={"n_workers": 0}, adapt_kwargs={"maximum": 1}',
    ],
    ids=["workers at once", "workers later"],
)
def test_a_script_without_its_guard_is_told_so(tmp_path: Path, kwargs: str) -> None:
    """A script that worker processes cannot import without starting workers hears what it lacks.

    That is all that it hears, from the process that was started first.
    """
    done = run_script(
        tmp_path,
        f"""
        from anabranch.runners.dask import DaskTaskRunner

        with DaskTaskRunner({kwargs}) as runner:
            runner.submit(pow, 2, 3).result()
        """,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    *frames, message = done.stderr.splitlines()
    assert message.startswith("RuntimeError: This script makes a Dask cluster whose worker process")
    assert 'under `if __name__ == "__main__":`' in message
    assert done.stderr.count("Traceback") == 1
    assert "distributed" not in done.stderr
    assert len(frames) < 6


def test_another_process_that_imports_an_unguarded_script_says_so(tmp_path: Path) -> None:
    """Where no cluster waits for its workers, the process that imports the script is heard."""
    done = run_script(
        tmp_path,
        """
        import multiprocessing
        from anabranch.runners.dask import DaskTaskRunner

        if multiprocessing.current_process().name == "MainProcess":
            process = multiprocessing.get_context("spawn").Process(target=print)
            process.start()
            process.join()
            print(process.exitcode)
        else:
            with DaskTaskRunner():
                pass
        """,
    )
    assert done.stdout == "1\n"
    assert 'under `if __name__ == "__main__":`' in done.stderr


def test_a_script_with_its_guard_runs_its_own_functions(tmp_path: Path) -> None:
    """Functions and classes defined in the script itself reach the workers."""
    done = run_script(
        tmp_path,
        """
        import dataclasses
        from anabranch.runners.dask import DaskTaskRunner

        @dataclasses.dataclass
        class Point:
            x: int

        def move(point):
            return Point(point.x + 1)

        if __name__ == "__main__":
            with DaskTaskRunner(
                cluster_kwargs={"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
            ) as runner:
                print(runner.submit(move, Point(1)).result())
        """,
    )
    assert done.stdout == "Point(x=2)\n", done.stderr


# ---------------------------------------------------------------------------- states that are kept


def test_a_kept_failure_keeps_nothing_else_alive() -> None:
    """The exception in a state has no traceback, which would keep what its frames were at."""

    def fail() -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ExceptionGroup("all", [ValueError("second")]) from error

    with DaskTaskRunner(cluster_kwargs=_LIGHT) as runner:
        futures: list[Future[Any]] = [
            runner.submit(fail),
            runner.submit(print, runner.submit(fail)),
            runner.submit(print, threading.Lock()),  # It cannot be pickled.
        ]
        wait(futures)
    for future in futures:
        state = future.final_state()
        assert isinstance(state, Failed | UpstreamFailed)
        error = state.cause if isinstance(state, UpstreamFailed) else state.exception
        assert error.__traceback__ is None
        assert error.__cause__ is None or error.__cause__.__traceback__ is None


def test_bare_takes_all_tracebacks_off() -> None:
    """Tracebacks are taken off an exception, what led to it, and the members of groups."""
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ExceptionGroup("outer", [inner, ValueError("other")]) from inner
    except ExceptionGroup as error:
        outer = error
    assert bare(outer) is outer
    assert outer.__traceback__ is None
    assert outer.__cause__ is not None
    assert outer.__cause__.__traceback__ is None
    assert outer.exceptions[0].__traceback__ is None


def test_children_of_this_process_are_gone() -> None:
    """The tests of this module have left no worker process behind."""
    children = psutil.Process().children(recursive=True)
    assert not [each for each in children if "resource_tracker" not in str(each.cmdline())]
