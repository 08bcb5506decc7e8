"""The run that is going on, as its own code sees it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, final

from anabranch.flows._flow_run import ActiveFlowRun, owner_of
from anabranch.flows._run_names import bound_parameters
from anabranch.futures import FlowRun, TaskRun
from anabranch.futures.runner import RunScope, current_scope

_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


@final
class CurrentTaskRun:
    """The task run that is calling, as in ``task_run.name``; see `task_run`.

    It is false where no task runs, as in a flow's own body; there the properties are empty.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        return _task_run() is not None

    def __repr__(self) -> str:
        return f"<task_run {self.name!r}>" if self else "<task_run: none>"

    @property
    def id(self) -> str | None:
        """The run's id, 32 hexadecimal digits."""
        run = _task_run()
        return None if run is None else run.id

    @property
    def name(self) -> str | None:
        """What logs call the run."""
        run = _task_run()
        return None if run is None else run.name

    @property
    def task_name(self) -> str | None:
        """The name of the task."""
        run = _task_run()
        return None if run is None else run.task_name

    @property
    def tags(self) -> frozenset[str]:
        """The tags of the task, and those that surrounded the call."""
        run = _task_run()
        return frozenset() if run is None else run.tags

    @property
    def attempt(self) -> int:
        """Counts the attempts of the run from 1; 0 where no task runs."""
        scope = current_scope.get()
        has_run = scope is not None and scope.task_run is not None
        return scope.attempt if scope is not None and has_run else 0

    @property
    def parameters(self) -> Mapping[str, object]:
        """The function's parameters and what they are, with defaults applied."""
        return _parameters(current_scope.get() if self else None)


@final
class CurrentFlowRun:
    """The flow run that the calling code belongs to, as in ``flow_run.name``; see `flow_run`.

    It is false outside any flow; there the properties are empty.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        return _flow_run() is not None

    def __repr__(self) -> str:
        return f"<flow_run {self.name!r}>" if self else "<flow_run: none>"

    @property
    def id(self) -> str | None:
        """The run's id, 32 hexadecimal digits."""
        run = _flow_run()
        return None if run is None else run.id

    @property
    def name(self) -> str | None:
        """What logs call the run."""
        run = _flow_run()
        return None if run is None else run.name

    @property
    def flow_name(self) -> str | None:
        """The name of the flow."""
        run = _flow_run()
        return None if run is None else run.flow_name

    @property
    def tags(self) -> frozenset[str]:
        """The tags that were in force when the flow was called."""
        run = _flow_run()
        return frozenset() if run is None else run.tags

    @property
    def attempt(self) -> int:
        """Counts the attempts of the flow run from 1; 0 outside any flow."""
        active = _active()
        if active is not None:
            return active.scope.attempt
        return 1 if self else 0

    @property
    def parameters(self) -> Mapping[str, object]:
        """The function's parameters and what they are, with defaults; empty in other processes."""
        active = _active()
        return _parameters(None if active is None else active.scope)


#: The task run that is calling: ``task_run.name``, ``task_run.parameters`` and so on. Works in
#: every process that tasks run in.
task_run: Final = CurrentTaskRun()

#: The flow run that the calling code belongs to: ``flow_run.name``, ``flow_run.parameters`` and so
#: on. Works in a flow's body and in its tasks.
flow_run: Final = CurrentFlowRun()


def _task_run() -> TaskRun | None:
    scope = current_scope.get()
    return None if scope is None else scope.task_run


def _flow_run() -> FlowRun | None:
    scope = current_scope.get()
    return None if scope is None else scope.flow_run


def _active() -> ActiveFlowRun | None:
    scope = current_scope.get()
    return None if scope is None else owner_of(scope)


def _parameters(scope: RunScope | None) -> Mapping[str, object]:
    if scope is None or scope.call is None:
        return _NOTHING
    return MappingProxyType(dict(bound_parameters(*scope.call)))
