"""Scripts in processes of their own: Ray allows a process one instance, and may end it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

#: What every script begins with.
HEAD = """
import logging, os, select, signal, sys, threading
from anabranch.futures import *
from anabranch.futures.testing import raises
from anabranch.runners.ray import RayTaskRunner

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)

def same(value):
    return value

def is_gone(pid):
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    return bool(select.select([process], [], [], 30)[0])

def leftovers():
    # The clock is everybody's; and what Ray was asked the moment that it was killed it never
    # answers, so that thread is given up.
    shared = {"anabranch-clock", "anabranch-ray-asker"}
    return [each.name for each in threading.enumerate()
            if "anabranch" in each.name and each.name not in shared]
"""


def run_script(script: str, folder: Path, **variables: str) -> tuple[list[str], list[str]]:
    """Run a script, and return the lines that it printed and those of its errors."""
    path = folder / "script.py"
    path.write_text(HEAD + textwrap.dedent(script))
    run = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PYTHONPATH": _with_tests(), **variables},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout.splitlines(), run.stderr.splitlines()


def _with_tests() -> str:
    return os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(Path(__file__).parent)])


_HEAD_NODE = """
import sys
from ray.cluster_utils import Cluster

port = int(sys.argv[1])
settings = {"num_cpus": 1, "include_dashboard": False}
if port:
    settings["ray_client_server_port"] = port
cluster = Cluster(initialize_head=True, head_node_args=settings)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@attrs.frozen
class HeadNode:
    """A cluster of one node that runs elsewhere.

    Attributes:
        address: Of its control service.
        client_address: For the Ray client; empty if it has no server for that.
        pid: The process that has started it.
    """

    address: str
    client_address: str
    pid: int


@contextmanager
def head_node(*, serves_clients: bool = False) -> Iterator[HeadNode]:
    """Have a cluster run in another process for the time of a block."""
    port = _free_port() if serves_clients else 0
    with subprocess.Popen(
        [sys.executable, "-c", _HEAD_NODE, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            yield HeadNode(address, f"ray://127.0.0.1:{port}" if port else "", process.pid)
            process.stdin.close()
            process.wait(30)
        finally:
            process.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


_FACTS = """
import sys
import ray
from ray.experimental import internal_kv

class Idler:
    pass

ray.init(sys.argv[1], namespace="observer", logging_level="ERROR")
if "make" in sys.argv:
    made = ray.remote(num_cpus=0)(Idler).options(name="idler", lifetime="detached").remote()
    ray.get(made.__ray_ready__.remote())
jobs = ray._private.state.state.job_table()
print("FACTS",
    sum(bool(each["Alive"]) for each in ray.nodes()),
    sorted(each["name"] for each in ray.util.list_named_actors(all_namespaces=True)),
    internal_kv._internal_kv_list(b"", namespace=b"anabranch"),
    sum(not each["IsDead"] for each in jobs),
)
"""


def facts_of(address: str, *what: str) -> str:
    """Return what there is in a cluster, after making a detached actor there if that is asked."""
    run = subprocess.run(
        [sys.executable, "-c", _FACTS, address, *what],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout[run.stdout.index("FACTS") :]
