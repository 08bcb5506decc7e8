"""Functions that Ray's workers know: each is shipped once, not with every run."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Final, TypeAlias, final

from anabranch.futures.runner import AnyFunction
from anabranch.runners.ray._native import Exported, adapted, export
from anabranch.runners.ray._options import NO_OPTIONS, Options, arguments_of
from anabranch.runners.ray._parcel import Execute, entry_of, travelling_entry

_Key: TypeAlias = tuple[object, ...]

#: How many functions are kept; one that comes again after that many others is shipped again.
KEPT: Final = 256


@final
class ExportedFunctions:
    """The functions that a started runner has made known to Ray.

    Args:
        execute: Runs what arrives on workers.
    """

    def __init__(self, execute: Execute) -> None:
        self._execute: Final = execute
        self._lock = threading.Lock()
        # The values refer to the keys' objects, so that no id among the keys is given out again.
        self._exported: OrderedDict[_Key, tuple[Exported, object]] = OrderedDict()

    def get(
        self, function: AnyFunction[object], name: str, options: Options = NO_OPTIONS
    ) -> tuple[Exported, tuple[AnyFunction[object], ...]]:
        """Return what calls a function in Ray, and the arguments that go before the others.

        Args:
            function: The function.
            name: What Ray calls it.
            options: What Ray is told of its calls besides; the function is shipped once for all.

        Raises:
            TypeError, ValueError: Ray refuses the options.
        """
        exported, before = self._without_options(function, name)
        if options:
            key = (id(exported), options)
            make = partial(_adapt, exported, options)
            exported = self._get(key, make, exported)
        return exported, before

    def _without_options(
        self, function: AnyFunction[object], name: str
    ) -> tuple[Exported, tuple[AnyFunction[object], ...]]:
        plain = _unbound(function)
        if not _is_constant(plain):
            # A bound method or the like carries an object whose state may differ the next time.
            key: _Key = ("travelling", name)
            make = partial(travelling_entry, name, self._execute)
            return self._get(key, lambda: export(make(), name)), (function,)
        contents = _closure_of(plain)
        key = (id(function), name, *map(id, contents))
        kept = function, contents
        make = partial(entry_of, function, name, self._execute)
        return self._get(key, lambda: export(make(), name), kept), ()

    def _get(self, key: _Key, make: Callable[[], Exported], kept: object = None) -> Exported:
        with self._lock:
            if key in self._exported:
                self._exported.move_to_end(key)
            else:
                self._exported[key] = make(), kept
                if len(self._exported) > KEPT:
                    self._exported.popitem(last=False)
            return self._exported[key][0]


def _adapt(exported: Exported, options: Options) -> Exported:
    return adapted(exported, arguments_of(options))


def _unbound(function: AnyFunction[object]) -> AnyFunction[object]:
    """Return the function in a partial that binds nothing to it, as that of a task is."""
    if isinstance(function, partial) and not (function.args or function.keywords):
        return function.func
    return function


def _is_constant(function: AnyFunction[object]) -> bool:
    if isinstance(function, BuiltinFunctionType):
        return isinstance(function.__self__, ModuleType | None)  # Else it is a bound method.
    return isinstance(function, FunctionType | type)


def _closure_of(function: AnyFunction[object]) -> tuple[object, ...]:
    """Return what a closure refers to now; a variable of it may refer to another thing later."""
    contents: list[object] = []
    for cell in getattr(function, "__closure__", None) or ():
        try:
            contents.append(cell.cell_contents)
        except ValueError:  # Not assigned yet.
            contents.append(None)
    return tuple(contents)
