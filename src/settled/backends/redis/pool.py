"""The connections of one process to one server: bounded, in one thread's hands at a time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from weakref import WeakSet

from settled.backends.redis.link import Link
from settled.errors import StoreUnavailable

LONG = 0.01
"""Seconds after which a waiting thread is handed the next connection. Before that whoever comes first takes it,
mostly the one that gave it back: to hand it over costs a switch of threads.
"""


class Pool:
    """At most `limit` connections; a thread that finds all in use waits its turn."""

    def __init__(self, connect: Callable[[float], Link], limit: int) -> None:
        self._connect = connect
        self._limit = limit
        self._idle: deque[Link] = deque()
        self._lock = threading.Lock()
        self._turns: deque[_Turn] = deque()
        # Weak: what an interrupt (a soft time limit, Ctrl-C) took from its thread at any line counts no more.
        self._links: WeakSet[Link] = WeakSet()
        self._opening: WeakSet[_Turn] = WeakSet()
        self._generation = 0

    def take(self, timeout: float) -> Link:
        """A connection, to be given back. StoreUnavailable if there is none within `timeout` seconds."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._wait(timeout)

    def give(self, link: Link) -> None:
        """Back to the others, or away with it if it broke or is of before an outage."""
        if link.open and link.generation == self._generation:
            self._idle.append(link)
            # Appended before looking: who waits is queued before it looks, so one sees the other.
            if self._turns:
                with self._lock:
                    self._call()
            return
        link.close()
        with self._lock:
            self._links.discard(link)
            self._call()

    def _wait(self, timeout: float) -> Link:
        turn = _Turn()
        deadline = turn.since + timeout
        try:
            with self._lock:
                self._turns.append(turn)
                self._grant(turn)
            while not turn.granted:
                self._listen(turn, deadline, timeout)
            if turn.link is None:
                turn.link = self._connect(max(0.001, deadline - time.monotonic()))
                turn.link.generation = turn.generation
                with self._lock:
                    self._links.add(turn.link)
                    self._opening.discard(turn)
        except BaseException:
            self._leave(turn)
            raise
        return turn.link

    def _listen(self, turn: _Turn, deadline: float, timeout: float) -> None:
        """Wait until this turn is called, and see whether there is something for it."""
        left = deadline - time.monotonic()
        called = left > 0 and turn.bell.acquire(timeout=left)
        with self._lock:
            if called:
                turn.called = False
            if not turn.granted and not self._grant(turn) and not called:
                raise StoreUnavailable(
                    f"all {self._limit} connections were in use for {timeout:.3g} s: raise max_connections"
                )
            self._call()

    # -- under the lock --------------------------------------------------------------------------

    def _grant(self, turn: _Turn) -> bool:
        """Let this turn have an idle connection, or the right to open one; False if there is neither."""
        try:
            turn.link = self._idle.pop()
        except IndexError:
            if not self._room():
                return False
            self._opening.add(turn)
            turn.generation = self._generation
        turn.granted = True
        self._turns.remove(turn)
        return True

    def _room(self) -> bool:
        return len(self._links) + len(self._opening) < self._limit

    def _call(self) -> None:
        """If there is something to be had: have the oldest turn look, or hand it over where it waits for long."""
        if not self._turns or not (self._idle or self._room()):
            return
        turn = self._turns[0]
        if time.monotonic() - turn.since > LONG:
            self._grant(turn)
        if not turn.called:
            turn.called = True
            turn.bell.release()

    # ----------------------------------------------------------------------------------------------

    def _leave(self, turn: _Turn) -> None:
        """Whoever waited has given up, or was interrupted: what was meant for it is for others."""
        with self._lock:
            if turn in self._turns:
                self._turns.remove(turn)
            if turn.link is not None:
                self._idle.append(turn.link)
            self._opening.discard(turn)
            self._call()

    def drop(self) -> None:
        """Use none of the connections again that are open now: something is wrong at their other end."""
        idle: list[Link] = []
        with self._lock:
            self._generation += 1
            while self._idle:
                try:
                    idle.append(self._idle.pop())
                except IndexError:  # another thread has just taken it
                    break
            self._links.difference_update(idle)
            self._call()
        for link in idle:
            link.close()

    def abandon(self) -> None:
        """In a forked child: close the inherited descriptors, saying nothing on them."""
        for link in list(self._links):
            link.abandon()


class _Turn:
    """A thread's place in the queue, and what it was granted: a connection, or the right to open one."""

    __slots__ = ("__weakref__", "bell", "called", "generation", "granted", "link", "since")

    def __init__(self) -> None:
        self.since = time.monotonic()
        self.bell = threading.Lock()
        self.bell.acquire()
        self.called = False
        self.granted = False
        self.link: Link | None = None
        self.generation = 0
