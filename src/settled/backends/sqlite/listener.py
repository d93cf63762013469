"""Learning of settled tasks: `seq` grows with every write, so whoever has read up to one reads on from it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Collection, Iterable

from settled.backends.sqlite import inotify, records
from settled.backends.sqlite.store import Store
from settled.errors import StoreUnavailable
from settled.listening import Readable

log = logging.getLogger("settled.sqlite")

BATCH = 10_000
"""Ids told in one go; what is left is told by the next `wait`."""

FIRST_LOOK = 0.0001
LAST_LOOK = 0.1
"""Seconds after a sign of writing: the first look that is repeated, and about when looking ends.

A commit's bytes are in the write-ahead log before readers can see it; with durability=full an
fsync lies between the two.
"""

OWN_WRITE = 0.0005
"""Seconds to keep out of the way of a write of this process, which tells this process's waiters itself.

To look at once would take the interpreter from both: they would run 100 to 200 µs later.
"""

SHORTEST_POLL = 0.001
LONGEST_POLL = 0.05


def listen(store: Store, push: str) -> NotifiedListener | PollingListener:
    """A listener by the best means there is; `push` is "auto" or "poll"."""
    if push == "auto" and inotify.available():
        try:
            return NotifiedListener(store)
        except OSError as exc:
            log.warning("%s: polling for results, since inotify cannot be used: %s", store.path, exc)
    return PollingListener(store)


class Reading:
    """How far a listener has read. Every ready write after the one begun with is seen once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seq = store.read(records.newest)
        self._generation = store.generation

    def ids(self) -> Collection[str]:
        """What has become ready since the last call, at most `BATCH` of it."""
        rows = self._store.read(records.ready_since, self._seq, BATCH)
        if self._store.generation != self._generation:
            raise StoreUnavailable(f"{self._store.path} was replaced: begin to listen anew")
        if not rows:
            return ()
        self._seq = rows[-1][0]
        return {task_id for _, task_id in rows}

    # All ready tasks are told of: reading on costs the same whoever is awaited.

    def watch(self, task_ids: Iterable[str]) -> None:
        """Nothing to do."""

    def unwatch(self, task_ids: Iterable[str]) -> None:
        """Nothing to do."""


class NotifiedListener(Reading):
    """Woken by the system when the write-ahead log is written; costs nothing while it is not."""

    def __init__(self, store: Store) -> None:
        self._log = f"{store.path}-wal"
        self._inotify = inotify.Inotify()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._open = True
        self._closing = threading.Lock()
        self._next_look: float | None = FIRST_LOOK
        try:
            super().__init__(store)
            self._watch_log()
        except BaseException:
            self.close()
            raise
        self._readable = Readable((self._inotify.fileno(), self._wake))

    def _watch_log(self) -> None:
        """Watch the log as it is now. Any reading beforehand has opened, so made, it."""
        try:
            self._inotify.watch(self._log)
        except FileNotFoundError as exc:
            raise StoreUnavailable(f"{self._log} is missing: something else deleted or moved it") from exc

    def wait(self, timeout: float) -> Collection[str]:
        deadline = time.monotonic() + timeout
        while True:
            found = self.ids()
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            if self._rest(left):
                return ()

    def _rest(self, left: float) -> bool:
        """Sleep until the next look is due; whether `wake` was called.

        After a sign of writing the looks are repeated, each pause longer than the one before.
        """
        pause = self._next_look
        if pause is None or pause >= SHORTEST_POLL:
            ready = self._readable.wait(max(SHORTEST_POLL, left if pause is None else min(left, pause)))
        else:
            time.sleep(min(left, pause))
            ready = self._readable.wait(0)
        if pause is not None:
            self._next_look = pause * 1.5 if pause < LAST_LOOK / 3 else None
        if self._inotify.fileno() in ready:
            if time.monotonic() - self._store.last_write < OWN_WRITE:
                time.sleep(OWN_WRITE)
            self._heed(self._inotify.read())
        if self._wake in ready:
            os.eventfd_read(self._wake)
            return True
        return False

    def _heed(self, happened: int) -> None:
        if happened:
            self._next_look = FIRST_LOOK
        if happened & inotify.LOST:
            self._store.check_file()
            self._store.read(records.newest)
            self._watch_log()

    def wake(self) -> None:
        with self._closing:  # once closed the number may be somebody else's file
            if self._open:
                os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        with self._closing:
            if self._open:
                self._open = False
                self._inotify.close()
                os.close(self._wake)


class PollingListener(Reading):
    """Looks again and again, less often while nothing comes."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._woken = threading.Event()
        self._pause = SHORTEST_POLL

    def wait(self, timeout: float) -> Collection[str]:
        deadline = time.monotonic() + timeout
        while True:
            found = self.ids()
            if found:
                self._pause = SHORTEST_POLL
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            if self._woken.wait(min(left, self._pause)):
                self._woken.clear()
                return ()
            self._pause = min(self._pause * 1.2, LONGEST_POLL)

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        """Nothing is held."""
