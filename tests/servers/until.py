"""Waiting for what another process does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

STEP = 0.005
"""Seconds between two looks."""


class TimedOut(AssertionError):
    """What was waited for did not come."""


def until(
    look: Callable[[], T], timeout: float, what: str, *, despite: tuple[type[Exception], ...] = ()
) -> T:
    """Look until the answer is true, and return it. An error of `despite` counts as "not yet".

    Raises `TimedOut` after `timeout` seconds, caused by the last of those errors.
    """
    deadline = time.monotonic() + timeout
    error: Exception | None = None
    while True:
        try:
            if answer := look():
                return answer
            error = None
        except despite as exc:
            error = exc
        if time.monotonic() > deadline:
            raise TimedOut(f"{what} did not come within {timeout:g} s") from error
        threading.Event().wait(STEP)
