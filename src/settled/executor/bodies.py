"""The bodies of chords that may be sent in this process, and one of them as it waits for its header."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, cast

from settled.backends.base import BaseBackend
from settled.errors import ConfigurationError, SettledError
from settled.executor.calls import Call
from settled.executor.flight import Flight
from settled.executor.flights import Flights

Send: TypeAlias = Callable[[Mapping[str, object], Sequence[object], str], object]


class Body:
    """A chord's body, submitted, whose time has not come."""

    def __init__(self, flights: Flights, flight: Flight, call: Call[object]) -> None:
        self._flights = flights
        self._flight = flight
        self._call = call

    @property
    def waiting(self) -> bool:
        return self._flight.parked and not self._flight.ended and not self._flight.task.turn

    def begin(self, results: object) -> None:
        """Run it with its header's results. Nothing happens if that was done before."""
        if self.waiting:
            call = self._call
            self._flight.task.target = (call.fn, (results, *call.args), call.kwargs)
            self._flights.start(self._flight)

    def give_up(self, error: SettledError) -> None:
        """Its header will not be settled here."""
        self._flights.end(self._flight, error=error)


class Bodies:
    """The `send` of an app whose chords' bodies an Executor runs.

    Only bodies that were submitted in this process are run, by their task id: nothing is run, or
    imported, because the store names it. Other signatures go to the `send` that the app had.
    """

    def __init__(self, before: Send | None) -> None:
        self._before = before
        self._lock = threading.Lock()
        self._bodies: dict[str, Body] = {}

    @classmethod
    def of(cls, backend: BaseBackend) -> Bodies:
        """The bodies of the backend's app, which from now on sends through them."""
        app: object = backend.app
        send = getattr(app, "send", app)
        if send is app:
            raise ConfigurationError(
                f"a chord needs a backend whose app can send its body: settled.App, not {type(app).__name__}"
            )
        if not isinstance(send, Bodies):
            send = cls(cast("Send | None", send))
            app.send = send  # type: ignore[attr-defined]
        return send

    def add(self, body_id: str, body: Body) -> None:
        with self._lock:
            self._bodies[body_id] = body

    def remove(self, body_id: str, body: Body) -> None:
        """It has ended. One that was submitted under this id since then stays."""
        with self._lock:
            if self._bodies.get(body_id) is body:
                del self._bodies[body_id]

    def accepts(self, signature: Mapping[str, object]) -> bool:
        """Whether a body with this signature can be sent from here."""
        options = signature.get("options")
        body_id = options.get("task_id") if isinstance(options, Mapping) else None
        return body_id in self._bodies or self._before is not None

    def __call__(self, signature: Mapping[str, object], args: Sequence[object], task_id: str) -> object:
        body = self._bodies.get(task_id)
        if body is not None:
            body.begin(args[0])
        elif self._before is not None:
            return self._before(signature, args, task_id)
        else:
            raise ConfigurationError(
                f"the body {task_id!r} was not submitted in this process: it cannot run here"
            )
        return None
