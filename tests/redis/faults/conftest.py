"""Servers, proxies and backends for one test."""

from __future__ import annotations

import pytest

from settled.backends.redis import RedisBackend
from settled.testing.app import RecordingApp
from tests.servers import Proxy, Server

DURABLE = {"appendonly": "yes", "appendfsync": "always"}
"""A server that has what it acknowledged on disk."""


@pytest.fixture
def server():
    with Server.start() as server:
        yield server


@pytest.fixture
def durable():
    with Server.start(options=DURABLE) as server:
        yield server


@pytest.fixture
def proxy(server):
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def connect(tmp_path):
    """Opens backends. Whichever of them sends a body: it is in the `sent` of every app."""
    opened = []
    sent = []

    def connect(at, **options):
        app = RecordingApp()
        app.sent = sent
        if RedisBackend.capabilities.keeps:
            options = {"spool": tmp_path, **options}
        app.backend = RedisBackend(app, url=at.url, **options)
        opened.append(app.backend)
        return app.backend

    yield connect
    for backend in opened:
        backend.close()
