"""The contract, on the engine of `examples/filestore.py`: all that its author had to write for it."""

from examples.filestore import FileStore
from settled.testing import Conformance, Store


class Files(Store):
    engine = FileStore

    def url(self):
        return f"files://{self.folder}/records"

    def raw(self, task_id):
        return self.backend.get(self.backend.get_key_for_task(task_id))

    def plant(self, task_id, payload):
        self.backend.set(self.backend.get_key_for_task(task_id), payload)


class TestFiles(Conformance):
    store_class = Files
