"""Each of Celery's pools on two of our engines: work, waiting inside tasks, connections, and a clean end.

Under gevent and eventlet `celery worker` patches the standard library before anything else is imported. SQLite
is C code that no patch reaches: while one of its statements runs, no other greenlet of the worker does.
"""

from __future__ import annotations

import re
import signal

import pytest
from celery import Celery, chord, group

from tests.celerys import close
from tests.drop_in.canvas_tasks import echo, gated_together, reading, total, waiting
from tests.drop_in.conftest import OURS
from tests.drop_in.fleet import Worker
from tests.drop_in.work import words
from tests.servers import until

PATIENCE = 30.0
"""Seconds that a result may take on a busy machine."""

END = 15.0
"""Seconds for which a worker that has been told to end is waited for; later it is killed, and that is its status."""

CONNECTIONS = 10 + 1
"""What one process may have open: the engine's `max_connections`, and one to listen on."""

CONCURRENCY = {"prefork": 2, "threads": 20, "solo": 1, "gevent": 100, "eventlet": 100}


class Pooled(Worker):
    """A worker with one of the pools, on a store of ours, and the app of its client."""

    def __init__(self, folder, pool, engine, machine):
        self.pool = pool
        self.concurrency = CONCURRENCY[pool]
        self.folder = folder
        self.machine = machine
        self.redis = engine == "redis"
        store = machine.url if self.redis else f"sqlite:///{folder}/results.db"
        conf = {
            "broker_url": machine.url.removesuffix("/0") + "/1",
            "result_backend": OURS + store,
            "imports": ["tests.drop_in.canvas_tasks"],
            "worker_prefetch_multiplier": 1,
        }
        super().__init__(folder, conf, pool=pool, concurrency=self.concurrency)
        self.app = Celery(f"{pool}-{engine}", set_as_current=False)
        self.app.conf.update(conf)

    def end(self):
        """Tell it to end; its exit status, or minus a signal's number."""
        process = self._process
        process.end(signal.SIGTERM, END)
        return process._program.returncode

    def connections(self):
        """Where those that use the store are connected from; the broker has another database."""
        clients = self.machine.ask("CLIENT LIST")
        return [each["addr"] for each in clients if each["db"] == "0" and each["cmd"] != "client|list"]

    def get(self, result):
        return result.get(timeout=PATIENCE)


@pytest.fixture(scope="module", params=["redis", "sqlite"])
def engine(request):
    return request.param


@pytest.fixture(scope="module", params=CONCURRENCY)
def pooled(request, engine, machine, tmp_path_factory):
    machine.ask("FLUSHALL")
    worker = Pooled(tmp_path_factory.mktemp("pool"), request.param, engine, machine)
    try:
        yield worker
    finally:
        worker.stop()
        close(worker.app)


@pytest.fixture
def worker(pooled):
    """It runs; and its app is the current one."""
    if not pooled.running:
        pooled.start()
    pooled.app.set_default()
    return pooled


def test_tasks_and_a_chord_are_run(worker):
    assert worker.get(echo.delay("value")) == "value"
    assert worker.get(chord([echo.s(n) for n in range(10)], total.s()).delay()) == 45
    assert worker.get(group(echo.s(n) for n in range(100)).delay()) == list(range(100))


def test_a_task_waits_for_another(worker):
    ready = echo.delay("ready")
    worker.get(ready)
    assert worker.get(reading.delay(ready.id)) == "ready"
    if worker.concurrency > 1:
        assert worker.get(waiting.delay(echo.s("sent"))) == "sent"
        assert worker.get(waiting.delay(chord([echo.s(1), echo.s(2)], total.s()))) == 3


def test_as_many_tasks_as_fit_settle_at_once_on_few_connections(worker, tmp_path):
    path, gate = tmp_path / "log", tmp_path / "gate"
    result = group(gated_together.s(str(path), str(gate), n) for n in range(worker.concurrency)).delay()
    until(lambda: len(words(path)) == worker.concurrency, PATIENCE, "all of them at the gate")
    gate.touch()
    assert worker.get(result) == list(range(worker.concurrency))
    processes = 1 + (worker.concurrency if worker.pool == "prefork" else 0)
    assert worker.redis == bool(worker.connections())
    assert len(worker.connections()) <= (processes + 1) * CONNECTIONS  # and the client's


def test_a_worker_ends_cleanly_and_leaves_no_connection(worker):
    assert worker.get(chord([echo.s(1), echo.s(2)], total.s()).delay()) == 3
    close(worker.app)
    assert worker.end() == 0, worker.said()[-3000:]
    until(lambda: worker.connections() == [], PATIENCE, "the end of its connections")
    assert re.findall(r".*(?:ERROR|CRITICAL|Traceback).*", worker.said()) == []
