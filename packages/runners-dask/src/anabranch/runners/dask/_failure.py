"""How a run that did not end well ends for Dask."""

from __future__ import annotations

from typing import final

from anabranch.futures.runner import RunError


@final
class RemoteFailure(Exception):
    """Carries a `RunError` through Dask, which cuts short whatever has a long ``str()``."""

    def __init__(self, error: RunError) -> None:
        super().__init__(error)
        self.error = error

    def __str__(self) -> str:
        return f"Run {self.error.run_name!r} ended in state {self.error.kind}"

    def __repr__(self) -> str:
        return f"RemoteFailure({str(self)!r})"
