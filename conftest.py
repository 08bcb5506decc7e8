"""Fixtures of every test, in packages/ and in integration/."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Tests marked `anyio` run once on each event loop."""
    name = request.param
    assert isinstance(name, str)
    return name


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give what cannot be stopped no time to end by itself when it is left in a hurry."""
    monkeypatch.setattr("anabranch.futures._scope._GRACE", 0.001)


@pytest.fixture(scope="session", autouse=True)
def _children_import_what_we_import(pytestconfig: pytest.Config) -> Iterator[None]:
    """Let examples and cluster workers import the sources, whatever folder they start in.

    Pants names the source roots relative to the folder that the tests start in, which is of
    no use to a child process that starts elsewhere.
    """
    roots = [Path(entry or ".").resolve() for entry in sys.path]
    ours = [
        str(root)
        for root in roots
        if root.is_relative_to(pytestconfig.rootpath) and "site-packages" not in root.parts
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(ours))
        yield
