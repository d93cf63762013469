"""The contract, on Redis 7."""

from settled.testing import Conformance
from tests.redis.stores import RedisStore


class TestRedis(Conformance):
    store_class = RedisStore
