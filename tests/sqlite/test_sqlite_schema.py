"""The file's schema: made once, refused where it is not ours, queryable by people."""

from __future__ import annotations

import multiprocessing
import shutil

import apsw
import pytest

from settled.backends.sqlite import schema, statements
from settled.errors import SchemaError
from settled.record import Settle
from tests.sqlite.conftest import backend_at

JSON = b'{"status": "SUCCESS", "result": {"n": 7}}'


def test_nothing_is_opened_by_the_constructor(path, opened):
    opened()
    assert not path.exists()


def test_the_file_says_whose_it_is_and_of_which_version(backend, raw):
    backend.do_read(["any"])
    assert raw("PRAGMA application_id") == [(schema.APPLICATION_ID,)]
    assert raw("PRAGMA user_version") == [(len(statements.migrations()),)]
    assert raw("PRAGMA journal_mode") == [("wal",)]


def test_people_can_query_the_records_with_sql(backend, raw):
    backend.do_settle(Settle("a", "STARTED", b'{"status": "STARTED"}', worker="w1"))
    backend.do_settle(Settle("a", "SUCCESS", JSON, name="pkg.add", attempt=2, expires=60, root_id="r"))
    row = raw(
        "SELECT state, name, worker, attempt, size, record ->> '$.result.n', typeof(record) FROM settled_task"
    )
    assert row == [("SUCCESS", "pkg.add", "w1", 2, len(JSON), 7, "text")]
    [times] = raw(
        "SELECT created <= started, started <= done, done = updated, expires > done + 59 FROM settled_task"
    )
    assert times == (1, 1, 1, 1)


def test_what_is_no_json_is_stored_as_it_is(backend, raw):
    for task_id, payload in (("packed", b"\x81\xa6status"), ("broken", b"{\xff\xfe"), ("empty", b"")):
        backend.do_settle(Settle(task_id, "SUCCESS", payload))
        assert backend.do_read([task_id]) == {task_id: payload}
    assert raw("SELECT DISTINCT typeof(record) FROM settled_task") == [("blob",)]


def _settle_one(path, number, barrier):
    barrier.wait(30)
    backend = backend_at(path)
    assert backend.do_settle(Settle(f"t{number}", "SUCCESS", JSON))
    backend.close()


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_ten_processes_may_create_the_file_at_once(path, raw, method):
    context = multiprocessing.get_context(method)
    barrier = context.Barrier(10)
    processes = [context.Process(target=_settle_one, args=(path, n, barrier)) for n in range(10)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 10
    assert raw("SELECT count(*) FROM settled_task") == [(10,)]
    assert raw("PRAGMA integrity_check") == [("ok",)]


def test_a_newer_schema_is_refused_and_left_alone(path, opened, raw):
    opened().do_settle(Settle("a", "SUCCESS", JSON))
    raw("PRAGMA user_version = 99")
    with pytest.raises(SchemaError, match=r"results\.db has schema version 99.* up to 1: upgrade settled"):
        opened().do_read(["a"])
    assert raw("SELECT task_id FROM settled_task") == [("a",)]


@pytest.mark.parametrize(
    "sql", ["CREATE TABLE theirs (x)", "PRAGMA user_version = 3", "PRAGMA application_id = 252006675"]
)
def test_another_programs_database_is_refused_and_left_alone(path, backend, sql):
    db = apsw.Connection(str(path))
    db.execute(sql)
    db.close()
    before = path.read_bytes()
    with pytest.raises(
        SchemaError, match=r"results\.db is an SQLite database of another program.*file of its own"
    ):
        backend.do_settle(Settle("a", "SUCCESS", JSON))
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"name,size\n" * 1000, b"a note", b"\0" * 8192])
def test_a_file_that_is_no_database_is_refused_and_left_alone(path, backend, content):
    path.write_bytes(content)
    with pytest.raises(SchemaError, match=r"results\.db is not an SQLite database.*file of its own"):
        backend.do_read(["a"])
    assert path.read_bytes() == content


def test_an_empty_file_is_ours_to_fill(path, backend):
    path.touch()
    assert backend.do_settle(Settle("a", "SUCCESS", JSON))


def test_a_file_that_lost_its_write_ahead_mode_gets_it_back(path, opened, raw):
    backend = opened()
    backend.do_settle(Settle("a", "SUCCESS", JSON))
    backend.close()
    db = apsw.Connection(str(path))
    assert db.pragma("journal_mode", "delete") == "delete"
    db.close()
    assert backend.do_read(["a"])
    assert raw("PRAGMA journal_mode") == [("wal",)]


def test_a_migration_that_fails_leaves_nothing_behind(path, backend, monkeypatch):
    good = statements.migrations()
    monkeypatch.setattr(
        statements, "migrations", lambda: [*good, "CREATE TABLE half (x); CREATE TABLE half (x)"]
    )
    with pytest.raises(SchemaError.__base__, match="already exists"):
        backend.do_read(["a"])
    db = apsw.Connection(str(path))
    assert db.execute("SELECT count(*) FROM sqlite_schema").fetchall() == [(0,)]
    db.close()


def test_an_older_schema_is_migrated_and_keeps_its_records(path, opened, raw, monkeypatch):
    backend = opened()
    backend.do_settle(Settle("a", "SUCCESS", JSON))
    backend.close()
    newer = [*statements.migrations(), "ALTER TABLE settled_task ADD COLUMN colour TEXT"]
    monkeypatch.setattr(statements, "migrations", lambda: newer)
    assert backend.do_read(["a"]) == {"a": JSON.decode()}
    assert raw("SELECT colour FROM settled_task") == [(None,)]
    assert raw("PRAGMA user_version") == [(len(newer),)]


def test_a_copy_of_a_closed_file_is_a_whole_store(path, tmp_path, backend):
    backend.do_settle(Settle("a", "SUCCESS", JSON))
    backend.close()
    shutil.copy(path, tmp_path / "copy.db")
    copy = backend_at(tmp_path / "copy.db")
    assert copy.do_read(["a"]) == {"a": JSON.decode()}
    copy.close()
