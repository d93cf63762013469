"""Records: the transition rule as the store enforces it, tombstones, expiry, ids, a seq for each write."""

from __future__ import annotations

import itertools
import json
import time

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from settled import states
from settled.record import Gone, Settle
from tests.sqlite.conftest import backend_at

STATES = ["PENDING", "RECEIVED", "STARTED", "RETRY", "PROGRESS", "SUCCESS", "FAILURE", "REVOKED"]


def write(task_id: str, state: str, attempt: int = 0, number: int = 0, **more: object) -> Settle:
    """Two with the same `number` may have the same bytes: they are one write, repeated."""
    payload = {"status": state, "attempt": attempt, "number": number}
    return Settle(task_id, state, json.dumps(payload).encode(), attempt, **more)


@pytest.fixture
def clock(backend):
    """A clock that stands still until it is set."""
    now = [1_800_000_000.0]
    backend.clock = lambda: now[0]
    return now


def test_every_transition_is_the_one_that_the_rule_allows(backend):
    pairs = itertools.product(itertools.product(STATES, (0, 1, 2)), repeat=2)
    for (old, old_attempt), (new, new_attempt) in pairs:
        task_id = f"{old}-{old_attempt}-{new}-{new_attempt}"
        first, second = write(task_id, old, old_attempt), write(task_id, new, new_attempt, number=1)
        assert backend.do_settle(first)
        settled = backend.do_settle(second)
        expected = states.may_replace(old, old_attempt, new, new_attempt)
        assert (settled.landed, settled.state) == (expected, new if expected else old), task_id
        stored = second if expected else first
        assert backend.do_read([task_id]) == {task_id: stored.payload.decode()}


@settings(max_examples=50, deadline=None)
@given(writes=st.lists(st.tuples(st.sampled_from(STATES), st.integers(0, 2)), min_size=1, max_size=8))
def test_a_run_of_writes_ends_as_the_rule_says(tmp_path_factory, writes):
    backend = backend_at(tmp_path_factory.mktemp("run") / "results.db")
    state: str | None = None
    attempt = 0
    for number, (new, new_attempt) in enumerate(writes):
        landed = backend.do_settle(write("t", new, new_attempt, number)).landed
        assert landed == states.may_replace(state, attempt, new, new_attempt)
        if landed:
            state, attempt = new, new_attempt
    assert f'"{state}", "attempt": {attempt}' in str(backend.do_read(["t"])["t"])
    backend.close()


def test_what_earlier_writes_knew_is_kept(backend, clock, raw):
    backend.do_settle(write("t", "RECEIVED", queue="q", group_id="g", parent_id="p", root_id="r"))
    clock[0] += 1
    backend.do_settle(write("t", "STARTED", name="n", worker="w"))
    clock[0] += 1
    backend.do_settle(write("t", "STARTED", worker="w2"))
    clock[0] += 1
    backend.do_settle(write("t", "SUCCESS", 3))
    columns = "name, worker, queue, group_id, parent_id, root_id, attempt"
    assert raw(f"SELECT {columns} FROM settled_task") == [("n", "w2", "q", "g", "p", "r", 3)]
    start = clock[0] - 3
    [times] = raw("SELECT created, started, done, updated FROM settled_task")
    assert times == (start, start + 1, start + 3, start + 3)


@pytest.mark.parametrize(
    "task_id",
    ["a/b", "../../etc/passwd", "a\nb", "a\0b", "' OR 1=1 --", '"', "a%00b", "[1]", "😀" * 256, " ", "\x7f"],
)
def test_an_id_is_any_text_and_means_itself_alone(backend, task_id):
    backend.do_settle(write(task_id, "SUCCESS"))
    backend.do_settle(write("a", "FAILURE"))
    assert set(backend.do_read([task_id, task_id + "x", task_id[:-1] or "x"])) <= {task_id, "a"}
    assert backend.do_read([task_id]) == backend.do_read([task_id, "other"])
    backend.do_forget([task_id])
    assert backend.do_read([task_id, "a"])[task_id] is Gone.FORGOTTEN
    assert isinstance(backend.do_read(["a"])["a"], str)


@pytest.mark.parametrize("count", [0, 1, 2, 1000, 3000])
def test_many_are_read_at_once(backend, count):
    task_ids = [f"t{number}" for number in range(count)]
    for task_id in task_ids:
        backend.do_settle(write(task_id, "SUCCESS"))
    assert set(backend.do_read([*task_ids, "unknown"])) == set(task_ids)
    assert set(backend.do_read(task_ids * 2)) == set(task_ids)


