"""What a worker executes is interrupted, and nothing else is."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Each part is executed in a process of its own, after this.
_BEFORE = """
import _thread, signal, sys, threading, time
from anabranch.futures import Completed
from anabranch.runners.ray._interrupts import Interrupts, Interruption

gave_up = []
interrupts = Interrupts("add", lambda: gave_up.append("gave up"))

def attempt(function, *args):
    # As the engine calls functions: whatever they raise is a state.
    try:
        return Completed(interrupts.guard(function)(*args))
    except BaseException as error:
        return Completed(type(error).__name__)
"""


def run(script: str) -> list[str]:
    """Run a script in a process of its own, and return the lines that it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _BEFORE + script],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def test_a_stop_interrupts_a_sleep() -> None:
    """A function is interrupted in C code that waits, and cleans up."""
    printed = run("""
def sleep():
    try:
        threading.Thread(target=interrupts.stop).start()
        time.sleep(40)
    finally:
        print("cleaned up")

with interrupts.possible():
    print(attempt(sleep).value)
""")
    assert printed == ["cleaned up", "Interruption"]


def test_what_is_stopped_before_it_begins_does_not() -> None:
    """A function that is called after the stop is not executed."""
    printed = run("""
with interrupts.possible():
    interrupts.stop()
    print(attempt(print, "executed").value)
""")
    assert printed == ["Interruption"]


def test_whoever_swallows_an_interrupt_is_interrupted_all_the_same() -> None:
    """What a function returns that went on after its interrupt does not count."""
    printed = run("""
def swallow():
    interrupts.stop()
    try:
        while True:
            pass
    except KeyboardInterrupt:
        return "a value"

with interrupts.possible():
    print(attempt(swallow).value)
""")
    assert printed == ["Interruption"]


def test_interrupts_come_to_nothing_but_the_function() -> None:
    """What goes on around the function is not interrupted, nor what comes after the run."""
    printed = run("""
with interrupts.possible():
    print(attempt(len, "abc").value)
    interrupts.stop()
    print("goes on")
interrupts.stop()
signal.raise_signal(signal.SIGURG)
print("afterwards")
""")
    assert printed == ["3", "goes on", "afterwards"]


def test_no_import_is_cut_short() -> None:
    """An interrupt that comes in the midst of an import waits for its end: no half of it stays."""
    printed = run("""
class Stopper:
    def find_spec(self, name, path, target=None):
        if name == "xml.dom.minidom":
            sys.meta_path.remove(self)
            interrupts.stop()
            signal.raise_signal(signal.SIGURG)  # Whenever that comes: here it is in an import.

def load():
    import xml.dom.minidom
    while True:
        pass

sys.meta_path.insert(0, Stopper())
with interrupts.possible():
    print(attempt(load).value)
print("xml.dom.minidom" in sys.modules, "xml.dom.expatbuilder" in sys.modules)
""")
    assert printed == ["Interruption", "True False"]


def test_a_time_limit_interrupts_one_attempt() -> None:
    """An attempt that is out of time leaves nothing to the next one."""
    printed = run("""
with interrupts.possible():
    print(interrupts.limit(lambda: attempt(time.sleep, 40), 0.01))
    print(interrupts.limit(lambda: attempt(len, "abc"), 40).value)
    print(interrupts.limit(lambda: attempt(len, "abc"), 1e300).value)
print(gave_up)
""")
    assert printed == ["None", "3", "3", "[]"]


def test_a_process_that_does_not_let_itself_be_interrupted_ends() -> None:
    """The process of an attempt that goes on after its time ends itself, and says why before."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            _BEFORE
            + """
interrupts = Interrupts("add", lambda: print("gave up", flush=True))

def go_on():
    while True:
        try:
            time.sleep(40)
        except BaseException:
            pass

with interrupts.possible():
    interrupts.limit(lambda: attempt(go_on), 0.01)
""",
        ],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "gave up\n")
    assert done.stderr == "Run 'add' goes on 0.5 s after its time limit: its worker is ended\n"


@pytest.mark.parametrize("is_limited", [False, True])
def test_other_threads_are_not_interrupted(is_limited: bool) -> None:
    """In any thread but the main one, a function is given up when its time is over, or goes on."""
    printed = run(f"""
def work():
    own = Interrupts("add", print)
    with own.possible():
        if {is_limited}:
            released = threading.Event()
            print(own.limit(lambda: released.wait(40), 0.01))
            released.set()
        else:
            print(own.guard(len)("abc"))

thread = threading.Thread(target=work)
thread.start()
thread.join()
""")
    assert printed == ["None" if is_limited else "3"]


def test_the_interrupts_of_ray_itself_come_to_no_run() -> None:
    """What Ray cancels by an interrupt at any place takes no notice while it is a run of ours."""
    printed = run("""
def busy():
    _thread.interrupt_main()
    for _ in range(1000):
        pass
    return "undisturbed"

with interrupts.possible():
    print(attempt(busy).value)
try:
    _thread.interrupt_main()
    for _ in range(1000):
        pass
except KeyboardInterrupt:
    print("as ever")
""")
    assert printed == ["undisturbed", "as ever"]


def test_no_interrupt_of_ray_leaves_a_run_behind() -> None:
    """Wherever Ray interrupts what surrounds a run, nothing listens for that run afterwards."""
    printed = run("""
import gc
from anabranch.futures import TaskRun
from anabranch.futures.runner import LogLevels, Shipment
from anabranch.runners.ray import _errand
from anabranch.runners.ray._home import Home
from anabranch.runners.ray._parcel import parcel_of
from anabranch.runners.ray._worker import run_parcel

def find_nothing(name):
    raise ValueError("there is no Ray here")

_errand.find_relay = find_nothing
_errand.is_gone = bool
shipment = Shipment((1,), {}, True, TaskRun("1", "add-0", "add"), None, False, None)
parcel = parcel_of(shipment, 0, Home("relay", None, LogLevels(50, 50)))

def execute(interrupted_call):
    calls = 0
    def count(frame, event, arg):
        nonlocal calls
        if event == "call" and "runners/ray" in frame.f_code.co_filename:
            calls += 1
            if calls == interrupted_call:
                signal.raise_signal(signal.SIGINT)
    sys.setprofile(count)
    try:
        value, _ = run_parcel(lambda x: x + 1, parcel, ())
    except KeyboardInterrupt:
        value = None
    finally:
        sys.setprofile(None)
    return value, calls

_, number = execute(None)
values = [execute(each)[0] for each in range(1, number + 1)]
print(number > 10, set(values) == {2, None})
print([each for each in gc.get_objects() if type(each) is _errand.Errand and not each._is_over])
""")
    assert printed == ["True True", "[]"]
