"""Writes the overloads of `.submit()`, `.map()` and `.imap()` into the sources of the flows.

Python's types cannot say "any of these parameters may be a future instead". Overloads can, one for
each number of leading parameters; this script writes them between the lines ``# generated: NAME``
and ``# end``.

    python build-support/generate_overloads.py          rewrites the files
    python build-support/generate_overloads.py --check  fails if one is stale
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

#: How many leading parameters may be given as futures.
POSITIONS = 8
LETTERS = "ABCDEFGH"[:POSITIONS]
SOURCES = Path(__file__).parent.parent / "packages/flows/src/anabranch/flows"
TARGETS = (SOURCES / "_runnable.py", SOURCES / "_mappable.py")


def _joined(count: int, form: str, separator: str = ", ") -> str:
    return separator.join(form.format(T=letter, t=letter.lower()) for letter in LETTERS[:count])


def _parameters(count: int, form: str) -> str:
    # The `/` stands even where there is no parameter: without it mypy rejects the other overloads.
    separator = ",\n        "
    return _joined(count, form, separator) + f"{separator}/" if count else "/"


def _submit(count: int) -> str:
    return f"""    @overload
    def submit(
        self: Callable[Concatenate[{_joined(count, "{T}")}, Q], object],
        {_parameters(count, "{t}: Arg[{T}]")},
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Future[R_co]: ...
"""


def _submit_waiting(count: int) -> str:
    return f"""    @overload
    def submit(
        self: Callable[[{_joined(count, "{T}")}], object],
        {_parameters(count, "{t}: Arg[{T}]")},
        *,
        wait_for: WaitFor,
    ) -> Future[R_co]: ...
"""


def _map(count: int) -> str:
    return f"""    @overload
    def map(
        self: Callable[[{_joined(count, "{T}")}], object],
        {_parameters(count, "{t}: Each[{T}]")},
        *,
        wait_for: WaitFor = (),
    ) -> FutureList[R_co]: ...
"""


def _imap(count: int, name: str) -> str:
    return f"""    @overload
    def {name}(
        self: Callable[[{_joined(count, "{T}")}], object],
        {_parameters(count, "{t}: EachInTurn[{T}]")},
        *,
        max_pending: int | None = None,
        wait_for: WaitFor = (),
    ) -> Stream[R_co]: ...
"""


def blocks() -> dict[str, str]:
    """Return the text of each generated block by its name."""
    counts = range(1, POSITIONS + 1)
    return {
        "submit": "".join(map(_submit, counts)),
        "submit with wait_for": "".join(map(_submit_waiting, (0, *counts))),
        "map": "".join(map(_map, counts)),
        "imap": "".join(_imap(count, "imap") for count in counts),
        "imap_unordered": "".join(_imap(count, "imap_unordered") for count in counts),
    }


def generate(source: str) -> str:
    """Return a module's source with its generated blocks written anew."""
    for name, text in blocks().items():
        pattern = rf"(?<=    # generated: {re.escape(name)}\n).*?(?=    # end\n)"
        source = re.sub(pattern, text, source, count=1, flags=re.DOTALL)
    return source


def main() -> int:
    """Rewrite or check the files."""
    stale = [target for target in TARGETS if generate(target.read_text()) != target.read_text()]
    if "--check" in sys.argv:
        for target in stale:
            print(f"{target.name} is stale: run python build-support/generate_overloads.py")
        return 1 if stale else 0
    for target in stale:
        target.write_text(generate(target.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
