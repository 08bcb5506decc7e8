"""Starting an instance of Ray, or connecting to one, without a word on the user's terminal."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Final, cast, final

import attrs
import ray

from anabranch.futures.runner import AnyFunction
from anabranch.runners.ray._environment import (
    connect_variables,
    start_variables,
    unchanged_environment,
)

#: The address that means a new instance on this machine.
LOCAL: Final = "local"

#: The address that means whatever instance runs on this machine.
AUTO: Final = "auto"

# Ray warns of what is all right here: that it leaves SIGTERM alone outside the main thread, and
# that it protects its own instance by a token.
_QUIET: Final = logging.ERROR
_LOUD_ENOUGH: Final = logging.WARNING
_LOGGING_SETTINGS: Final = frozenset(
    {"configure_logging", "logging_config", "logging_format", "logging_level"}
)


@final
@attrs.frozen
class Target:
    """Where a runner wants its tasks to run.

    Attributes:
        address: As Ray takes it; `LOCAL` for an instance of our own.
        init_kwargs: The user's arguments for ``ray.init``.
    """

    address: str
    init_kwargs: Mapping[str, object]

    @classmethod
    def of(cls, address: str | None, init_kwargs: Mapping[str, object]) -> Target:
        """Return the target of a runner's settings.

        Without an address it is what ``RAY_ADDRESS`` names, as in jobs submitted to a cluster,
        else an instance of our own. (Ray itself would also take up any instance that it finds on
        this machine.)
        """
        return cls(address or os.environ.get("RAY_ADDRESS") or LOCAL, init_kwargs)

    @property
    def is_local(self) -> bool:
        """Whether it is an instance of our own."""
        return self.address == LOCAL

    def init(self) -> str:
        """Start or connect, and return the address of the dashboard, or nothing."""
        options = dict(self.init_kwargs)
        options.setdefault("namespace", "anabranch")
        is_quiet = not _LOGGING_SETTINGS & options.keys()
        if is_quiet:
            options["logging_level"] = _QUIET
        if self.is_local:
            options.setdefault("include_dashboard", False)
        init = cast("AnyFunction[object]", ray.init)
        variables = start_variables() if self.is_local else connect_variables()
        with unchanged_environment(variables):
            context = init(address=self.address, **options)
        if is_quiet:
            logging.getLogger("ray").setLevel(_LOUD_ENOUGH)
        url = getattr(context, "dashboard_url", None)
        return str(url) if url else ""
