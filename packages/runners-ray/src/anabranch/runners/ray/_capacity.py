"""Telling the user of runs that want more than there is: Ray has them wait, without an error."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, final

from anabranch.futures import TaskRun
from anabranch.runners.ray import _native
from anabranch.runners.ray._options import Options, amounts_of
from anabranch.runners.ray._questions import InstanceLostError

if TYPE_CHECKING:
    from anabranch.runners.ray._link import Link

_logger = logging.getLogger("anabranch.task_runner.ray")


@final
class Capacity:
    """What an instance of our own has of everything, when none of it is in use.

    Nothing adds nodes to such an instance by itself, so what it lacks will hardly come.
    """

    def __init__(self) -> None:
        self._amounts: Mapping[str, float] = {}
        self._told: set[tuple[str, str]] = set()

    def warn_if_exceeded(self, run: TaskRun, options: Options, connection: Link) -> None:
        """Warn of a run that wants more, once for its task and what it wants.

        Args:
            run: What is submitted.
            options: What Ray is told of it.
            connection: Where to.
        """
        for name, wanted in amounts_of(options):
            about = run.task_name, name
            if wanted <= self._amounts.get(name, 0) or about in self._told:
                continue
            try:  # A user may have added nodes.
                self._amounts = connection.ask(_native.cluster_resources)
            except InstanceLostError:  # The run will say so.
                return
            has = self._amounts.get(name, 0)
            if wanted > has:
                self._told.add(about)
                _logger.warning(
                    "Task %r takes %.15g of %r, and this Ray instance has %.15g: its runs wait "
                    "until they are cancelled or more is added. Take less, or start it with more: "
                    "RayTaskRunner(init_kwargs=...)",
                    run.task_name,
                    wanted,
                    name,
                    has,
                )
