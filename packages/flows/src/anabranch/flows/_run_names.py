"""The names that users give to runs: templates and callables."""

from __future__ import annotations

import inspect
import re
import string
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias, cast, final

from anabranch.futures import Future
from anabranch.futures.runner import AnyFunction, describe, substitute

#: What `task_run_name` and `flow_run_name` may be.
RunName: TypeAlias = (  # type: ignore[explicit-any]  # Users annotate what they like.
    str | Callable[[], str] | Callable[[Mapping[str, Any]], str]
)


def bound_parameters(
    function: AnyFunction[object], args: tuple[object, ...], kwargs: Mapping[str, object]
) -> Mapping[str, object]:
    """Return what a function's parameters are in a call, with defaults applied.

    Empty for functions that tell no signature, as some builtin ones.
    """
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return {}
    bound.apply_defaults()
    return bound.arguments


@final
class RunNamer:
    """Names runs as a template or a callable of the user's says.

    Args:
        owner: What errors call the task or the flow, such as ``"Task 'add'"``.
        option: Which option the name was given to.
        name: The template or the callable.
        function: The function whose parameters the name may show.

    Raises:
        ValueError: The template is malformed, or asks for what is no parameter.
        TypeError: It is neither a template nor a callable, or one that takes the wrong arguments.
    """

    def __init__(
        self, owner: str, option: str, name: object, function: AnyFunction[object]
    ) -> None:
        self._told: Final = f"{owner} has {option}={_told(name)}"
        self._function: Final = function
        self._name: Final = name
        self._takes_parameters = False
        if isinstance(name, str):
            self._check_template(name)
        elif callable(name):
            self._takes_parameters = self._count_arguments(name) == 1
        else:
            raise TypeError(
                f"{self._told}; give a template, such as '{{x}}', or a callable that returns a str"
            )

    def __call__(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> str:
        """Return the name of the run with these arguments.

        Futures among them are shown by the names of their runs.

        Raises:
            ValueError: The template does not fit the arguments, or the callable raised.
            TypeError: The callable returned no string.
        """
        args, kwargs = substitute(args, kwargs, _name_of, _name_of)
        parameters = bound_parameters(self._function, args, kwargs)
        if isinstance(self._name, str):
            try:
                return self._name.format(**parameters)
            except Exception as error:  # Formatting runs the parameters' own code.
                raise ValueError(
                    f"{self._told}, which cannot be filled with these arguments "
                    f"({describe(error)}); use what they have, or a callable"
                ) from error
        return self._call(parameters)

    def _call(self, parameters: Mapping[str, object]) -> str:
        name = cast("AnyFunction[object]", self._name)
        try:
            made = name(parameters) if self._takes_parameters else name()
        except Exception as error:  # It is the user's code.
            raise ValueError(
                f"{self._told}, which raised {describe(error)}; have it return a str for every call"
            ) from error
        if not isinstance(made, str):
            raise TypeError(f"{self._told}, which returned {made!r}; have it return a str")
        return made

    def _check_template(self, template: str) -> None:
        try:
            wanted = list(_placeholders(template))
        except ValueError as error:
            raise ValueError(
                f"{self._told}, which is malformed ({error}); write a brace as '{{{{' or '}}}}'"
            ) from None
        try:
            known = list(inspect.signature(self._function).parameters)
        except ValueError:  # Some builtin functions tell no signature.
            known = []
        for placeholder in wanted:
            if placeholder not in known:
                there = ", ".join(f"'{{{name}}}'" for name in known) or "none"
                raise ValueError(
                    f"{self._told}, but no parameter {placeholder!r}; use those that there are: "
                    f"{there}"
                )

    def _count_arguments(self, name: AnyFunction[object]) -> int:
        try:
            signature = inspect.signature(name)
        except ValueError:  # Some builtin functions tell no signature.
            return 0
        nothing: tuple[object, ...] = ()
        for arguments in (nothing, ({},)):
            try:
                signature.bind(*arguments)
            except TypeError:
                continue
            return len(arguments)
        raise TypeError(
            f"{self._told}, which takes {signature}; it is called with nothing, or with the "
            "parameters as a mapping"
        )


def _told(name: object) -> str:
    shown = getattr(name, "__qualname__", None) if callable(name) else None
    return shown or repr(name)


def _name_of(future: Future[object]) -> str:
    return future.task_run.name


def _placeholders(template: str) -> Iterator[str]:
    for _, field, specification, _ in string.Formatter().parse(template):
        if field is not None:
            yield re.split(r"[.\[]", field, maxsplit=1)[0]
            yield from _placeholders(specification or "")
