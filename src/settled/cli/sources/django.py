"""The tables of django-celery-results. Encoded columns are text, and each row says how they are encoded."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from settled.cli.sources import Batch, Options
from settled.cli.sources.form import (
    Stored,
    Unreadable,
    as_group,
    as_task,
    iso,
    read,
    serializer_named,
    value_of,
    wired,
)
from settled.cli.sources.sql import Database, Row
from settled.errors import ConfigurationError, ContentRefused, DecodeError
from settled.record import Meta
from settled.states import READY_STATES

TASKS = "django_celery_results_taskresult"
GROUPS = "django_celery_results_groupresult"
CHORDS = "django_celery_results_chordcounter"

_TASK_COLUMNS = ("id", "task_id", "status", "content_type", "content_encoding", "result", "date_done")
_LATER_COLUMNS = (
    "traceback", "meta", "task_name", "task_args", "task_kwargs", "worker", "periodic_task_name",
    "date_created", "date_started",
)  # fmt: skip
_GROUP_COLUMNS = ("id", "group_id", "content_type", "content_encoding", "result")


class DjangoSource:
    """Reads the rows in the order in which their tasks were first stored."""

    def __init__(self, database: Database, options: Options) -> None:
        self._database = database
        self._accept = options.accept
        self.chords = 0

    @property
    def path(self) -> str | None:
        return self._database.path

    def batches(self) -> Iterator[Batch]:
        held = self._database.columns(TASKS)
        if not held >= {*_TASK_COLUMNS}:
            raise ConfigurationError(
                f"{self._database.shown} has no table {TASKS}: django+... is for the database of a Django project "
                "whose result_backend is django-db; write db+... for Celery's own tables"
            )
        wanted = [*_TASK_COLUMNS, *(name for name in _LATER_COLUMNS if name in held)]
        for page in self._database.pages(TASKS, wanted):
            yield [self._task(row) for row in page]
        if self._database.columns(GROUPS):  # which old migrations do not have
            for page in self._database.pages(GROUPS, _GROUP_COLUMNS):
                yield [self._group(row) for row in page]
        if self._database.columns(CHORDS):
            self.chords = self._database.count(CHORDS)

    def close(self) -> None:
        self._database.close()

    def _task(self, row: Row) -> Stored | Unreadable:
        task_id = str(row["task_id"] or "")

        def make() -> Stored:
            serializer = serializer_named(row["content_type"])
            meta = as_task(self._meta(task_id, row, serializer), task_id)
            return Stored(task_id, False, wired(meta), serializer)

        return read(task_id, False, make)

    def _meta(self, task_id: str, row: Row, serializer: str) -> Meta:
        beside = self._value(row, "meta", serializer) or {}
        if not isinstance(beside, dict):
            raise DecodeError(f"its column meta holds no mapping but {beside!r:.80}")
        # Django sets date_done with every write.
        done = iso(row["date_done"]) if row["status"] in READY_STATES else None
        meta: Meta = {
            "status": row["status"],
            "result": self._value(row, "result", serializer),
            "traceback": row.get("traceback"),
            "children": beside.get("children") or [],
            "date_done": done,
            "task_id": task_id,
        }
        if row.get("task_name") is not None:
            args, kwargs = (self._argument(row, name, serializer) for name in ("task_args", "task_kwargs"))
            meta |= {"name": row["task_name"], "args": args, "kwargs": kwargs, "worker": row.get("worker")}
        if row.get("periodic_task_name") is not None:
            meta["periodic_task_name"] = row["periodic_task_name"]
        for name in ("date_created", "date_started"):
            if row.get(name) is not None:
                meta[name] = iso(row[name])
        return beside | meta

    def _argument(self, row: Row, name: str, serializer: str) -> object:
        """Arguments; as they stand where they are not encoded, which django-celery-results allows."""
        try:
            return self._value(row, name, serializer)
        except ContentRefused:
            raise
        except DecodeError:
            return row[name]

    def _group(self, row: Row) -> Stored | Unreadable:
        group_id = str(row["group_id"] or "")

        def make() -> Stored:
            serializer = serializer_named(row["content_type"])
            meta = as_group({"result": self._value(row, "result", serializer)})
            return Stored(group_id, True, meta, serializer)

        return read(group_id, True, make)

    def _value(self, row: Row, column: str, serializer: str) -> object:
        content = row.get(column)
        if not content:
            return None
        if row["content_encoding"] == "binary":
            try:
                content = base64.b64decode(str(content), validate=True)
            except ValueError as exc:  # binascii.Error is one
                raise DecodeError(f"its column {column} is no base64: {exc}") from exc
        return value_of(content, serializer, self._accept)
