"""One server for these tests, emptied for each; backends of ours, and Celery apps with Celery's own backend on it."""

from __future__ import annotations

import uuid

import pytest
from celery import Celery

from settled import chords
from settled.backends.redis import RedisBackend
from settled.testing.app import RecordingApp
from tests.celerys import close
from tests.servers import Server


@pytest.fixture(scope="session")
def skewed():
    """A server whose clock can be moved, for all tests of this process."""
    with Server.start("redis7", skewed=True) as server:
        yield server


@pytest.fixture
def server(skewed):
    skewed.ask("FLUSHALL")
    return skewed


@pytest.fixture
def raw(server):
    """A client of the test's own: what it reads, the engine has no part in."""
    with server.client() as client:
        yield client


@pytest.fixture
def connect(server, monkeypatch):
    """Opens backends of ours: `options` are the URL's, `conf` the settings; `app` may be a Celery app.

    They sweep when a test says so, and not by themselves.
    """
    monkeypatch.setattr(chords, "SWEEP_INTERVAL", 3600.0)
    opened = []

    def connect(app=None, url=None, serializer=None, kind=RedisBackend, conf=None, **options):
        own = app is None
        app = RecordingApp(**(conf or {})) if own else app
        backend = kind(app, serializer=serializer, url=url or server.url, **options)
        opened.append(backend)
        if own:
            app.backend = backend
        return backend

    yield connect
    for backend in opened:
        backend.close()


@pytest.fixture
def celery(server):
    """Makes Celery apps whose result backend is Celery's own, on the same store."""
    made = []

    def make(**conf):
        app = Celery(f"app-{len(made)}", broker="memory://", backend=server.url, set_as_current=False)
        app.conf.update(
            task_default_queue=f"queue-{uuid.uuid4()}",
            result_backend_thread_safe=True,
            accept_content=["json", "msgpack", "pickle"],
            **conf,
        )
        made.append(app)
        return app

    yield make
    for app in made:
        close(app)


@pytest.fixture
def later(server):
    """Lets time pass on the server, with the backend sweeping every interval."""

    def later(backend, seconds):
        step = max(chords.RECOUNT_INTERVAL + 1, seconds / 20)
        while seconds > 0:
            server.clock.advance(min(seconds, step))
            seconds -= step
            backend.sweep()

    return later


@pytest.fixture
def queued():
    """Takes what lies in an app's queue at the broker: headers and payload of each message."""

    def queued(app):
        found = []
        with (
            app.connection_for_read() as connection,
            connection.SimpleQueue(app.conf.task_default_queue) as queue,
        ):
            while True:
                try:
                    message = queue.get_nowait()
                except queue.Empty:
                    return found
                message.ack()
                found.append((message.headers, message.payload))

    return queued
