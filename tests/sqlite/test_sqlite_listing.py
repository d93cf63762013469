"""Listings: what matches, the latest write first, found by an index where the rows are few."""

from __future__ import annotations

import pytest

from settled.backends.sqlite import listing
from settled.record import Query, Settle


@pytest.fixture
def clock(backend):
    now = [1000.0]
    backend.clock = lambda: now[0]
    return now


@pytest.fixture
def filled(backend, clock):
    for number in range(1200):
        clock[0] = 1000.0 + number
        backend.do_settle(
            Settle(
                f"t{number}",
                "FAILURE" if number % 100 == 7 else "STARTED" if number % 100 == 8 else "SUCCESS",
                b'{"n": 1}',
                attempt=number % 3,
                name=f"name{number % 4}",
                worker=f"worker{number % 5}",
                group_id=f"group{number // 100}" if number % 2 else None,
                parent_id="t0" if number % 50 == 1 else None,
                root_id="t0",
                queue="q",
            )
        )
    return backend


def found(backend, **query: object) -> list[int]:
    return [int(row.task_id[1:]) for row in backend.do_query(Query(**query))]


def test_a_row_has_every_column(filled):
    [row] = filled.do_query(Query(limit=1))
    assert (row.task_id, row.state, row.name, row.worker, row.queue) == (
        "t1199",
        "SUCCESS",
        "name3",
        "worker4",
        "q",
    )
    assert (row.group_id, row.parent_id, row.root_id, row.attempt) == ("group11", None, "t0", 2)
    assert (row.created, row.started, row.done, row.expires, row.size) == (2199.0, None, 2199.0, None, 8)


@pytest.mark.parametrize("limit", [0, 1, 499, 500, 501, 1199, 1200, 5000])
def test_the_latest_come_first_and_no_more_than_the_limit(filled, limit):
    assert found(filled, limit=limit) == list(range(1199, -1, -1))[:limit]


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ({"states": ("FAILURE",)}, lambda n: n % 100 == 7),
        ({"states": ("FAILURE", "STARTED", "NONE")}, lambda n: n % 100 in (7, 8)),
        ({"states": ("SUCCESS", "FAILURE")}, lambda n: n % 100 != 8),
        ({"name": "name2"}, lambda n: n % 4 == 2),
        ({"worker": "worker1", "name": "name1"}, lambda n: n % 5 == 1 and n % 4 == 1),
        ({"group_id": "group3"}, lambda n: n // 100 == 3 and n % 2),
        ({"parent_id": "t0"}, lambda n: n % 50 == 1),
        ({"parent_id": "t0", "group_id": "group2", "states": ("SUCCESS",)}, lambda n: n in (201, 251)),
        ({"since": 1100.0}, lambda n: n >= 100),
        ({"until": 1100.0}, lambda n: n < 100),
        ({"since": 1100.0, "until": 1200.0, "states": ("FAILURE",)}, lambda n: n == 107),
        ({"name": "x' OR 1=1 --"}, lambda n: False),
    ],
)
def test_every_field_that_is_given_must_match(filled, query, matches):
    assert found(filled, limit=5000, **query) == [n for n in range(1199, -1, -1) if matches(n)]


def test_what_has_expired_or_is_forgotten_is_not_listed(backend, clock):
    for number, expires in ((0, 10), (1, None), (2, None)):
        backend.do_settle(Settle(f"t{number}", "SUCCESS", b"{}", expires=expires))
    backend.do_forget(["t1"])
    clock[0] += 10
    assert found(backend) == [2]
    backend.do_cleanup(10)
    assert found(backend) == [2]


def test_a_listing_that_is_read_slowly_holds_nothing_up(filled, raw):
    rows = filled.do_query(Query(limit=5000))
    next(rows)
    raw("PRAGMA wal_checkpoint(TRUNCATE)")
    filled.do_settle(Settle("t5000", "SUCCESS", b"{}"))
    assert len(list(rows)) == 1199


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ({"states": ("FAILURE",)}, "settled_task_state"),
        ({"states": ("FAILURE", "REVOKED", "RETRY")}, "settled_task_state"),
        ({"group_id": "g"}, "settled_task_group"),
        ({"parent_id": "p"}, "settled_task_parent"),
        ({"group_id": "g", "name": "n"}, "settled_task_group"),
        ({}, "INTEGER PRIMARY KEY"),
        ({"name": "n"}, "INTEGER PRIMARY KEY"),
        ({"states": ("SUCCESS",)}, "INTEGER PRIMARY KEY"),
    ],
)
def test_the_few_are_found_by_their_index(filled, raw, query, index):
    sql, given = listing._statement(Query(**query))
    plan = raw(f"EXPLAIN QUERY PLAN {sql}", 1.0, listing.FIRST, *given, 100)
    assert plan[0][3].startswith(("SEARCH settled_task", "SCAN settled_task"))
    assert index in plan[0][3]
