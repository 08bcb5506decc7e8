"""What of a call cannot be pickled, told as Python would write it.

Picklers say what they stumbled over, not where it was. When one has failed, `find_unpicklable`
pickles smaller and smaller parts until none of those inside one fails any more. All of it happens
on the way to an error, so it may take as long as a few more tries of what has failed; not longer.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MethodType
from typing import Final, TypeAlias, final

import attrs

from anabranch.futures._pickled_parts import FUNCTION, Group, children_of, groups_of
from anabranch.futures._states import describe
from anabranch.futures._typing import AnyFunction

Dumps: TypeAlias = Callable[[object], bytes]

#: What looking for the part may cost at most, in pickles made and in seconds.
_TRIES: Final = 1_000
_SECONDS: Final = 5.0

#: How many characters of a path are shown at least, at either end.
_SHOWN: Final = 150


@final
@attrs.frozen
class Unpicklable:
    """A part of a call that cannot be pickled, while all that is in it can.

    Attributes:
        path: Where it is, such as ``argument 'config'['db'].lock``.
        error: What pickling it raises.
        is_function: Whether it belongs to the function that is called, not to an argument.
    """

    path: str
    error: Exception
    is_function: bool


def unpicklable_error(
    run_name: str,
    destination: str,
    function: AnyFunction[object],
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    dumps: Dumps,
    error: Exception,
) -> TypeError:
    """Return the error for a run that cannot be sent, naming the smallest part to blame.

    For runners whose tasks run in other processes. It is made for the user, who knows the function
    and what it was called with: the part is named by way of the function's parameters.

    Args:
        run_name: The run's name.
        destination: Where it was to be sent, such as ``"Ray"``.
        function: The function that is called.
        args: Its positional arguments, as they are sent: without futures.
        kwargs: Its keyword arguments, likewise.
        dumps: What failed to pickle them.
        error: What it raised; the returned error's ``__cause__``, without its traceback, which
            would keep the arguments alive.
    """
    found = find_unpicklable(function, args, kwargs, dumps)
    if found is None:  # Each part by itself can be.
        found = Unpicklable("its arguments", error, is_function=False)
    advice = (
        "Pass what it refers to as an argument, or make it in the task"
        if found.is_function
        else "Pass what it is made from, and make it in the task"
    )
    comma = "," if FUNCTION in found.path else ""
    failure = TypeError(
        f"Run {run_name!r} cannot be sent to {destination}: {_shortened(found.path)}{comma} cannot "
        f"be pickled ({describe(found.error)}). {advice}"
    )
    failure.__cause__ = _without_traceback(error)
    return failure


def find_unpicklable(
    function: AnyFunction[object],
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    dumps: Dumps,
) -> Unpicklable | None:
    """Return the smallest part of a call that cannot be pickled; None if each part can be.

    Args:
        function: The function that is called.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        dumps: Pickles a value, or raises.
    """
    whole = function
    # What a partial or a method brings along is an argument too, and travels with the others.
    while isinstance(function, functools.partial | MethodType):
        if isinstance(function, MethodType):
            args = (function.__self__, *args)
            function = function.__func__
        else:
            args = (*function.args, *args)
            kwargs = {**function.keywords, **kwargs}
            function = function.func
    for path, value in _named(function, args, kwargs):
        found = _search(path, value, dumps)
        if found is not None:
            return Unpicklable(found.path, found.error, is_function=False)
    found = _search("its function", whole, dumps)
    if found is None:
        return None
    if function is not whole:
        inner = _search("its function", function, dumps)
        # Unless the one in there stays behind, as that of a partial which travels by name.
        if inner is not None and describe(inner.error) == describe(found.error):
            found = inner
    return Unpicklable(found.path, found.error, is_function=True)


def _named(
    function: AnyFunction[object], args: tuple[object, ...], kwargs: Mapping[str, object]
) -> Iterator[tuple[str, object]]:
    """Yield the arguments under the names that the function has for them."""
    try:
        signature = inspect.signature(function)
        arguments = signature.bind_partial(*args, **kwargs).arguments
    except (TypeError, ValueError):  # Some builtin functions tell no signature.
        yield from ((f"argument {number}", each) for number, each in enumerate(args, 1))
        yield from ((f"argument {name!r}", each) for name, each in kwargs.items())
        return
    for name, value in arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            yield from ((f"argument {each!r}", given) for each, given in value.items())
        else:
            yield f"argument {name!r}", value


# ------------------------------------------------------------------ the search


@final
@attrs.frozen(eq=False)
class _Failing:
    """A value that cannot be pickled."""

    path: str
    value: object
    error: Exception


@final
class _Trial:
    """Tries to pickle things, as often as it is worth it."""

    def __init__(self, dumps: Dumps) -> None:
        self._dumps: Final = dumps
        self._left = _TRIES
        self._deadline: Final = time.monotonic() + _SECONDS

    def __call__(self, value: object) -> Exception | None:
        """Return what pickling a value raises, if anything."""
        self._left -= 1
        try:
            self._dumps(value)
        except Exception as error:  # Pickling runs foreign code, which may raise anything at all.
            return _without_traceback(error)
        return None

    def is_over(self) -> bool:
        """Whether it has been enough."""
        return self._left <= 0 or time.monotonic() > self._deadline


def _search(path: str, value: object, dumps: Dumps) -> _Failing | None:
    """Return the smallest part of a value that cannot be pickled, however deep inside it is."""
    trial = _Trial(dumps)
    error = trial(value)
    if error is None:
        return None
    trail = [_Failing(path, value, error)]
    seen: dict[int, object] = {id(value): value}  # The values too, so that no id is given again.
    smallest: _Failing | None = None
    while trail and not trial.is_over():
        here = trail[-1]
        # A value that is too deep to pickle is so at no place in particular.
        inner = None if _is_too_deep(here.error) else _first_failing(here, trial, seen)
        if inner is not None:
            seen[id(inner.value)] = inner.value
            trail.append(inner)
            continue
        smallest = smallest or here
        if not _leads_back(here, seen):
            return here
        # It may fail only because of what refers to it: that has other parts.
        trail.pop()
    return smallest or trail[-1]


def _first_failing(here: _Failing, trial: _Trial, seen: Mapping[int, object]) -> _Failing | None:
    for group in groups_of(here.value):
        known = [index for index, each in enumerate(group.values) if id(each) not in seen]
        if group.is_loose:
            found = _among_loose(here, group, known, trial)
        else:
            found = _by_halves(here, group, known, trial)
        if found is not None or trial.is_over():
            return found
    return None


def _among_loose(
    here: _Failing, group: Group, indexes: Sequence[int], trial: _Trial
) -> _Failing | None:
    """Look through what may or may not be pickled with the whole, such as a function's globals."""
    reason = describe(here.error)
    for index in indexes:
        if trial.is_over():
            return None
        error = trial(group.values[index])
        if error is not None and describe(error) == reason:
            return _part(here, group, index, error)
    return None


