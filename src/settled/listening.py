"""What the watcher listens with: an engine's push, or looking again and again."""

from __future__ import annotations

import random
import select
import threading
from collections.abc import Collection, Iterable
from typing import Protocol


class Listening(Protocol):
    """The part of an engine's listener that the watcher uses; see `backends.engine.Listener`."""

    def wait(self, timeout: float) -> Collection[str] | None: ...
    def wake(self) -> None: ...
    def watch(self, task_ids: Iterable[str]) -> None: ...
    def unwatch(self, task_ids: Iterable[str]) -> None: ...
    def close(self) -> None: ...


class Readable:
    """Waits for some descriptors to be readable: by `poll`, or by `select` where eventlet has removed `poll`."""

    def __init__(self, filenos: Iterable[int]) -> None:
        self._filenos = list(filenos)
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            for fileno in self._filenos:
                self._poll.register(fileno, select.POLLIN)

    def wait(self, timeout: float) -> set[int]:
        """Those that can be read, after at most `timeout` seconds."""
        if self._poll is None:
            return set(select.select(self._filenos, (), (), timeout)[0])
        return {fileno for fileno, _ in self._poll.poll(timeout * 1000)}


class Polling:
    """The listener of an engine that has no push: says "look at everything", ever more slowly.

    Starts at 1 ms and backs off to 100 ms while nothing is found settled.
    """

    SHORTEST = 0.001
    LONGEST = 0.1

    def __init__(self) -> None:
        self._woken = threading.Event()
        self._pause = self.SHORTEST

    def wait(self, timeout: float) -> None:
        woken = self._woken.wait(min(timeout, self._pause))
        self._woken.clear()
        self._pause = self.SHORTEST if woken else min(self._pause * 1.5, self.LONGEST)

    def wake(self) -> None:
        self._woken.set()

    def watch(self, task_ids: Iterable[str]) -> None:
        self._pause = self.SHORTEST

    def unwatch(self, task_ids: Iterable[str]) -> None:
        """Nothing is held for a waiter."""

    def close(self) -> None:
        """Nothing is held open."""


class Pauses:
    """Seconds between two attempts to listen: longer each time, with jitter, until one succeeds."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._pause = 0.01

    def next(self) -> float:
        pause, self._pause = self._pause, min(self._pause * 2, 1.0)
        return pause * random.uniform(0.5, 1.5)
