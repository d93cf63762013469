"""The other processes of the benchmarks through Celery: one that writes, one that waits."""

from __future__ import annotations

import json
import multiprocessing
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection

from celery import Celery

RECORD = {"status": "SUCCESS", "traceback": None, "children": [], "date_done": "2026-11-25T10:00:00+00:00"}

Write = Callable[[Sequence[str], object], None]


def app_of(url: str) -> Celery:
    app = Celery("bench", broker="memory://", set_as_current=False)
    app.conf.result_backend = url
    return app


@contextmanager
def writer(url: str) -> Iterator[Write]:
    """Has another process store records by SETEX and PUBLISH, ten at a time."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_write_there, args=(url, there))
    process.start()
    try:
        yield lambda task_ids, value: here.send((task_ids, value))
    finally:
        here.send(None)
        process.join()


def _write_there(url: str, pipe: Connection) -> None:
    import redis

    client = redis.Redis.from_url(url)
    while given := pipe.recv():
        task_ids, value = given
        for start in range(0, len(task_ids), 10):
            pipeline = client.pipeline(transaction=False)
            for task_id in task_ids[start : start + 10]:
                record = json.dumps({**RECORD, "result": value, "task_id": task_id})
                pipeline.set(f"celery-task-meta-{task_id}", record, ex=3600)
                pipeline.publish(f"celery-task-meta-{task_id}", record)
            pipeline.execute()
    client.close()


def wake_ups(url: str, count: int) -> list[float]:
    """Microseconds from `store_result` returned here to `get` returned there."""
    task_ids = [str(uuid.uuid4()) for _ in range(count)]
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_wait_there, args=(url, task_ids, there))
    backend = app_of(url).backend
    backend.get_state(task_ids[0])
    process.start()
    stored = []
    for task_id in task_ids:
        here.recv()
        time.sleep(0.003)  # until the waiter is asleep
        backend.store_result(task_id, {"n": 1}, "SUCCESS")
        stored.append(time.monotonic_ns())
    woken = here.recv()
    process.join()
    return [(up - down) / 1000 for up, down in zip(woken, stored, strict=True)]


def _wait_there(url: str, task_ids: Sequence[str], pipe: Connection) -> None:
    app = app_of(url)
    woken = []
    for task_id in task_ids:
        result = app.AsyncResult(task_id)
        pipe.send(None)
        result.get(timeout=60)
        woken.append(time.monotonic_ns())
    pipe.send(woken)
