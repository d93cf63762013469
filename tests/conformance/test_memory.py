"""The contract, on `memory://`."""

from settled.testing import Conformance
from settled.testing.stores import MemoryStore


class TestMemory(Conformance):
    store_class = MemoryStore
