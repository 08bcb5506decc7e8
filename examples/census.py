"""Counts what Python code is made of: one run for each module, folded into a table by package.

    python examples/census.py --runner loop|sequential|concurrent|dask|ray [PATH]

Every module of the running interpreter's standard library (or below PATH) is read and parsed, in
parallel. The table goes to standard output; ``loop`` is a plain loop without any flow, and all of
them print the same.
"""

from __future__ import annotations

import argparse
import ast
import logging
import sysconfig
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Self, TypeVar

import attrs
from tqdm import tqdm

from anabranch.flows import (
    ConcurrentTaskRunner,
    SequentialTaskRunner,
    TaskRunner,
    as_completed,
    flow,
    task,
)
from anabranch.runners.dask import DaskTaskRunner
from anabranch.runners.ray import RayTaskRunner

T = TypeVar("T")

RUNNERS: dict[str, Callable[[], TaskRunner]] = {
    "sequential": SequentialTaskRunner,
    "concurrent": ConcurrentTaskRunner,
    "dask": DaskTaskRunner,
    "ray": RayTaskRunner,
}


@attrs.frozen
class Counts:
    """What some code is made of.

    Attributes:
        modules: Modules that could be parsed.
        lines: Lines in them.
        functions: Functions and methods, the async ones not included.
        async_functions: Functions and methods that are coroutine functions.
        classes: Classes.
        annotated: Parameters and results of functions that have an annotation.
        annotatable: Parameters and results of functions.
    """

    modules: int = 0
    lines: int = 0
    functions: int = 0
    async_functions: int = 0
    classes: int = 0
    annotated: int = 0
    annotatable: int = 0

    def __add__(self, other: Self) -> Self:
        sums = zip(attrs.astuple(self), attrs.astuple(other), strict=True)
        return type(self)(*(one + another for one, another in sums))

    @property
    def annotated_share(self) -> float:
        return self.annotated / self.annotatable if self.annotatable else 0.0


@attrs.frozen
class Module:
    """One module: what it is made of, or why it could not be told."""

    package: str
    path: str
    counts: Counts = Counts()
    problem: str | None = None


def measure(root: str, path: str) -> Module:
    """Read and parse one module; a problem with it is part of the result."""
    relative = Path(path).relative_to(root)
    package = relative.parts[0] if len(relative.parts) > 1 else "(single modules)"
    # Old code makes the parser warn, about every other escape sequence in it.
    warnings.simplefilter("ignore", SyntaxWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    try:
        source = Path(path).read_bytes()
        tree = ast.parse(source, filename=path)
        counts = _count(tree, len(source.splitlines()))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        problem = error.msg if isinstance(error, SyntaxError) else str(error)
        return Module(package, relative.as_posix(), problem=problem)
    return Module(package, relative.as_posix(), counts)


def _count(tree: ast.Module, lines: int) -> Counts:
    functions = async_functions = classes = annotated = annotatable = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            classes += 1
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if isinstance(node, ast.AsyncFunctionDef):
                async_functions += 1
            else:
                functions += 1
            annotations = [*_annotations(node.args), node.returns]
            annotatable += len(annotations)
            annotated += sum(annotation is not None for annotation in annotations)
    return Counts(1, lines, functions, async_functions, classes, annotated, annotatable)


def _annotations(args: ast.arguments) -> Iterator[ast.expr | None]:
    for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg):
        if arg is not None and arg.arg not in ("self", "cls"):
            yield arg.annotation


measure_task = task(name="measure")(measure)


@flow(name="census")
def take_census(root: str, paths: list[str]) -> list[Module]:
    futures = [measure_task.submit(root, path) for path in paths]
    return [future.result() for future in _with_progress(as_completed(futures), len(futures))]


def plain_loop(root: str, paths: list[str]) -> list[Module]:
    return [measure(root, path) for path in _with_progress(paths, len(paths))]


def _with_progress(items: Iterable[T], total: int) -> Iterable[T]:
    # `disable=None`: no bar where standard error is not a terminal.
    return tqdm(items, total=total, unit="module", disable=None)


def find_modules(root: Path) -> list[str]:
    """Return the modules below a folder, third-party ones left out."""
    return sorted(
        str(path)
        for path in root.rglob("*.py")
        if not {"site-packages", "dist-packages", "__pycache__"} & set(path.parts)
    )


def table(modules: Iterable[Module]) -> str:
    """Return the census as text: a line for each package, the totals, and what did not parse."""
    modules = sorted(modules, key=lambda module: module.path)
    by_package: defaultdict[str, Counts] = defaultdict(Counts)
    for module in modules:
        by_package[module.package] += module.counts
    total = sum(by_package.values(), Counts())
    heading = ("package", "modules", "lines", "functions", "async", "classes", "annotated")
    rows = [heading, *(_row(name, by_package[name]) for name in sorted(by_package))]
    rows.append(_row("total", total))
    widths = [max(len(row[column]) for row in rows) for column in range(len(heading))]
    lines = ["  ".join(_cells(row, widths)) for row in rows]
    rule = "-" * len(lines[0])
    problems = [f"{module.path}: {module.problem}" for module in modules if module.problem]
    foot = [f"{len(problems)} not parsed:", *(f"  {each}" for each in problems)] if problems else []
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], *foot])


def _row(name: str, counts: Counts) -> tuple[str, ...]:
    return (
        name,
        f"{counts.modules:,}",
        f"{counts.lines:,}",
        f"{counts.functions:,}",
        f"{counts.async_functions:,}",
        f"{counts.classes:,}",
        f"{counts.annotated_share:.1%}",
    )


def _cells(row: tuple[str, ...], widths: list[int]) -> Iterator[str]:
    yield row[0].ljust(widths[0])
    for cell, width in zip(row[1:], widths[1:], strict=True):
        yield cell.rjust(width)


def main() -> None:
    parser = argparse.ArgumentParser(description="Count what Python code is made of.")
    parser.add_argument("--runner", choices=["loop", *RUNNERS], default="concurrent")
    parser.add_argument(
        "path",
        nargs="?",
        type=Path,
        default=Path(sysconfig.get_path("stdlib")),
        help="the folder to look in (default: the standard library)",
    )
    options = parser.parse_args()
    root = options.path.resolve()
    paths = find_modules(root)
    if not paths:
        parser.error(f"no Python modules in {root}; name a folder that holds some")

    # Thousands of runs: the log would drown the table.
    logging.getLogger("anabranch").setLevel(logging.WARNING)
    if options.runner == "loop":
        modules = plain_loop(str(root), paths)
    else:
        census = take_census.with_options(task_runner=RUNNERS[options.runner])
        modules = census(str(root), paths)
    print(table(modules))


if __name__ == "__main__":
    main()
