"""Several runs that are one task to Ray, as the process sees them that has submitted them."""

from __future__ import annotations

import pickle
import uuid
from functools import partial
from typing import TYPE_CHECKING, Final, cast, final

from anabranch.runners.ray import _native
from anabranch.runners.ray._parcel import BatchParcel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anabranch.runners.ray._lines import Line, Waiting
    from anabranch.runners.ray._link import Link
    from anabranch.runners.ray._native import Exported, Ref


@final
class Batch:
    """Several runs of one function that go to Ray together."""

    def __init__(self, line: Line, connection: Link, runs: Sequence[Waiting]) -> None:
        self.id: Final = uuid.uuid4().hex
        self._line: Final = line
        self._connection: Final = connection
        self._runs: Final = runs

    def send(self, exported: Exported) -> None:
        parcel = BatchParcel(
            self.id,
            [(each.shipment, each.run.origin.home.packed()) for each in self._runs],
        )
        for each in self._runs:
            each.run.sent_in(self)
        value_ref, outcome_ref = exported.remote(pickle.dumps(parcel))
        _native.on_completed(outcome_ref, partial(self._report, value_ref))

    def _report(self, value_ref: Ref, outcome: object) -> None:
        self._line.ended()
        self._connection.completions.call_soon(partial(self._end, value_ref, outcome))

    def _end(self, value_ref: Ref, outcome: object) -> None:
        if isinstance(outcome, bytes):
            entries = cast("list[bytes]", pickle.loads(outcome))
            for each, entry in zip(self._runs, entries):
                run = each.run
                run.guard(partial(run.ended_in_batch, value_ref, pickle.loads(entry)))
        else:
            print("XXX", outcome)