def _by_halves(
    here: _Failing, group: Group, indexes: Sequence[int], trial: _Trial
) -> _Failing | None:
    """Find the first of many that fails without trying each."""

    def fails(low: int, high: int) -> bool:
        return trial([group.values[index] for index in indexes[low:high]]) is not None

    low, high = 0, len(indexes)
    if low == high or not fails(low, high):
        return None
    while high - low > 1:
        if trial.is_over():
            return None
        middle = (low + high) // 2
        if fails(low, middle):
            high = middle
        else:
            low = middle
    error = trial(group.values[indexes[low]])
    return None if error is None else _part(here, group, indexes[low], error)


def _part(here: _Failing, group: Group, index: int, error: Exception) -> _Failing:
    return _Failing(group.path(here.path, index), group.values[index], error)


def _leads_back(here: _Failing, seen: Mapping[int, object]) -> bool:
    return any(id(each) in seen for each in children_of(here.value))


def _is_too_deep(error: BaseException) -> bool:
    return isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError)


def _without_traceback(error: Exception) -> Exception:
    each: BaseException | None = error
    seen: set[int] = set()
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
    return error


def _shortened(path: str) -> str:
    return path if len(path) <= 2 * _SHOWN else f"{path[:_SHOWN]} ... {path[-_SHOWN:]}"
