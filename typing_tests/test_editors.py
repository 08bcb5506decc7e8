"""Editors show of tasks and flows what they show of functions, and so does Python."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator

import pytest

from typing_tests import functions
from typing_tests.functions import FineScale, Scale, add, aflow, aone, main_flow, scale
from typing_tests.language_server import LanguageServer

TEXT = """\
from typing_tests.functions import Scale, add, aflow, aone, main_flow, scale
add(
add.run(
add.submit(
add.after().submit(
add.with_options(name="plus").submit(
aone.submit(
scale.weigh(
scale.weigh.submit(
Scale.weigh.submit(
Scale.made.submit(
Scale.known.submit(
main_flow(
main_flow.submit(
aflow.submit(
"""


@pytest.fixture(scope="module")
def editor() -> Iterator[LanguageServer]:
    """An editor in which calls are being typed."""
    with LanguageServer(TEXT) as server:
        yield server


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("line", "signature"),
    [
        ("add(", "(x: int, y: int = 0) -> int"),
        ("add.run(", "(x: int, y: int = 0) -> State[int]"),
        ("add.submit(", "(x: int, y: int = 0) -> Future[int]"),
        ("add.after().submit(", "(x: int, y: int = 0) -> Future[int]"),
        ('add.with_options(name="plus").submit(', "(x: int, y: int = 0) -> Future[int]"),
        ("aone.submit(", "(x: int) -> Future[str]"),
        ("scale.weigh(", "(x: int) -> str"),
        ("scale.weigh.submit(", "(x: int) -> Future[str]"),
        ("Scale.weigh.submit(", "(self: Scale, x: int) -> Future[str]"),
        ("Scale.made.submit(", "(x: int) -> Future[str]"),
        ("Scale.known.submit(", "(x: int) -> Future[str]"),
        ("main_flow(", '(n: int, tag: str = "") -> int'),
        ("main_flow.submit(", '(n: int, tag: str = "") -> Future[int]'),
        ("aflow.submit(", "(n: int) -> Future[str]"),
    ],
)
def test_calls_are_completed(editor: LanguageServer, line: str, signature: str) -> None:
    """An editor shows the function's own signature, and offers its parameters by their names."""
    assert editor.signatures(line)[0] == signature
    parameters = [each.partition(":")[0] for each in signature[1:].split(", ")]
    assert [each for each in editor.keywords(line) if each != "wait_for"] == parameters


@pytest.mark.timeout(120)
def test_docstrings_are_shown(editor: LanguageServer) -> None:
    """An editor shows a task with its function's docstring."""
    assert editor.hover("add(") == "(function) add: Task[(x: int, y: int = 0), int]\n\nAdd y to x."
    assert editor.hover("main_flow(").endswith("\n\nReturn n.")


@pytest.mark.parametrize(
    ("made", "signature"),
    [
        (add, "(x: int, y: int = 0) -> int"),
        (add.after(), "(x: int, y: int = 0) -> int"),
        (add.with_options(name="plus"), "(x: int, y: int = 0) -> int"),
        (aone, "(x: int) -> str"),
        (scale.weigh, "(x: int) -> str"),
        (FineScale().weigh, "(x: int) -> str"),
        (scale.aweigh, "(x: int, unit: str = '') -> bytes"),
        (Scale.weigh, "(self, x: int) -> str"),
        (Scale.made, "(x: int) -> str"),
        (Scale.known, "(x: int) -> str"),
        (main_flow, "(n: int, tag: str = '') -> int"),
        (aflow, "(n: int) -> str"),
    ],
    ids=str,
)
def test_signatures_are_kept(made: Callable[..., object], signature: str) -> None:
    """`inspect.signature` gives that of the function; of a method, without what is bound."""
    assert str(inspect.signature(made, eval_str=True)) == signature


def test_names_and_docstrings_are_kept() -> None:
    """A task has the name, the module, the docstring and the annotations of its function."""
    for made in (add, add.with_options(name="plus"), add.after()):
        assert (made.__name__, made.__qualname__) == ("add", "add")
        assert made.__module__ == functions.__name__
        assert inspect.getdoc(made) == "Add y to x."
        assert typing.get_type_hints(made) == {"x": int, "y": int, "return": int}
    assert scale.weigh.__qualname__ == "Scale.weigh"
    assert inspect.getdoc(scale.weigh) == "Weigh x."
    assert inspect.getdoc(main_flow) == "Return n."
