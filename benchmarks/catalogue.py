"""All rows, in the order that they run in."""

from __future__ import annotations

from benchmarks.model import Row
from benchmarks.rows import (
    big_values,
    census,
    chain,
    concurrent_async,
    concurrent_sync,
    dask_tasks,
    direct,
    fan_out,
    imports,
    pending,
    ray_tasks,
    start,
)

ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        direct.ROW,
        concurrent_sync.ROW,
        concurrent_async.ROW,
        chain.ROW,
        fan_out.ROW,
        dask_tasks.SUBMIT_ROW,
        dask_tasks.MAP_ROW,
        ray_tasks.ROW,
        big_values.DASK_ROW,
        big_values.RAY_ROW,
        start.DIRECT_ROW,
        start.SUBMIT_ROW,
        imports.ROW,
        pending.ROW,
        *census.ROWS,
    )
}
