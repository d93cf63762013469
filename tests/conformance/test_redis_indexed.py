"""The contract, on Redis 7 with the index."""

from settled.testing import Conformance
from tests.redis.stores import IndexedRedisStore


class TestIndexedRedis(Conformance):
    store_class = IndexedRedisStore
