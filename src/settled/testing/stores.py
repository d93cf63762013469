"""The engines of this distribution as the kit sees them; also examples of how little a `Store` needs."""

from __future__ import annotations

import time
from collections.abc import Sequence

import apsw

from settled.backends.memory import MemoryBackend
from settled.backends.sqlite import SQLiteBackend
from settled.record import Settle
from settled.testing.store import Store


class MemoryStore(Store):
    engine = MemoryBackend

    def raw(self, task_id: str) -> bytes | None:
        record = self._memory()._records.get(task_id)
        return None if record is None else record.write.payload

    def plant(self, task_id: str, payload: bytes) -> None:
        memory = self._memory()
        memory._put(Settle(task_id, "SUCCESS", payload), None, memory.clock())

    def _memory(self) -> MemoryBackend:
        assert isinstance(self.backend, MemoryBackend)
        return self.backend


class SQLiteStore(Store):
    engine = SQLiteBackend

    @property
    def file(self) -> str:
        return str(self.folder / "results.db")

    def url(self) -> str:
        return f"sqlite:///{self.file}"

    def raw(self, task_id: str) -> bytes | None:
        sql = "SELECT record FROM settled_task WHERE task_id = ? AND gone IS NULL"
        for (record,) in self._execute(sql, (task_id,)):
            return record.encode() if isinstance(record, str) else record  # type: ignore[return-value]
        return None

    def plant(self, task_id: str, payload: bytes) -> None:
        self.backend.get_state("any")  # makes the file, if this is the first use
        now = time.time()
        self._execute(
            "INSERT INTO settled_task (task_id, state, attempt, created, updated, done, size, record)"
            " VALUES (?, 'SUCCESS', 0, ?, ?, ?, ?, ?)",
            (task_id, now, now, now, len(payload), payload),
        )

    def _execute(self, sql: str, values: tuple[object, ...]) -> Sequence[tuple[object, ...]]:
        # Python's own sqlite3 would be a second copy of SQLite in this process and drop our locks.
        connection = apsw.Connection(self.file)
        try:
            connection.set_busy_timeout(10_000)
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()
