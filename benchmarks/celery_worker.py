"""A chord with a real worker."""

from __future__ import annotations

import tempfile
import time

from celery import Celery, chord

from tests.drop_in.fleet import Worker
from tests.servers import Server


def run_chord(app: Celery, count: int) -> float:
    """Seconds from the last header task published to the body's result."""
    header = [app.signature("tests.drop_in.work.echo", (number,)) for number in range(count)]
    result = chord(header, app.signature("tests.drop_in.work.total"), app=app).apply_async()
    published = time.perf_counter()
    assert result.get(timeout=600) == sum(range(count))
    return time.perf_counter() - published


def chord_seconds(server: Server, url: str, count: int) -> float:
    """As `run_chord`, on an emptied server, with a worker of two processes that has been used before."""
    server.ask("FLUSHALL")
    conf = {
        "broker_url": server.url.removesuffix("/0") + "/1",
        "result_backend": url,
        "worker_prefetch_multiplier": 64,
    }
    app = Celery("bench-chord", set_as_current=False)
    app.conf.update(conf)
    app.set_default()
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(folder, {**conf, "task_track_started": False}).start()
        try:
            run_chord(app, 10)
            return run_chord(app, count)
        finally:
            worker.stop()
