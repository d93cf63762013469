"""What lies in the store, looked at behind the engine's back: Celery's records."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from settled.states import FAILURE, STARTED, SUCCESS
from settled.testing.contract import check
from settled.testing.store import Store

KEYS = ["status", "result", "traceback", "children", "date_done", "task_id"]

CELERY_SUCCESS = (
    b'{"status": "SUCCESS", "result": {"total": 42}, "traceback": null, "children": [[["child", null], null]], '
    b'"date_done": "2026-11-22T20:17:05.123456+00:00", "parent_id": "parent", "task_id": "success"}'
)
CELERY_FAILURE = (
    b'{"status": "FAILURE", "result": {"exc_type": "KeyError", "exc_message": ["missing"], "exc_module": "builtins"}, '
    b'"traceback": "Traceback (most recent call last):\\n  ...\\nKeyError: \'missing\'\\n", "children": [], '
    b'"date_done": "2026-11-22T20:17:05.123456+00:00", "task_id": "failure"}'
)
CELERY_REVOKED = (
    b'{"status": "REVOKED", "result": {"exc_type": "TaskRevokedError", "exc_message": ["terminated"], '
    b'"exc_module": "celery.exceptions"}, "traceback": null, "children": [], '
    b'"date_done": "2026-11-22T20:17:05.123456+00:00", "task_id": "revoked"}'
)
CELERY_TAGGED = (
    b'{"status": "SUCCESS", "result": {"__type__": "datetime", "__value__": "2026-11-22T20:17:05+00:00"}, '
    b'"traceback": null, "children": [], "date_done": null, "task_id": "tagged"}'
)


def _raw_json(store: Store, task_id: str) -> dict[str, object]:
    payload = store.raw(task_id)
    assert payload is not None, f"there is nothing in the store for {task_id!r}"
    found = json.loads(payload)
    assert isinstance(found, dict)
    return found


def _celerys(meta: dict[str, object]) -> list[str]:
    """The record's keys but for ours, which Celery ignores."""
    return [key for key in meta if key not in ("attempt", "expires_at", "updated_at")]


@check("wire")
def the_store_holds_what_was_written(store: Store) -> None:
    """The store holds the very bytes of the payload, under the task's id."""
    write = store.write("task", SUCCESS, "naïve ☃")
    store.backend.do_settle(write)
    assert store.raw("task") == write.payload
    assert store.raw("other") is None


@check("wire")
def a_success_is_celerys_record(store: Store) -> None:
    """A SUCCESS is stored as Celery 5 does: the same keys in the same order, the status first."""
    store.backend.mark_as_done("task", {"total": [1, None, "x"]})
    meta = _raw_json(store, "task")
    assert _celerys(meta) == KEYS
    shown = [meta[key] for key in ("status", "result", "traceback", "children", "task_id")]
    assert shown == [SUCCESS, {"total": [1, None, "x"]}, None, [], "task"]


@check("wire")
def a_failure_is_celerys_record(store: Store) -> None:
    """A FAILURE is stored as Celery 5 does: exc_type, exc_message, exc_module, and the traceback as text."""
    try:
        raise KeyError("missing", 3)
    except KeyError as exc:
        store.backend.mark_as_failure("task", exc)
    meta = _raw_json(store, "task")
    result = meta["result"]
    assert _celerys(meta) == KEYS
    assert meta["status"] == FAILURE
    assert isinstance(result, dict)
    assert (result["exc_type"], result["exc_message"]) == ("KeyError", ["missing", 3])
    assert result["exc_module"] == "builtins"
    assert "KeyError" in str(meta["traceback"])


@check("wire")
def celerys_records_are_read(store: Store) -> None:
    """A record that Celery 5 wrote is read: value, exception, tagged value, parent and children."""
    store.plant("success", CELERY_SUCCESS)
    store.plant("failure", CELERY_FAILURE)
    store.plant("revoked", CELERY_REVOKED)
    store.plant("tagged", CELERY_TAGGED)
    backend = store.backend
    assert backend.wait_for("success", timeout=store.patience) == {"total": 42}
    assert backend.get_task_meta("success").get("parent_id") == "parent"
    assert backend.get_children("success") == [[["child", None], None]]
    failure = backend.wait_for("failure", timeout=store.patience, propagate=False)
    assert isinstance(failure, KeyError)
    assert failure.args == ("missing",)
    assert "KeyError: 'missing'" in str(backend.get_traceback("failure"))
    assert isinstance(backend.wait_for("revoked", timeout=store.patience, propagate=False), Exception)
    assert backend.wait_for("tagged", timeout=store.patience) == datetime.fromisoformat(
        "2026-11-22T20:17:05+00:00"
    )


@check("wire")
def unknown_fields_are_kept(store: Store) -> None:
    """Fields that this release does not know are shown, not dropped."""
    record = {**json.loads(CELERY_SUCCESS), "stamps": ["a"], "x-future": {"deep": 1}}
    store.plant("success", json.dumps(record).encode())
    meta = store.backend.get_task_meta("success")
    assert (meta.get("stamps"), meta.get("x-future")) == (["a"], {"deep": 1})


@check("wire")
def dates_are_utc(store: Store) -> None:
    """`date_done` is ISO 8601 with the offset of UTC, and is there when the task is ready, not before."""
    store.backend.mark_as_started("started")
    store.backend.mark_as_done("done", 1)
    assert _raw_json(store, "started")["status"] == STARTED
    assert _raw_json(store, "started")["date_done"] is None
    done = datetime.fromisoformat(str(_raw_json(store, "done")["date_done"]))
    assert done.utcoffset() == timedelta(0)
