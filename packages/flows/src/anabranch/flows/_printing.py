"""`print` as a way to log, for the tasks and flows that ask for it.

While at least one of them runs, ``builtins.print`` is replaced. Whether it logs is a matter of the
context that calls it, so others that run beside them print as ever.
"""

from __future__ import annotations

import builtins
import io
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, Final, Protocol, cast, final

from anabranch.flows._logging import RunLogger, get_run_logger

#: Whether what is printed in this context is logged.
prints_are_logged: Final[ContextVar[bool]] = ContextVar("prints_are_logged", default=False)


@contextmanager
def logged_prints(is_wanted: bool | None) -> Generator[None]:
    """Have what is printed in a block logged, or not, or (None) as around it."""
    if is_wanted is None:
        yield
        return
    token = prints_are_logged.set(is_wanted)
    if is_wanted:
        _replacement.install()
    try:
        yield
    finally:
        prints_are_logged.reset(token)
        if is_wanted:
            _replacement.uninstall()


class _Print(Protocol):
    """The signature of `print`."""

    def __call__(
        self,
        *values: object,
        sep: str | None = " ",
        end: str | None = "\n",
        file: IO[str] | None = None,
        flush: bool = False,
    ) -> None: ...


def _builtin() -> _Print:
    return cast("_Print", builtins.print)


def _replace_builtin(replacement: _Print) -> None:
    builtins.__dict__["print"] = replacement


@final
class _Replacement:
    """Replaces `print` while anybody wants that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._print: _LoggingPrint | None = None

    def install(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                # A new one each time: what has replaced the last one since may still call that.
                self._print = _LoggingPrint(_builtin())
                _replace_builtin(self._print)

    def uninstall(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._print is not None:
                # Somebody else may have replaced it since. Then it stays, and does no harm.
                if _builtin() is self._print:
                    _replace_builtin(self._print.original)
                self._print = None


@final
class _LoggingPrint:
    """Stands in for `print`, also as a task's function, and travels as that."""

    def __init__(self, original: _Print) -> None:
        self.original: Final = original
        self.__name__ = self.__qualname__ = "print"
        self.__module__ = "builtins"

    def __reduce__(self) -> tuple[Callable[[], _Print], tuple[()]]:
        return _builtin, ()

    def __call__(
        self,
        *values: object,
        sep: str | None = " ",
        end: str | None = "\n",
        file: IO[str] | None = None,
        flush: bool = False,
    ) -> None:
        """Print, or log."""
        logger = _logger_for(file)
        if logger is None:
            self.original(*values, sep=sep, end=end, file=file, flush=flush)
            return
        text = io.StringIO()
        self.original(*values, sep=sep, end=end, file=text)
        # One record, whatever lines are in it; an empty line says nothing.
        if message := text.getvalue().removesuffix("\n"):
            token = prints_are_logged.set(False)  # A handler may print.
            try:
                logger.info("%s", message, stacklevel=2)
            finally:
                prints_are_logged.reset(token)


_replacement: Final = _Replacement()


def _logger_for(file: object) -> RunLogger | None:
    """Return where to log what is printed to a file; None if it is to be printed."""
    if not prints_are_logged.get() or file not in (None, sys.stdout):
        return None
    logger = get_run_logger()
    # With no handler at all, as in a worker process that nobody told where to log, it would vanish.
    return logger if logger.hasHandlers() else None
