"""What the packages declare is what they use, and they agree on their versions."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PACKAGES = sorted(Path(__file__).parent.parent.glob("packages/*/pyproject.toml"))
NAMES = [path.parent.name for path in PACKAGES]

# Imports whose distribution has another name.
DISTRIBUTIONS = {"attr": "attrs", "distributed": "dask"}


def read(path: Path) -> dict[str, Any]:
    project = tomllib.loads(path.read_text())["project"]
    assert isinstance(project, dict)
    return project


PROJECTS = {path.parent: read(path) for path in PACKAGES}


def distribution_of(module: str) -> str:
    """The distribution that a module comes from, by the repository's naming rule."""
    top, *rest = module.split(".")
    if top != "anabranch":
        return DISTRIBUTIONS.get(top, top)
    depth = 2 if rest[0] == "runners" else 1
    return "-".join(["anabranch", *rest[:depth]])


def imports(package: Path) -> Iterator[str]:
    """Every module that the package's sources import, wherever in the file."""
    for path in (package / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=names):
                    yield from (alias.name for alias in names)
                case ast.ImportFrom(module=str(module), level=0) if module in NAMESPACES:
                    yield from (f"{module}.{alias.name}" for alias in node.names)
                case ast.ImportFrom(module=str(module), level=0):
                    yield module


NAMESPACES = {"anabranch", "anabranch.runners"}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in requirements}


def test_all_packages_are_here() -> None:
    """A package that Pants was not told of would be left out without a word."""
    assert {project["name"] for project in PROJECTS.values()} == {
        "anabranch-flows",
        "anabranch-futures",
        "anabranch-runners-dask",
        "anabranch-runners-local",
        "anabranch-runners-ray",
    }


@pytest.mark.parametrize("package", PROJECTS, ids=NAMES)
def test_declared_is_imported(package: Path) -> None:
    """A package declares each distribution that its sources import, and no other.

    Extras may stay unimported: they bring packages that the user imports.
    """
    project = PROJECTS[package]
    imported = {
        distribution_of(module)
        for module in imports(package)
        if module.split(".")[0] not in sys.stdlib_module_names
    } - {project["name"]}
    extras = [each for extra in project.get("optional-dependencies", {}).values() for each in extra]
    declared = names(project["dependencies"])
    assert declared <= imported <= declared | names(extras)


@pytest.mark.parametrize("package", PROJECTS, ids=NAMES)
def test_versions_agree(package: Path) -> None:
    """All packages have one version, and accept each other from it to the next minor one."""
    project = PROJECTS[package]
    version = project["version"]
    assert version == PROJECTS[PACKAGES[0].parent]["version"]
    major, minor, _ = (int(part) for part in version.split("."))
    extras = project.get("optional-dependencies", {}).values()
    siblings = {
        requirement
        for group in (project["dependencies"], *extras)
        for requirement in group
        if requirement.startswith("anabranch-")
    }
    assert siblings == {
        f"{name}>={version},<{major}.{minor + 1}" for name in names(sorted(siblings))
    }


@pytest.mark.parametrize("package", PROJECTS, ids=NAMES)
def test_same_build_and_python(package: Path) -> None:
    """One build backend, one range of Python versions, types for all."""
    first = PACKAGES[0]
    ours, theirs = (tomllib.loads(path.read_text()) for path in (package / first.name, first))
    assert ours["build-system"] == theirs["build-system"]
    assert ours["project"]["requires-python"] == theirs["project"]["requires-python"]
    assert "Typing :: Typed" in ours["project"]["classifiers"]
