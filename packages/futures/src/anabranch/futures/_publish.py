"""Makes public objects say that they live where they are imported from."""

from __future__ import annotations

from collections.abc import Mapping


def publish(namespace: Mapping[str, object], names: list[str]) -> None:
    """Set the ``__module__`` of what a package exports to the package.

    Tracebacks, documentation and pickles then show the public path, and stay valid when a private
    module is split or renamed.

    Args:
        namespace: The package's globals.
        names: Its public names.
    """
    package = str(namespace["__name__"])
    for name in names:
        thing = namespace[name]
        module = getattr(thing, "__module__", None)
        if isinstance(module, str) and "._" in module and callable(thing):
            thing.__module__ = package
