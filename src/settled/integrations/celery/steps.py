"""A wait that is interrupted every `interval` seconds for whoever wants to be called then."""

from __future__ import annotations

import time
from collections.abc import Callable

from celery.exceptions import TimeoutError as CelerysTimeoutError
from vine import promise


class Steps:
    """The steps of one wait of `timeout` seconds (None: for ever).

    `on_interval` is called between two of them; where it is a promise that nothing hangs on, or None,
    there is one step.
    """

    def __init__(
        self, timeout: float | None, interval: float, on_interval: Callable[[], object] | None
    ) -> None:
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._interval = interval
        self._on_interval = None if _is_idle(on_interval) else on_interval

    def next(self) -> float | None:
        """Seconds that the next step may take."""
        left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        if self._on_interval is None:
            return left
        return self._interval if left is None else min(left, self._interval)

    def failed(self) -> None:
        """The task has failed: where a task before it in its chain or chord has, that error is the one to raise."""
        if self._on_interval is not None:
            self._on_interval()

    def passed(self) -> None:
        """A step has passed in vain. Celery's TimeoutError if it was the last."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise CelerysTimeoutError(f"The operation timed out: nothing was ready within {self._timeout} s")
        if self._on_interval is not None:
            self._on_interval()


def _is_idle(call: Callable[[], object] | None) -> bool:
    return call is None or (
        isinstance(call, promise) and call.fun is None and not (call._svpending or call._lvpending)
    )
