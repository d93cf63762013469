"""The tables of Celery's database backend. Each column that is no text or date is encoded by itself."""

from __future__ import annotations

from collections.abc import Iterator

from settled import codec
from settled.cli.sources import Batch, Options
from settled.cli.sources.form import Stored, Unreadable, as_group, as_task, iso, read, value_of, wired
from settled.cli.sources.sql import Database, Row
from settled.errors import ConfigurationError, DecodeError
from settled.record import Meta
from settled.states import READY_STATES

TASKS = "celery_taskmeta"
GROUPS = "celery_tasksetmeta"

_TASK_COLUMNS = ("id", "task_id", "status", "result", "date_done", "traceback")
_LATER_COLUMNS = ("children", "name", "args", "kwargs", "worker", "retries", "queue", "stamps")
_GROUP_COLUMNS = ("id", "taskset_id", "result")
_LOCAL = frozenset({"date_done"})
"""Celery writes dates with an offset into a column that has none."""


class DatabaseSource:
    """Reads the rows in the order in which their tasks were first stored."""

    chords = 0  # this backend counts none

    def __init__(self, database: Database, options: Options) -> None:
        self._database = database
        self._accept = options.accept
        named = codec.accept_set(options.serializer or "json")
        if len(named) != 1:
            raise ConfigurationError(f"--serializer is one name, not {options.serializer!r:.80}")
        (self._serializer,) = named
        self._tasks = options.task_table or TASKS
        self._groups = options.group_table or GROUPS

    @property
    def path(self) -> str | None:
        return self._database.path

    def batches(self) -> Iterator[Batch]:
        held = self._database.columns(self._tasks)
        if not held >= {*_TASK_COLUMNS}:
            raise ConfigurationError(
                f"{self._database.shown} has no table {self._tasks} of Celery's: name the one that "
                "database_table_names gives with --task-table"
            )
        wanted = [*_TASK_COLUMNS, *(name for name in _LATER_COLUMNS if name in held)]
        for page in self._database.pages(self._tasks, wanted, _LOCAL):
            yield [self._task(row) for row in page]
        if self._database.columns(self._groups) >= {*_GROUP_COLUMNS}:
            for page in self._database.pages(self._groups, _GROUP_COLUMNS):
                yield [self._group(row) for row in page]
        elif self._groups != GROUPS:
            raise ConfigurationError(f"{self._database.shown} has no table {self._groups} of Celery's groups")

    def close(self) -> None:
        self._database.close()

    def _task(self, row: Row) -> Stored | Unreadable:
        task_id = str(row["task_id"] or "")

        def make() -> Stored:
            meta = as_task(self._meta(task_id, row), task_id)
            return Stored(task_id, False, wired(meta), self._serializer)

        return read(task_id, False, make)

    def _meta(self, task_id: str, row: Row) -> Meta:
        done = iso(row["date_done"]) if row["status"] in READY_STATES else None
        meta: Meta = {
            "status": row["status"],
            "result": self._value(row["result"]),
            "traceback": row["traceback"],
            "children": self._value(row.get("children")) or [],
            "date_done": done,
            "task_id": task_id,
        }
        if "name" in row:
            args, kwargs = self._value(row.get("args")), self._value(row.get("kwargs"))
            meta |= {"name": row["name"], "args": args, "kwargs": kwargs}
            meta |= {name: row.get(name) for name in ("worker", "retries", "queue")}
        return meta | self._stamps(self._value(row.get("stamps")))

    def _stamps(self, stored: object) -> Meta:
        if stored is None:
            return {}
        stamps = stored.get("stamps", {}) if isinstance(stored, dict) else None
        if not isinstance(stored, dict) or not isinstance(stamps, dict):
            raise DecodeError(f"these are no stamps: {stored!r:.80}")
        return {"stamped_headers": stored.get("stamped_headers"), **stamps}

    def _group(self, row: Row) -> Stored | Unreadable:
        group_id = str(row["taskset_id"] or "")

        def make() -> Stored:
            members = self._value(row["result"])
            # Before Celery 5.7 the handle itself is pickled.
            as_tuple = getattr(members, "as_tuple", None)
            meta = as_group({"result": as_tuple() if callable(as_tuple) else members})
            return Stored(group_id, True, meta, self._serializer)

        return read(group_id, True, make)

    def _value(self, content: object) -> object:
        return value_of(content, self._serializer, self._accept)
