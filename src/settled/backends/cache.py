"""A bounded, thread-safe cache of records, the least recently used dropped first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TypeAlias

from settled.record import Meta

Key: TypeAlias = str | tuple[str, str]
"""A task id, or ("group", a group's id): a task and a group may share an id."""


class ResultCache:
    """Records by key. `limit` -1 keeps none, 0 any number."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._records: OrderedDict[Key, Meta] = OrderedDict()

    def get(self, key: Key) -> Meta | None:
        if self.limit < 0:
            return None
        with self._lock:
            meta = self._records.get(key)
            if meta is not None:
                self._records.move_to_end(key)
            return meta

    def put(self, key: Key, meta: Meta) -> None:
        if self.limit < 0:
            return
        with self._lock:
            self._records[key] = meta
            self._records.move_to_end(key)
            if self.limit and len(self._records) > self.limit:
                self._records.popitem(last=False)

    def pop(self, key: Key) -> None:
        with self._lock:
            self._records.pop(key, None)

    def __contains__(self, key: Key) -> bool:
        return key in self._records
