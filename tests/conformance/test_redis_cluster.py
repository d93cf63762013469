"""The contract, on a cluster of six servers."""

from settled.testing import Conformance
from tests.redis.stores import ClusterStore


class TestCluster(Conformance):
    store_class = ClusterStore
