"""The contract, on Valkey."""

from settled.testing import Conformance
from tests.redis.stores import ValkeyStore


class TestValkey(Conformance):
    store_class = ValkeyStore
