"""A pool that broke: find out who is to blame, make a new one, and go on."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Collection
from concurrent.futures import Executor
from functools import partial
from multiprocessing import connection
from typing import Protocol

from settled.backends.base import BaseBackend
from settled.errors import SettledError
from settled.executor.flight import Flight, given_up, hopeless
from settled.executor.pool import Pool
from settled.record import Meta, is_ready
from settled.states import PENDING, RECEIVED, RETRY

LOSSES_ALLOWED = 2
"""How many workers a call may kill beyond its retries before it is given up."""

BREAKS_ALLOWED = 5
"""How often in a row the pool may break without one call coming back from it."""


class Ways(Protocol):
    """What may become of a lost flight."""

    def again(self, flight: Flight) -> None: ...

    def fail(self, flight: Flight, error: SettledError) -> None: ...

    def end(self, flight: Flight, *, error: BaseException) -> None: ...


class Mender:
    """Collects the flights of a broken pool, waits until that is gone, and sends them on.

    A call during which a worker died counts a loss; calls that lived in other workers of the pool
    are started again without one. A call that was given up is settled as FAILURE.
    """

    def __init__(self, backend: BaseBackend, pool: Pool, ways: Ways) -> None:
        self._backend = backend
        self._pool = pool
        self._ways = ways
        self._lock = threading.Lock()
        self._lost: list[Flight] = []
        self._breaks = 0

    def came_back(self) -> None:
        """The pool ran a call."""
        self._breaks = 0

    def add(self, flight: Flight, pool: Executor) -> None:
        """This flight was lost when this pool broke. Called in any thread, also the pool's own."""
        with self._lock:
            self._lost.append(flight)
            if len(self._lost) > 1:
                return
        # A pool of processes ends its other workers after it has told us of the one that died:
        # who lives at this moment is not to blame.
        # (By their sentinels: at this moment the dead one may not be gone for `is_alive`.)
        children = {child.sentinel: child.pid for child in multiprocessing.active_children()}
        dead = connection.wait(list(children), timeout=0)
        alive = frozenset(pid for sentinel, pid in children.items() if sentinel not in dead)
        threading.Thread(target=partial(self._mend, pool, alive), name="settled-mend", daemon=True).start()

    def _mend(self, pool: Executor, alive: Collection[int | None]) -> None:
        pool.shutdown(wait=True)  # until its workers are gone, and every loss was reported
        retired = self._pool.retire(pool)
        with self._lock:
            lost, self._lost = self._lost, []
            self._breaks += retired
        for flight in lost:
            try:
                self._recover(flight, alive)
            except Exception as exc:
                self._ways.end(flight, error=exc)

    def _recover(self, flight: Flight, alive: Collection[int | None]) -> None:
        task = flight.task
        meta = self._backend.read_many((task.task_id,)).get(task.task_id)
        flight.losses += _was_running(meta) and _pid_of(meta) not in alive
        if flight.losses > task.retries + LOSSES_ALLOWED:
            self._ways.fail(flight, given_up(task, flight.losses))
        elif self._breaks > BREAKS_ALLOWED:
            self._ways.end(flight, error=hopeless(self._breaks))
        else:
            self._ways.again(flight)


def _was_running(meta: Meta | None) -> bool:
    return meta is not None and not is_ready(meta) and meta["status"] not in (PENDING, RECEIVED, RETRY)


def _pid_of(meta: Meta | None) -> int | None:
    notes = None if meta is None else meta.get("result")
    pid = notes.get("pid") if isinstance(notes, dict) else None
    return pid if isinstance(pid, int) else None
