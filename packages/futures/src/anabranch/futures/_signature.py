"""Whether arguments fit a function: told before the call, and told cheaply."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Final, final
from weakref import WeakKeyDictionary

from anabranch.futures._typing import AnyFunction


@final
class CallSignature:
    """A function's signature, prepared so that checking a plain call costs next to nothing.

    Args:
        function: The function.
        name: What errors call it.
    """

    def __init__(self, function: AnyFunction[object], name: str) -> None:
        self._name: Final = name
        try:
            self._signature: inspect.Signature | None = inspect.signature(function)
        except ValueError:  # Some builtin functions tell none; the call itself will complain.
            self._signature = None
        parameters = self.parameters.values()
        positional = [
            p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        required = [p for p in positional if p.default is p.empty]
        self._is_simple: Final = self._signature is not None and len(positional) == len(parameters)
        self._least: Final = len(required)
        self._most: Final = len(positional)

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The function's parameters by name."""
        return {} if self._signature is None else self._signature.parameters

    def check(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        """Refuse arguments that do not fit.

        Raises:
            TypeError: They do not fit; the message names the function and the argument.
        """
        if self._is_simple and not kwargs and self._least <= len(args) <= self._most:
            return
        if self._signature is None:
            return
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(
                f"{self._name}() cannot be called so: {error}; it takes {self._signature}"
            ) from None


_known: WeakKeyDictionary[AnyFunction[object], CallSignature] = WeakKeyDictionary()


def signature_of(function: AnyFunction[object], name: str) -> CallSignature:
    """Return a function's signature, made once for each function.

    Args:
        function: The function.
        name: What errors call it.
    """
    try:
        known = _known.get(function)
        if known is None:
            known = _known[function] = CallSignature(function, name)
        return known
    except TypeError:  # It cannot be hashed or referred to weakly.
        return CallSignature(function, name)
