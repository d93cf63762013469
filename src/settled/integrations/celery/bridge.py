"""What an engine needs of an app, answered by a Celery app."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from operator import attrgetter
from typing import TYPE_CHECKING, cast
from weakref import ref

from billiard.process import current_process
from celery import Celery
from celery.canvas import _chord, group, maybe_signature
from celery.exceptions import ChordError as CelerysChordError
from kombu.exceptions import OperationalError

from settled import chords
from settled.errors import ChordError, ConfigurationError
from settled.integrations.celery.shapes import Canvas, Group, fold, ids_in, is_sent, shape_of, tasks_in
from settled.record import Chord, Meta, is_ready
from settled.states import PENDING

if TYPE_CHECKING:
    from settled.backends.base import BaseBackend
    from settled.integrations.celery.backend import Backend

MARK = "settled"
"""Key of a body's signature that says: this chord was opened by us. Celery carries it along unread.

In the messages of the header it is true. In the stored body it is the header's shape.
"""


class Bridge:
    """The app that an engine sees.

    Bodies may be sent by whoever counts the last part. `sweeps`: for those that were left, only
    processes in which tasks run look, and of a worker with child processes only its main one.
    """

    can_send = True

    def __init__(self, app: Celery, conf: object, backend: Backend) -> None:
        self.celery = app
        self.conf = conf
        self._backend = ref(backend)
        self._works = False

    @property
    def amqp(self) -> object:
        return self.celery.amqp

    @property
    def backend(self) -> BaseBackend:
        """The engine, for handles of settled's on it."""
        return self._celerys().engine

    @property
    def AsyncResult(self) -> object:  # noqa: N802 - the field's name
        return self.celery.AsyncResult

    @property
    def GroupResult(self) -> object:  # noqa: N802
        return self.celery.GroupResult

    def works(self) -> None:
        """A task has run in this process."""
        self._works = True

    @property
    def sweeps(self) -> bool:
        return self._works and bool(current_process().name == "MainProcess")

    def chord_body(self, chord: Chord, signature: Mapping[str, object]) -> CanvasBody:
        return CanvasBody(self._celerys(), chord, signature)

    def _celerys(self) -> Backend:
        backend = self._backend()
        if backend is None:
            raise ConfigurationError(
                "the Celery app's backend is gone: keep the app for as long as its results"
            )
        return backend

    def __reduce__(self) -> tuple[object, ...]:
        return attrgetter("bridge"), (self._celerys(),)


class CanvasBody:
    """A chord's body: any signature of Celery's canvas."""

    def __init__(self, backend: Backend, chord: Chord, stored: Mapping[str, object]) -> None:
        self._backend = backend
        self._chord = chord
        self._shape = stored.get(MARK)
        self._begun: Set[str] = frozenset()
        form = {name: value for name, value in stored.items() if name != MARK}
        try:
            self._signature = cast("Canvas", maybe_signature(form, app=backend.app))
            self._signature.options.setdefault("task_id", chord.body_id)
        except Exception as exc:
            raise ConfigurationError(f"it is no signature of Celery's: {exc!r}") from exc

    @property
    def lease(self) -> float:
        """As long as Celery may try to publish it: connecting once more often than it retries, and the pauses."""
        conf, options = self._backend.app.conf, self._signature.options
        given = cast("Mapping[str, object] | None", options.get("retry_policy"))
        policy = {**(conf.task_publish_retry_policy or {}), **(given or {})}
        retry = options.get("retry", conf.task_publish_retry)
        retries = (policy.get("max_retries") or 0) if retry else 0
        connecting = conf.broker_connection_timeout or 0
        pauses = retries * (policy.get("interval_max") or 0)
        return max(chords.CLAIM_LEASE, float((retries + 1) * connecting + pauses + 1))

    @property
    def task_ids(self) -> Sequence[str]:
        return tuple(dict.fromkeys((self._chord.body_id, *ids_in(self._signature))))

    def was_sent(self, metas: Mapping[str, Meta]) -> bool:
        # Where the chord takes the place of a task, that one has run under the id of the body: only its end tells.
        replaces = bool(self._signature.options.get("replaced_task_nesting"))
        self._begun = {
            task_id
            for task_id, meta in metas.items()
            if is_ready(meta) or (meta["status"] != PENDING and not replaces)
        }
        return is_sent(self._signature, self._begun)

    def send(self, results: Sequence[object]) -> None:
        app = self._backend.app
        try:
            app.amqp._retry_publish(self._unsent().delay, self._folded(results))
        except (OperationalError, OSError):
            raise  # the broker is away: that passes
        except Exception as exc:
            raise ChordError(f"Callback error: {exc!r}") from exc

    def _unsent(self) -> Canvas:
        """What is to be sent: of a group of which a part was sent the rest, if no chord counts its tasks."""
        if not isinstance(self._signature, group):
            return self._signature
        whole = cast("Group", self._signature)
        if any(task.options.get("chord") for task in whole.tasks):
            return whole
        rest = whole.clone()
        rest.tasks = [task for task in rest.tasks if not is_sent(task, self._begun)]
        return rest

    def _folded(self, results: Sequence[object]) -> object:
        """The results as the header is nested."""
        if self._shape is True:
            return results
        shape = self._shape
        if shape is None:  # opened by Celery, which saves the header's results where they are nested
            saved = self._backend.restore_group(self._chord.group_id, cache=False)
            if saved is None:
                return results
            shape, members = shape_of(saved.results)
            by_id = dict(zip(self._chord.members, results, strict=True))
            results = [by_id[member] for member in members]
        return fold(cast("list[object]", shape), results)

    def fail(self, error: ChordError) -> bool:
        exc = CelerysChordError(str(error))
        exc.__cause__ = error.__cause__
        last = self._signature
        self._backend.chord_error_from_stack(last, exc)
        while isinstance(last, _chord) and last.body is not None:  # its result is that of its own body
            last = cast("Canvas", last.body)
            self._backend.chord_error_from_stack(last, exc)
        # It may be a part of an outer chord, of which Celery says nothing here.
        engine = self._backend.engine
        for task in tasks_in(last):
            if task.options.get("chord") and task.options.get("group_id"):
                engine.on_chord_part_return(
                    {"id": task.options["task_id"], "group": task.options["group_id"]}
                )
        return bool(engine.read_ready(self.task_ids))
