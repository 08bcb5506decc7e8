"""Tasks: decorating, calling, submitting, mapping, binding."""

from __future__ import annotations

import functools
import inspect
import pickle
from collections.abc import Callable, Iterator

import pytest

from anabranch.flows import (
    AsyncTask,
    Completed,
    ConcurrentTaskRunner,
    Failed,
    Future,
    FutureList,
    SequentialTaskRunner,
    Task,
    TaskRunner,
    UpstreamFailed,
    flow,
    lift,
    task,
    unmapped,
)
from anabranch.futures import NotSubmittableError, WouldDeadlockError

RUNNERS = [SequentialTaskRunner, ConcurrentTaskRunner]


@task
def add(x: int, y: int = 0) -> int:
    """Add two numbers."""
    return x + y


@task
async def add_async(x: int, y: int = 0) -> int:
    """Add two numbers, asynchronously."""
    return x + y


@task
def fail(message: str) -> int:
    """Raise."""
    raise LookupError(message)


class Scale:
    """A thing with tasks for methods."""

    unit = "kg"

    def __init__(self, factor: int) -> None:
        self.factor = factor

    @task
    def weigh(self, x: int) -> int:
        """Weigh."""
        return self.factor * x

    @task
    async def weigh_async(self, x: int) -> int:
        """Weigh, asynchronously."""
        return self.factor * x

    @task
    @classmethod
    def labelled(cls, x: int) -> str:
        """Label."""
        return f"{x} {cls.unit}"

    @task
    @staticmethod
    def double(x: int) -> int:
        """Double."""
        return 2 * x


def in_flow(body: Callable[[], object], runner: type[TaskRunner] = ConcurrentTaskRunner) -> object:
    """Run a function in a flow, and return what it returns."""
    return flow(task_runner=runner)(body)()


class TestDecorating:
    def test_a_task_looks_like_its_function(self) -> None:
        """A task keeps its function's name, docstring, module and signature."""
        assert add.__name__ == "add"
        assert add.__doc__ == "Add two numbers."
        assert add.__module__ == __name__
        assert str(inspect.signature(add)) == "(x: 'int', y: 'int' = 0) -> 'int'"
        assert repr(add) == "<Task 'add'>"

    def test_the_function_tells_the_class(self) -> None:
        """A coroutine function makes an async task."""
        assert type(add) is Task
        assert type(add_async) is AsyncTask

    def test_options_make_a_decorator(self) -> None:
        """A decorator of options can be kept, used again and refined."""
        preset = task(tags=["io"])
        one = preset(lambda: 1)
        named = preset(name="two")(lambda: 2)
        assert one.tags == {"io"}
        assert (named.name, set(named.tags)) == ("two", {"io"})

    def test_with_options_leaves_the_task_alone(self) -> None:
        """Changing options gives another task."""
        renamed = add.with_options(name="plus", description="Adds.")
        assert (renamed.name, renamed.description) == ("plus", "Adds.")
        assert (add.name, add.description) == ("add", "Add two numbers.")

    def test_an_unknown_option_is_refused(self) -> None:
        """An option that there is none of is named, with those that there are."""
        options: dict[str, object] = {"nmae": "x"}
        with pytest.raises(
            TypeError, match=r"@task has no option 'nmae'; it takes backend, .*name"
        ):
            task(**options)  # type: ignore[call-overload]  # That is the point.

    def test_an_unknown_backend_is_refused(self) -> None:
        """A backend that there is none of is named, with those that there are."""
        options: dict[str, object] = {"backend": "twisted"}
        with pytest.raises(ValueError, match=r"backend='twisted'.*'trio' or 'asyncio'"):
            task(**options)  # type: ignore[call-overload]  # That is the point.

    def test_decorating_a_non_function_is_refused(self) -> None:
        """What is no function cannot be decorated, and the message shows what can."""
        with pytest.raises(TypeError, match=r"@task cannot decorate 3: use it on a function"):
            task(3)  # type: ignore[call-overload]  # That is the point.

    def test_a_parameter_named_wait_for_is_refused(self) -> None:
        """A parameter whose name `.submit()` needs is refused at decoration."""

        def clash(wait_for: int) -> int:
            return wait_for

        with pytest.raises(TypeError, match=r"'clash' has a parameter named 'wait_for'"):
            task(clash)

    def test_callables_without_a_name(self) -> None:
        """Partials and callable objects are named after what they call."""
        assert task(functools.partial(pow, 2)).name == "pow"
        assert task(Doubler()).name == "Doubler"
        assert task(Doubler())(4) == 8


