from __future__ import annotations

from tests.servers.fixtures import redis7, redis_newest, valkey

__all__ = ["redis7", "redis_newest", "valkey"]
