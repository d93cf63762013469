"""The pulse of a process that runs tasks: one thread that extends leases and keeps time limits."""

from __future__ import annotations

import heapq
import itertools
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from functools import partial

from settled.backends.base import BaseBackend
from settled.errors import SettledError

log = logging.getLogger("settled.executor")

ORPHAN_CHECK = 1.0
"""Seconds between two looks of a pool's worker at whether its parent lives."""


class Deadline:
    """A call of `due` at a time. `cancel` is safe at any moment, but `due` may be running by then."""

    __slots__ = ("at", "due")

    def __init__(self, at: float, due: Callable[[], None]) -> None:
        self.at = at
        self.due: Callable[[], None] | None = due

    def cancel(self) -> None:
        self.due = None


class _Held:
    """The leases that one executor's tasks hold in this process."""

    __slots__ = ("backend", "beat_at", "names", "seconds", "token")

    def __init__(self, backend: BaseBackend, token: str, seconds: float, beat_at: float) -> None:
        self.backend = backend
        self.token = token
        self.seconds = seconds
        self.beat_at = beat_at
        self.names: set[str] = set()


class Pulse:
    """See the module. `Pulse.here()` is this process's."""

    _here: Pulse | None = None  # one per process by its nature: threads do not survive a fork

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._parent = os.getppid()
        self._changed = threading.Condition(threading.Lock())
        self._held: dict[tuple[int, str], _Held] = {}
        self._deadlines: list[tuple[float, int, Deadline]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None
        self._wake_at = 0.0
        self._exits = False
        self.leaving = False
        """Whether the process leaves undone what it has not begun, as it was told by whoever owns it."""

    @classmethod
    def here(cls) -> Pulse:
        pulse = cls._here
        if pulse is None or pulse._pid != os.getpid():
            pulse = cls._here = Pulse()
        return pulse

    # -- leases --------------------------------------------------------------------------------

    def hold(self, backend: BaseBackend, name: str, token: str, seconds: float) -> None:
        """Extend this lease, which is held, every third of its `seconds` until it is dropped."""
        key = (id(backend), token)
        with self._changed:
            held = self._held.get(key)
            if held is None:
                held = self._held[key] = _Held(backend, token, seconds, time.monotonic() + seconds / 3)
            held.names.add(name)
            self._expect(held.beat_at)

    def drop(self, backend: BaseBackend, name: str, token: str) -> None:
        with self._changed:
            held = self._held.get((id(backend), token))
            if held is not None:
                held.names.discard(name)

    def at(self, seconds: float, due: Callable[[], None]) -> Deadline:
        """Have `due` called in `seconds`, in the pulse's thread."""
        deadline = Deadline(time.monotonic() + seconds, due)
        with self._changed:
            heapq.heappush(self._deadlines, (deadline.at, next(self._order), deadline))
            self._expect(deadline.at)
        return deadline

    def _expect(self, moment: float) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="settled-pulse", daemon=True)
            self._thread.start()
        elif moment < self._wake_at:
            self._changed.notify()

    # -- orphans -------------------------------------------------------------------------------

    @property
    def orphaned(self) -> bool:
        """Whether this process was a pool's worker and the process that made it is dead."""
        parent = multiprocessing.parent_process()
        return parent is not None and (os.getppid() != self._parent or not parent.is_alive())

    def exit_when_orphaned(self) -> None:
        """End this process once its parent is dead and nothing runs in it.

        A pool's worker whose parent was killed waits for its next call for ever. What it runs at
        that moment is finished and stored first.
        """
        if not self._exits and multiprocessing.parent_process() is not None:
            with self._changed:
                self._exits = True
                self._expect(0.0)

    # -- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                for due in self._collect():
                    due()
            except Exception:
                log.exception("the pulse of running tasks missed a beat; it goes on")

    def _collect(self) -> list[Callable[[], None]]:
        """Wait for what is due next, and return it."""
        with self._changed:
            now = time.monotonic()
            self._wake_at = self._next()
            if self._wake_at > now:
                self._changed.wait(min(self._wake_at - now, threading.TIMEOUT_MAX))
                now = time.monotonic()
            due = self._beats(now)
            while self._deadlines and self._deadlines[0][0] <= now:
                deadline = heapq.heappop(self._deadlines)[2]
                if deadline.due is not None:
                    due.append(deadline.due)
            idle = not any(held.names for held in self._held.values())
        if self._exits and idle and self.orphaned:
            os._exit(0)
        return due

    def _next(self) -> float:
        moments = [held.beat_at for held in self._held.values()]
        if self._deadlines:
            moments.append(self._deadlines[0][0])
        if self._exits:
            moments.append(time.monotonic() + ORPHAN_CHECK)
        return min(moments, default=float("inf"))

    def _beats(self, now: float) -> list[Callable[[], None]]:
        due: list[Callable[[], None]] = []
        for key, held in list(self._held.items()):
            if held.beat_at > now:
                continue
            if held.names:
                held.beat_at = now + held.seconds / 3
                due.append(partial(self._beat, held, sorted(held.names)))
            else:
                del self._held[key]
        return due

    def _beat(self, held: _Held, names: list[str]) -> None:
        try:
            kept = held.backend.call(held.backend.do_lease, names, held.token, held.seconds)
        except SettledError:
            log.exception(
                "the leases of %s running tasks could not be extended; it is tried again", len(names)
            )
            return
        with self._changed:
            lost = held.names.intersection(names) - kept
        for name in lost:
            log.warning("task %s runs without its lease: another process may run it as well", name)


def end_with_parent() -> None:
    """As a pool's `initializer`: its workers end when the process that made the pool is dead.

    Python's own wait for their next call for ever. Workers that have run a call of an Executor
    that made its pool do so anyway; this is for those that have not yet.
    """
    Pulse.here().exit_when_orphaned()
