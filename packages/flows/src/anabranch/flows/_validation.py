"""Arguments that are checked and converted by the annotations of a function, with pydantic."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Final, TypeAlias, final

from anabranch.flows._exceptions import ParameterError
from anabranch.futures import MissingDependencyError
from anabranch.futures.runner import AnyFunction, describe

Arguments: TypeAlias = tuple[tuple[object, ...], dict[str, object]]


@final
class ParameterValidator:
    """Checks the arguments of a flow. Pydantic is imported when it is first called.

    Args:
        name: The flow's name.
        function: The flow's function.
    """

    def __init__(self, name: str, function: AnyFunction[object]) -> None:
        self._name: Final = name
        self._function: Final = function
        self._check: AnyFunction[Arguments] | None = None

    def __call__(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Arguments:
        """Return the arguments as the annotations want them.

        Raises:
            ParameterError: They do not fit.
            MissingDependencyError: Pydantic is not installed.
            TypeError: Pydantic cannot read the annotations.
        """
        try:
            import pydantic  # noqa: PLC0415 - optional, and takes as long as many a flow
        except ImportError as error:
            raise MissingDependencyError(
                f"Flow {self._name!r} has validate_parameters=True, which needs pydantic. Install "
                "it with: pip install 'anabranch-flows[pydantic]'"
            ) from error
        if self._check is None:
            self._check = self._made_check()
        try:
            return self._check(*args, **kwargs)
        except pydantic.ValidationError as error:
            found = error.errors(include_url=False, include_context=False)
            told = "; ".join(
                f"{self._place(each['loc'])}: {_problem(each['msg'], each['input'])}"
                for each in found
            )
            raise ParameterError(
                f"Flow {self._name!r} was called with arguments that do not fit its parameters: "
                f"{told}. Pass what its annotations say, or leave out validate_parameters=True"
            ) from error

    def _made_check(self) -> AnyFunction[Arguments]:
        import pydantic  # noqa: PLC0415 - as above

        # It has the signature of the flow's function, and gives back what it is called with.
        @functools.wraps(self._function)
        def arguments(*args: object, **kwargs: object) -> Arguments:
            return args, kwargs

        config = pydantic.ConfigDict(arbitrary_types_allowed=True)
        try:
            return pydantic.validate_call(config=config)(arguments)
        except Exception as error:  # Annotations are evaluated, which runs anything at all.
            raise TypeError(
                f"Flow {self._name!r} has validate_parameters=True, but pydantic cannot read its "
                f"annotations ({describe(error)}). Annotate it with names of its module"
            ) from error

    def _place(self, location: tuple[int | str, ...]) -> str:
        """Return the place of an error as Python would write it."""
        first, *inside = location
        if isinstance(first, int):
            # Pydantic counts positional arguments; those of `*args` are behind all others.
            parameters = list(inspect.signature(self._function).parameters.values())
            kinds = [parameter.kind for parameter in parameters]
            rest = inspect.Parameter.VAR_POSITIONAL
            if rest in kinds and first >= kinds.index(rest):
                inside = [first - kinds.index(rest), *inside]
                first = kinds.index(rest)
            first = parameters[first].name
        return f"parameter {first!r}" + "".join(f"[{each!r}]" for each in inside)


def _problem(message: str, value: object) -> str:
    given = repr(value)
    shown = given if len(given) <= 80 else given[:77] + "..."
    return f"{message}, got {shown}"
