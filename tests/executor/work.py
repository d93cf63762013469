"""Functions that the tests have run, importable by worker processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path


def double(x):
    return 2 * x


def add(x, y=0):
    return x + y


def nothing():
    return None


def fail(*args):
    raise ValueError(*args)


def leave(status):
    sys.exit(status)


def interrupt():
    raise KeyboardInterrupt


def whole_traceback(x):
    try:
        fail(x)
    except ValueError as exc:
        raise LookupError("outer") from exc


def logged(path, x):
    """Note that this ran: appended by one write, so that processes do not mix."""
    with open(path, "ab", buffering=0) as log:
        log.write(f"{x}\n".encode())
    return 2 * x


def runs(path):
    path = Path(path)
    return path.read_text().split() if path.exists() else []


def fail_until(path, count):
    """Fail the first `count` times that it is run."""
    logged(path, "run")
    if len(runs(path)) <= count:
        raise ConnectionError(f"run {len(runs(path))}")
    return len(runs(path))


def die(path=None):
    if path is not None:
        logged(path, "died")
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(path):
    logged(path, "run")
    if len(runs(path)) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "lived"


def fail_once_behind(gate, path):
    """Fail the first time, when the gate is opened."""
    logged(path, "run")
    if len(runs(path)) == 1:
        pass_gate(gate)
        raise ConnectionError("run 1")
    return len(runs(path))


def pass_gate(path):
    """Wait until somebody opens the fifo at `path` to write; what was written."""
    return Path(path).read_text()


def announce_and_pass(log, gate, x):
    logged(log, x)
    pass_gate(gate)
    return x


def open_gate(path, text="open"):
    Path(path).write_text(text)


def spin():
    while True:
        time.sleep(0.001)


def large(size):
    return "x" * size


def unstorable():
    return {"rows": [1, threading.Lock()]}


def no_pause(attempt):
    return 0.0


def note_pause(path, attempt):
    logged(path, attempt)
    return 0.0


def total(values):
    return sum(values)


def states(outcomes):
    return [outcome.state for outcome in outcomes]


def weighted(values, factor, *, offset=0):
    return factor * sum(values) + offset


class Scaler:
    def __init__(self, factor):
        self.factor = factor

    def scale(self, x):
        return self.factor * x

    def __call__(self, x):
        return self.factor * x


def own_key(x, key):
    return (x, key)


def meet(log, started, gate, x):
    """Note that this ran, tell whoever reads `started`, and wait at `gate`."""
    logged(log, x)
    open_gate(started)
    pass_gate(gate)
    return x
