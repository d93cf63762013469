"""The open connections of one process to one database."""

from __future__ import annotations

import ctypes
import threading
import time
from collections import deque
from collections.abc import Callable

import apsw

from settled.backends.sqlite.checkpoints import Checkpoints


class Pool:
    """One connection that writes and a few that read, each in one thread's hands at a time.

    SQLite has one writer at a time anyway, and a single writing connection keeps its page cache,
    which another connection's commit would empty. No connection is held while anything but
    SQLite is waited for.
    """

    def __init__(self, connect: Callable[[], apsw.Connection], readers: int) -> None:
        self.writing = threading.Lock()
        """Held by the thread that uses `writer()`."""
        self._connect = connect
        self._limit = readers
        self._writer: apsw.Connection | None = None
        self._checkpoints: Checkpoints | None = None
        self._idle: deque[apsw.Connection] = deque()
        self._room = threading.Condition()
        self._waiting = 0
        self._opened = 0
        self._frozen = False

    def writer(self) -> apsw.Connection:
        """The writing connection, for the holder of `writing`."""
        if self._writer is None:
            self._writer = self._connect()
            self._checkpoints = Checkpoints(self._writer)
        return self._writer

    def written(self) -> None:
        """The holder of `writing` has written: see to the log before letting go."""
        if self._checkpoints is not None:
            self._checkpoints.keep()

    def borrow(self) -> apsw.Connection:
        """A reading connection, to be given back at once; waits while all are in use."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._wait_for_reader()

    def give_back(self, db: apsw.Connection) -> None:
        self._idle.append(db)
        # Appended before looking: who waits is counted before it looks, so one sees the other.
        if self._waiting:
            with self._room:
                self._room.notify()

    def _wait_for_reader(self) -> apsw.Connection:
        with self._room:
            self._waiting += 1
            try:
                while self._frozen or self._opened >= self._limit:
                    try:
                        return self._idle.pop()
                    except IndexError:
                        self._room.wait()
                self._opened += 1
            finally:
                self._waiting -= 1
        try:
            return self._connect()
        except BaseException:
            with self._room:
                self._opened -= 1
                self._room.notify()
            raise

    def close(self) -> None:
        """Close all connections, when the operations now running are over. The next use opens anew."""
        held = self.freeze()
        try:
            if self._writer is not None:
                self._writer.close()
                self._writer = self._checkpoints = None
            while held:
                held.pop().close()
                self._opened -= 1
        finally:
            self.thaw(held)

    # -- forks: SQLite must not be in the middle of anything while the process is copied ----------

    def freeze(self, timeout: float = -1) -> list[apsw.Connection]:
        """Wait until no operation is running and let none begin until `thaw`; the readers.

        Raises TimeoutError if that takes more than `timeout` seconds; -1: wait for ever.
        """
        deadline = time.monotonic() + timeout
        if not self.writing.acquire(timeout=timeout):
            raise TimeoutError("a write is still running")
        held: list[apsw.Connection] = []
        with self._room:
            self._frozen = True
            while len(held) < self._opened:
                try:
                    held.append(self._idle.pop())
                except IndexError:
                    if timeout >= 0 and time.monotonic() > deadline:
                        break
                    self._room.wait(0.001)
            else:
                return held
        self.thaw(held)
        raise TimeoutError("a read is still running")

    def thaw(self, held: list[apsw.Connection]) -> None:
        """Undo `freeze`, whose result is `held`."""
        with self._room:
            self._idle.extend(held)
            self._frozen = False
            self._room.notify_all()
        self.writing.release()

    def drop_inherited(self, held: list[apsw.Connection]) -> None:
        """In a forked child, of a pool that was frozen: close the copies, touching nothing of the parent's.

        They have to go. While one is there SQLite takes this process to hold the parent's locks and
        takes none for connections opened here, so that another process could delete the write-ahead
        log under them. Closing them is harmless once they may not checkpoint: record locks belong to
        the process that took them.
        """
        for db in filter(None, (self._writer, *held)):
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            db.close()

    def leave_inherited(self) -> None:
        """In a forked child, of a pool that was in use: see that nothing inherited is touched or freed."""
        for db in filter(None, (self._writer, *self._idle)):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(db))
