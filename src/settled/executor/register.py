"""Which calls are under way, by task id."""

from __future__ import annotations

import threading
from collections.abc import Callable

from settled.executor.flight import Flight
from settled.executor.handles import Handle
from settled.record import Meta


class Register:
    """The flights that have not ended. One per task id: later handles of the same call join it."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._flights: dict[str, Flight] = {}
        self._when_empty: Callable[[], None] | None = None

    def join(self, handle: Handle[object], retries: int) -> bool:
        """Have `handle` told of a call that is under way under its id, and has `retries` at least from here on.

        False if there is none.
        """
        with self._changed:
            return self._join(handle, retries)

    def _join(self, handle: Handle[object], retries: int) -> bool:
        flight = self._flights.get(handle.id)
        if flight is None or flight.ended:
            return False
        flight.task.retries = max(flight.task.retries, retries)
        flight.handles.append(handle)
        handle.attend(flight)
        return True

    def add(self, flight: Flight) -> bool:
        """Enter a flight with its one handle. False if one is under way, which the handle joins instead."""
        [handle] = flight.handles
        with self._changed:
            if self._join(handle, flight.task.retries):
                return False
            self._flights[handle.id] = flight
            handle.attend(flight)
            return True

    def get(self, task_id: str) -> Flight | None:
        return self._flights.get(task_id)

    def all(self) -> list[Flight]:
        with self._changed:
            return list(self._flights.values())

    def unpark(self, flight: Flight) -> bool:
        """Take a parked flight to be started, once."""
        with self._changed:
            if not flight.parked or flight.ended:
                return False
            flight.parked = False
            return True

    def end(self, flight: Flight, meta: Meta | None) -> bool:
        """From here on no handle joins. True for the one who is to tell the handles.

        False also where `meta` is a failure that one who has joined allows another attempt after.
        """
        with self._changed:
            if flight.ended:
                return False
            if flight.may_go_on(meta):
                # For the one who is told so: to another, at the same time, it is an end.
                flight.handed, flight.inner = flight.task.retries, None
                return False
            flight.ended = True
            return True

    def remove(self, flight: Flight) -> None:
        """Its handles have been told."""
        with self._changed:
            if self._flights.get(flight.task.task_id) is flight:
                del self._flights[flight.task.task_id]
            empty = not self._flights
            if empty:
                self._changed.notify_all()
        if empty and self._when_empty is not None:
            self._when_empty()

    def wait(self) -> None:
        """Until no call is under way."""
        with self._changed:
            self._changed.wait_for(lambda: not self._flights)

    def when_empty(self, then: Callable[[], None]) -> None:
        """Call `then` once no call is under way: now, or in the thread that ends the last one."""
        with self._changed:
            self._when_empty = then
            empty = not self._flights
        if empty:
            then()
