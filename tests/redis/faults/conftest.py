"""Servers, proxies and backends for one test."""

from __future__ import annotations

import pytest

from settled.backends.redis import RedisBackend
from settled.testing.app import RecordingApp
from tests.redis.faults.load import DURABLE
from tests.servers import Proxy, Server


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
    """Opens backends on a server or a proxy. Whichever sends a body: it is in the `sent` of every app."""
    opened = []
    proxies = set()
    sent = []

    def connect(at, **options):
        app = RecordingApp()
        app.sent = sent
        app.backend = RedisBackend(app, url=at.url, spool=tmp_path, **options)
        opened.append(app.backend)
        if isinstance(at, Proxy):
            proxies.add(at)
        return app.backend

    yield connect
    for proxy in proxies:
        proxy.heal()
    for backend in opened:
        backend.close()
