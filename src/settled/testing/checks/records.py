"""A record is written, read and replaced."""

from __future__ import annotations

from settled.record import Settle, Settled
from settled.states import FAILURE, PENDING, RETRY, REVOKED, STARTED, SUCCESS
from settled.testing.app import Request
from settled.testing.contract import check
from settled.testing.store import Store


@check("records")
def what_is_written_is_read(store: Store) -> None:
    """A record is read back as the bytes that were written."""
    write = store.write("task", SUCCESS, {"text": "naïve ☃ \U0001f600", "list": [1, 2.5, None, True]})
    store.backend.do_settle(write)
    assert store.stored("task") == write.payload


@check("records")
def any_bytes_are_kept(store: Store) -> None:
    """A payload is kept byte for byte, whatever serializer wrote it."""
    payloads = {
        "all": bytes(range(256)),
        "broken": b'{"status": "SUCCESS", \xff\xfe\x00}',
        "nul": b"\x00" * 9,
    }
    for task_id, payload in payloads.items():
        store.backend.do_settle(Settle(task_id, SUCCESS, payload))
    assert {task_id: store.stored(task_id) for task_id in payloads} == payloads


@check("records")
def a_large_record_is_kept_whole(store: Store) -> None:
    """A record of two megabytes is kept whole."""
    write = store.write("task", SUCCESS, "0123456789" * 200_000)
    store.backend.do_settle(write)
    assert store.stored("task") == write.payload


@check("records")
def an_unknown_id_is_absent(store: Store) -> None:
    """Nothing is read for an id of which nothing is known."""
    store.settle("known")
    assert list(store.backend.do_read(("unknown", "known", "know"))) == ["known"]


@check("records")
def many_are_read_at_once(store: Store) -> None:
    """Any number of ids is read at once, each with its own record, in any order and also twice."""
    for number in range(600):
        store.settle(f"task-{number}", value=number)
    asked = [f"task-{number}" for number in range(1500, -1, -1)]
    found = store.backend.do_read([*asked, "task-7"])
    assert set(found) == {f"task-{number}" for number in range(600)}
    for number in (0, 7, 299, 599):
        assert store.value(f"task-{number}") == number
        payload = found[f"task-{number}"]
        assert isinstance(payload, bytes | str)
        assert (payload if isinstance(payload, bytes) else payload.encode()) == store.stored(f"task-{number}")


@check("records")
def an_empty_read_reads_nothing(store: Store) -> None:
    """Reading no ids answers with nothing."""
    store.settle("task")
    assert dict(store.backend.do_read(())) == {}


@check("records")
def a_write_says_that_it_landed(store: Store) -> None:
    """A write that landed says so, with the state now stored, and claims nothing that is no chord."""
    assert store.settle("task", STARTED) == Settled(True, STARTED)
    assert store.settle("task", SUCCESS) == Settled(True, SUCCESS)


@check("records")
def a_write_replaces_the_record(store: Store) -> None:
    """A write that lands replaces the whole record, not only its state."""
    for value in ("first", "second", "third"):
        store.settle("task", "PROGRESS", value)
        assert store.value("task") == value
    store.settle("task", SUCCESS, "last")
    assert (store.state("task"), store.value("task")) == (SUCCESS, "last")


@check("records")
def records_are_apart(store: Store) -> None:
    """Writing one record leaves every other as it is."""
    store.settle("one", value=1)
    store.settle("two", value=2)
    store.settle("three", FAILURE, value=3)
    assert [store.value(task_id) for task_id in ("one", "two", "three")] == [1, 2, 3]


@check("records")
def each_mark_stores_its_state(store: Store) -> None:
    """`mark_as_started`, `_retry`, `_failure`, `_revoked` and `_done` each store their own state."""
    backend = store.backend
    backend.mark_as_started("started", pid=1)
    backend.mark_as_retry("retry", ValueError("again"))
    backend.mark_as_failure("failure", ValueError("no"))
    backend.mark_as_revoked("revoked", "not wanted")
    backend.mark_as_done("success", 42)
    states = {
        task_id: backend.get_state(task_id)
        for task_id in ("started", "retry", "failure", "revoked", "success")
    }
    wanted = (STARTED, RETRY, FAILURE, REVOKED, SUCCESS)
    assert states == dict(zip(("started", "retry", "failure", "revoked", "success"), wanted, strict=True))
    assert backend.get_result("success") == 42


@check("records")
def a_record_carries_its_request(store: Store) -> None:
    """A record carries the parent, root, group, attempt and children of the request it was written for."""
    child = store.app.AsyncResult("child")
    request = Request("task", retries=2, parent_id="parent", root_id="root", group="group", children=[child])
    store.backend.mark_as_done("task", 1, request=request)
    meta = store.backend.get_task_meta("task")
    assert (meta["parent_id"], meta["root_id"], meta["group_id"]) == ("parent", "root", "group")
    assert meta["attempt"] == 2
    assert meta["children"] == [[["child", None], None]]


@check("records")
def an_unknown_task_is_pending(store: Store) -> None:
    """A task of which nothing is known is shown as PENDING, without a value."""
    meta = store.backend.get_task_meta("unknown")
    assert (meta["status"], meta["result"], meta["task_id"]) == (PENDING, None, "unknown")
    assert store.backend.get_result("unknown") is None
    assert store.backend.get_traceback("unknown") is None


@check("records")
def a_custom_state_carries_its_notes(store: Store) -> None:
    """A custom state is stored with what the task has to say about it."""
    store.backend.store_result("task", {"done": 3, "of": 7}, "PROGRESS")
    assert store.backend.get_state("task") == "PROGRESS"
    assert store.backend.get_result("task") == {"done": 3, "of": 7}


@check("records")
def closing_is_not_the_end(store: Store) -> None:
    """A backend that was closed opens again at its next use."""
    store.backend.mark_as_done("before", 1)
    store.backend.close()
    store.backend.mark_as_done("after", 2)
    assert store.backend.get_result("after") == 2
