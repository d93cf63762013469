"""A time limit on a call that runs in its process's main thread: by a signal, inside the call."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from settled.errors import TimeLimitExceeded


def can_interrupt() -> bool:
    """Whether a call in this thread can be interrupted."""
    return hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()


def exceeded(name: str, seconds: float) -> TimeLimitExceeded:
    return TimeLimitExceeded(f"{name} ran for longer than its timeout of {seconds:g} s")


@contextmanager
def interrupted_after(seconds: float, name: str) -> Iterator[None]:
    """Raise TimeLimitExceeded inside the block when it has run for `seconds`."""
    armed = True

    def ring(_signal: int, _frame: FrameType | None) -> None:
        if armed:
            raise exceeded(name, seconds)

    before = signal.signal(signal.SIGALRM, ring)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        armed = False  # first: from here on the alarm may ring unheard
        signal.setitimer(signal.ITIMER_REAL, left, interval)
        signal.signal(signal.SIGALRM, before)
