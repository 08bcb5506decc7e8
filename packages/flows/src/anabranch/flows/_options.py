"""The options of tasks and flows, each written once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypedDict, TypeVar, cast

from anabranch.flows._hooks import (
    HOOK_OPTIONS,
    FlowHooks,
    FlowRunningHook,
    TaskHooks,
    TaskRunningHook,
    checked_hooks,
)
from anabranch.flows._run_names import RunName
from anabranch.flows._tag_limits import checked_tag_limits
from anabranch.flows._tags import checked_tags
from anabranch.futures import Backend, RetryCondition, RetryDelay, RetryPolicy, TaskRunner
from anabranch.futures.runner import NO_RETRIES, check_time_limit

OptionsT = TypeVar("OptionsT", bound="TaskOptions | FlowOptions")


class TaskOptions(TypedDict, total=False):
    """The options of a task.

    Attributes:
        name: What to call the task; its function's name by default.
        description: What the task does; its docstring by default.
        version: Which version of the task this is; for those who read it.
        tags: Labels for the task's runs.
        task_run_name: What to call each run: a template that is filled with the parameters, such as
            ``"{name}-on-{date:%A}"``, or a callable that returns the name, given either nothing or
            the parameters. By default the task's name, its key and a number.
        retries: How many attempts may follow the first one if that fails, times out, or is lost
            together with what it ran on.
        retry_delay: How long to wait before each of them, in seconds: a number; a list of numbers,
            the last of which holds for all that follow; or a function of the number of the retry,
            from 1, such as `exponential_backoff` returns.
        retry_jitter: Each delay is stretched by a random factor between 1 and 1 + ``retry_jitter``.
        retry_condition: Says by the state that an attempt ended in whether to try again. It is
            called where the task runs.
        timeout: How long each attempt may take, in seconds.
        log_prints: Whether what the task prints goes to its log; by default as in what surrounds
            the call.
        backend: The event loop of an async task where the runner has to bring one: ``"trio"`` or
            ``"asyncio"``. By default the flow's.
        runner_options: What task runners are told of the submitted runs, by the runners' names, as
            in ``{"dask": {"priority": 10, "resources": {"GPU": 1}}}``. Each takes what is under its
            own name and ignores what is said to others, so that the task runs on all of them.
        on_running: What to call when an attempt of a run starts: a hook or several, each called
            with the task, the `TaskRun` and the state. Hooks may be async. What they raise is
            logged, and harms nothing.
        on_completion: What to call when a run has completed.
        on_failure: What to call when a run has failed or timed out.
        on_crashed: What to call when a run has crashed.
        on_cancellation: What to call when a run was cancelled.
    """

    name: str
    description: str
    version: str | None
    tags: Iterable[str]
    task_run_name: RunName | None
    retries: int
    retry_delay: RetryDelay
    retry_jitter: float
    retry_condition: RetryCondition | None
    timeout: float | None
    log_prints: bool | None
    backend: Backend
    runner_options: Mapping[str, Mapping[str, object]]
    on_running: TaskRunningHook | Iterable[TaskRunningHook]
    on_completion: TaskHooks
    on_failure: TaskHooks
    on_crashed: TaskHooks
    on_cancellation: TaskHooks


class FlowOptions(TypedDict, total=False):
    """The options of a flow.

    Attributes:
        name: What to call the flow; its function's name with dashes by default.
        description: What the flow does; its docstring by default.
        version: Which version of the flow this is; for those who read it.
        task_runner: The runner of the flow's tasks, as an instance, a class or any callable that
            makes one, which is called once; a `ConcurrentTaskRunner` by default. Each run has a
            duplicate of its own.
        flow_run_name: What to call each run: a template that is filled with the parameters, such as
            ``"{name}-on-{date:%A}"``, or a callable that returns the name, given either nothing or
            the parameters. By default an adjective and an animal.
        retries: How many attempts may follow the first one if that fails or times out. Each calls
            the function again, with a task runner of its own.
        retry_delay: How long to wait before each of them; as for tasks.
        retry_jitter: How much longer it may be; as for tasks.
        retry_condition: Says by the state that an attempt ended in whether to try again.
        timeout: How long each attempt may take, in seconds, once its task runner has started. When
            the time is up, what the flow has submitted is cancelled.
        tag_limits: How many task runs with a tag execute at a time in one run of the flow and in
            its subflows, for each tag, as in ``{"database": 2}``; see `set_tag_limit`.
        log_prints: Whether what the flow and its tasks print goes to their logs; by default as in
            what surrounds the call.
        validate_parameters: Whether to check and convert the arguments by their annotations, with
            pydantic.
        backend: The event loop beside a sync flow, ``"trio"`` (default) or ``"asyncio"``. An async
            flow runs in the caller's.
        on_running: What to call when an attempt of a run starts: a hook or several, each called
            with the flow, the `FlowRun` and the state. Hooks may be async. What they raise is
            logged, and harms nothing.
        on_completion: What to call when a run has completed.
        on_failure: What to call when a run has failed or timed out.
        on_crashed: What to call when a run has crashed.
        on_cancellation: What to call when a run was cancelled.
    """

    name: str
    description: str
    version: str | None
    task_runner: TaskRunner | Callable[[], TaskRunner]
    flow_run_name: RunName | None
    tag_limits: Mapping[str, int]
    retries: int
    retry_delay: RetryDelay
    retry_jitter: float
    retry_condition: RetryCondition | None
    timeout: float | None
    log_prints: bool | None
    validate_parameters: bool
    backend: Backend
    on_running: FlowRunningHook | Iterable[FlowRunningHook]
    on_completion: FlowHooks
    on_failure: FlowHooks
    on_crashed: FlowHooks
    on_cancellation: FlowHooks


def check_options(kind: str, options: OptionsT, allowed: type) -> OptionsT:
    """Refuse options that there are none of, and values that an option does not take.

    Args:
        kind: The decorator, for errors: ``"task"`` or ``"flow"``.
        options: What it was given.
        allowed: The class of its options.

    Returns:
        The options, in a form that can be used again.

    Raises:
        TypeError: An option is unknown, or its value is of the wrong type.
        ValueError: The backend is unknown.
    """
    checked: dict[str, object] = dict(cast("Mapping[str, object]", options))
    known = allowed.__annotations__
    for option in checked:
        if option not in known:
            raise TypeError(
                f"@{kind} has no option {option!r}; it takes {', '.join(sorted(known))}"
            )
    if (backend := checked.get("backend")) not in (None, "trio", "asyncio"):
        raise ValueError(f"@{kind}(backend={backend!r}): use 'trio' or 'asyncio'")
    if not isinstance(version := checked.get("version"), str | None):
        raise TypeError(
            f"@{kind}(version={version!r}): use a string, as in version={str(version)!r}"
        )
    if "tags" in checked:
        checked["tags"] = checked_tags(f"@{kind}", checked["tags"])
    if "tag_limits" in checked:
        checked["tag_limits"] = checked_tag_limits(f"@{kind}", checked["tag_limits"])
    if "runner_options" in checked:
        checked["runner_options"] = _checked_runner_options(kind, checked["runner_options"])
    for option in HOOK_OPTIONS & checked.keys():
        checked[option] = checked_hooks(kind, option, checked[option])
    return cast("OptionsT", checked)


def _checked_runner_options(kind: str, given: object) -> dict[str, dict[str, object]]:
    """Return a copy: the task keeps its options, whatever becomes of the mappings."""
    told = f"@{kind}(runner_options={given!r})"
    example = 'runner_options={"dask": {"priority": 10}}'
    if not isinstance(given, Mapping):
        raise TypeError(f"{told}: give the names of runners and options for each, as in {example}")
    for runner, options in given.items():
        if not (isinstance(runner, str) and isinstance(options, Mapping)):
            raise TypeError(f"{told}: name the runner that they are for, as in {example}")
        for option in options:
            if not isinstance(option, str):
                raise TypeError(f"{told}: {option!r} is not the name of an option, as in {example}")
    return {runner: dict(options) for runner, options in given.items()}


def retry_policy(subject: str, options: TaskOptions | FlowOptions) -> RetryPolicy:
    """Return when the runs of a task or a flow are tried again.

    Args:
        subject: What errors call it.
        options: Its options.

    Raises:
        TypeError: One of them is of the wrong type.
        ValueError: One of them is not possible.
    """
    given = {
        field: options[option]  # type: ignore[literal-required]  # They are in both classes.
        for option, field in _RETRY_OPTIONS.items()
        if option in options
    }
    if not given:
        return NO_RETRIES
    try:
        return RetryPolicy(**given)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{subject}: {error}") from None


_RETRY_OPTIONS = {
    "retries": "retries",
    "retry_delay": "delay",
    "retry_jitter": "jitter",
    "retry_condition": "condition",
}


def time_limit(subject: str, options: TaskOptions | FlowOptions) -> float | None:
    """Return how long an attempt of a task or a flow may take, in seconds.

    Args:
        subject: What errors call it.
        options: Its options.

    Raises:
        TypeError: It is no number.
        ValueError: It is not more than 0.
    """
    try:
        return check_time_limit(options.get("timeout"))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{subject}: {error}") from None
