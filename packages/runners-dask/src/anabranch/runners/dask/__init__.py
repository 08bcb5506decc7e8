"""The runner for Dask: tasks in the processes of a cluster, here or elsewhere."""
# The layers, bottom up: _native, _quiet, _bare, _failure, _home, _annotations, _receipts, _guard |
# _limiter, _stopping, _mail, _functions, _versions, _topic | _parcel, _outcomes | _outbox |
# _cancelling, _fetching | _link | _value | _run, _errand | _seceding | _nested | _worker | _client,
# _cluster, _report | _settings | _connection | _runner.
#
# Only functions import Dask: having it is needed to start a runner, not to name one.

from __future__ import annotations

from anabranch.futures.runner import publish
from anabranch.runners.dask._annotations import DaskOptions
from anabranch.runners.dask._runner import DaskTaskRunner

__all__ = ["DaskOptions", "DaskTaskRunner"]

publish(globals(), __all__)