# -- forgotten and expired -----------------------------------------------------------------------


def test_a_forgotten_record_leaves_a_tombstone_for_a_day_and_no_trace_of_its_content(backend, clock, raw):
    backend.do_settle(
        write("t", "SUCCESS", name="secret", worker="secret", group_id="secret", parent_id="secret")
    )
    backend.do_settle(write("later", "SUCCESS"))
    backend.do_forget(["t", "never-there"])
    backend.do_forget(["t"])
    assert backend.do_read(["t", "never-there"]) == {"t": Gone.FORGOTTEN}
    assert "secret" not in str(raw("SELECT * FROM settled_task"))
    clock[0] += 25 * 3600
    backend.do_cleanup(10)
    assert backend.do_read(["t"]) == {}
    assert raw("SELECT count(*) FROM settled_task WHERE task_id = 't'") == [(0,)]


def test_an_expired_record_is_gone_for_readers_at_once_and_for_good_after_a_day(backend, clock, raw):
    backend.do_settle(write("t", "SUCCESS", expires=10))
    backend.do_settle(write("kept", "SUCCESS"))
    clock[0] += 9.9
    assert backend.do_read(["t"]) == {"t": '{"status": "SUCCESS", "attempt": 0, "number": 0}'}
    clock[0] += 0.1
    assert backend.do_read(["t"]) == {"t": Gone.EXPIRED}
    assert backend.do_read(["t", "kept"])["t"] is Gone.EXPIRED
    assert backend.do_cleanup(10) == 1
    assert raw("SELECT record, size FROM settled_task WHERE task_id = 't'") == [(None, 0)]
    assert backend.do_read(["t"]) == {"t": Gone.EXPIRED}
    assert backend.do_cleanup(10) == 0
    clock[0] += 25 * 3600
    assert backend.do_cleanup(10) == 0
    assert list(backend.do_read(["t", "kept"])) == ["kept"]


@pytest.mark.parametrize("way", ["forgotten", "expired", "expired and cleaned up"])
@pytest.mark.parametrize("before", ["STARTED", "SUCCESS"])
@pytest.mark.parametrize("state", STATES)
def test_a_write_after_that_is_the_first_of_a_fresh_record(backend, clock, raw, way, before, state):
    old = write(
        "t", before, 5, expires=10, name="old", worker="old", queue="old", group_id="old", parent_id="old"
    )
    backend.do_settle(old)
    clock[0] += 20
    if way == "forgotten":
        clock[0] -= 15
        backend.do_forget(["t"])
    elif way == "expired and cleaned up":
        backend.do_cleanup(10)
    assert backend.do_settle(write("t", state)).landed
    assert backend.do_read(["t"]) == {"t": write("t", state).payload.decode()}
    columns = "state, gone, name, worker, queue, group_id, parent_id, attempt, created, expires, started"
    started = clock[0] if state == "STARTED" else None
    expected = (state, None, None, None, None, None, None, 0, clock[0], None, started)
    assert raw(f"SELECT {columns} FROM settled_task") == [expected]


def test_an_unready_record_expires_too(backend, clock):
    backend.do_settle(write("t", "STARTED", expires=10))
    clock[0] += 10
    assert backend.do_read(["t"]) == {"t": Gone.EXPIRED}
    assert backend.do_cleanup(10) == 1


def test_cleanup_takes_no_more_than_it_was_allowed_and_keeps_what_has_not_expired(backend, clock):
    for number in range(25):
        backend.do_settle(write(f"t{number}", STATES[number % 8], expires=10 + number % 2))
    clock[0] += 10.5
    assert [backend.do_cleanup(5) for _ in range(4)] == [5, 5, 3, 0]
    clock[0] += 1
    assert [backend.do_cleanup(20), backend.do_cleanup(20)] == [12, 0]


def test_cleanup_with_nothing_to_do_takes_no_lock(backend, raw):
    backend.do_settle(write("t", "SUCCESS", expires=10))
    raw("BEGIN IMMEDIATE")
    assert backend.do_cleanup(10) == 0
    assert backend.do_due_chords(10) == []
    raw("COMMIT")


