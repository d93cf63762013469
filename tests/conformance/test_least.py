"""The contract, on the least that a key/value engine can be: get, set and delete."""

from settled.backends.base import KeyValueStoreBackend
from settled.record import Capabilities
from settled.testing import Conformance, Store


class LeastBackend(KeyValueStoreBackend):
    capabilities = Capabilities()
    default_url = "least://"

    def __init__(self, app, *args, **kwargs):
        super().__init__(app, *args, **kwargs)
        self.values = {}

    def get(self, key):
        return self.values.get(key)

    def set(self, key, value):
        self.values[key] = value

    def delete(self, key):
        self.values.pop(key, None)


class Least(Store):
    engine = LeastBackend

    def raw(self, task_id):
        return self.backend.get(self.backend.get_key_for_task(task_id))

    def plant(self, task_id, payload):
        self.backend.set(self.backend.get_key_for_task(task_id), payload)


class TestLeast(Conformance):
    store_class = Least
