"""The connections of one process to one server: bounded, in one thread's hands at a time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from settled.backends.redis.link import Link
from settled.errors import StoreUnavailable


class Pool:
    """At most `limit` connections; a thread that finds all in use waits its turn."""

    def __init__(self, connect: Callable[[float], Link], limit: int) -> None:
        self._connect = connect
        self._limit = limit
        self._idle: deque[Link] = deque()
        self._room = threading.Condition()
        self._waiting = 0
        self._opened = 0
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
            # Appended before looking: who waits is counted before it looks, so one sees the other.
            if self._waiting:
                with self._room:
                    self._room.notify()
            return
        link.close()
        with self._room:
            self._opened -= 1
            self._room.notify()

    def _wait(self, timeout: float) -> Link:
        deadline = time.monotonic() + timeout
        with self._room:
            self._waiting += 1
            try:
                while self._opened >= self._limit:
                    try:
                        return self._idle.pop()
                    except IndexError:
                        left = deadline - time.monotonic()
                        if left <= 0 or not self._room.wait(left):
                            raise StoreUnavailable(
                                f"all {self._limit} connections were in use for {timeout:.3g} s: raise max_connections"
                            ) from None
                self._opened += 1
            finally:
                self._waiting -= 1
            generation = self._generation
        try:
            link = self._connect(max(0.001, deadline - time.monotonic()))
        except BaseException:
            with self._room:
                self._opened -= 1
                self._room.notify()
            raise
        link.generation = generation
        return link

    def drop(self) -> None:
        """Use none of the connections again that are open now: something is wrong at their other end."""
        with self._room:
            self._generation += 1
            idle = list(self._idle)
            self._idle.clear()
            self._opened -= len(idle)
            self._room.notify_all()
        for link in idle:
            link.close()

    def abandon(self) -> None:
        """In a forked child: close the inherited descriptors, saying nothing on them."""
        for link in list(self._idle):
            link.abandon()
