"""The runner for Dask: tasks in the processes of a cluster, here or elsewhere."""
# The layers, bottom up: _native, _quiet, _bare, _guard | _limiter, _stopping, _versions | _worker,
# _parcel | _client, _cluster, _topic, _report, _cancelling, _fetching, _outcomes | _settings |
# _connection | _run | _runner.
#
# Only functions import Dask: having it is needed to start a runner, not to name one.

from __future__ import annotations

from anabranch.futures.runner import publish
from anabranch.runners.dask._runner import DaskTaskRunner

__all__ = ["DaskTaskRunner"]

publish(globals(), __all__)
