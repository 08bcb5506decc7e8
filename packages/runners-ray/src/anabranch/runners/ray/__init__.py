"""The runner for Ray: tasks in the processes of an instance, here or elsewhere."""
# The layers, bottom up: _environment, _options, _watch, _questions, _interrupts, _home, _parcel,
# _letters | _native | _relay, _outcome, _journal | _attempts | _errand, _place, _output, _startup,
# _link | _origin, _value, _connection | _batch, _departure, _run | _functions, _capacity, _lines |
# _session | _nested | _batch_work, _worker | _runner. Those from _native to _worker import Ray, and
# _runner imports them when it starts: having Ray is needed to start a runner, not to name one.

from __future__ import annotations

from anabranch.futures.runner import publish
from anabranch.runners.ray._options import RayOptions, remote_options
from anabranch.runners.ray._runner import RayTaskRunner

__all__ = ["RayOptions", "RayTaskRunner", "remote_options"]

publish(globals(), __all__)
