"""Several runs that are one task to Ray, on the worker that executes them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING

from anabranch.futures.runner import RunError

if TYPE_CHECKING:
    from anabranch.runners.ray._parcel import BatchParcel, Outcome


def run_batch(
    run: Callable[..., tuple[object, Outcome]], batch: BatchParcel
) -> tuple[object, bytes]:
    entries: list[bytes] = []
    for shipment, home in batch.runs:
        try:
            _, outcome = run(shipment, home)
        except RunError as error:
            entries.append(pickle.dumps(error))
        else:
            entries.append(pickle.dumps(outcome))
    return None, pickle.dumps(entries)
