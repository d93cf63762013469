"""Calls that another process runs: look now and then whether its lease has run out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from settled.backends.base import BaseBackend
from settled.errors import SettledError
from settled.executor.flight import Flight
from settled.executor.tasks import Rules

log = logging.getLogger("settled.executor")

LONGEST_POLL = 5.0


class Parking:
    """Flights whose task's lease another process holds. `start` is called with each whose lease is free.

    Being told that they are done is the watcher's part. The thread lives while there are any.
    """

    def __init__(self, backend: BaseBackend, rules: Rules, start: Callable[[Flight], None]) -> None:
        self._backend = backend
        self._rules = rules
        self._start = start
        self._changed = threading.Condition()
        self._flights: dict[str, Flight] = {}
        self._thread: threading.Thread | None = None

    def add(self, flight: Flight) -> None:
        with self._changed:
            self._flights[flight.task.task_id] = flight
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="settled-executor", daemon=True)
                self._thread.start()

    def remove(self, flight: Flight) -> None:
        with self._changed:
            if self._flights.pop(flight.task.task_id, None) is not None and not self._flights:
                self._changed.notify()

    def _run(self) -> None:
        pause = min(self._rules.lease / 3, LONGEST_POLL)
        while True:
            with self._changed:
                if self._flights:
                    self._changed.wait(pause)
                if not self._flights:
                    self._thread = None
                    return
                parked = dict(self._flights)
            try:
                self._take_over(parked)
            except SettledError:
                log.exception("the leases of %s tasks could not be looked at; it is tried again", len(parked))

    def _take_over(self, parked: dict[str, Flight]) -> None:
        lease = self._backend.do_lease
        free = self._backend.call(lease, tuple(parked), self._rules.token, self._rules.lease)
        # The worker claims them again. Held from here they would be kept from others while they queue.
        self._backend.call(lease, tuple(free), self._rules.token, 0.0)
        for task_id in free:
            self._start(parked[task_id])
