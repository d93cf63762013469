"""One database as one process uses it: reads and writes that wait their turn, across forks."""

from __future__ import annotations

import logging
import math
import os
import random
import threading
import time
import weakref
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import apsw

from settled.backends.sqlite import faults, opening
from settled.backends.sqlite.pool import Pool

T = TypeVar("T")
Args = TypeVarTuple("Args")

log = logging.getLogger("settled.sqlite")

FIRST_PAUSE = 0.0001
SECOND_PAUSE = 0.002
LONGEST_PAUSE = 0.05
"""Seconds between two tries for a lock that another process holds."""

CHECK_INTERVAL = 0.1
"""Seconds after which it is looked whether the open file is still the one at the path."""

FORK_TIMEOUT = 10.0
"""Seconds that a fork may be held up by the operations then running."""


class Store:
    """Runs steps (functions of a connection) against the database at `path`. Opens nothing until then.

    Thread-safe, fork-safe and gevent-safe. A step may be run again from its beginning when the
    database was busy; after `busy_timeout` seconds of that StoreUnavailable is raised. Every
    error of SQLite is translated, with the original as its cause.
    """

    def __init__(self, path: str, durability: str, busy_timeout: float, readers: int) -> None:
        self.path = path
        self._durability = durability
        self._busy_timeout = busy_timeout
        self._readers = readers
        self._opening = threading.Lock()
        self._pool: Pool | None = None
        self._file: tuple[int, int] | None = None
        self._next_check = 0.0
        self.generation = 0
        """Grows when the file was found to be another one, whose records have nothing to do with the old."""
        self._pid = 0
        self._minds_forks = False
        self.last_write = -math.inf
        """When this process last began to write, by the monotonic clock."""

    def write(self, step: Callable[[apsw.Connection, *Args], T], *args: *Args) -> T:
        """Run `step` as one transaction."""
        return self.write_alone(_in_transaction, step, *args)

    def write_alone(self, step: Callable[[apsw.Connection, *Args], T], *args: *Args) -> T:
        """Run a step of which a single statement writes: that statement is the transaction."""
        waiting: _Waiting | None = None
        while True:
            pool = self._pool or self._new_pool()
            self.last_write = time.monotonic()
            if self.last_write >= self._next_check:
                self.check_file()
            try:
                with pool.writing:
                    result = step(pool.writer(), *args)
                    pool.written()
                    return result
            except faults.BUSY as exc:
                waiting = waiting or _Waiting(self._busy_timeout)
                waiting.pause_or_raise(exc, self.path)
            except apsw.Error as exc:
                raise faults.translated(exc, self.path) from exc

    def read(self, step: Callable[[apsw.Connection, *Args], T], *args: *Args) -> T:
        """Run a step that writes nothing, beside whoever writes."""
        waiting: _Waiting | None = None
        while True:
            pool = self._pool or self._new_pool()
            if time.monotonic() >= self._next_check:
                self.check_file()
            try:
                db = pool.borrow()
                try:
                    return step(db, *args)
                finally:
                    pool.give_back(db)
            except faults.BUSY as exc:
                waiting = waiting or _Waiting(self._busy_timeout)
                waiting.pause_or_raise(exc, self.path)
            except apsw.Error as exc:
                raise faults.translated(exc, self.path) from exc

    def close(self) -> None:
        """Close this process's connections. The next step opens one again."""
        if self._pool is not None:
            self._file = None
            try:
                self._pool.close()
            except apsw.Error as exc:
                raise faults.translated(exc, self.path) from exc

    def check_file(self) -> None:
        """Open anew if the open file was deleted or replaced: what is written to it now nobody would find."""
        self._next_check = time.monotonic() + CHECK_INTERVAL
        if self._file is not None and self._file != _identity(self.path):
            log.warning(
                "%s was deleted or replaced while it was open, and with it what it held; going on with "
                "the file that has this name now",
                self.path,
            )
            self.generation += 1
            self.close()

    def _new_pool(self) -> Pool:
        with self._opening:
            if self._pool is None:
                if not self._minds_forks:
                    _mind_forks(self)
                    self._minds_forks = True
                self._pid = os.getpid()
                self._pool = Pool(self._connect, self._readers)
            return self._pool

    def _connect(self) -> apsw.Connection:
        db = opening.connect(self.path, self._durability)
        if self._file is None:
            self._file = _identity(self.path)
        return db

    # -- forks -------------------------------------------------------------------------------

    def freeze(self) -> Callable[[bool], None] | None:
        """Before a fork. The result is called after it, with whether this is the child."""
        pool = self._pool
        if pool is None:
            return None
        try:
            held = pool.freeze(FORK_TIMEOUT)
        except TimeoutError as exc:
            log.warning("%s: forking while %s; the child opens its own connections", self.path, exc)
            return None

        def after(child: bool) -> None:
            if child:
                pool.drop_inherited(held)
                self._start_over()
            else:
                pool.thaw(held)

        return after

    def forked(self) -> None:
        """In a forked child whose fork gave no notice: never touch what was inherited."""
        if self._pool is not None and self._pid != os.getpid():
            self._pool.leave_inherited()
            self._start_over()

    def _start_over(self) -> None:
        self._opening = threading.Lock()
        self._pool = None


def _identity(path: str) -> tuple[int, int] | None:
    # Not by opening it: to close it would drop the locks of this process.
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _in_transaction(db: apsw.Connection, step: Callable[[apsw.Connection, *Args], T], *args: *Args) -> T:
    db.execute("BEGIN IMMEDIATE")
    try:
        result = step(db, *args)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return result


class _Waiting:
    """The pauses of one operation that found the database busy.

    The first is about as long as one write. Whoever is in the way after that is writing much: the
    others leave it alone for a while, since each change of writer empties the next one's cache.
    """

    def __init__(self, timeout: float) -> None:
        self._deadline = time.monotonic() + timeout
        self._pause = FIRST_PAUSE

    def pause_or_raise(self, exc: apsw.Error, path: str) -> None:
        if time.monotonic() >= self._deadline:
            raise faults.translated(exc, path) from exc
        time.sleep(self._pause * random.uniform(0.5, 1.5))
        self._pause = min(max(self._pause * 2, SECOND_PAUSE), LONGEST_PAUSE)


def _mind_forks(store: Store) -> None:
    """Register the store with `os.fork`, for as long as the store lives."""
    held = weakref.ref(store)
    after: list[Callable[[bool], None]] = []

    def before_fork() -> None:
        alive = held()
        done = alive.freeze() if alive is not None else None
        if done is not None:
            after.append(done)

    def after_fork(child: bool) -> None:
        while after:
            after.pop()(child)

    os.register_at_fork(
        before=before_fork,
        after_in_parent=lambda: after_fork(False),
        after_in_child=lambda: after_fork(True),
    )