class Doubler:
    """A callable object."""

    def __call__(self, x: int) -> int:
        """Double."""
        return 2 * x


class TestCalling:
    def test_a_call_outside_a_flow_is_a_call(self) -> None:
        """Outside a flow a task is an ordinary function."""
        assert add(1, y=2) == 3

    def test_a_failing_call_raises_the_functions_own_exception(self) -> None:
        """A direct call raises what the function raised."""
        with pytest.raises(LookupError, match="gone"):
            fail("gone")

    def test_run_returns_the_state(self) -> None:
        """`run` returns the state that the run ended in, whatever it is."""
        match add.run(1, 2):
            case Completed(value):
                assert value == 3
            case other:
                pytest.fail(f"not completed: {other}")
        assert isinstance(fail.run("gone"), Failed)

    @pytest.mark.anyio
    async def test_an_async_task_is_awaited_in_place(self) -> None:
        """An async task is called like the coroutine function that it is."""
        assert await add_async(1, 2) == 3
        assert (await add_async.run(1, 2)).result() == 3

    @pytest.mark.parametrize("call", [add, add.run, add.submit, add_async.submit])
    def test_arguments_that_do_not_fit_are_refused(self, call: Callable[..., object]) -> None:
        """Arguments that do not bind are refused with the function's signature."""
        with pytest.raises(
            TypeError, match=r"add(_async)?\(\) cannot be called so: .*'z'.*x: 'int'"
        ):
            call(1, z=2)

    def test_futures_are_resolved_in_a_direct_call(self) -> None:
        """A direct call waits for the futures among its arguments."""

        def body() -> int:
            return add(lift(add.submit(1)), lift(add_async.submit(2)))

        assert in_flow(body) == 3

    def test_ctrl_c_comes_out_of_a_direct_call(self) -> None:
        """KeyboardInterrupt in a task that runs in the caller's thread is the caller's."""

        @task
        def interrupted() -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()


class TestSubmitting:
    @pytest.mark.parametrize("runner", RUNNERS)
    def test_a_submitted_task_gives_a_future(self, runner: type[TaskRunner]) -> None:
        """`submit` returns a future, whatever the runner and the kind of task."""

        def body() -> list[int]:
            futures = [add.submit(1, 2), add_async.submit(1, 3)]
            assert all(isinstance(future, Future) for future in futures)
            return [future.result() for future in futures]

        assert in_flow(body, runner) == [3, 4]

    def test_submitting_outside_a_flow_is_refused(self) -> None:
        """Outside any flow there is no runner, and the message shows three ways out."""
        with pytest.raises(
            NotSubmittableError, match=r"'add'.*@flow.*directly.*runner.submit\(add"
        ):
            add.submit(1)

    @pytest.mark.parametrize("runner", RUNNERS)
    def test_wait_for_and_after_hold_a_run_back(self, runner: type[TaskRunner]) -> None:
        """A run that waits for a failed one ends as UpstreamFailed, in either spelling."""

        def body() -> list[str]:
            failed = fail.submit("gone")
            waiting = [
                add.submit(1, wait_for=[failed]),
                add.after(failed).submit(1),
                *add.map([1], wait_for=[failed]),
            ]
            assert add.after(add.submit(1)).submit(2).result() == 2
            return [type(future.wait()).__name__ for future in waiting]

        assert in_flow(body, runner) == ["UpstreamFailed"] * 3

    def test_what_a_task_waits_for_survives_other_changes(self) -> None:
        """`after` is kept by `with_options`, and by binding a method."""

        def body() -> list[str]:
            failed = fail.submit("gone")
            scale = Scale(2)
            runs = [
                add.after(failed).with_options(name="later").submit(1),
                scale.weigh.after(failed).submit(1),
            ]
            return [type(run.wait()).__name__ for run in runs]

        assert in_flow(body) == ["UpstreamFailed"] * 2

    @pytest.mark.parametrize("value", [3, "abc", [1]])
    def test_waiting_for_what_is_no_future_is_refused(self, value: object) -> None:
        """`wait_for` takes futures; anything else is named, with what to give."""
        submit: Callable[..., object] = add.submit
        with pytest.raises(TypeError, match=r"add.submit\(wait_for=.*wait_for=\[first, second\]"):
            in_flow(lambda: submit(1, wait_for=value))
        subflow: Callable[..., object] = flow(name="sub")(lambda: None).submit
        with pytest.raises(TypeError, match=r"sub.submit\(wait_for=.*wait_for=\[first, second\]"):
            in_flow(lambda: subflow(wait_for=value))

    def test_waiting_for_one_future(self) -> None:
        """`wait_for` may be a single future."""
        submit: Callable[..., Future[int]] = add.submit
        assert in_flow(lambda: submit(1, wait_for=add.submit(1)).result()) == 1

    def test_the_context_variables_of_the_submitter_are_seen(self) -> None:
        """A task sees the context variables as they were when it was submitted."""
        import contextvars  # noqa: PLC0415 - for one test

        variable = contextvars.ContextVar("variable", default="unset")

        @task
        def read() -> str:
            return variable.get()

        def body() -> str:
            variable.set("set")
            future = read.submit()
            variable.set("changed")
            return future.result()

        assert in_flow(body) == "set"

    @pytest.mark.parametrize("runner", RUNNERS)
    def test_a_task_joins_what_it_submitted(self, runner: type[TaskRunner]) -> None:
        """A task does not end before the runs that it submitted."""
        ended: list[int] = []

        @task
        def child(number: int) -> None:
            ended.append(number)

        @task
        def parent() -> int:
            child.map(range(3))
            return 7

        def body() -> tuple[int, int]:
            return parent.submit().result(), len(ended)

        assert in_flow(body, runner) == (7, 3)

    def test_waiting_for_children_on_one_thread(self) -> None:
        """Tasks that submit and await tasks do not starve a pool of one thread."""

        @task
        def parent(depth: int) -> int:
            return 1 if depth == 0 else 1 + parent.submit(depth - 1).result()

        @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
        def nested() -> list[int]:
            return parent.map([3] * 20).result()

        assert nested() == [4] * 20


