"""The contract, on a master that Sentinel watches."""

from settled.testing import Conformance
from tests.redis.stores import SentinelStore


class TestSentinel(Conformance):
    store_class = SentinelStore
