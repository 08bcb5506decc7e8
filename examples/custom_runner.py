"""A task runner of one's own: tasks in process pools of the standard library.

    python custom_runner.py

`ProcessTaskRunner` and the two classes behind it are all that it takes. Retries, time limits,
states and futures come from `anabranch.futures`, and so does the table of behaviours that every
task runner must show, which this one passes.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
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
    RunError,
    Shipment,
    StoredValue,
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
    """Runs tasks in processes of this machine, as many at a time as there are processes."""

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
            exit_stack.callback(lambda: self._idle.get().pool.shutdown())

    def _submit(self, item: WorkItem[R]) -> Future[R]:
        run = ProcessRun(item)
        self.admit(run)
        when_ready(item, lambda: self._threads.submit(self._execute, run, item), run.set_final)
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
                        run.join(seconds)  # It ends sooner if it is cancelled.
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
        except Exception as error:  # Something cannot be pickled.
            state = state_of_error(error)
        # What has timed out may be at work in there for ever.
        is_spent = run.is_unwanted or isinstance(state, TimedOut | Crashed)
        self._idle.put(worker.replaced() if is_spent else worker)
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
            self._worker = worker
            answer = worker.pool.submit(run_parcel, parcel)
        try:
            return answer.result()
        finally:
            with self._sending:
                self._worker = None

    def cancel(self) -> Cancellation:
        """Stop the run: at once if no attempt is being made, else by killing its process."""
        if self.set_final_unless_running(Cancelled()):
            return Cancellation.CANCELLED
        if self.done():
            return Cancellation.CANNOT_STOP
        with self._sending:
            self.is_unwanted = True
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
        # Ctrl-C is for the parent, which sees to it.
        ignore = (signal.SIGINT, signal.SIG_IGN)
        self.pool = ProcessPoolExecutor(1, SPAWN, signal.signal, ignore)
        self._pid = self.pool.submit(os.getpid)

    def kill(self) -> None:
        """End the process, whatever it is at."""
        with suppress(BrokenExecutor, ProcessLookupError):
            os.kill(self._pid.result(), signal.SIGKILL)

    def replaced(self) -> Worker:
        """Return a new worker in place of this one."""
        self.kill()
        self.pool.shutdown()
        return Worker()


def parcel_of(item: WorkItem[R], number: int) -> bytes:
    """Return what a process needs in order to make an attempt; the runner counts them."""
    packed = pack(item, lambda future: isinstance(future, ProcessRun))
    shipment = attrs.evolve(packed.shipment, retry=NO_RETRIES, first_attempt=number)
    runs = [each for each in packed.slots if isinstance(each, ProcessRun)]
    values = [run.value.pickled for run in runs if run.value is not None]
    try:
        return dumps((item.function, shipment, values))
    except Exception as error:
        name, args, kwargs = item.task_run.name, shipment.args, shipment.kwargs
        raise unpicklable_error(
            name, "a process", item.function, args, kwargs, dumps, error
        ) from None


def run_parcel(parcel: bytes) -> bytes:
    """Make an attempt, in the process, and return the value, pickled."""
    function, shipment, pickled = cast(
        "tuple[Callable[..., object], Shipment, list[bytes]]", pickle.loads(parcel)
    )
    values = [pickle.loads(each) for each in pickled]
    # Nothing is abandoned when time is up: the process is killed.
    return dumps(run_shipment(function, shipment, values, dumps, limiter=partial(limit_by_thread)))


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