class TestMapping:
    @pytest.mark.parametrize("runner", RUNNERS)
    def test_one_run_for_each_item(self, runner: type[TaskRunner]) -> None:
        """`map` submits one run for each item, and its futures are a future of the list."""

        def body() -> list[object]:
            ones = add.map([1, 2, 3])
            both = add.map(ones, [10, 20, 30])
            fixed = add_async.map(ones, unmapped(5))
            return [both.result(), fixed.result(), len(ones), ones[0].result(), ones[1:].result()]

        assert in_flow(body, runner) == [[11, 22, 33], [6, 7, 8], 3, 1, [2, 3]]

    def test_a_future_of_a_list_is_mapped_over(self) -> None:
        """`map` waits for a future of an iterable, and maps over its items."""

        @task
        def numbers() -> list[int]:
            return [1, 2]

        assert in_flow(lambda: add.map(numbers.submit()).result()) == [1, 2]

    def test_mapping_by_keyword(self) -> None:
        """Iterables can be given by keyword as well."""
        by_keyword: Callable[..., FutureList[int]] = add.map
        assert in_flow(lambda: by_keyword([1, 2], y=[10, 20]).result()) == [11, 22]

    def test_nothing_to_map_over_gives_an_empty_list(self) -> None:
        """Mapping over an empty iterable gives an empty list that is done."""
        assert in_flow(lambda: add.map([]).result()) == []

    @pytest.mark.parametrize(
        ("args", "kwargs", "kind", "message"),
        [
            (([1, 2], [1]), {}, ValueError, r"add.map\(\).*argument 2 ended after 1"),
            (
                ([1, 2],),
                {"y": [1]},
                ValueError,
                r"argument 'y' ended after 1 and argument 1 ",
            ),
            (([1], 2), {}, TypeError, r"got 2 for argument 2.*unmapped\(\)"),
            ((unmapped(1),), {}, TypeError, r"nothing to map over"),
            (([1],), {"z": [2]}, TypeError, r"add\(\) cannot be called so.*'z'"),
        ],
    )
    def test_bad_arguments_are_refused(
        self,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        kind: type[Exception],
        message: str,
    ) -> None:
        """Lengths that differ, and arguments that cannot be mapped over, are named."""
        submit: Callable[..., object] = add.map
        with pytest.raises(kind, match=message):
            in_flow(lambda: submit(*args, **kwargs))

    def test_an_input_that_raises_stop_iteration_is_no_end(self) -> None:
        """A failure that would end a loop silently is told, and begun inputs are closed."""
        closed: list[str] = []

        def numbers() -> Iterator[int]:
            try:
                yield from range(3)
            finally:
                closed.append("numbers")

        @task
        def stop() -> list[int]:
            raise StopIteration("no")

        def body() -> list[str]:
            failed = stop.submit()
            failed.wait()
            with pytest.raises(RuntimeError, match="raised StopIteration"):
                add.map(numbers(), failed)
            assert closed == ["numbers"]
            with pytest.raises(ValueError, match="argument 2 ended after 1"):
                add.map(numbers(), [1])
            return closed

        assert in_flow(body) == ["numbers"] * 2


