"""Key/value engines: guarding, listing, expiry and leases, with and without compare-and-set."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import Any

import pytest

from settled.codec import encode
from settled.errors import CorruptRecord
from settled.record import Presence, Query, Settle
from tests.interface.stores import BareApp, DictStore, ExpiringStore, ListingStore, Sent, SwappingStore

PATIENCE = 30.0
KINDS = [DictStore, ListingStore, SwappingStore, ExpiringStore]


def store(kind: type[Any], **conf: object) -> Any:
    app = BareApp(conf, Sent())
    app.backend = kind(app)
    return app.backend


@pytest.mark.parametrize("kind", KINDS)
def test_a_late_write_is_refused_and_told_so(kind):
    backend = store(kind)
    assert backend.mark_as_done("a", 1)
    refused = backend.mark_as_failure("a", ValueError("late"))
    assert (refused.landed, refused.state, backend.get_result("a")) == (False, "SUCCESS", 1)
    assert backend.mark_as_failure("b", ValueError("x"), request={"retries": 2})
    assert not backend.mark_as_done("b", 1, {"retries": 1})
    assert backend.mark_as_done("b", 1, {"retries": 2})


def test_with_compare_and_set_one_of_two_writers_lands():
    backend = store(SwappingStore)
    backend.mark_as_started("a")
    get, between = backend.get, iter((lambda: backend.do_settle(Settle("a", "SUCCESS", payload)),))
    payload = backend.encode({"status": "SUCCESS", "result": "first", "task_id": "a"})

    def get_and_lose_the_race(key: Any) -> Any:
        held = get(key)
        next(between, lambda: None)()
        return held

    backend.get = get_and_lose_the_race
    assert not backend.mark_as_failure("a", ValueError("second"))
    assert backend.get_result("a") == "first"


def as_text(held: Any) -> Any:
    return held.decode() if isinstance(held, bytes) else held


class TextStore(ListingStore):
    def get(self, key: Any) -> Any:
        return as_text(super().get(key))


class TextSwappingStore(SwappingStore):
    def get(self, key: Any) -> Any:
        return as_text(super().get(key))

    def compare_and_set(self, key: Any, old: Any, new: bytes) -> bool:
        return super().compare_and_set(key, old.encode() if isinstance(old, str) else old, new)


@pytest.mark.parametrize("kind", [TextStore, TextSwappingStore])
def test_a_payload_may_come_back_as_text(kind):
    backend = store(kind)
    backend.mark_as_done("a", "é")
    assert backend.get_result("a") == "é"
    assert not backend.mark_as_started("a")
    backend.save_group("g", backend.app.GroupResult("g", [backend.app.AsyncResult("a")]))
    assert backend.restore_group("g").join(0) == ["é"]


def test_a_record_in_a_serializer_that_is_refused_here_is_still_guarded():
    backend = store(DictStore)
    for serializer in ("pickle", "msgpack", "json"):
        meta = {"status": "SUCCESS", "result": 1, "task_id": serializer}
        backend.data[backend.get_key_for_task(serializer)] = encode(meta, serializer)
        assert not backend.mark_as_started(serializer)
    backend.data[backend.get_key_for_task("text")] = '{"status": "SUCCESS", "result": '
    assert not backend.mark_as_started("text")


@pytest.mark.parametrize("payload", [b"\x00\x01", b"[1]", b"{}", b'{"status": 5}', b"nothing"])
def test_a_damaged_record_gives_way_to_any_write(payload):
    backend = store(SwappingStore)
    backend.data[backend.get_key_for_task("a")] = payload
    with pytest.raises(CorruptRecord, match="task 'a'"):
        backend.get_state("a")
    assert backend.mark_as_started("a")
    assert backend.get_state("a") == "STARTED"


def test_without_a_ttl_records_carry_their_expiry():
    backend = store(ListingStore, result_expires=timedelta(seconds=60))
    now = [1000.0]
    backend.clock = lambda: now[0]
    for task_id, expires in (("a", None), ("b", 5), ("never", 0)):
        backend.store_result(task_id, 1, "SUCCESS", expires=expires)
    assert json.loads(backend.data[b"celery-task-meta-a"])["expires_at"] == 1060.0
    assert b"expires_at" not in backend.data[b"celery-task-meta-never"]
    backend.save_group("g", backend.app.GroupResult("g", []))
    now[0] += 10
    assert backend.presence("b") is Presence.EXPIRED
    assert backend.mark_as_started("b")  # what has expired guards nothing
    now[0] += 100
    assert backend.restore_group("g") is None
    assert sorted(row.task_id for row in backend.query()) == ["never"]
    assert (backend.cleanup(), backend.cleanup()) == (2, 0)
    assert list(backend.data) == [b"celery-task-meta-never"]


def test_a_value_that_speaks_of_expiry_does_not_expire():
    backend = store(DictStore)
    backend.store_result("a", {"expires_at": 1.0}, "SUCCESS", expires=0)
    assert backend.get_result("a") == {"expires_at": 1.0}
    backend.data[backend.get_key_for_task("broken")] = b'{"expires_at": '
    with pytest.raises(CorruptRecord):
        backend.get_state("broken")


def test_cleanup_is_made_in_batches():
    backend = store(ListingStore)
    now = [1000.0]
    backend.clock = lambda: now[0]
    for n in range(25):
        backend.store_result(f"t{n}", 1, "SUCCESS", expires=1)
    now[0] += 2
    assert backend.do_cleanup(10) == 10
    assert len(backend.data) == 15
    assert backend.cleanup() == 15


def test_records_are_listed_and_filtered():
    backend = store(ListingStore, result_extended=True)
    request = {
        "task": "add",
        "hostname": "w1",
        "group": "g",
        "parent_id": "p",
        "root_id": "r",
        "args": [],
        "kwargs": {},
    }
    backend.clock = lambda: 1002.0  # of what is not ready; the others say when they were done
    backend.mark_as_done("a", 1, {**request, "delivery_info": {"routing_key": "q"}, "retries": 3})
    backend.mark_as_failure("b", ValueError("x"), request={**request, "task": "mul", "hostname": "w2"})
    backend.mark_as_started("c")
    backend.data[backend.get_key_for_task("broken")] = b"nothing"
    backend.data[backend.get_key_for_task("undated")] = b'{"status": "SUCCESS", "date_done": "soon"}'
    rows = {row.task_id: row for row in backend.query()}
    assert {task_id: row.state for task_id, row in rows.items()} == {
        "a": "SUCCESS", "b": "FAILURE", "c": "STARTED", "broken": "UNREADABLE", "undated": "SUCCESS",
    }  # fmt: skip
    row = rows["a"]
    assert (row.name, row.worker, row.queue, row.group_id, row.parent_id, row.root_id, row.attempt) == (
        "add", "w1", "q", "g", "p", "r", 3,
    )  # fmt: skip
    assert row.done is not None
    assert rows["c"].done is None
    asked = [
        (Query(states=("FAILURE", "STARTED")), {"b", "c"}), (Query(name="add"), {"a"}),
        (Query(worker="w2"), {"b"}), (Query(since=1001.0), {"a", "b", "c"}),
        (Query(group_id="g"), {"a", "b"}), (Query(parent_id="p", name="mul"), {"b"}),
        (Query(until=1001.0), {"broken", "undated"}), (Query(until=1003.0), {"c", "broken", "undated"}),
        (Query(name="none"), set()),
    ]  # fmt: skip
    for query, wanted in asked:
        assert {each.task_id for each in backend.query(query)} == wanted
    assert len(list(backend.query(Query(limit=2)))) == 2


def test_what_vanishes_while_it_is_listed_is_left_out():
    backend = store(ListingStore)
    backend.mark_as_done("a", 1)
    backend._task_ids = lambda: ["a", "gone"]
    assert [row.task_id for row in backend.query()] == ["a"]


def test_leases():
    backend = store(SwappingStore)
    now = [1000.0]
    backend.clock = lambda: now[0]
    assert backend.do_lease(["a", "b"], "one", 10.0) == {"a", "b"}
    assert backend.do_lease(["a", "c"], "two", 10.0) == {"c"}
    assert backend.do_lease(["a"], "one", 10.0) == {"a"}
    assert backend.do_lease(["a"], "two", 0.0) == frozenset()  # it is not theirs to give up
    assert backend.do_lease(["a"], "two", 10.0) == frozenset()
    assert backend.do_lease(["b"], "one", 0.0) == frozenset()
    assert backend.do_lease(["b"], "two", 10.0) == {"b"}
    now[0] += 11
    assert backend.do_lease(["a"], "two", 10.0) == {"a"}


def test_many_writers_one_winner():
    backend = store(SwappingStore)
    landed = []
    threads = [
        threading.Thread(target=lambda n=n: landed.append(bool(backend.mark_as_done("a", n))))
        for n in range(30)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(landed) == [False] * 29 + [True]


def test_an_engine_may_declare_its_own_capabilities():
    class Own(SwappingStore):
        capabilities = SwappingStore.capabilities

    assert Own.capabilities is SwappingStore.capabilities


def test_a_damaged_barrier_is_an_error_that_names_it():
    backend = store(SwappingStore)
    backend.open_chord("g", ["a"], {"task": "total"})
    backend.data[b"chord-unlock-g"] = b"nonsense"
    with pytest.raises(CorruptRecord, match="chord-unlock-g"):
        backend.chord_state("g")
    backend.close()
