"""What is sent to a worker: one call, its rules, and the way to the store."""

from __future__ import annotations

import pickle
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, cast

import msgspec

from settled.backends.base import BaseBackend

LONGEST_NOTE = 1000
"""Characters of a str argument that a record notes whole."""

# Opened backends by their pickled form: a worker process opens each store once, not once per call.
_opened: dict[bytes, BaseBackend] = {}


class Store:
    """A backend, by reference in this process and by its description in another."""

    __slots__ = ("_form", "backend")

    def __init__(self, backend: BaseBackend) -> None:
        self.backend = backend
        self._form: bytes | None = None

    def __reduce__(self) -> tuple[object, ...]:
        if self._form is None:
            self._form = pickle.dumps(self.backend)
        return _open, (self._form,)


def _open(form: bytes) -> Store:
    backend = _opened.get(form)
    if backend is None:
        backend = _opened.setdefault(form, cast("BaseBackend", pickle.loads(form)))
    store = Store(backend)
    store._form = form
    return store


class Rules(msgspec.Struct, frozen=True):
    """What all tasks of one executor share.

    `token` holds the leases of all of them, so that the executor may give a task of a dead worker
    to another at once. `lease` is in seconds. `owned`: the workers belong to this executor alone.
    """

    store: Store
    token: str
    lease: float
    backoff: Callable[[int], float]
    owned: bool


Target: TypeAlias = tuple[Callable[..., object], Sequence[object], Mapping[str, object]]


class Task:
    """One call on its way to a worker. `floor` is the least attempt to make, see `attempts`.

    A task that is `sealed` travels with its function and arguments as bytes of their own, opened
    inside the worker's error handling: a pool of processes dies of a message it cannot read.
    """

    __slots__ = (
        "expires",
        "floor",
        "group_id",
        "name",
        "place",
        "retries",
        "rules",
        "sealed",
        "target",
        "task_id",
        "timed_out",
        "timeout",
        "turn",
    )

    def __init__(
        self,
        task_id: str,
        name: str,
        target: Target | bytes,
        rules: Rules,
        retries: int,
        timeout: float | None = None,
        expires: float | None = None,
        floor: int = 0,
        group_id: str | None = None,
        place: int | None = None,
        turn: int = 0,
    ) -> None:
        self.task_id = task_id
        self.name = name
        self.target = target
        self.rules = rules
        self.retries = retries
        self.timeout = timeout
        self.expires = expires
        self.floor = floor
        self.group_id = group_id
        self.place = place
        self.turn = turn  # how often it was handed to a pool: no two submissions are the same
        self.sealed = False
        self.timed_out: Callable[[], None] | None = None  # told in this process, does not travel

    def opened(self) -> Target:
        """Function, arguments and keywords. Raises whatever unpickling them raises."""
        if isinstance(self.target, bytes):
            return cast("Target", pickle.loads(self.target))
        return self.target

    def request(self, attempt: int, worker: str | None = None) -> dict[str, object]:
        """The request of this attempt, in Celery's field names."""
        request: dict[str, object] = {
            "id": self.task_id,
            "task": self.name,
            "retries": attempt,
            "hostname": worker,
            "group": self.group_id,
            "group_index": self.place,
            "chord": self.group_id,
        }
        if self.rules.store.backend.extended and not isinstance(self.target, bytes):
            _, args, kwargs = self.target
            request["args"] = [_shown(each) for each in args]
            request["kwargs"] = {name: _shown(each) for name, each in kwargs.items()}
        return request

    def __reduce__(self) -> tuple[object, ...]:
        target = pickle.dumps(self.target) if self.sealed else self.target
        limits = (self.retries, self.timeout, self.expires, self.floor, self.group_id, self.place, self.turn)
        return Task, (self.task_id, self.name, target, self.rules, *limits)

    def __dask_tokenize__(self) -> tuple[str, str, int]:
        return self.task_id, self.rules.token, self.turn


def _shown(argument: object) -> object:
    """An argument as a record notes it: short plain values as they are, all others in outline."""
    if argument is None or isinstance(argument, bool | int | float):
        return argument
    if isinstance(argument, str) and len(argument) <= LONGEST_NOTE:
        return argument
    return reprlib.repr(argument)
