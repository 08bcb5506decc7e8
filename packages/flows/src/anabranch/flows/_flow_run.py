"""A flow run under way: its names, its attempts, and the state that it ends in."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final

from anabranch.flows._accounts import Accounts, accounts_of
from anabranch.flows._hooks import HookThread
from anabranch.flows._logging import engine_logger, ensure_console_logging, log_flow_run
from anabranch.flows._names import new_flow_run_name
from anabranch.flows._printing import logged_prints
from anabranch.flows._tag_limits import tag_limits_of_flow
from anabranch.flows._tags import current_tags
from anabranch.futures import (
    Cancelled,
    Completed,
    Crashed,
    Failed,
    FlowRun,
    Retrying,
    State,
    TaskRunner,
)
from anabranch.futures.runner import RunScope, current_scope, describe, new_run_id


class ActiveFlowRun:
    """One run of a flow, from its first log line to its last.

    Attributes:
        flow_run: The run's id and names.
        runner: The runner that the tasks of the present attempt are submitted to.
        scope: The scope of the present attempt's body.
        accounts: How the runs of the present attempt have ended.
        hooks: Calls the hooks of submitted runs.
        parent: The flow run that called this one; None if there is none in this process.
        is_submitted: Whether it runs beside the flow that called it, in a thread of its own.
        state: The state that the run has ended in; None until then, and once it was let go of.
        has_ended: Whether the run has ended.
        is_given_up: Whether the run was over for everybody else before that.
    """

    def __init__(
        self,
        flow_name: str,
        runner: TaskRunner,
        *,
        name: str | None,
        is_submitted: bool,
        is_async: bool = False,
        log_prints: bool | None = None,
        tag_limits: Mapping[str, int] | None = None,
    ) -> None:
        self.flow_run: Final = FlowRun(
            new_run_id(), name or new_flow_run_name(), flow_name, current_tags.get()
        )
        self.runner = runner
        self._is_async: Final = is_async
        # Around the scopes of all attempts. What surrounds the run cancels it by this.
        self._whole: Final = RunScope(self.flow_run)
        self.accounts = Accounts(self)
        self.scope = self._new_scope(attempt=1)
        self.hooks: Final = HookThread(self.flow_run, self.scope, runner.backend)
        self.state: State[object] | None = None
        self.has_ended = False
        self.is_given_up = False
        self._surrounding: Final = current_scope.get()
        self._parent_accounts: Final = accounts_of(self._surrounding)
        self.parent: Final = owner_of(self._surrounding)
        self.is_submitted: Final = is_submitted
        self._log_prints: Final = log_prints
        self._tag_limits: Final = tag_limits or {}
        self._counters: Final[dict[str, itertools.count[int]]] = {}

    def _new_scope(self, attempt: int) -> RunScope:
        return RunScope(
            self.flow_run, None, attempt, self.runner, self.accounts, is_async=self._is_async
        )

    # ------------------------------------------------------------------ attempts

    def begin_attempt(self, number: int) -> None:
        """Get ready for an attempt: each has a runner of its own, and its own accounts."""
        if number > 1:
            backend = self.runner.backend
            self.runner = self.runner.duplicate()
            self.runner.backend = backend
            self.accounts = Accounts(self)
            self.scope = self.hooks.scope = self._new_scope(number)
        self._whole.nest(self.scope)

    def end_attempt(self) -> None:
        """Take nothing more: an abandoned thread may yet come back to an attempt that is over."""
        self._whole.unnest(self.scope)
        self.scope.end(f"the attempt of flow run {self.flow_run.name!r} around it has ended")

    def rest(self, seconds: float) -> None:
        """Block this thread between two attempts; not for so long if the run is cancelled."""
        self._whole.rest(seconds)

    async def rest_async(self, seconds: float) -> None:
        """`rest`, in an event loop."""
        await self._whole.rest_async(seconds)

    def cancel(self) -> None:
        """Cancel what the flow has submitted; nothing is submitted or tried again after that."""
        self._whole.cancel()

    def is_unwanted(self) -> bool:
        """Whether the run has been cancelled."""
        return self._whole.is_cancelled

    # ------------------------------------------------------------------ naming

    def next_number(self, task_key: str) -> int:
        """Return how many runs of a task this flow run has made so far."""
        counter = self._counters.get(task_key)
        if counter is None:
            counter = self._counters.setdefault(task_key, itertools.count())
        return next(counter)

    # ------------------------------------------------------------------ from start to end

    @contextmanager
    def accounted(self) -> Generator[None]:
        """Surround the whole run: log its start and its end, and turn a failure into its state."""
        ensure_console_logging()
        self._log_start()
        # A submitted one is a child of what surrounds it. This is a part of that.
        surrounding = None if self.is_submitted else self._surrounding
        if surrounding is not None:
            surrounding.nest(self._whole)
        try:
            yield
        except Exception as error:  # Whatever the flow raised is its failure.
            self.state = Failed(error, message=describe(error))
        except BaseException as error:  # Ctrl-C and the like end the flow and the program.
            self.state = self._ended_by(error)
            raise
        finally:
            if surrounding is not None:
                surrounding.unnest(self._whole)
            if self.state is not None:
                self.has_ended = True
                self._log_end(self.state)
                if self._parent_accounts is not None and not self.is_submitted:
                    self._parent_accounts.note_subflow_end(self.state)

    def let_go(self) -> None:
        """Let go of what the run was called with and has returned: those who hold it own it.

        The run and its scopes refer to each other, so they stay until there is a collection.
        """
        self.state = self.scope.call = None

    def _ended_by(self, error: BaseException) -> State[object]:
        message = f"The flow run was ended by {describe(error)}"
        if self.is_submitted and isinstance(error, KeyboardInterrupt | SystemExit):
            # Nobody has asked for it: signals do not reach the threads of submitted flows.
            return Crashed(exception=error, message=message)
        return Cancelled(exception=error, message=message)

    @contextmanager
    def entered(self) -> Generator[None]:
        """Surround the flow's body: what it submits belongs to this run."""
        token = current_scope.set(self.scope)
        try:
            with logged_prints(self._log_prints), tag_limits_of_flow(self._tag_limits):
                yield
        except BaseException:  # However the body was left.
            self.scope.cancel()
            raise
        finally:
            current_scope.reset(token)

    # ------------------------------------------------------------------ log lines

    def _log_start(self) -> None:
        run = self.flow_run
        if self.parent is None:
            engine_logger.info("Created flow run %r for flow %r", run.name, run.flow_name)
        else:
            log_flow_run(
                self.parent.flow_run,
                "Created subflow run %r for flow %r",
                run.name,
                run.flow_name,
            )
        log_flow_run(
            run,
            "Starting %r; submitted tasks will be run %s...",
            str(self.runner),
            self.runner.concurrency_type.value,
        )

    def log_retry(self, state: Retrying) -> None:
        """Log that another attempt is to follow."""
        log_flow_run(self.flow_run, "%s", state.message, level=logging.WARNING)

    def log_abandoned_body(self) -> None:
        """Log that the function is still being executed, by a thread that cannot be stopped."""
        name = self.flow_run.name
        log_flow_run(self.flow_run, "Abandoned the body of %r", name, level=logging.WARNING)

    def _log_end(self, state: State[object]) -> None:
        level = logging.INFO if isinstance(state, Completed) else logging.ERROR
        log_flow_run(self.flow_run, "Finished in state %s", state, level=level)


def owner_of(scope: RunScope | None) -> ActiveFlowRun | None:
    """Return the flow run that a scope belongs to, if that is in this process."""
    accounts = accounts_of(scope)
    return None if accounts is None else accounts.flow
