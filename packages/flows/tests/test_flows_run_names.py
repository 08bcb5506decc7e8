"""The names of runs, versions, and tags."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import pytest

from anabranch.flows import (
    ConcurrentTaskRunner,
    Future,
    FutureList,
    SequentialTaskRunner,
    TaskRunner,
    allow_failure,
    flow,
    flow_run,
    lift,
    quote,
    tags,
    task,
    task_run,
)

RUNNERS = [SequentialTaskRunner, ConcurrentTaskRunner]


@attrs.frozen
class Point:
    """A thing with a field."""

    y: int


def place(name: str, x: Point, day: datetime.date = datetime.date(2026, 2, 1)) -> str:
    """Tell the name of this run."""
    return task_run.name or ""


def run_name(name: Any, *args: object, **kwargs: object) -> str:  # noqa: ANN401 - what users give
    """Call `place` under a name, and return what its run was called."""
    return task(task_run_name=name)(place)(*args, **kwargs)  # type: ignore[arg-type]  # Any.


class TestTemplates:
    def test_parameters_fill_a_template(self) -> None:
        """A template is filled as `str.format` does, with defaults applied."""
        template = "{name}-of-{x.y}-on-{day:%A}"
        assert run_name(template, "bit", x=Point(3)) == "bit-of-3-on-Sunday"

    @pytest.mark.parametrize("runner", RUNNERS)
    def test_submitted_and_mapped_runs_are_named(self, runner: type[TaskRunner]) -> None:
        """Each run of a task is named by its own arguments."""
        doubled = task(task_run_name="double-{x}")(lambda x: 2 * x)

        @flow(task_runner=runner)
        def body() -> list[str]:
            futures = [doubled.submit(1), *doubled.map([2, 3])]
            return [future.task_run.name for future in futures]

        assert body() == ["double-1", "double-2", "double-3"]

    def test_a_future_is_shown_by_its_run(self) -> None:
        """A future in a template is the name of its run, at any depth, and marks are taken off."""

        @task(task_run_name="made-{x}")
        def make(x: object) -> object:
            return x

        @flow
        def body() -> list[str]:
            one = make.submit(1)
            lifted = [lift(one)]
            arguments = [lift(one), lifted, allow_failure(one), quote([1]), FutureList([one])]
            return [make.submit(each).task_run.name for each in arguments]

        assert body() == [
            "made-made-1",
            "made-['made-1']",
            "made-made-1",
            "made-[1]",
            "made-['made-1']",
        ]

    def test_a_method_may_show_what_it_is_bound_to(self) -> None:
        """The object of a method is a parameter like others."""

        class Sensor:
            def __init__(self, name: str) -> None:
                self.name = name

            @task(task_run_name="{self.name}-{x}")
            def read(self, x: int) -> str:
                return task_run.name or ""

        assert Sensor("north").read(1) == "north-1"
        assert Sensor.read(Sensor("south"), 2) == "south-2"

    def test_a_flow_run_is_named_by_its_parameters(self) -> None:
        """A flow's template is filled with its arguments, and futures resolved before."""

        @task
        def one() -> int:
            return 1

        @flow(flow_run_name="flow-{x}")
        def inner(x: int) -> str:
            return flow_run.name or ""

        @flow
        def outer() -> list[str]:
            direct = inner(lift(one.submit()))
            future = inner.submit(lift(one.submit()))
            return [direct, future.task_run.name, future.result()]

        direct, submitted, seen = outer()
        assert (direct, submitted) == ("flow-1", seen)
        assert submitted.startswith("flow-one-")

    def test_names_do_not_use_up_numbers(self) -> None:
        """Runs without a name of their own are numbered as if there were no others."""
        plain = task(place)

        @flow
        def body() -> list[str]:
            plain.with_options(task_run_name="x")("a", Point(1))
            return [plain("a", Point(1)), plain("a", Point(1))]

        assert [name.rsplit("-")[-1] for name in body()] == ["0", "1"]

    @pytest.mark.parametrize(
        ("template", "message"),
        [
            ("{z}", r"Task 'place' has task_run_name='{z}', but no parameter 'z'; .*'{name}'"),
            ("{}", r"but no parameter ''; use those that there are: '{name}', '{x}', '{day}'"),
            ("{name:{width}}", r"but no parameter 'width'"),
            ("{name", r"is malformed \(expected '}' before end of string\); write a brace"),
        ],
    )
    def test_a_bad_template_is_refused_at_decoration(self, template: str, message: str) -> None:
        """A template that asks for what is no parameter is refused when the task is made."""
        with pytest.raises(ValueError, match=message):
            task(task_run_name=template)(place)
        with pytest.raises(ValueError, match="Flow 'place' has flow_run_name"):
            flow(flow_run_name=template)(place)

    @pytest.mark.parametrize("template", ["{x.z}", "{name:%A}"])
    def test_a_template_that_does_not_fit_the_arguments(self, template: str) -> None:
        """Arguments that a template cannot be filled with are refused by name of the task."""
        with pytest.raises(
            ValueError, match=r"Task 'place' has task_run_name=.*cannot be filled with these"
        ):
            run_name(template, "a", Point(1))


