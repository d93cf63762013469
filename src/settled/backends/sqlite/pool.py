"""The open connections of one process to one database."""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import apsw

FREEZE_TIMEOUT = 10.0


class Pool:
    """One connection that writes and a few that read, each in one thread's hands at a time.

    SQLite has one writer at a time anyway, and a single writing connection keeps its page cache,
    which another connection's commit would empty. No connection is held while anything but
    SQLite is waited for.
    """

    def __init__(self, connect: Callable[[], apsw.Connection], readers: int) -> None:
        self._connect = connect
        self._limit = readers
        self._writing = threading.Lock()
        self._writer: apsw.Connection | None = None
        self._idle: deque[apsw.Connection] = deque()
        self._room = threading.Condition()
        self._waiting = 0
        self._opened = 0
        self._frozen: list[apsw.Connection] | None = None
        self._closed = False

    @contextmanager
    def writer(self) -> Iterator[apsw.Connection]:
        """The writing connection; other threads wait for it."""
        with self._writing:
            if self._writer is None:
                self._writer = self._connect()
            try:
                yield self._writer
            finally:
                if self._closed:
                    self._close_writer()

    @contextmanager
    def reader(self) -> Iterator[apsw.Connection]:
        """A reading connection; waits while all are in use."""
        try:
            db = self._idle.pop()
        except IndexError:
            db = self._wait_for_reader()
        try:
            yield db
        finally:
            self._idle.append(db)
            # Appended before looking: a waiter announces itself before it looks, so one sees the other.
            if self._waiting:
                with self._room:
                    self._room.notify()
            if self._closed:
                self._close_readers()

    def _wait_for_reader(self) -> apsw.Connection:
        with self._room:
            self._waiting += 1
            try:
                while not self._idle:
                    if self._opened < self._limit and self._frozen is None:
                        self._opened += 1
                        break
                    self._room.wait()
                else:
                    return self._idle.pop()
            finally:
                self._waiting -= 1
        return self._open_reader()
