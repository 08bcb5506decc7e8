"""The instance of Ray: whose it is, when it starts and ends, and what it leaves behind.

Each test is a script in a process of its own, for Ray allows a process one instance.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from ray_scripts import run_script

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def test_ray_instance_of_our_own_comes_and_goes(tmp_path: Path) -> None:
    """A local instance starts with the first runner, ends with the last, and leaves nothing."""
    printed, errors = run_script(
        """
        environment, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
        with RayTaskRunner(init_kwargs={"num_cpus": 1}) as outer:
            with RayTaskRunner() as inner:
                kept_in = inner.submit(same, 1)
            worker = outer.submit(os.getpid).result()
            assert kept_in.result() == 1, "the instance is still there"
            kept = outer.submit(same, 2)
        assert is_gone(worker)
        assert leftovers() == [], leftovers()
        with raises(ResultUnavailableError, "run 'same-", "connection to it has ended"):
            kept.result()
        with RayTaskRunner(init_kwargs={"num_cpus": 1}) as again:
            with raises(ResultUnavailableError, "connection to it has ended"):
                kept.result()
            assert again.submit(same, 3).result() == 3
        assert dict(os.environ) == environment
        assert signal.getsignal(signal.SIGTERM) is handler
        assert not any("raylet" in open(f"/proc/{pid}/cmdline").read() for pid in
            open(f"/proc/self/task/{os.getpid()}/children").read().split())
        """,
        tmp_path,
    )
    assert printed == [
        "INFO Creating a local Ray instance",
        "INFO Using Ray cluster with 1 node",
        "INFO Using the Ray instance that this process is connected to already",
        "INFO Using Ray cluster with 1 node",
        "INFO Creating a local Ray instance",
        "INFO Using Ray cluster with 1 node",
    ]
    assert errors == []


def test_ray_prints_what_tasks_print_and_no_more(tmp_path: Path) -> None:
    """What tasks print is shown; of failures that are reported as such, Ray says nothing."""
    printed, errors = run_script(
        """
        def fail():
            raise ValueError("reported")

        def die():
            os._exit(3)

        with RayTaskRunner(init_kwargs={"num_cpus": 1}) as runner:
            for function in (fail, die):
                future = runner.submit(function)
                future.wait()
                assert isinstance(runner.submit(same, lift(future)).wait(), UpstreamFailed)
                assert isinstance(runner.submit(same, [lift(future)]).wait(), UpstreamFailed)
            runner.submit(lambda: print("hello from a task"))
            runner.submit(lambda: print("and its errors", file=sys.stderr))
        """,
        tmp_path,
        RAY_COLOR_PREFIX="0",
    )
    assert printed[:2] == [
        "INFO Creating a local Ray instance",
        "INFO Using Ray cluster with 1 node",
    ]
    assert [line.partition(") ")[2] for line in printed[2:]] == ["hello from a task"]
    assert [line.partition(") ")[2] for line in errors] == ["and its errors"]


def test_ray_shows_all_that_was_printed_before_it_ends(tmp_path: Path) -> None:
    """What the last tasks print is shown, be it much, and be Ray ever so slow to pass it on."""
    printed, errors = run_script(
        """
        import queue
        import psutil

        class LineQueue(queue.SimpleQueue):
            def get(self, timeout):
                monitor.resume()
                return super().get(timeout=timeout)

        def count(number):
            for each in range(number):
                print("line", each)

        with RayTaskRunner(init_kwargs={"num_cpus": 1}) as runner:
            runner.submit(same, 0).wait()
            [monitor] = [each for each in psutil.process_iter(["ppid", "cmdline"])
                if each.info["ppid"] == os.getpid()
                and "log_monitor.py" in " ".join(each.info["cmdline"] or ())]
            monitor.suspend()
            from anabranch.runners.ray import _output
            _output.SimpleQueue = LineQueue
            for each in range(1500):
                runner.submit(same, each)
            runner.submit(count, 2000)
        """,
        tmp_path,
        RAY_COLOR_PREFIX="0",
        RAY_LOG_MONITOR_NUM_LINES_TO_READ="50",
    )
    shown = [line.partition(") ")[2] for line in printed[2:]]
    assert shown == [f"line {number}" for number in range(2000)]
    assert errors == []


def test_ray_shows_nothing_else_than_what_was_printed(tmp_path: Path) -> None:
    """No line of ours is among the output, also where Ray holds nothing back and came first."""
    printed, errors = run_script(
        """
        import ray

        with RayTaskRunner(init_kwargs={"num_cpus": 1}) as runner:
            runner.submit(lambda: print("hello"))
        """,
        tmp_path,
        RAY_COLOR_PREFIX="0",
        RAY_DEDUP_LOGS="0",
    )
    assert [line.partition(") ")[2] for line in printed[2:]] == ["hello"]
    assert errors == []


def test_ray_ends_well_where_its_output_cannot_be_followed(tmp_path: Path) -> None:
    """A version of Ray that shows output in some other way is given a moment, and is ended."""
    _, errors = run_script(
        """
        with RayTaskRunner(init_kwargs={"num_cpus": 1}) as runner:
            runner.submit(same, 5).wait()
            from ray._private import ray_logging
            del ray_logging.global_worker_stdstream_dispatcher
        assert leftovers() == [], leftovers()
        """,
        tmp_path,
    )
    assert errors == []


def test_ray_instance_of_the_user_is_left_alone(tmp_path: Path) -> None:
    """A Ray that the user has started is used, and goes on, with the values in it."""
    printed, _ = run_script(
        """
        import ray

        ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="ERROR")
        with RayTaskRunner(init_kwargs={"num_cpus": 4}) as runner:
            kept = runner.submit(same, 2)
        assert ray.is_initialized()
        assert kept.result() == 2
        unread = runner.duplicate()
        with unread:
            unread = unread.submit(same, 3)
        assert leftovers() == [], leftovers()
        with raises(RuntimeError, "is connected to the Ray instance", "one at a time"):
            RayTaskRunner("192.0.2.255:6379").__enter__()
        assert leftovers() == [], leftovers()
        ray.shutdown()
        with raises(ResultUnavailableError, "run 'same-", "connection to it has ended"):
            unread.result()
        assert not ray.is_initialized(), "asking for a value starts nothing"
        """,
        tmp_path,
    )
    assert (
        printed
        == [
            "INFO Using the Ray instance that this process is connected to already",
            "WARNING init_kwargs have no effect on an instance that is running: num_cpus",
            "INFO Using Ray cluster with 1 node",
        ]
        * 2
    )


def test_ray_connects_to_an_instance_elsewhere(tmp_path: Path) -> None:
    """A runner connects to the address that it is given, and only disconnects in the end."""
    printed, errors = run_script(
        """
        import subprocess

        head = '''
        import ray, sys
        context = ray.init("local", num_cpus=1, include_dashboard=False, logging_level="ERROR")
        print(context.address_info["gcs_address"], flush=True)
        sys.stdin.read()
        '''
        head = "\\n".join(line.strip() for line in head.splitlines())
        process = subprocess.Popen(
            [sys.executable, "-c", head], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        address = process.stdout.readline().strip()
        os.environ["EXPECTED"] = address
        print("ADDRESS", address)
        for _ in range(2):
            with RayTaskRunner(address) as runner:
                future = runner.submit(same, 5)
                assert future.result() == 5
                unread = runner.submit(same, 6)
        with raises(ResultUnavailableError, "run 'same-"):
            unread.result()
        os.environ["RAY_ADDRESS"] = address
        with RayTaskRunner() as runner:
            assert runner.submit(same, 5).result() == 5
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(60) == 0
        assert leftovers() == [], leftovers()
        """,
        tmp_path,
        RAY_AUTH_MODE="disabled",
    )
    address = printed[0].removeprefix("ADDRESS ")
    assert (
        printed[1:]
        == [
            f"INFO Connecting to an existing Ray instance at {address}",
            "INFO Using Ray cluster with 1 node",
        ]
        * 3
    )
    assert errors == []


def test_ray_that_does_not_start_leaves_nothing(tmp_path: Path) -> None:
    """If Ray refuses to start, its error comes out, and the next start works."""
    printed, _ = run_script(
        """
        with raises(RuntimeError, "no_such_setting"):
            RayTaskRunner(init_kwargs={"no_such_setting": 1}).__enter__()
        assert leftovers() == [], leftovers()
        with RayTaskRunner(init_kwargs={"num_cpus": 1}) as runner:
            assert runner.submit(same, 5).result() == 5
        """,
        tmp_path,
    )
    assert printed[-1] == "INFO Using Ray cluster with 1 node"


@pytest.mark.skipif(
    importlib.util.find_spec("aiohttp_cors") is None, reason="ray[default] is not installed"
)
def test_ray_tells_where_its_dashboard_is(tmp_path: Path) -> None:
    """The link of the dashboard is logged, if one is asked for."""
    printed, _ = run_script(
        """
        with RayTaskRunner(init_kwargs={"num_cpus": 1, "include_dashboard": True}):
            pass
        """,
        tmp_path,
    )
    assert printed[-1].startswith("INFO The Ray UI is available at ")
