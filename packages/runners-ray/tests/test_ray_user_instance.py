"""Instances of Ray that the user has started or connected to: they are found as they were.

Each test is a script in a process of its own, for Ray allows a process one instance.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from ray_scripts import run_script

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]

needs_client = pytest.mark.skipif(
    importlib.util.find_spec("grpc") is None, reason="ray[client] is not installed"
)

_HEAD = """
import contextlib, gc
import ray
from ray.experimental import internal_kv
from ray_scripts import facts_of, head_node

class Keeper:
    def __init__(self):
        self.kept = []
    def keep(self, value):
        self.kept.append(value)
        return list(self.kept)

def fail():
    raise ValueError("as expected")

def use(runner):
    "Have runs end in all ways that leave something behind."
    values = [runner.submit(same, number) for number in range(5)]
    large = runner.submit(bytes, 5_000_000)
    assert runner.submit(len, lift(large)).result() == 5_000_000
    assert [each.result() for each in values] == list(range(5))
    assert isinstance(runner.submit(fail).wait(), Failed)
    assert isinstance(runner.submit(os._exit, 1).wait(), Crashed)
    runner.submit(threading.Event().wait, 0).cancel()
"""


@pytest.mark.parametrize("way", ["local", "direct", pytest.param("client", marks=needs_client)])
def test_ray_connection_of_the_user_is_found_unchanged(tmp_path: Path, way: str) -> None:
    """What the user has connected to stays connected, with its actors, its objects and no more."""
    run_script(
        _HEAD
        + f"""
from anabranch.runners.ray import _relay

way = {way!r}

def facts():
    gc.collect()
    found = [ray.util.list_named_actors(all_namespaces=True), ray.get_runtime_context().namespace,
        ray.get_runtime_context().get_job_id(), dict(os.environ)]
    if way != "client":
        found.append(internal_kv._internal_kv_list(b"", namespace=b"anabranch"))
    return found

def objects():
    return set(ray._private.worker.global_worker.core_worker.get_all_reference_counts())

with contextlib.ExitStack() as stack:
    address, settings = "local", {{"num_cpus": 1, "include_dashboard": False}}
    if way != "local":
        head = stack.enter_context(head_node(serves_clients=way == "client"))
        address, settings = head.client_address or head.address, {{}}
    ray.init(address, namespace="mine", logging_level="ERROR", **settings)
    keeper = ray.remote(num_cpus=0)(Keeper).options(name="keeper").remote()
    kept = ray.put([1, 2, 3])
    assert ray.get(keeper.keep.remote(1)) == [1]
    before, objects_before = facts(), objects() if way != "client" else set()
    relays = set()
    for last in (False, True):
        if last:
            _relay._KEPT_FOR = 0.0
        with RayTaskRunner() as runner, RayTaskRunner() as other:
            use(runner)
            use(other)
            relays |= {{runner._connection.relay_name, other._connection.relay_name}}
        del runner, other
    assert ray.is_initialized()
    # One actor was there for all, and ends a while after the last of them.
    assert len(relays) == 1, relays
    while facts() != before:
        threading.Event().wait(0.05)
    if way != "client":
        gc.collect()
        assert objects() <= objects_before, objects() - objects_before
    assert ray.get(kept) == [1, 2, 3]
    assert ray.get(ray.get_actor("keeper").keep.remote(2)) == [1, 2]
    assert leftovers() == [], leftovers()
    ray.shutdown()
""",
        tmp_path,
        RAY_AUTH_MODE="disabled",
    )


@pytest.mark.parametrize("way", ["direct", "auto", pytest.param("client", marks=needs_client)])
def test_ray_cluster_elsewhere_is_found_unchanged(tmp_path: Path, way: str) -> None:
    """A cluster that the runner connects to goes on without any actor, key or job of ours."""
    run_script(
        _HEAD
        + f"""
way = {way!r}
with head_node(serves_clients=way == "client") as head:
    before = facts_of(head.address, "make")
    if way == "auto":
        os.environ["RAY_ADDRESS"] = head.address
    address = {{"direct": head.address, "auto": "auto", "client": head.client_address}}[way]
    for _ in range(2):
        with RayTaskRunner(address) as runner:
            use(runner)
    assert not ray.is_initialized()
    assert facts_of(head.address) == before, (facts_of(head.address), before)
assert leftovers() == [], leftovers()
""",
        tmp_path,
        RAY_AUTH_MODE="disabled",
    )
