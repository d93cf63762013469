"""Tasks for the tests of the canvas, the pools and the tools: every app of a process has them."""

from __future__ import annotations

import time

from celery import current_app, group, shared_task
from celery.contrib.abortable import AbortableTask
from celery.exceptions import Ignore
from celery.result import allow_join_result

from tests.drop_in.work import log, wait_for_gate


class Refused(Exception):
    """With an `__init__` of its own: its args are not what it is made of."""

    def __init__(self, code, *, detail):
        super().__init__(f"refused with {code}")
        self.code = code
        self.detail = detail


class Unstorable:
    """What no serializer of these tests can store."""


@shared_task
def add(x, y):
    return x + y


@shared_task
def total(values):
    return sum(values)


@shared_task
def pair(x, y=None):
    return [x, y]


@shared_task
def echo(value=None):
    return value


@shared_task
def fail(*args, text="no"):
    raise ValueError(text)


@shared_task
def fail_late(gate, text="late"):
    """Fail once a file exists."""
    wait_for_gate(gate)
    raise ValueError(text)


@shared_task
def gated(gate, value=None):
    """Return a value once a file exists."""
    wait_for_gate(gate)
    return value


@shared_task
def gated_together(path, gate, value):
    """Note that it runs, and return the value once a file exists."""
    log(path, "here")
    wait_for_gate(gate)
    return value


@shared_task
def note(path, word, value=None):
    """Note a word in a file, and return a value."""
    log(path, word)
    return value


@shared_task
def note_value(value, path):
    log(path, str(value))
    return value


@shared_task(bind=True)
def note_own_id(self, path):
    log(path, self.request.id)
    return self.request.id


@shared_task
def by_id(task_id, path):
    """An errback that takes a task id, as a task of its own."""
    log(path, task_id)


@shared_task
def by_error(request, exc, traceback, path):
    """An errback that takes the failure, called where the task has failed."""
    log(path, f"{request.id}:{type(exc).__name__}:{exc}".replace(" ", "_"))


@shared_task(bind=True)
def about(self, *args, **kwargs):
    """What the worker knows of this call."""
    request = self.request
    return {
        "args": list(args),
        "kwargs": kwargs,
        "queue": request.delivery_info["routing_key"],
        "priority": request.delivery_info["priority"],
        "parent": request.parent_id,
        "root": request.root_id,
        "stamps": {name: request.stamps[name] for name in request.stamped_headers or ()},
    }


@shared_task(bind=True, max_retries=3)
def stubborn(self, value, times=1):
    """Be retried so many times, then return the value."""
    if self.request.retries < times:
        raise self.retry(countdown=0, exc=ConnectionError(f"run {self.request.retries}"))
    return value


@shared_task(bind=True)
def replaced(self, value=None, *, by):
    raise self.replace(current_app.signature(by))


@shared_task(bind=True)
def growing(self, value, by):
    """Add a task to the chord it is a part of."""
    self.add_to_chord(current_app.signature(by))
    return value


@shared_task
def sending(signature):
    """Send a signature, and return the id of what was sent."""
    return current_app.signature(signature).delay().id


@shared_task
def waiting(signature):
    """Send a signature and wait for it."""
    with allow_join_result():
        return current_app.signature(signature).delay().get(timeout=30)


@shared_task
def reading(task_id):
    """Wait for a task by its id."""
    with allow_join_result():
        return current_app.AsyncResult(task_id).get(timeout=30)


@shared_task
def waiting_wrongly(signature):
    return current_app.signature(signature).delay().get(timeout=30)


@shared_task
def branch(count):
    """Send leaves, and return their handle: the tree of the guide to `collect`."""
    return group(leaf.s(n) for n in range(count))()


@shared_task
def leaf(n):
    return square.delay(n)


@shared_task
def square(n):
    return n * n


@shared_task(ignore_result=True)
def silent(value):
    return value


@shared_task(bind=True)
def progressing(self, gate):
    self.update_state(state="PROGRESS", meta={"done": 3, "of": 4})
    wait_for_gate(gate)
    return "done"


@shared_task(bind=True)
def deciding(self, state, meta):
    """Settle itself in a state of its choice: the guide's "ignore" with a custom state."""
    self.update_state(state=state, meta=meta)
    raise Ignore


@shared_task(bind=True, base=AbortableTask)
def abortable(self):
    """Run until it is aborted."""
    while not self.is_aborted():
        time.sleep(0.01)
    return "stopped"


@shared_task
def refuse(code, detail):
    raise Refused(code, detail=detail)


@shared_task
def fail_with_a_cause():
    try:
        raise KeyError("inner")
    except KeyError as exc:
        raise RuntimeError("outer") from exc


@shared_task
def fail_with_notes():
    error = ValueError("no")
    error.add_note("seen on a Tuesday")
    raise error


@shared_task
def fail_with_a_group():
    raise ExceptionGroup("two at once", [ValueError("one"), KeyError("two")])


@shared_task
def unstorable():
    return Unstorable()


@shared_task
def large(size):
    return "x" * size