class TestCallables:
    def test_a_callable_names_runs(self) -> None:
        """A callable is called for each run, with nothing or with the parameters."""

        def from_parameters(parameters: Mapping[str, Any]) -> str:
            return f"{parameters['name']}-{parameters['x'].y}-{parameters['day'].year}"

        assert run_name(lambda: "fixed", "a", Point(1)) == "fixed"
        assert run_name(from_parameters, "a", Point(1)) == "a-1-2026"
        assert flow(flow_run_name=lambda: "fixed")(lambda: flow_run.name)() == "fixed"

    @pytest.mark.parametrize(
        ("name", "kind", "message"),
        [
            (lambda: 3, TypeError, r"Task 'place' has task_run_name=.*returned 3; have it return"),
            (
                lambda: dict[str, str]()["k"],
                ValueError,
                r"has task_run_name=.*which raised KeyError: 'k'",
            ),
            (lambda a, b: "x", TypeError, r"takes \(a, b\); it is called with nothing, or with"),
            (3, TypeError, r"has task_run_name=3; give a template, such as '{x}', or a callable"),
        ],
    )
    def test_a_bad_callable_is_refused(
        self, name: object, kind: type[Exception], message: str
    ) -> None:
        """A callable that raises, returns no string or takes too much is named with its task."""
        with pytest.raises(kind, match=message):
            run_name(name, "a", Point(1))

    def test_a_bad_name_fails_no_run(self) -> None:
        """A name that cannot be made is the submitter's error: there is no run yet."""
        options: dict[str, Any] = {"task_run_name": lambda: 3}
        broken = task(**options)(place)
        with pytest.raises(TypeError, match="have it return a str"):
            flow(lambda: broken.submit("a", Point(1)))()


class TestVersions:
    def test_a_version_is_kept(self) -> None:
        """Tasks and flows have the version that they were given, or none."""
        assert task(version="2")(place).version == "2"
        assert flow(version="3")(place).version == "3"
        assert task(version="2")(place).with_options(name="other").version == "2"
        assert task(place).version is flow(place).version is None

    def test_a_version_is_a_string(self) -> None:
        """A version that is no string is refused, and written as one."""
        options: dict[str, Any] = {"version": 2}
        with pytest.raises(TypeError, match=r"@task\(version=2\): use a string, as in version='2'"):
            task(**options)


@task(tags=["own"])
def own_tags() -> frozenset[str]:
    """Tell the tags of this run."""
    return task_run.tags


@task(tags=["own"])
async def own_tags_async() -> frozenset[str]:
    """Tell the tags of this run."""
    return task_run.tags


class TestTags:
    @pytest.mark.parametrize("runner", RUNNERS)
    def test_tags_reach_the_runs_submitted_in_the_block(self, runner: type[TaskRunner]) -> None:
        """Runs have the tags of their task and those around their submission, however called."""

        @flow(task_runner=runner)
        def body() -> list[Iterable[str]]:
            with tags("a") as outer, tags("b", "c") as both:
                future = own_tags.submit()
                seen = [outer, both, own_tags()]
                seen += [own_tags_async.submit().result()]
            return [*seen, future.result(), future.task_run.tags, own_tags()]

        everything = {"own", "a", "b", "c"}
        assert body() == [
            {"a"},
            {"a", "b", "c"},
            everything,
            everything,
            everything,
            everything,
            {"own"},
        ]

    @pytest.mark.parametrize("runner", RUNNERS)
    def test_tags_reach_what_tasks_and_subflows_submit(self, runner: type[TaskRunner]) -> None:
        """The block's tags are on runs below tasks and subflows that are called in it."""

        @task
        def parent() -> Future[frozenset[str]]:
            return own_tags.submit()

        @flow(task_runner=runner)
        def inner() -> list[frozenset[str]]:
            return [own_tags.submit().result(), flow_run.tags]

        @flow(task_runner=runner)
        def body() -> list[frozenset[str]]:
            with tags("a"):
                child = parent.submit()
                beside = inner.submit()
                direct = inner()
            below: Any = child.result()  # A task that returns a future is joined with it.
            return [below, *beside.result(), *direct, flow_run.tags]

        assert body() == [{"a", "own"}, {"a", "own"}, {"a"}, {"a", "own"}, {"a"}, set()]

    @pytest.mark.anyio
    async def test_tags_surround_async_code(self) -> None:
        """In an async flow the tags belong to the async task that set them."""

        @flow
        async def body() -> list[Iterable[str]]:
            with tags("a"):
                return [await own_tags_async(), await own_tags_async.submit()]

        assert await body() == [{"own", "a"}] * 2

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: task(tags="io"), r"@task got tags='io', a string, .*tags=\['io'\]"),
            (
                lambda: task(tags=[1]),  # type: ignore[list-item]  # That is the point.
                r"@task got the tag 1; tags are strings, such as '1'",
            ),
            (
                lambda: task(tags=1),  # type: ignore[call-overload]  # That is the point.
                r"@task got tags=1; give strings",
            ),
            (lambda: tags("a", 1), r"tags\(\) got the tag 1; tags are strings"),  # type: ignore[arg-type]  # That is the point.
        ],
    )
    def test_tags_that_are_no_strings_are_refused(
        self, make: Callable[[], object], message: str
    ) -> None:
        """A string in place of several, and tags of other types, are refused."""
        with pytest.raises(TypeError, match=message):
            make()

    def test_tags_may_be_any_iterable(self) -> None:
        """An iterable of tags that can be read only once is read only once."""
        made = task(tags=(each for each in "ab"))(place)
        assert made.tags == made.with_options(name="x").tags == {"a", "b"}
