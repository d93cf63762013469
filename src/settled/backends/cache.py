"""A bounded, thread-safe cache of records, the least recently used dropped first."""

from __future__ import annotations

import threading
from collections import OrderedDict

from settled.record import Meta


class ResultCache:
    """Records by task id. `limit` -1 keeps none, 0 any number."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._records: OrderedDict[str, Meta] = OrderedDict()

    def get(self, task_id: str) -> Meta | None:
        if self.limit < 0:
            return None
        with self._lock:
            meta = self._records.get(task_id)
            if meta is not None:
                self._records.move_to_end(task_id)
            return meta

    def put(self, task_id: str, meta: Meta) -> None:
        if self.limit < 0:
            return
        with self._lock:
            self._records[task_id] = meta
            self._records.move_to_end(task_id)
            if self.limit and len(self._records) > self.limit:
                self._records.popitem(last=False)

    def pop(self, task_id: str) -> None:
        with self._lock:
            self._records.pop(task_id, None)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._records
