"""The app that checks use: it sends nothing and remembers what it was asked to send."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from settled.errors import ConfigurationError
from settled.groups import GroupResult
from settled.results import AnyResult, AsyncResult

if TYPE_CHECKING:
    from settled.backends.base import BaseBackend


class Sent(NamedTuple):
    """A body that was sent: under which id, with which arguments."""

    task_id: str
    args: tuple[object, ...]
    body: Mapping[str, object]


class RecordingApp:
    """Satisfies `protocols.Application`; `signature(body).apply_async(...)` is remembered.

    Args:
        journal: a file to which every sent body is appended as a line of JSON, so that what a
            killed process sent is known too.
        conf: settings by the field's names.
    """

    can_send = True

    def __init__(self, journal: Path | None = None, **conf: object) -> None:
        self.conf = conf
        self.journal = journal
        self.sent: list[Sent] = []
        self.tasks: dict[str, object] = {"celery.chord_unlock": RecordingTask()}
        self.before_send: Callable[[Sent], None] | None = None
        self.opens: tuple[type[BaseBackend], str] | None = None
        self._backend: BaseBackend | None = None
        self._arrived = threading.Condition()

    @property
    def backend(self) -> BaseBackend:
        """The one that was set; in a process to which the app travelled, one more on the same store."""
        if self._backend is None:
            if self.opens is None:
                raise ConfigurationError("this RecordingApp has no backend: open one with Store.open")
            engine, url = self.opens
            self._backend = engine(self, url=url)
        return self._backend

    @backend.setter
    def backend(self, backend: BaseBackend) -> None:
        self._backend = backend

    def signature(self, body: Mapping[str, object]) -> RecordingSignature:
        return RecordingSignature(self, body)

    def AsyncResult(self, id: str, parent: AnyResult | None = None) -> AsyncResult[object]:  # noqa: N802
        return AsyncResult(id, self.backend, parent)

    def GroupResult(  # noqa: N802
        self, id: str, results: Iterable[AnyResult] = (), parent: AnyResult | None = None
    ) -> GroupResult:
        return GroupResult(id, results, parent, self)

    def send(self, sent: Sent) -> None:
        """Remember `sent`, in the journal first."""
        if self.before_send is not None:
            self.before_send(sent)
        if self.journal is not None:
            with self.journal.open("a") as file:
                file.write(json.dumps([sent.task_id, sent.args], default=repr) + "\n")
        with self._arrived:
            self.sent.append(sent)
            self._arrived.notify_all()

    def wait_sent(self, count: int, timeout: float) -> list[Sent]:
        """What was sent, once that is `count` bodies; AssertionError if it is not within `timeout` seconds."""
        with self._arrived:
            arrived = self._arrived.wait_for(lambda: len(self.sent) >= count, timeout)
            assert arrived, f"{count} bodies were to be sent, {len(self.sent)} were"
            return list(self.sent)

    def journalled(self) -> list[tuple[str, object]]:
        """(task id, args) of everything sent by any process that keeps this journal."""
        if self.journal is None or not self.journal.exists():
            return []
        lines = self.journal.read_text().splitlines()
        return [(task_id, args) for task_id, args in map(json.loads, lines)]

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (self.journal, self.conf, self.opens)


def _rebuilt(
    journal: Path | None, conf: Mapping[str, object], opens: tuple[type[BaseBackend], str] | None
) -> RecordingApp:
    app = RecordingApp(journal, **conf)
    app.opens = opens
    return app


class RecordingSignature:
    """A signature bound to a `RecordingApp`."""

    def __init__(self, app: RecordingApp, body: Mapping[str, object]) -> None:
        self.app = app
        self.body = body

    def apply_async(self, args: Sequence[object] = (), *, task_id: str) -> AsyncResult[object]:
        self.app.send(Sent(task_id, tuple(args), self.body))
        return self.app.AsyncResult(task_id)


class RecordingTask:
    """A task of the app: remembers each call as (args, kwargs, countdown)."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[object, ...], dict[str, object], float]] = []

    def apply_async(self, args: Sequence[object], kwargs: Mapping[str, object], countdown: float) -> None:
        self.calls.append((tuple(args), dict(kwargs), countdown))


class Request(NamedTuple):
    """The request of a running task, as workers hand it to the backend."""

    id: str
    task: str = "kit.task"
    group: str | None = None
    group_index: int | None = None
    chord: Mapping[str, object] | None = None
    retries: int = 0
    parent_id: str | None = None
    root_id: str | None = None
    hostname: str = "worker@kit"
    children: Sequence[AnyResult] = ()
    args: Sequence[object] = ()
    kwargs: Mapping[str, object] = {}
    delivery_info: Mapping[str, object] = {"routing_key": "default"}


class Task(NamedTuple):
    """What `on_chord_part_return` is given: something with a request."""

    request: Request
