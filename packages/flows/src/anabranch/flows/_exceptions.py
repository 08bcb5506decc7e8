"""Exceptions of the flows; see `anabranch.futures` for all others."""

from __future__ import annotations

from anabranch.futures import AnabranchError


class ParameterError(AnabranchError, ValueError):
    """A flow that checks its parameters was called with arguments that do not fit them.

    The message names the flow and each parameter; ``__cause__`` is pydantic's error.
    """
