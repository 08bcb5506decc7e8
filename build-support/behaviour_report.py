"""Runs both tables of behaviours on the four runners, and prints how each of them did.

    python build-support/behaviour_report.py          prints the tables, as Markdown
    python build-support/behaviour_report.py --write  puts them into the README of the futures

It takes some minutes, and fails if a runner does not show what it has no reason not to.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import distributed

from anabranch.flows.testing import FLOW_BEHAVIOURS
from anabranch.futures import TaskRunner
from anabranch.futures.testing import BEHAVIOURS, Behaviour, Subject, Verdict, judge, report
from anabranch.runners.dask import DaskTaskRunner
from anabranch.runners.local import ConcurrentTaskRunner, SequentialTaskRunner
from anabranch.runners.ray import RayTaskRunner

README = "packages/futures/README.md"
BEGIN, END = "<!-- behaviours: begin -->\n", "<!-- behaviours: end -->"

DASK = {"n_workers": 1, "threads_per_worker": 2, "dashboard_address": None}
RAY = {"num_cpus": 2}


def make_dask() -> DaskTaskRunner:
    """Make a runner that makes a cluster of its own."""
    return DaskTaskRunner(cluster_kwargs=DASK)


def make_ray() -> RayTaskRunner:
    """Make a runner that starts Ray, or shares it where it has been started."""
    return RayTaskRunner(init_kwargs=RAY)


MAKERS: dict[str, Callable[[], TaskRunner]] = {
    "sequential": SequentialTaskRunner,
    "concurrent": ConcurrentTaskRunner,
    "dask": make_dask,
    "ray": make_ray,
}


@contextmanager
def shared_cluster(name: str) -> Iterator[Callable[[], TaskRunner]]:
    """Start a cluster for all runners of a table of flows, which take one for each flow run."""
    if name == "dask":
        with distributed.LocalCluster(**DASK) as cluster:
            yield lambda: DaskTaskRunner(address=cluster.scheduler_address)
    elif name == "ray":
        with make_ray():
            yield make_ray
    else:
        yield MAKERS[name]


def judged(behaviours: Sequence[Behaviour], subject: Subject) -> list[Verdict]:
    """Judge a table, telling of what does not hold."""
    verdicts = []
    for behaviour in behaviours:
        verdict = judge(behaviour, subject)
        verdicts.append(verdict)
        if verdict.outcome == "no":
            print(f"{subject.name}: {behaviour}: no\n{verdict.details}", file=sys.stderr)
    return verdicts


def verdicts_on_all() -> tuple[dict[str, list[Verdict]], dict[str, list[Verdict]]]:
    """Return for each runner how it did by the contract, and how its flows did."""
    contract: dict[str, list[Verdict]] = {}
    flows: dict[str, list[Verdict]] = {}
    for name, make in MAKERS.items():
        with Subject(make) as subject:
            contract[name] = judged(BEHAVIOURS, subject)
        with shared_cluster(name) as make_there:
            flows[name] = judged(FLOW_BEHAVIOURS, Subject(make_there))
    return contract, flows


def page(contract: dict[str, list[Verdict]], flows: dict[str, list[Verdict]]) -> str:
    """Return both tables, with what is over them."""
    return (
        f"### Each runner\n\n{report(contract)}\n\n"
        f"### Flows and tasks on each runner\n\n{report(flows)}\n"
    )


def main() -> int:
    """Run the tables, and print or write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write them into {README}")
    write = parser.parse_args().write
    # For the processes of the clusters, whatever folder they start in.
    os.environ["PYTHONPATH"] = os.pathsep.join(str(Path(each).resolve()) for each in sys.path)
    os.environ["ANABRANCH_LOGGING"] = "off"
    logging.getLogger("anabranch").addHandler(logging.NullHandler())
    contract, flows = verdicts_on_all()
    text = page(contract, flows)
    if write:
        readme = Path.cwd() / README
        before, _, rest = readme.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
    else:
        print(text)
    failed = [each for column in (*contract.values(), *flows.values()) for each in column]
    return int(any(each.outcome == "no" for each in failed))


if __name__ == "__main__":
    sys.exit(main())
