"""Methods as tasks: bound like functions, with what remains of their signature."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, assert_type

from anabranch.flows import AsyncTask, Future, FutureList, State, Task
from typing_tests.functions import FineScale, Scale, none, scale


def methods() -> None:
    """A method of an object takes what is left when the object is given."""
    fi = none.submit()
    weigh: Task[[int], str] = scale.weigh
    assert_type(weigh(1), str)
    assert_type(scale.weigh(1), str)
    assert_type(scale.weigh.submit(1), Future[str])
    assert_type(scale.weigh.submit(fi), Future[str])
    assert_type(scale.weigh.submit(x=1), Future[str])
    assert_type(scale.weigh.map([1, 2]), FutureList[str])
    assert_type(scale.weigh.run(1), State[str])
    assert_type(scale.weigh.with_options(retries=1).submit(1), Future[str])
    assert_type(scale.weigh.after(fi).submit(1), Future[str])
    assert_type(scale.reset.submit(), Future[int])
    assert_type(scale.aweigh.submit(fi, unit=""), Future[bytes])
    assert_type(scale.aweigh.submit(fi, "", wait_for=[fi]), Future[bytes])
    assert_type(FineScale().weigh.submit(1), Future[str])


def unbound() -> None:
    """A method of the class takes the object as well."""
    assert_type(Scale.weigh(scale, 1), str)
    assert_type(Scale.weigh.submit(scale, 1), Future[str])


def class_and_static_methods() -> None:
    """Class methods and static methods are what they are without the task."""
    fi = none.submit()
    assert_type(Scale.made(1), str)
    assert_type(Scale.made.submit(fi), Future[str])
    assert_type(scale.made.submit(1), Future[str])
    assert_type(FineScale.made.submit(1), Future[str])
    assert_type(Scale.amade.submit(1), Future[str])
    assert_type(Scale.known(1), str)
    assert_type(Scale.known.submit(fi), Future[str])
    assert_type(scale.known.submit(fi), Future[str])
    assert_type(scale.known(1), str)


async def async_methods() -> None:
    """An async method is called as one."""
    amade: AsyncTask[[int], str] = Scale.amade
    assert_type(await amade(1), str)
    called: Coroutine[Any, Any, bytes] = scale.aweigh(1)
    assert_type(await called, bytes)
    assert_type(await scale.aweigh.run(1, unit="g"), State[bytes])
