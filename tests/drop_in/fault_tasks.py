"""Tasks for the tests of faults, and what their workers have otherwise: SETTLED_TUNING, SETTLED_UNKNOWN."""

from __future__ import annotations

import json
import os
import pkgutil
import time
from pathlib import Path

from celery import chain, chord, group, shared_task
from celery.concurrency.asynpool import AsynPool
from celery.exceptions import Ignore, Reject
from celery.signals import worker_init
from celery.utils.log import get_task_logger
from celery.worker.request import Request

from tests.drop_in.work import log, wait_for_gate, words

for _named, _value in json.loads(os.environ.get("SETTLED_TUNING", "{}")).items():
    _owner, _, _name = _named.rpartition(".")
    setattr(pkgutil.resolve_name(_owner), _name, _value)


logger = get_task_logger(__name__)

_accepted = Request.on_accepted


def on_accepted(self, pid, time_accepted):
    _accepted(self, pid, time_accepted)
    logger.info("accepted %s", self.id)


Request.on_accepted = on_accepted
"""The worker says that it knows which child has a task: killed before that, another gets it."""


AsynPool.timers = property(lambda pool: {pool.maintain_pool: 0.2})
"""How often the worker looks for dead children: not only every five seconds."""


@worker_init.connect(weak=False)
def forget_tasks(sender, **_):
    """A worker of an older release: it does not know these tasks yet."""
    for name in os.environ.get("SETTLED_UNKNOWN", "").split():
        del sender.app.tasks[f"{__name__}.{name}"]


def run(path, value, gate):
    log(path, "part")
    if gate is not None:
        wait_for_gate(gate)
    return value


@shared_task
def early(path, value=1, gate=None):
    return run(path, value, gate)


@shared_task(acks_late=True)
def late(path, value=1, gate=None):
    return run(path, value, gate)


@shared_task(acks_late=True, reject_on_worker_lost=True)
def rejected(path, value=1, gate=None):
    return run(path, value, gate)


@shared_task
def at_once(gate, value):
    """Return at the moment that the gate names, to the microsecond."""
    wait_for_gate(gate)
    moment = float(Path(gate).read_text())
    while time.monotonic() < moment:
        pass
    return value


@shared_task
def body(values, path):
    """A chord's body."""
    log(path, "body")
    return values


@shared_task(acks_late=True, reject_on_worker_lost=True)
def rejected_body(values, path):
    log(path, "body")
    return values


@shared_task
def passed(value, path, word="body"):
    """Of a body that is more than one task."""
    log(path, word)
    return value


@shared_task
def broken(path):
    log(path, "part")
    raise ValueError("broken")


@shared_task
def errback(request, exc, traceback, path):
    log(path, "errback")


@shared_task(bind=True, acks_late=True)
def rejecting(self, path, requeue, value=1):
    """Reject the message: for good, or the first time."""
    log(path, "part")
    if not requeue or words(path).count("part") == 1:
        raise Reject("not now", requeue=requeue)
    return value


@shared_task(bind=True)
def ignoring(self, path, state=None, value=1):
    """End without a word to the backend but for what `update_state` says."""
    log(path, "part")
    if state is not None:
        self.update_state(state=state, meta=value if state == "SUCCESS" else ValueError("said so"))
    raise Ignore


@shared_task(bind=True, max_retries=3)
def retrying(self, path, times, value=1):
    log(path, "part")
    if self.request.retries < times:
        raise self.retry(countdown=0, exc=ConnectionError(f"run {self.request.retries}"))
    return value


@shared_task(bind=True)
def replacing(self, path, how, value=1):
    log(path, "part")
    steps = group(early.si(path, value) for _ in range(2))
    ways = {
        "task": early.si(path, value),
        "chain": early.si(path, value) | passed.s(path, "step"),
        "group": steps,
        "chord": chord(steps, passed.s(path, "step")),
        "chain of groups": chain(early.si(path, value), steps),
    }
    raise self.replace(ways[how])


@shared_task(bind=True)
def adding(self, path, value=1):
    log(path, "part")
    self.add_to_chord(early.si(path, value + 1))
    return value
