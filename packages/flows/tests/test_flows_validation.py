"""Flows that check and convert their arguments by their annotations."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any

import attrs
import pydantic
import pytest

from anabranch.flows import Failed, ParameterError, flow, flow_run, lift, task
from anabranch.futures import MissingDependencyError


class Order(pydantic.BaseModel):
    """A pydantic model."""

    amount: int


@attrs.frozen
class Plain:
    """A class that pydantic knows nothing of."""

    x: int


@flow(validate_parameters=True)
def checked(
    n: int,
    /,
    day: date = date(2026, 1, 1),
    *rest: float,
    order: Order | None = None,
    plain: Plain | None = None,
    size: Annotated[int, pydantic.Field(gt=0)] = 1,
    **others: int,
) -> list[object]:
    """Return the arguments."""
    return [n, day, rest, order, plain, size, others, dict(flow_run.parameters)["n"]]


@flow(validate_parameters=True)
async def checked_async(n: int, names: list[str]) -> tuple[int, list[str]]:
    """Return the arguments."""
    return n, names


loosely: Callable[..., Any] = checked
loosely_async: Callable[..., Any] = checked_async


class TestChecking:
    def test_arguments_are_converted(self) -> None:
        """Arguments become what the annotations say, of all kinds of parameters."""
        plain = Plain(1)
        found = loosely("1", "2026-02-01", "1.5", 2, order={"amount": "3"}, plain=plain, a="4")
        assert found == [
            1,
            date(2026, 2, 1),
            (1.5, 2.0),
            Order(amount=3),
            plain,
            1,
            {"a": 4},
            1,
        ]
        assert loosely(2)[:3] == [2, date(2026, 1, 1), ()]

    @pytest.mark.anyio
    async def test_async_flows_check_too(self) -> None:
        """An async flow checks its arguments in the same way."""
        assert await loosely_async("1", names=("a", "b")) == (1, ["a", "b"])
        with pytest.raises(ParameterError, match=r"'checked-async'.*parameter 'names'\[1\]: .*str"):
            await loosely_async(1, ["a", 2])

    def test_futures_are_resolved_first(self) -> None:
        """Values of futures are checked, not the futures; in submitted subflows as well."""
        text = task(lambda: "7")

        @flow
        def body() -> list[object]:
            number: Any = lift(text.submit())
            return [loosely(number)[0], checked.submit(number).result()[0]]

        assert body() == [7, 7]

    @pytest.mark.parametrize(
        ("args", "kwargs", "message"),
        [
            (
                ("a",),
                {},
                r"Flow 'checked' was called .*: parameter 'n': .*integer.*, got 'a'\. Pass",
            ),
            ((1, "x"), {}, r"parameter 'day': "),
            ((1, date(2026, 1, 1), 1.0, "x"), {}, r"parameter 'rest'\[1\]: .*got 'x'"),
            ((1,), {"order": {"amount": "x"}}, r"parameter 'order'\['amount'\]: .*got 'x'"),
            ((1,), {"plain": 3}, r"parameter 'plain': .*Plain.*got 3"),
            ((1,), {"size": 0}, r"parameter 'size': .*greater than 0, got 0"),
            ((1,), {"zz": "x"}, r"parameter 'zz': .*got 'x'"),
            (("a",), {"size": 0}, r"parameter 'n': .*; parameter 'size': "),
            (("a" * 500,), {}, r"got 'a+\.\.\.\."),
        ],
    )
    def test_what_does_not_fit_fails_the_run(
        self, args: tuple[object, ...], kwargs: dict[str, object], message: str
    ) -> None:
        """The flow run fails with an error that names the flow and each parameter."""
        with pytest.raises(ParameterError, match=message) as caught:
            loosely(*args, **kwargs)
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value.__cause__, pydantic.ValidationError)
        state = checked.run(*args, **kwargs)  # type: ignore[arg-type]  # That is the point.
        assert isinstance(state, Failed)

    def test_without_the_option_nothing_is_checked(self) -> None:
        """By default a flow gets what it is called with."""
        plain: Any = checked.with_options(validate_parameters=False)
        assert plain("a")[0] == "a"

    def test_arguments_that_do_not_bind_are_refused_as_ever(self) -> None:
        """A call that fits no signature is refused before there is a run."""
        with pytest.raises(TypeError, match=r"checked\(\) cannot be called so: missing"):
            loosely()


class TestSetup:
    def test_annotations_that_cannot_be_read(self) -> None:
        """Names that are nowhere to be found are named, with the fix."""
        local = int

        @flow(validate_parameters=True)
        def body(x: local) -> None:  # type: ignore[valid-type]  # That is the point.
            """Do nothing."""

        with pytest.raises(TypeError, match=r"'body' has .*cannot read .*'local'.*its module"):
            body(1)

    def test_without_pydantic_the_install_command_is_told(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where pydantic is missing, the run fails and says how to install it."""
        monkeypatch.setitem(sys.modules, "pydantic", None)
        with pytest.raises(MissingDependencyError, match=r"'anabranch-flows\[pydantic\]'"):
            checked(1)

    def test_the_error_is_pickled(self) -> None:
        """The error survives a pickle round trip."""
        error = pickle.loads(pickle.dumps(ParameterError("text")))
        assert (type(error), str(error)) == (ParameterError, "text")