def test_cleanup_drops_expired_groups_and_leases(backend, clock, raw):
    backend.do_write_group("g", b'{"result": []}', 10)
    backend.do_write_group("kept", b'{"result": []}', None)
    backend.do_lease(["a", "b"], "me", 10)
    clock[0] += 9
    backend.do_lease(["b"], "me", 10)
    clock[0] += 1
    assert backend.do_read_group("g") is None
    assert backend.do_cleanup(10) == 0
    assert raw("SELECT group_id FROM settled_group") == [("kept",)]
    assert raw("SELECT name FROM settled_lease") == [("b",)]


# -- seq: the order of writes, which listeners read on from ------------------------------------------


def test_each_write_moves_its_row_behind_all_others(backend, raw):
    for task_id, state in (
        ("a", "STARTED"),
        ("b", "STARTED"),
        ("a", "SUCCESS"),
        ("b", "PENDING"),
        ("c", "FAILURE"),
    ):
        backend.do_settle(write(task_id, state))
    assert [task_id for (task_id,) in raw("SELECT task_id FROM settled_task ORDER BY seq")] == ["b", "a", "c"]


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["write", "forget", "sleep", "cleanup"]), st.sampled_from("abc")),
        max_size=20,
    )
)
def test_no_seq_is_given_out_twice(tmp_path_factory, steps):
    backend = backend_at(tmp_path_factory.mktemp("seq") / "results.db")
    now = [time.time()]
    backend.clock = lambda: now[0]
    newest = 0
    for number, (step, task_id) in enumerate(steps):
        if step == "write" and backend.do_settle(write(task_id, "SUCCESS", 0, number, expires=3600)):
            [(seq,)] = backend._store.read(
                lambda db, given: db.execute(
                    "SELECT seq FROM settled_task WHERE task_id = ?", (given,)
                ).fetchall(),
                task_id,
            )
            assert seq > newest
            newest = seq
        elif step == "forget":
            backend.do_forget([task_id])
        elif step == "sleep":
            now[0] += 20 * 3600
        elif step == "cleanup":
            backend.do_cleanup(10)
        assert backend._store.read(_unlooked) == []
    backend.close()


def _unlooked(db: apsw.Connection) -> list[tuple]:
    """Rows that cleanup would not find in time."""
    return db.execute(
        "SELECT task_id FROM settled_task LEFT JOIN settled_expiry ON block = seq >> 10"
        " WHERE expires IS NOT NULL AND (soonest IS NULL OR soonest > expires)"
    ).fetchall()


def test_cleanup_finds_what_expires_among_thousands_and_looks_where_it_has_to(backend, clock, raw):
    for number in range(3000):
        backend.do_settle(write(f"t{number}", "SUCCESS", expires=10 if number % 100 == 7 else 1000))
    assert raw("SELECT block FROM settled_expiry") == [(0,), (1,), (2,)]
    clock[0] += 10
    assert [backend.do_cleanup(20), backend.do_cleanup(20), backend.do_cleanup(20)] == [20, 10, 0]
    assert raw("SELECT count(*) FROM settled_expiry WHERE soonest <= ?", clock[0]) == [(0,)]
    clock[0] += 1000
    assert backend.do_cleanup(5000) == 2970
    clock[0] += 25 * 3600
    assert backend.do_cleanup(5000) == 0
    assert raw("SELECT task_id FROM settled_task") == [("t2999",)]  # the highest seq stays


def test_groups_are_written_read_replaced_and_deleted(backend):
    assert backend.do_read_group("g") is None
    backend.do_write_group("g", b'{"result": 1}', None)
    backend.do_write_group("g", b"\x81packed", 60)
    assert backend.do_read_group("g") == b"\x81packed"
    backend.do_delete_group("g")
    backend.do_delete_group("g")
    assert backend.do_read_group("g") is None


def test_a_lease_has_one_holder_until_it_lets_go_or_is_late(backend, clock):
    assert backend.do_lease(["a", "b", "b"], "me", 10) == {"a", "b"}
    assert backend.do_lease(["b", "c"], "you", 10) == {"c"}
    clock[0] += 9
    assert backend.do_lease(["a"], "me", 10) == {"a"}
    clock[0] += 1
    assert backend.do_lease(["a", "b"], "you", 10) == {"b"}
    assert backend.do_lease(["a", "b"], "you", 0) == frozenset()
    assert backend.do_lease(["a", "b"], "me", 10) == {"a", "b"}
    assert backend.do_lease([], "me", 10) == frozenset()