class TestMethods:
    @pytest.mark.parametrize("runner", RUNNERS)
    def test_methods_are_tasks(self, runner: type[TaskRunner]) -> None:
        """Methods of all kinds can be tasks, and are bound as methods are."""
        scale = Scale(3)

        def body() -> list[object]:
            return [
                scale.weigh(2),
                scale.weigh.submit(2).result(),
                scale.weigh_async.submit(2).result(),
                scale.weigh.map([1, 2]).result(),
                Scale.weigh.submit(scale, 4).result(),
                Scale.labelled.submit(1).result(),
                scale.labelled(2),
                Scale.double.submit(4).result(),
                scale.double(5),
            ]

        assert in_flow(body, runner) == [6, 6, 6, [3, 6], 12, "1 kg", "2 kg", 8, 10]

    def test_a_bound_task_has_the_methods_signature(self) -> None:
        """Binding takes the first parameter off the signature."""
        assert list(inspect.signature(Scale(1).weigh).parameters) == ["x"]
        assert list(inspect.signature(Scale.weigh).parameters) == ["self", "x"]


class TestPickling:
    def test_a_task_of_a_module_is_pickled_by_name(self) -> None:
        """A task that its module knows comes back as itself."""
        assert pickle.loads(pickle.dumps(add)) is add

    def test_a_changed_copy_of_a_task_is_pickled(self) -> None:
        """A copy with other options, or that waits for others, comes back as such."""
        copy = pickle.loads(pickle.dumps(add.with_options(name="plus")))
        assert (copy.name, copy(1, 2)) == ("plus", 3)

    def test_the_shipped_function_is_pickled_by_name(self) -> None:
        """What travels to workers is the name of the task's function, not its code."""
        for shipped, args, expected in [
            (add._shipped, (1, 2), 3),
            (Scale(2).weigh._shipped, (4,), 8),
            (Scale.labelled._shipped, (4,), "4 kg"),
            (Scale.double._shipped, (4,), 8),
        ]:
            pickled = pickle.dumps(shipped)
            assert len(pickled) < 300
            assert pickle.loads(pickled)(*args) == expected

    def test_a_task_that_is_gone_is_named(self) -> None:
        """A worker without the task says which it misses, and asks for the version."""
        from anabranch.flows._task_function import load  # noqa: PLC0415 - a private door

        with pytest.raises(ImportError, match=r"'no_such' is not in module.*same version"):
            load(__name__, "no_such", ())

    def test_upstream_failure_reaches_every_dependant(self) -> None:
        """Runs behind a failed one never start, however far behind."""
        started: list[int] = []

        @task
        def step(x: int) -> int:
            started.append(x)
            return x

        def body() -> object:
            future = step.submit(fail.submit("gone"))
            for _ in range(10):
                future = step.submit(future)
            return future.wait()

        state = flow(body).run()
        assert isinstance(state, Failed)
        assert isinstance(state.exception, LookupError)
        assert isinstance(state.returned, UpstreamFailed)
        assert started == []


@pytest.mark.anyio
async def test_a_call_that_could_not_wait_for_its_arguments_was_no_run() -> None:
    """A direct call that is refused, since it would block its own loop, is no loss to the flow."""

    @flow
    async def retrying() -> None:
        future = add_async.submit(1, 2)
        with pytest.raises(WouldDeadlockError):
            add(lift(future))
        assert add(await future) == 3

    state = await retrying.run()
    assert isinstance(state, Completed)
