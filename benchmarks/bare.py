"""The bare thing: a table for results as one would write it with apsw alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import apsw
import msgspec

fast_encode = msgspec.json.Encoder().encode
fast_decode: Callable[[str], object] = msgspec.json.Decoder().decode
plain_decode: Callable[[str], object] = json.loads

_UPSERT = (
    "INSERT INTO result (task_id, state, updated, record) VALUES (?, ?, ?, ?) ON CONFLICT (task_id) "
    "DO UPDATE SET state = excluded.state, updated = excluded.updated, record = excluded.record"
)

VALUES: dict[str, object] = {
    "dict": {  # what the demo stores for one file
        "path": "python3.11/concurrent/futures/process.py",
        "lines": 864,
        "functions": 41,
        "classes": 14,
        "complexity": 128,
        "worst": "_ExecutorManagerThread.terminate_broken, line 440",
        "worst_complexity": 11,
        "imports": [f"package_{n:02}.module" for n in range(14)],
    },
    "str": "a line of text " * 33,
    "nested dict": {
        "module": "collections.abc",
        "lines": 1234,
        "functions": [{"name": f"function_{n:02}", "line": n * 17, "complexity": n * 1.5} for n in range(8)],
    },
}
"""Values of about 500 bytes in JSON."""


class BareTable:
    """Open in WAL/NORMAL, every write a transaction of its own."""

    def __init__(self, path: Path) -> None:
        self.db = apsw.Connection(str(path))
        self.db.pragma("journal_mode", "wal")
        self.db.pragma("synchronous", "normal")
        self.db.wal_autocheckpoint(4000)
        self.db.pragma("cache_size", -8192)
        self.db.execute(
            "CREATE TABLE result (task_id TEXT PRIMARY KEY, state TEXT, updated REAL, record TEXT)"
        )

    def upsert(self, task_ids: Iterable[str], record: str, now: float) -> None:
        """Write a record that is ready to be written: nothing is encoded here."""
        execute = self.db.execute
        for task_id in task_ids:
            execute(_UPSERT, (task_id, "SUCCESS", now, record))

    def read(self, task_ids: Iterable[str], decode: Callable[[str], object]) -> None:
        execute = self.db.execute
        for task_id in task_ids:
            decode(execute("SELECT record FROM result WHERE task_id = ?", (task_id,)).fetchall()[0][0])

    def read_range(self, task_ids: Sequence[str], decode: Callable[[str], object]) -> dict[str, object]:
        """All of them in one statement, in the order of the index."""
        rows = self.db.execute(
            "SELECT task_id, record FROM result WHERE task_id BETWEEN ? AND ?", (min(task_ids), max(task_ids))
        )
        return {task_id: decode(record) for task_id, record in rows}

    def close(self) -> None:
        self.db.close()


def record_of(value: object) -> str:
    """The record that `store_result` makes of a value."""
    return fast_encode(
        {
            "status": "SUCCESS",
            "result": value,
            "traceback": None,
            "children": [],
            "date_done": "2026-11-22T20:54:00.123456+00:00",
            "task_id": "00000000-0000-4000-8000-000000000000",
        }
    ).decode()
