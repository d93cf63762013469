"""Damaged and hostile records: the error names the task, and nobody waits for ever."""

from __future__ import annotations

import json
import pickle
import queue

from settled.errors import DecodeError, TimeoutError
from settled.record import Query
from settled.states import SUCCESS
from settled.testing.checks.expecting import raised
from settled.testing.contract import check
from settled.testing.store import Store
from settled.testing.threads import Running


class _Trap:
    """Fails the check that unpickles it."""

    def __reduce__(self) -> tuple[object, ...]:
        return _sprung, ()


def _sprung() -> None:
    raise AssertionError("a pickle that is not accepted was loaded")


def _json(**meta: object) -> bytes:
    return json.dumps(meta).encode()


WHOLE = _json(status="SUCCESS", result=[1, 2, 3], traceback=None, children=[], task_id="task")

DAMAGED: dict[str, bytes] = {
    "nothing": b"",
    "blanks": b"   \n",
    "zeros": b"\x00" * 64,
    "cut-early": WHOLE[:10],
    "cut-late": WHOLE[:-1],
    "doubled": WHOLE + WHOLE,
    "no-utf-8": WHOLE.replace(b"task_id", b"\xff\xfe\xfd"),
    "page": b"<html><body>502 Bad Gateway</body></html>",
    "noise": bytes(range(255, 127, -1)),
    "null": b"null",
    "number": b"42",
    "text": b'"SUCCESS"',
    "list": b'["SUCCESS", 1]',
    "no-status": _json(result=1),
    "status-null": _json(status=None, result=1),
    "status-empty": _json(status="", result=1),
    "status-number": _json(status=3, result=1),
    "status-list": _json(status=["SUCCESS"], result=1),
    "status-dict": _json(status={"SUCCESS": 1}, result=1),
    "deep": b'{"status": "SUCCESS", "result": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "digits": b'{"status": "SUCCESS", "result": ' + b"9" * 100_000 + b"}",
    "trap": pickle.dumps({"status": "SUCCESS", "result": _Trap()}),
    "packed-cut": b"\x82\xa6status\xa7SUCC",
    "packed-no-status": b"\x81\xa6result\x01",
    "unknown-content": b"\x00settled\x00application/x-nothing\x00payload",
    "unknown-header": b"\x00settled",
}
"""By name, what may stand where a record should."""


def _planted(store: Store) -> list[str]:
    for name, payload in DAMAGED.items():
        store.plant(f"task-{name}", payload)
    return [f"task-{name}" for name in DAMAGED]


@check("damage")
def an_error_names_the_task(store: Store) -> None:
    """Reading a damaged record raises a DecodeError that names its task, and runs nothing in it."""
    for task_id in _planted(store):
        for read in (store.backend.get_state, store.backend.get_result):
            error = raised(lambda read=read, task_id=task_id: read(task_id))  # type: ignore[misc]
            assert isinstance(error, DecodeError), f"{task_id}: {error!r}"
            assert task_id in str(error)


@check("damage")
def a_waiter_is_told_of_damage(store: Store) -> None:
    """Whoever waits for a damaged record is told so at once, and does not wait for ever."""
    for task_id in _planted(store):
        error = raised(lambda task_id=task_id: store.backend.wait_for(task_id, timeout=store.patience))  # type: ignore[misc]
        assert not isinstance(error, TimeoutError), f"{task_id}: a waiter would have hung"
        assert isinstance(error, DecodeError), f"{task_id}: {error!r}"
        assert task_id in str(error)


@check("damage")
def damage_during_the_wait_is_told(store: Store) -> None:
    """Whoever waits already when a record is damaged is told when the task is noticed."""
    added = store.faults.count(store.backend.watcher, "add")
    waiting = Running(lambda: raised(lambda: store.backend.wait_for("task")))
    assert added.reach(1, store.patience)
    store.plant("task", DAMAGED["cut-late"])
    store.backend.watcher.notice("task")
    error = waiting.result(store.patience)
    assert isinstance(error, DecodeError), repr(error)


@check("damage")
def damage_spoils_only_itself(store: Store) -> None:
    """A damaged record beside them keeps nobody from the other results."""
    told: queue.SimpleQueue[tuple[str, object]] = queue.SimpleQueue()
    watcher = store.backend.watcher
    for task_id in ("damaged", "whole"):
        watcher.add(task_id, lambda answer, task_id=task_id: told.put((task_id, answer)))  # type: ignore[misc]
    store.plant("damaged", DAMAGED["cut-late"])
    store.settle("whole", value="kept")
    watcher.notice_all()
    answers = dict(told.get(timeout=store.patience) for _ in range(2))
    assert isinstance(answers["damaged"], DecodeError)
    assert "damaged" in str(answers["damaged"])
    assert isinstance(answers["whole"], dict)
    assert answers["whole"]["result"] == "kept"
    assert set(store.backend.do_read(["damaged", "whole"])) == {"damaged", "whole"}


@check("damage")
def damage_can_be_forgotten(store: Store) -> None:
    """A damaged record can be forgotten."""
    for task_id in _planted(store):
        store.backend.forget(task_id)
        assert store.raw(task_id) is None, f"{task_id} is still there"


@check("damage")
def a_damaged_group_is_named(store: Store) -> None:
    """Reading a damaged group raises a DecodeError that names the group."""
    shapes = (b"[]", b"{}", b'{"result": 5}', b'{"result": [["g", null], [[["a", null]]]]}', b'{"result": [')
    for number, payload in enumerate(shapes):
        store.backend.do_write_group(f"group-{number}", payload, None)
        error = raised(lambda number=number: store.backend.restore_group(f"group-{number}"))  # type: ignore[misc]
        assert isinstance(error, DecodeError), repr(error)
        assert f"group-{number}" in str(error)


@check("damage", "queries")
def a_listing_survives_damage(store: Store) -> None:
    """A listing with damaged records among the others still shows the others."""
    _planted(store)
    store.settle("whole", SUCCESS)
    assert "whole" in {row.task_id for row in store.backend.query(Query(limit=100))}
