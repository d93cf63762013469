"""Redis and Valkey as the conformance kit sees them: one server for all stores of a kind, a prefix for each."""

from __future__ import annotations

import atexit
import time
import uuid
from functools import cached_property

from msgspec.structs import replace
from redis import Redis, RedisCluster

from settled.backends.redis import RedisBackend, RedisClusterBackend
from settled.testing import Store
from settled.testing.store import Clock
from tests.servers import Cluster, Sentinels, Server

_running: dict[tuple[type, str], Server | Sentinels | Cluster] = {}


def shared(topology, kind):
    """Servers whose clock can be moved, for the whole of this process."""
    if (topology, kind) not in _running:
        started = _running[topology, kind] = topology.start(kind, skewed=True)
        atexit.register(started.stop)
    return _running[topology, kind]


class ServerClock(Clock):
    """The clock of a server: moved there, and told here."""

    def __init__(self, clock):
        self._clock = clock

    @property
    def offset(self):
        return self._clock.offset

    def __call__(self):
        return time.time() + self.offset

    def advance(self, seconds):
        self._clock.advance(seconds)


class RedisStore(Store):
    engine = RedisBackend
    topology = Server
    kind = "redis7"
    options = ""

    def __init__(self, folder):
        super().__init__(folder)
        self.clock = ServerClock(self.server.clock)
        self.prefix = f"kit-{uuid.uuid4().hex[:8]}:"

    @property
    def server(self):
        return shared(self.topology, self.kind)

    def url(self):
        url = self.server.url
        return f"{url}{'&' if '?' in url else '?'}prefix={self.prefix}{self.options}"

    @cached_property
    def client(self):
        return Redis(port=self.server.port)

    def key(self, task_id):
        return f"{self.prefix}celery-task-meta-{task_id}"

    def raw(self, task_id):
        return self.client.get(self.key(task_id))

    def plant(self, task_id, payload):
        self.client.set(self.key(task_id), payload)

    def close(self):
        super().close()
        self.client.close()


class SentinelStore(RedisStore):
    topology = Sentinels

    @cached_property
    def client(self):
        return Redis(port=self.server.master().port)


class ClusterStore(RedisStore):
    engine = RedisClusterBackend
    topology = Cluster

    @cached_property
    def client(self):
        return RedisCluster(host="127.0.0.1", port=self.server.nodes[0].port)


class NewestRedisStore(RedisStore):
    kind = "redis"


class ValkeyStore(RedisStore):
    kind = "valkey"


class IndexedBackend(RedisBackend):
    """With `index=true` the columns are kept beside the records."""

    capabilities = replace(RedisBackend.capabilities, columns=True)


class IndexedRedisStore(RedisStore):
    engine = IndexedBackend
    options = "&index=true"
