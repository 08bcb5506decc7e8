"""Workers that Ray's memory monitor kills."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from ray_scripts import run_script

#: How far the hungry run may get, in bytes. What else the machine does meanwhile is less than that.
_ROOM = 2 * 2**30

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.mark.skipif(
    psutil.virtual_memory().available < 2 * _ROOM, reason="the machine has too little memory"
)
def test_ray_run_that_takes_all_memory_crashes(tmp_path: Path) -> None:
    """A run killed for its memory crashes with Ray's reason, after as many attempts as it has."""
    memory = psutil.virtual_memory()
    used = memory.total - memory.available
    run_script(
        """
        from pathlib import Path
        from anabranch.futures.runner import make_item, new_run_id

        def devour(notes):
            with open(notes, "a") as file:
                file.write("x")
            hoard = []
            while True:
                hoard.append(b"x" * 50_000_000)

        def start(notes, retries):
            run_id = new_run_id()
            run = TaskRun(run_id, f"devour-{run_id[-8:]}", "devour")
            item = make_item(devour, (notes,), {}, task_run=run, retry=RetryPolicy(retries))
            return runner.dispatch(item)

        with RayTaskRunner(init_kwargs={"num_cpus": 1}) as runner:
            for retries in (0, 2):
                notes = Path(__file__).with_name(f"notes-{retries}")
                run = start(notes, retries)
                behind = runner.submit(same, lift(run))
                state = run.wait()
                assert isinstance(state, Crashed), state
                assert "low on memory" in state.message, state
                assert isinstance(state.exception, RunCrashedError)
                assert notes.read_text() == "x" * (retries + 1)
                assert isinstance(behind.wait(), UpstreamFailed)
            assert runner.submit(same, 5).result() == 5, "others are not harmed"
        """,
        tmp_path,
        RAY_memory_usage_threshold=str((used + _ROOM) / memory.total),
        RAY_memory_monitor_refresh_ms="100",
    )
