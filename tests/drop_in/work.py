"""The Celery app that the workers of these tests run; its settings come in SETTLED_DROP_IN."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from celery import Celery

from tests.drop_in import dying

CONF = json.loads(os.environ.get("SETTLED_DROP_IN", "{}"))

app = Celery("drop-in", set_as_current=False)
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 3600},
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=True,
    task_track_started=True,
    accept_content=["json", "msgpack", "pickle"],
)
app.conf.update(CONF)
dying.arm(app)


def log(path, word):
    """Note a word in a file, in one write, so that it is there whatever happens next."""
    with open(path, "a") as file:
        file.write(f"{word}\n")


def words(path):
    """What has been noted there."""
    path = Path(path)
    return path.read_text().split() if path.exists() else []


def wait_for_gate(gate):
    while not Path(gate).exists():
        time.sleep(0.005)


@app.task
def add(x, y):
    return x + y


@app.task
def total(values):
    return sum(values)


@app.task
def echo(value=None):
    return value


@app.task
def fail(text="no"):
    raise ValueError(text)


@app.task
def noted(path, word, value=None):
    """Note that it ran, and return a value."""
    log(path, word)
    return word if value is None else value


@app.task
def noted_total(values, path):
    log(path, "body")
    return sum(values)


@app.task
def gated(gate, value, path=None, word="gated"):
    """Return a value once a file exists."""
    if path is not None:
        log(path, word)
    wait_for_gate(gate)
    return value


@app.task(acks_late=True)
def late(path, word, value=1):
    log(path, word)
    return value


@app.task(acks_late=True, reject_on_worker_lost=True)
def late_rejected(path, word, value=1):
    log(path, word)
    return value


@app.task(ignore_result=True)
def ignored(value):
    return value


@app.task(bind=True, max_retries=3)
def retried(self, path, times):
    """Fail by `self.retry` so many times, then succeed."""
    log(path, "run")
    if self.request.retries < times:
        raise self.retry(countdown=0, exc=ConnectionError(f"run {self.request.retries}"))
    return self.request.retries


@app.task
def errback(request, exc, traceback, path):
    log(path, f"errback:{request.id}")
