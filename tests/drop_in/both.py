"""Work for fleets of which one part has Celery's own backend: canvases, what each is to come to, and its clients."""

from __future__ import annotations

import gc
import uuid
from collections import Counter
from typing import NamedTuple

from celery import chain, chord, group
from celery.exceptions import TimeoutError

from tests.celerys import close
from tests.drop_in.moving_tasks import body, errback, give, growing, listed, plus, unkept, wrong
from tests.drop_in.work import words

PATIENCE = 30.0

CANVASES = {
    "task": lambda path: (body.s([1], path), 1, ["body"]),
    "flat": lambda path: (chord([give.s(n) for n in range(4)], body.s(path)), 6, ["body"]),
    "in order": lambda path: (chord([give.s(n) for n in range(6)], listed.s(path)), [*range(6)], ["body"]),
    "nested": lambda path: (
        chord([chord([give.s(1), give.s(2)], body.s(path)), give.s(4)], body.s(path)), 7, ["body"] * 2,
    ),
    "nested twice": lambda path: (
        chord([chord([chord([give.s(1)] * 2, body.s(path)), give.s(4)], body.s(path)), give.s(8)], body.s(path)),
        14, ["body"] * 3,
    ),
    "chain in its header": lambda path: (
        chord([chain(give.s(1), plus.s(2)), give.s(4)], body.s(path)), 7, ["body"],
    ),
    "group in its header": lambda path: (
        chord([group(give.s(1), give.s(2)), give.s(4)], body.s(path)), 7, ["body"],
    ),
    "group for a body": lambda path: (
        chord([give.s(1), give.s(2)], group(listed.s(path), body.s(path))), [[1, 2], 3], ["body"] * 2,
    ),
    "chain for a body": lambda path: (
        chord([give.s(1), give.s(2)], chain(body.s(path), plus.s(4))), 7, ["body"],
    ),
    "in a chain": lambda path: (
        chain(give.s(1), chord([plus.s(1), plus.s(2)], body.s(path)), plus.s(10)), 15, ["body"],
    ),
    "ignored member": lambda path: (chord([unkept.s(1), give.s(2)], listed.s(path)), [1, 2], ["body"]),
    "generator": lambda path: (chord((give.s(n) for n in range(4)), body.s(path)), 6, ["body"]),
    "grown": lambda path: (chord([growing.s(1, give.s(2)), give.s(4)], body.s(path)), 7, ["body"]),
    "failing": lambda path: (
        chord([give.s(1), wrong.s(2)], body.s(path).on_error(errback.s(path))), "ChordError", ["errback"],
    ),
}  # fmt: skip
"""Kind -> the canvas, what it comes to, and what its tasks note in the file."""


def late(path, queue):
    """Canvases of which one task waits in a queue of its own, by kind; as CANVASES."""
    wait = give.s(4).set(queue=queue)
    return {
        "late part": (chord([give.s(1), wait, give.s(2)], body.s(path)), 7, ["body"]),
        "late part of an inner chord": (
            chord([chord([give.s(1), wait], body.s(path)), give.s(2)], body.s(path)), 7, ["body"] * 2,
        ),
        "late end of a chain in its header": (
            chord([chain(give.s(1), plus.s(4).set(queue=queue)), give.s(2)], body.s(path)), 7, ["body"],
        ),
        "late failure": (
            chord([give.s(1), wrong.s(2).set(queue=queue)], body.s(path).on_error(errback.s(path))),
            "ChordError", ["errback"],
        ),
        "late body": (chord([give.s(1), give.s(2)], body.s(path).set(queue=queue)), 3, ["body"]),
    }  # fmt: skip


class Sent(NamedTuple):
    """A canvas that was sent: what it is to come to, and what its tasks are to note."""

    kind: str
    task_ids: object
    value: object
    path: str
    noted: Counter[str]

    def settled(self, app):
        """What it has come to, as a client of this app sees it; "nothing" where it does not come."""
        return _value(app, self.task_ids)

    def has_noted(self):
        return Counter(words(self.path)) == self.noted

    def is_noting(self):
        return Counter(words(self.path)) < self.noted


def send(app, kind, folder):
    app.set_default()  # the tasks are shared ones: they are this app's now
    path = str(folder / uuid.uuid4().hex)
    return _send(app, kind, path, *CANVASES[kind](path))


def send_late(app, queue, folder):
    """One of each kind of `late`."""
    app.set_default()
    for kind in late("", queue):
        path = str(folder / uuid.uuid4().hex)
        yield _send(app, kind, path, *late(path, queue)[kind])


def _send(app, kind, path, canvas, value, noted):
    result = canvas.apply_async()
    return Sent(f"{kind}, sent by {app.main}", _ids(result), value, path, Counter(noted))


def _ids(result):
    """The task's id, of a group a list of its members'."""
    return [_ids(each) for each in result.results] if hasattr(result, "results") else result.id


def _value(app, task_ids):
    if isinstance(task_ids, list):
        return [_value(app, each) for each in task_ids]
    try:
        found = app.AsyncResult(task_ids).get(timeout=PATIENCE, propagate=False)
    except TimeoutError:
        return "nothing"
    return type(found).__name__ if isinstance(found, BaseException) else found


def end(apps):
    """Let go of what these apps hold open.

    Handles of Celery's own backend ask the server when they are deleted, and that backend holds on to those of
    groups: they go first.
    """
    for app in apps:
        if pending := getattr(app.backend, "_pending_results", None):
            pending.concrete.clear()
    gc.collect()
    for app in apps:
        close(app)
