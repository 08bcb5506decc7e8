"""The runner for Ray: tasks in the processes of an instance, here or elsewhere."""
# The layers, bottom up: _environment, _alarm, _watch, _questions | _attempts | _worker | _native |
# _output, _startup | _connection | _outcome, _run | _functions | _session | _runner. Those from
# _attempts to _session import Ray, and _runner imports them when it starts: having Ray is needed to
# start a runner, not to name one.

from __future__ import annotations

from anabranch.futures.runner import publish
from anabranch.runners.ray._runner import RayTaskRunner

__all__ = ["RayTaskRunner"]

publish(globals(), __all__)
