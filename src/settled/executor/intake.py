"""The way in: which calls are done, under way, or to be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from settled.backends.base import BaseBackend
from settled.errors import DecodeError
from settled.executor.attempts import floor_of, is_finished
from settled.executor.calls import Call
from settled.executor.flights import Flights
from settled.executor.handles import Handle
from settled.executor.register import Register
from settled.executor.tasks import Rules, Task
from settled.record import Gone, Meta, is_ready
from settled.states import PENDING

LOOK_BATCH = 500

Found: TypeAlias = "Meta | DecodeError | Gone"
"""What the store holds for an id: its record, why that cannot be read, or why it is gone."""


def look(backend: BaseBackend, task_ids: Sequence[str]) -> dict[str, Found]:
    """What there is for these ids, in one look."""
    found: dict[str, Found] = {}
    for task_id, payload in backend.call(backend.do_read, task_ids).items():
        if isinstance(payload, Gone):
            found[task_id] = payload
            continue
        try:
            found[task_id] = backend.read_meta(task_id, payload)
        except DecodeError as exc:
            found[task_id] = exc
    return found


class Intake:
    """Turns calls into handles: of what is stored, of what is under way, and of what then is."""

    def __init__(
        self,
        backend: BaseBackend,
        register: Register,
        flights: Flights,
        rules: Rules,
        retries: int,
        idempotent: bool,
    ) -> None:
        self.backend = backend
        self.flights = flights
        self._register = register
        self._rules = rules
        self._retries = retries
        self._idempotent = idempotent

    def ids(self, calls: Sequence[Call[object]]) -> list[str]:
        """The task ids of these calls: keys, digests, or fresh ones."""
        return [call.task_id(self._idempotent) for call in calls]

    def retries(self, call: Call[object]) -> int:
        return self._retries if call.retries is None else call.retries

    def task(
        self, task_id: str, call: Call[object], group_id: str | None = None, place: int | None = None
    ) -> Task:
        target = (call.fn, call.args, call.kwargs)
        limits = (self.retries(call), call.timeout, call.expires)
        return Task(task_id, call.name, target, self._rules, *limits, 0, group_id, place)

    def one(self, call: Call[object]) -> Handle[object]:
        """Submit one call."""
        task_id = call.task_id(self._idempotent)
        handle: Handle[object] = Handle(task_id, self.backend)
        found = None if call.is_fresh(self._idempotent) else look(self.backend, (task_id,)).get(task_id)
        self._enter(handle, call, found, None, None)
        return handle

    def many(
        self, calls: Sequence[Call[object]], ids: Sequence[str], group_id: str | None = None
    ) -> list[Handle[object]]:
        """Submit calls under these ids, as the header of a chord if there is a `group_id`."""
        handles = []
        for start in range(0, len(calls), LOOK_BATCH):
            batch = ids[start : start + LOOK_BATCH]
            found = look(self.backend, batch)
            for place, task_id in enumerate(batch, start):
                handle: Handle[object] = Handle(task_id, self.backend)
                self._enter(handle, calls[place], found.get(task_id), group_id, place)
                handles.append(handle)
        return handles

    def _enter(
        self,
        handle: Handle[object],
        call: Call[object],
        found: Found | None,
        group_id: str | None,
        place: int | None,
    ) -> None:
        if isinstance(found, DecodeError):
            handle.fail(found)
        elif isinstance(found, Mapping) and is_finished(found, self.retries(call)):
            handle.settle(found, self.backend.result_of(found))
        elif not self._register.join(handle, self.retries(call)):
            task = self.task(handle.id, call, group_id, place if group_id is not None else None)
            if isinstance(found, Mapping):
                task.floor = floor_of(found)
            elif found is not None:
                self.clear(task)
            self.flights.enter(task, handle)

    def clear(self, task: Task) -> None:
        """Put a PENDING record where one has expired or was forgotten: waiters would be told of that."""
        request = task.request(0)
        self.backend.store_result(task.task_id, None, PENDING, request=request, expires=task.expires)

    def redone(self, calls: Sequence[Call[object]], ids: Sequence[str]) -> bool:
        """Whether any of these is ready and will be done again all the same."""
        for start in range(0, len(ids), LOOK_BATCH):
            batch = ids[start : start + LOOK_BATCH]
            found = look(self.backend, batch)
            for place, task_id in enumerate(batch, start):
                meta = found.get(task_id)
                if (
                    isinstance(meta, dict)
                    and is_ready(meta)
                    and not is_finished(meta, self.retries(calls[place]))
                ):
                    return True
        return False
