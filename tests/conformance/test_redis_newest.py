"""The contract, on the newest Redis."""

from settled.testing import Conformance
from tests.redis.stores import NewestRedisStore


class TestNewestRedis(Conformance):
    store_class = NewestRedisStore
