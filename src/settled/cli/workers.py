"""The processes in which `settled map` runs calls."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from types import FrameType

from settled.executor.pulse import Pulse, end_with_parent

PRELOADED = "settled.cli.workers"

LEAVE: signal.Signals | None = getattr(signal, "SIGUSR1", None)
"""Tells a worker to begin nothing else; not SIGTERM, by which a pool that broke ends its workers."""


def pool_maker(workers: int) -> partial[ProcessPoolExecutor]:
    """What makes the pool, and makes it anew when a worker was killed.

    The workers come from a fork server where there is one: this process has threads and an open
    store, and is no good to be forked.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([PRELOADED])
        # Stopped at once, a pool leaves a few semaphores, which are then cleaned up: no news for anybody.
        quiet = ("ignore:resource_tracker:UserWarning", os.environ.get("PYTHONWARNINGS"))
        os.environ["PYTHONWARNINGS"] = ",".join(filter(None, quiet))
    else:
        context = multiprocessing.get_context("spawn")  # type: ignore[assignment]
    return partial(ProcessPoolExecutor, workers, mp_context=context, initializer=settle_in)


def settle_in() -> None:
    """In a worker: Ctrl-C is the parent's business, and standard output is for results alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if LEAVE is not None:
        signal.signal(LEAVE, _leave)
    os.dup2(2, 1)
    end_with_parent()


def _leave(_signal: int, _frame: FrameType | None) -> None:
    Pulse.here().leaving = True


def let_leave() -> None:
    """Have the workers finish what they run and begin nothing else: a pool hands out calls in advance."""
    for child in multiprocessing.active_children():
        if LEAVE is not None and child.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(child.pid, LEAVE)


def usable_cpus() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_at_once(status: int) -> None:
    """End this process and its workers without waiting for anything. What is stored is safe."""
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(status)
