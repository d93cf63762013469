"""`redis://` and its like: results in Redis or Valkey, under Celery's keys. Needs `pip install 'settled[redis]'`."""

from __future__ import annotations

from settled.backends.redis.backend import RedisBackend
from settled.backends.redis.cluster import RedisClusterBackend

__all__ = ["RedisBackend", "RedisClusterBackend"]
