"""A task runner of one's own: tasks in process pools of the standard library.

    python custom_runner.py

A task runner says what becomes of a piece of work: `ProcessTaskRunner`, in sixty lines. The rest of
this file is the future of a run that can be stopped, a value that stays pickled until somebody asks
for it, and a process that can be killed. Retries, time limits and states come from
`anabranch.futures`, and so does the table of behaviours that every task runner must show.

It takes cloudpickle, which pickles lambdas. A script that uses it needs its
``if __name__ == "__main__":``, because the processes import the script.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures import Future as Answer
from contextlib import AsyncExitStack, suppress
from functools import partial
from queue import SimpleQueue
from typing import Final, TypeVar, cast, final

import attrs
import cloudpickle  # pyright: ignore[reportMissingTypeStubs]  # It has no types.

from anabranch.flows import flow, task
from anabranch.futures import (
    Cancellation,
    Cancelled,
    Completed,
    ConcurrencyType,
    Crashed,
    Future,
    State,
    TaskRunner,
    TimedOut,
    WorkItem,
)
from anabranch.futures.runner import (
    NO_RETRIES,
    Attempt,
    Delay,
    LogLevels,
    LogSink,
    PackedRecord,
    RunError,
    Shipment,
    StoredValue,
    TimeLimiter,
    deliver_record,
    forwarded_logs,
    lifecycle,
    limit_by_thread,
    pack,
    run_shipment,
    state_of_error,
    unpicklable_error,
    when_ready,
)

R = TypeVar("R")
SPAWN: Final = multiprocessing.get_context("spawn")


@final
class ProcessTaskRunner(TaskRunner):
    """Runs tasks in processes of this machine; one that is to be retried keeps its place."""

    def __init__(self, processes: int = os.cpu_count() or 1) -> None:
        super().__init__()
        self._processes = processes
        self._idle: SimpleQueue[Worker] = SimpleQueue()

    @property
    def concurrency_type(self) -> ConcurrencyType:
        """Parallel: in several processes."""
        return ConcurrencyType.PARALLEL

    def _settings(self) -> Mapping[str, object]:
        return {"processes": self._processes}

    async def _start(self, exit_stack: AsyncExitStack) -> None:
        self._threads = ThreadPoolExecutor(self._processes)  # Each sees one run through.
        exit_stack.callback(self._threads.shutdown)
        for _ in range(self._processes):
            self._idle.put(Worker())
            exit_stack.callback(lambda: self._idle.get().end())

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        run = ProcessRun(item)
        self.admit(run)
        try:
            execute = partial(self._execute, run, item)
            when_ready(item, lambda: run.done() or self._threads.submit(execute), run.set_final)
        except BaseException:  # Ctrl-C, or no thread is to be had. Nobody will have the future.
            run.cancel()
            raise
        return run

    def _execute(self, run: ProcessRun[R], item: WorkItem[R]) -> None:
        steps = lifecycle(item.retry)
        command, answer = next(steps), None
        try:
            while True:
                match command:
                    case Attempt(number):
                        if not run.set_running():
                            return  # It was cancelled.
                        answer = self._attempt(run, item, number)
                    case Delay(seconds, state):
                        run.set_retrying(state)
                        run.join(0 if run.is_unwanted else seconds)  # Or until it is cancelled.
                command = steps.send(answer)
        except StopIteration as end:
            run.set_final(cast("State[R]", end.value))

    def _attempt(self, run: ProcessRun[R], item: WorkItem[R], number: int) -> State[R]:
        worker = self._idle.get()
        state: State[R]
        try:
            run.value = PickledValue(run.send(parcel_of(item, number), worker))
            state = Completed(run.value)
        except RunError as error:
            state = error.state()
        except BrokenExecutor:
            state = Crashed(message=f"The process of run {item.task_run.name!r} was lost")
        except BaseException as error:  # Something cannot be pickled, which runs foreign code.
            state = state_of_error(error)
        if run.is_unwanted or isinstance(state, TimedOut | Crashed):
            worker.kill()  # What has timed out may be at work in there for ever.
        self._idle.put(worker)
        return Cancelled() if run.is_unwanted else state


@final
class ProcessRun(Future[R]):
    """The future of a run in a process, which is killed if the run is to be stopped."""

    def __init__(self, item: WorkItem[R]) -> None:
        super().__init__(item.task_run, listener=item.listener)
        self.value: PickledValue[R] | None = None
        self.is_unwanted: bool = False
        self._worker: Worker | None = None
        self._sending = threading.Lock()

    def send(self, parcel: bytes, worker: Worker) -> bytes:
        """Make an attempt in a worker, and return the value, pickled."""
        with self._sending:
            if self.is_unwanted:
                raise BrokenExecutor
            answer = worker.submit(parcel)
            self._worker = worker
        records: Iterable[PackedRecord] = ()
        try:
            pickled, records = answer.result()
        except RunError as error:
            records = cast("Iterable[PackedRecord]", error.history)
            raise
        else:
            return pickled
        finally:
            with self._sending:
                self._worker = None
            for record in records:  # What the run has logged.
                deliver_record(record)

    def cancel(self) -> Cancellation:
        """Stop the run: at once if no attempt is being made, else by killing its process.

        That waits until the process has started, which takes a moment.
        """
        if self.done():
            return Cancellation.CANNOT_STOP
        with self._sending:
            self.is_unwanted = True
            if self.set_final_unless_running(Cancelled()):
                return Cancellation.CANCELLED
            if self._worker is not None:
                self._worker.kill()
        return Cancellation.WILL_STOP

    def abandon(self, state: State[object]) -> bool:
        """End the run now, and its process as well."""
        self.cancel()
        return self.set_final(state)


@final
class PickledValue(StoredValue[R]):
    """A value that is unpickled when it is asked for; other runs are sent it as it is."""

    def __init__(self, pickled: bytes) -> None:
        super().__init__()
        self.pickled = pickled

    def _fetch(self) -> R:
        return cast("R", pickle.loads(self.pickled))


@final
class Worker:
    """A pool of one process: when that is killed, nobody else's run is lost."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, parcel: bytes) -> Answer[tuple[bytes, list[PackedRecord]]]:
        """Have a parcel run in the process, which is started if there is none."""
        if self._pool is None:
            # Ctrl-C is for the parent, which sees to it.
            ignore = (signal.SIGINT, signal.SIG_IGN)
            pool = ProcessPoolExecutor(1, SPAWN, signal.signal, ignore)
            self._pid = pool.submit(os.getpid)
            self._pool = pool
        return self._pool.submit(run_parcel, parcel)

    def kill(self) -> None:
        """End the process, whatever it is at; the next parcel has another one."""
        if self._pool is not None:
            with suppress(BrokenExecutor):
                pid = self._pid.result()
                for child in multiprocessing.active_children():
                    if child.pid == pid:
                        child.kill()
            self.end()

    def end(self) -> None:
        """End the process when it is done."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def parcel_of(item: WorkItem[R], number: int) -> bytes:
    """Return what a process needs in order to make an attempt; the runner counts them."""
    packed = pack(item, lambda future: isinstance(future, ProcessRun))
    shipment = attrs.evolve(packed.shipment, retry=NO_RETRIES, first_attempt=number)
    runs = [each for each in packed.slots if isinstance(each, ProcessRun)]
    values = [run.value.pickled for run in runs if run.value is not None]
    try:
        return dumps((item.function, shipment, values, LogLevels.of_this_process()))
    except Exception as error:
        name, args, kwargs = item.task_run.name, shipment.args, shipment.kwargs
        raise unpicklable_error(
            name, "a process", item.function, args, kwargs, dumps, error
        ) from None


def run_parcel(parcel: bytes) -> tuple[bytes, list[PackedRecord]]:
    """Make an attempt, in the process; return the value, pickled, and what has been logged."""
    function, shipment, pickled, levels = cast(
        "tuple[Callable[..., object], Shipment, list[bytes], LogLevels]", pickle.loads(parcel)
    )
    values = [pickle.loads(each) for each in pickled]
    # A limiter of its own: by the default one each time-out would be logged as abandoned, which it
    # is not, for the process is killed.
    limiter: TimeLimiter = partial(limit_by_thread)
    records: list[PackedRecord] = []
    run = shipment.task_run
    with forwarded_logs(LogSink(levels, records.append, run.id, run.name)):
        try:
            return dumps(run_shipment(function, shipment, values, dumps, limiter=limiter)), records
        except RunError as error:
            raise error.with_history(tuple(records)) from None


def dumps(value: object) -> bytes:
    """Pickle a value, also if it refers to lambdas and closures."""
    pickled: bytes = cloudpickle.dumps(value)  # pyright: ignore[reportUnknownMemberType]  # As above.
    return pickled


@task
def factorise(number: int) -> list[int]:
    """Return the prime factors of a number."""
    factors: list[int] = []
    divisor = 2
    while divisor * divisor <= number:
        if number % divisor:
            divisor += 1
        else:
            factors.append(divisor)
            number //= divisor
    return [*factors, number]


@flow(task_runner=ProcessTaskRunner)
def factors(numbers: list[int]) -> dict[int, list[int]]:
    """Factorise numbers in parallel."""
    return dict(zip(numbers, factorise.map(numbers).result(), strict=True))


if __name__ == "__main__":
    for number, found in factors([10**14 + 31, 2**47 - 1, 600851475143]).items():
        print(number, "=", " * ".join(map(str, found)))
