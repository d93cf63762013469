"""Cores that do not go to sleep while something is measured.

An idle core of a virtual machine is given back to its host, and takes 50 to 100 us to wake: as much as the work
that is measured, and at random. So it is kept busy with what yields to anything else, as `idle=poll` would do.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SPIN = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
print(flush=True)
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(100_000):
        pass
"""


@contextmanager
def awake() -> Iterator[None]:
    """Keep every core of this process awake; where there is no idle class to do it in, do nothing."""
    cores = os.sched_getaffinity(0) if hasattr(os, "SCHED_IDLE") else ()
    spinning = [
        subprocess.Popen([sys.executable, "-c", SPIN, str(core)], stdout=subprocess.PIPE) for core in cores
    ]
    try:
        for each in spinning:
            if each.stdout is None or not each.stdout.readline():
                raise RuntimeError("what is to keep a core awake has ended")
        yield
    finally:
        for each in spinning:
            each.kill()
            each.communicate()
