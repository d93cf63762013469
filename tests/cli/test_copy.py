"""`settled copy`: what Celery's own backends have written, read by Celery and, copied, by settled."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pickle
import pty
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

import settled
from settled.backends.base import KeyValueStoreBackend
from settled.cli.landing import Fate, Landing, Tally
from settled.cli.sources.form import Stored
from settled.record import Capabilities
from settled.testing.app import RecordingApp
from tests.cli.filling import (
    WRITER,
    Filled,
    as_utc,
    assert_copied,
    assert_interrupted_and_gone_on,
    fill,
    fill_kind,
    opened,
)
from tests.servers import Sentinels, Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start("redis7") as started:
        yield started


@pytest.fixture
def redis(server: Server) -> Server:
    server.ask("FLUSHALL")
    return server


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Filled]:
    """Stores of files, each made once: they are only read."""
    made: dict[str, Filled] = {}

    def get(kind: str, **options: object) -> Filled:
        key = f"{kind} {options}"
        if key not in made:
            made[key] = fill_kind(kind, tmp_path_factory.mktemp(kind), **options)
        return made[key]

    return get


# -- what is copied --------------------------------------------------------------------------------


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
@pytest.mark.parametrize("kind", ["file", "db", "django"])
def test_everything_that_celery_reads_is_copied_and_the_source_stays_as_it_is(main, filled, kind, serializer):
    source = filled(kind, serializer=serializer, extended=1)
    told = ["--serializer", serializer] if kind == "db" else []
    before = fingerprint(source.url)
    ran = main("copy", source.url, "sqlite:///copied.db", *told)
    assert ran.stdout == f"copied {len(source.tasks)} results and 2 groups; 0 damaged\n"
    assert (ran.returncode, ran.stderr) == (0, "")
    assert fingerprint(source.url) == before
    with opened("sqlite:///copied.db") as backend:
        assert_copied(source, backend)


def fingerprint(url: str) -> object:
    """What there is of a store of files: names, contents, times."""
    path = Path(url.partition("://")[2])
    path = path if path.is_absolute() and path.exists() else Path("/" + str(path).lstrip("/"))
    files = sorted(path.iterdir()) if path.is_dir() else sorted(path.parent.glob(f"{path.name}*"))
    assert files
    return [
        (file.name, file.stat().st_mtime_ns, hashlib.sha256(file.read_bytes()).digest()) for file in files
    ]


@pytest.mark.parametrize("options", [{}, {"extended": 1, "serializer": "msgpack"}, {"compression": "gzip"}])
def test_celerys_redis_is_copied_to_redis_byte_for_byte_with_its_expiry(main, redis, tmp_path, options):
    source = fill("redis", tmp_path, redis.url, expires=1000, **options)
    target = redis.url.removesuffix("/0") + "/1"
    with redis.client() as raw:
        raw.persist("celery-task-meta-bare")
        ran = main("copy", redis.url, target)
        assert ran.stdout == f"copied {len(source.tasks)} results and 2 groups; 0 damaged\n"
        for key in raw.scan_iter():
            before, left = raw.get(key), raw.pttl(key)
            raw.select(1)
            copied, kept = raw.get(key), raw.pttl(key)
            raw.select(0)
            assert copied == before
            assert (left == -1) == (key == b"celery-task-meta-bare")
            assert kept == (-1 if left == -1 else pytest.approx(left, abs=30_000))
    with opened(target) as backend:
        assert_copied(source, backend)


def test_celerys_redis_is_copied_to_sqlite_and_nothing_is_written_to_it(main, redis, tmp_path):
    source = fill("redis", tmp_path, redis.url, extended=1, expires=1000)
    with redis.client() as raw:
        before = raw.info("persistence")["rdb_changes_since_last_save"]
        assert main("copy", redis.url, "settled+sqlite:///copied.db").returncode == 0
        assert raw.info("persistence")["rdb_changes_since_last_save"] == before
    with opened("sqlite:///copied.db") as backend:
        assert_copied(source, backend)
        (row,) = [row for row in backend.query() if row.task_id == "parent"]
        assert (row.name, row.worker, row.queue, row.group_id, row.parent_id, row.attempt) == (
            "shop.orders.ship", "celery@host", "orders", "the-group", "above", 0,
        )  # fmt: skip
        done = as_utc(source.tasks["parent"]["date_done"])
        assert row.done == pytest.approx(done.timestamp())
        assert 0 < row.expires - backend.clock() <= 1000


def test_in_celerys_own_store_everything_is_there_already(main, redis, tmp_path):
    source = fill("redis", tmp_path, redis.url)
    with redis.client() as raw:
        before = raw.info("persistence")["rdb_changes_since_last_save"]
        said = f"copied 0 results and 0 groups; {len(source.tasks) + 2} there already; 0 damaged\n"
        assert main("copy", redis.url, redis.url).stdout == said
        assert raw.info("persistence")["rdb_changes_since_last_save"] == before


@pytest.mark.parametrize("scheme", ["socket", "redis+socket", "unix"])
def test_celerys_redis_is_read_by_its_socket(main, tmp_path, scheme):
    socket = tmp_path / "redis.sock"
    with Server.start("redis7", options={"unixsocket": str(socket)}) as server:
        with server.client() as raw:
            raw.select(3)
            raw.set("celery-task-meta-here", b'{"status": "SUCCESS", "result": 1}')
        option = "db" if scheme == "unix" else "virtual_host"
        ran = main("copy", f"{scheme}://{socket}?{option}=3", "sqlite:///copied.db")
    assert ran.stdout == "copied 1 result and 0 groups; 0 damaged\n"


def test_celerys_redis_is_found_by_sentinels(main, tmp_path):
    with Sentinels.start("redis7") as sentinels:
        with sentinels.master().client() as raw:
            raw.set("celery-task-meta-here", b'{"status": "SUCCESS", "result": 1}')
        ran = main("copy", as_celery_has_it(sentinels.url), "sqlite:///copied.db")
    assert ran.stdout == "copied 1 result and 0 groups; 0 damaged\n"


def as_celery_has_it(url: str) -> str:
    """`sentinel://a/0;sentinel://b/0` for `sentinel://a,b/0`."""
    scheme, _, rest = url.partition("://")
    hosts, slash, path = rest.partition("/")
    return ";".join(f"{scheme}://{host}{slash}{path}" for host in hosts.split(","))


@pytest.mark.parametrize("kind", ["redis", "file"])
def test_the_prefix_is_celerys_global_keyprefix(main, redis, tmp_path, kind):
    source = (
        fill("redis", tmp_path, redis.url, prefix="shop")
        if kind == "redis"
        else fill_kind("file", tmp_path, prefix="shop")
    )
    assert (
        main("copy", source.url, "sqlite:///none.db").stdout == "copied 0 results and 0 groups; 0 damaged\n"
    )
    main("copy", source.url, "sqlite:///copied.db", "--prefix", "shop")
    with opened("sqlite:///copied.db") as backend:
        assert_copied(source, backend)


def test_tables_that_have_other_names_are_named(main, tmp_path):
    source = fill_kind("db", tmp_path, tables="our_tasks,our_groups")
    ran = main("copy", source.url, "sqlite:///copied.db")
    assert "no table celery_taskmeta of Celery's: name the one" in ran.stderr
    main(
        "copy", source.url, "sqlite:///copied.db", "--task-table", "our_tasks", "--group-table", "our_groups"
    )
    with opened("sqlite:///copied.db") as backend:
        assert_copied(source, backend)


def test_a_listing_says_when_a_task_was_done_not_when_it_was_copied(main, folder, tmp_path):
    put_file(tmp_path, "old", date_done="2020-05-01T12:00:00+00:00")
    put_file(tmp_path, "later", date_done="2999-05-01T12:00:00+00:00")
    put_file(tmp_path, "mad", date_done="yesterday")
    assert main("copy", f"file://{tmp_path}", "sqlite:///copied.db").returncode == 0
    with opened("sqlite:///copied.db") as backend:
        done = {row.task_id: row.done for row in backend.query()}
    assert done["old"] == datetime(2020, 5, 1, 12, tzinfo=UTC).timestamp()
    assert done["later"] == pytest.approx(datetime.now(UTC).timestamp(), abs=100)
    assert done["mad"] == pytest.approx(datetime.now(UTC).timestamp(), abs=100)


def put_file(folder: Path, task_id: str, **fields: object) -> None:
    meta = {"status": "SUCCESS", "result": 1, "traceback": None, "children": [], "date_done": None}
    (folder / f"celery-task-meta-{task_id}").write_text(json.dumps({**meta, "task_id": task_id, **fields}))


# -- pickle ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "db", "django"])
def test_pickle_is_refused_unless_it_is_accepted(main, filled, monkeypatch, kind):
    monkeypatch.syspath_prepend(str(WRITER.parent))
    source = filled(kind, serializer="pickle", extended=1)
    ran = main("copy", source.url, "sqlite:///copied.db")
    count = len(source.tasks) + 2
    assert (
        f"copied 0 results and 0 groups; {count} refused (pickle or yaml: see --accept); 0 dam" in ran.stdout
    )
    assert ran.returncode == 1
    assert "payload is pickle" in ran.stderr
    ran = main("copy", source.url, "sqlite:///copied.db", "--accept", "pickle")
    assert ran.stdout == f"copied {len(source.tasks)} results and 2 groups; 0 damaged\n"
    with opened("sqlite:///copied.db") as backend:
        assert_copied(source, backend)


class Bomb:
    def __reduce__(self) -> object:
        return os.mkdir, ("exploded",)


def test_a_pickle_that_runs_code_is_not_run(main, folder, redis, filled, tmp_path):
    bomb = pickle.dumps({"status": "SUCCESS", "result": Bomb()}, protocol=4)
    value = pickle.dumps(Bomb(), protocol=4)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "celery-task-meta-bomb").write_bytes(bomb)
    with redis.client() as raw:
        raw.set("celery-task-meta-bomb", bomb)
    url = copy_of(filled("db"), tmp_path / "bomb.db", "UPDATE celery_taskmeta SET result = ?", value)
    web = copy_of(
        filled("django"),
        tmp_path / "web.db",
        "UPDATE django_celery_results_taskresult SET content_type = 'application/x-python-serialize', "
        "content_encoding = 'binary', meta = NULL, result = ?",
        base64.b64encode(value).decode(),
    )
    for source in (f"file://{tmp_path}/files", redis.url, url, web):
        ran = main("copy", source, "sqlite:///copied.db")
        assert (ran.returncode, ran.stdout.startswith("copied 0 results")) == (1, True)
        assert "refused" in ran.stdout
    assert not Path("exploded").exists()


def copy_of(filled: Filled, path: Path, statement: str, *values: object) -> str:
    """A copy of a database, changed; its URL."""
    scheme, _, source = filled.url.partition(":///")
    path.write_bytes(Path("/" + source.lstrip("/")).read_bytes())
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement, values)
    return f"{scheme}:///{path}"


def test_what_celery_pickled_before_it_minded_the_serializer_is_copied_as_json(
    main, folder, filled, tmp_path
):
    value = pickle.dumps({"all": (1, 2)}, protocol=5)
    url = copy_of(filled("db"), tmp_path / "old.db", "UPDATE celery_taskmeta SET result = ?", value)
    assert "refused" in main("copy", url, "sqlite:///copied.db").stdout
    assert main("copy", url, "sqlite:///copied.db", "--accept", "pickle").returncode == 0
    with settled.connect("sqlite:///copied.db") as backend:
        assert backend.get_result("bare") == {"all": [1, 2]}


def test_a_pickled_value_that_json_has_no_form_for_is_named(main, folder, filled, tmp_path):
    value = pickle.dumps({1 + 2j}, protocol=4)
    url = copy_of(
        filled("db"),
        tmp_path / "old.db",
        "UPDATE celery_taskmeta SET result = ? WHERE task_id = 'bare'",
        value,
    )
    ran = main("copy", url, "sqlite:///copied.db", "--accept", "pickle")
    assert "1 not storable" in ran.stdout
    assert "task bare: result: cannot store set with serializer 'json'" in ran.stderr
    assert main("copy", url, "sqlite:///c.db", "--accept", "pickle", "--serializer", "json").returncode == 1


# -- what is damaged -------------------------------------------------------------------------------


HOSTILE = {
    "half": b'{"status": "SUCC',
    "empty": b"",
    "list": b"[1, 2]",
    "no-status": b'{"result": 1}',
    "number": b'{"status": 7, "result": 1}',
    "surrogate": b'{"status": "\\ud800", "result": 1}',
    "deep": b"[" * 100_000,
    "noise": bytes(range(256)),
    "bomb": b"\0celery-compressed\0application/x-gzip\0" + b"x\x9c\x00",
    "pickle-0": b"cos\nsystem\n(S'touch exploded'\ntR.",
}
ODD = {
    "odd-fields": json.dumps(
        {
            "status": "SUCCESS",
            "result": 1,
            "name": ["x"],
            "worker": {"a": 1},
            "retries": 10**30,
            "queue": "\ud800",
        }
    ).encode(),
    "custom": b'{"status": "half way there", "result": {"unknown": "field"}, "more": [1]}',
    "other-id": b'{"status": "SUCCESS", "result": 1, "task_id": "somebody-else"}',
    "wide": json.dumps({"status": "SUCCESS", "result": "x" * 20_000_000}).encode(),
}


def assert_hostile(ran: subprocess.CompletedProcess[str]) -> None:
    assert ran.returncode == 1, ran.stderr
    report = json.loads(ran.stdout)
    assert report["copied"]["results"] == len(ODD)
    assert report["damaged"] + report["unfit"] == len(report["lost"])
    with opened("sqlite:///copied.db") as backend:
        for task_id, payload in ODD.items():
            assert backend.get_task_meta(task_id) == json.loads(payload)


def test_a_damaged_record_is_named_and_costs_no_other_in_redis(main, folder, redis):
    with redis.client() as raw:
        for task_id, payload in {**HOSTILE, **ODD}.items():
            raw.set(f"celery-task-meta-{task_id}", payload)
        raw.lpush("celery-task-meta-typed", 1)
        raw.set(b"celery-task-meta-\xff\xfe", b'{"status": "SUCCESS"}')
        raw.set(f"celery-task-meta-{'i' * 2000}", b'{"status": "SUCCESS"}')
        raw.set("celery-task-meta-", b'{"status": "SUCCESS"}')
        raw.set("celery-taskset-meta-broken", b'{"result": 1}')
        raw.set("celery-taskset-meta-members", b'{"result": [["members", null], {"a": 1}]}')
        raw.hset("celery-taskset-meta-typed", "a", 1)
    ran = main("copy", redis.url, "sqlite:///copied.db", "--json")
    assert_hostile(ran)
    lost = {(each["id"][:9], each["group"]): each["reason"] for each in json.loads(ran.stdout)["lost"]}
    assert {each for each, group in lost if group} == {"broken", "members", "typed"}
    assert {*HOSTILE, "typed", "iiiiiiiii", ""} <= {each for each, group in lost if not group}
    assert "no string" in lost["typed", False]
    shown = main("copy", redis.url, "sqlite:///copied.db")
    assert "settled copy: task half: damaged json payload" in shown.stderr
    assert shown.stderr.count("\n") == len(lost)
    assert not Path("exploded").exists()


def test_a_damaged_file_is_named_and_costs_no_other(main, folder, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for task_id, payload in {**HOSTILE, **ODD}.items():
        (folder / f"celery-task-meta-{task_id}").write_bytes(payload)
    (folder / "celery-task-meta-folder").mkdir()
    os.mkfifo(folder / "celery-task-meta-pipe")
    (folder / "celery-task-meta-nowhere").symlink_to("missing")
    assert_hostile(main("copy", f"file://{folder}", "sqlite:///copied.db", "--json"))


ROWS = {
    "result": [b"", b"{", "text", 7, 1.5, b"[" * 100_000, "\ud800".encode("utf-8", "surrogatepass")],
    "status": [None, "", 7, b"SUCCESS", "x\ud800".encode("utf-8", "surrogatepass")],
    "date_done": ["soon", b"\xff", 1e300],
    "children": [b"{", 3],
    "task_id": ["", None, "i" * 2000],
}


def test_a_damaged_row_is_named_and_costs_no_other(main, folder, filled, tmp_path):
    source = filled("db")
    url = copy_of(source, tmp_path / "rows.db", "DELETE FROM celery_tasksetmeta")
    with closing(sqlite3.connect(tmp_path / "rows.db")) as db, db:
        count = 0
        for column, values in ROWS.items():
            for value in values:
                count += 1
                row = {
                    "status": "SUCCESS",
                    "result": b"1",
                    "task_id": f"bad-{count}",
                    "date_done": None,
                    column: value,
                }
                db.execute(
                    f"INSERT INTO celery_taskmeta ({','.join(row)}) VALUES (?,?,?,?)"
                    if len(row) == 4
                    else f"INSERT INTO celery_taskmeta ({','.join(row)}) VALUES (?,?,?,?,?)",
                    [*row.values()],
                )
                if isinstance(value, bytes) and column == "status":
                    db.execute(
                        "UPDATE celery_taskmeta SET status = CAST(status AS TEXT) WHERE task_id = ?",
                        (row["task_id"],),
                    )
    ran = main("copy", url, "sqlite:///copied.db", "--json")
    report = json.loads(ran.stdout)
    assert ran.returncode == 1
    assert report["copied"]["results"] + report["damaged"] + report["unfit"] == len(source.tasks) + count
    with opened("sqlite:///copied.db") as backend:
        assert_copied(Filled(url, source.tasks, {}), backend)


def test_a_damaged_row_of_djangos_is_named_and_costs_no_other(main, folder, filled, tmp_path):
    source = filled("django")
    damage = [
        ("value-number", "result = '{'"),
        ("value-text", "content_type = 'application/x-yaml'"),
        ("value-list", "content_encoding = 'binary', result = 'no base64!'"),
        ("value-float", "meta = '[1]'"),
        ("value-none", "date_done = 'soon'"),
        ("value-empty", "content_type = 'text/plain'"),
    ]
    url = copy_of(source, tmp_path / "rows.db", "UPDATE django_celery_results_groupresult SET result = '7'")
    with closing(sqlite3.connect(tmp_path / "rows.db")) as db, db:
        for task_id, change in damage:
            db.execute(f"UPDATE django_celery_results_taskresult SET {change} WHERE task_id = ?", (task_id,))
    ran = main("copy", url, "sqlite:///copied.db", "--json")
    report = json.loads(ran.stdout)
    assert {each["id"] for each in report["lost"]} == {*dict(damage), "the-group", "other"}
    with opened("sqlite:///copied.db") as backend:
        assert_copied(Filled(url, source.tasks, {}), backend, skip=frozenset(dict(damage)))


# -- again, and onto what is there -----------------------------------------------------------------


def test_copying_again_changes_nothing(main, folder, filled):
    source = filled("file", extended=1)
    main("copy", source.url, "sqlite:///copied.db")
    with opened("sqlite:///copied.db") as backend:
        before = list(backend.query())
    ran = main("copy", source.url, "sqlite:///copied.db")
    count = len(source.tasks) + 2
    assert ran.stdout == f"copied 0 results and 0 groups; {count} there already; 0 damaged\n"
    with opened("sqlite:///copied.db") as backend:
        assert list(backend.query()) == before


def test_what_the_target_has_stays_where_it_is_as_far_or_further(main, folder, tmp_path):
    at = "2021-01-01T00:00:00+00:00"
    for task_id, state in (
        ("running", "STARTED"), ("going", "PROGRESS"), ("done", "SUCCESS"), ("newer", "FAILURE"), ("older", "FAILURE"),
        ("raised", "SUCCESS"), ("lapsed", "SUCCESS"), ("forgotten", "SUCCESS"), ("broken", "SUCCESS"),
    ):  # fmt: skip
        put_file(
            tmp_path,
            task_id,
            status=state,
            result={"exc_type": "E"} if state == "FAILURE" else "old",
            date_done=at,
        )
    with opened("sqlite:///copied.db") as backend:
        backend.mark_as_done("running", "new")
        backend.store_result("going", "new", "PROGRESS")
        backend.mark_as_done("done", "new")
        backend.mark_as_failure("newer", ValueError("new"))
        backend.mark_as_started("raised")
        backend.clock = lambda: datetime(2022, 1, 1, tzinfo=UTC).timestamp()
        backend.store_result("lapsed", "new", "SUCCESS", expires=10)
        del backend.clock
        backend.mark_as_done("forgotten", "new")
        backend.forget("forgotten")
        backend.mark_as_done("broken", "new")
        backend.mark_as_failure("older", ValueError("new"))
    with closing(sqlite3.connect("copied.db")) as db, db:
        db.execute("UPDATE settled_task SET record = '{' WHERE task_id = 'broken'")
        db.execute(
            "UPDATE settled_task SET record = json_set(record, '$.date_done', '2020-01-01T00:00:00') "
            "WHERE task_id = 'older'"
        )
    ran = main("copy", f"file://{tmp_path}", "sqlite:///copied.db")
    assert ran.stdout == "copied 3 results and 0 groups; 6 kept as the target has them; 0 damaged\n"
    with opened("sqlite:///copied.db") as backend:
        for task_id in ("running", "going", "done"):
            assert backend.get_result(task_id) == "new"
        assert backend.get_task_meta("newer")["result"]["exc_type"] == "ValueError"
        assert backend.get_task_meta("older")["result"]["exc_type"] == "E"
        for task_id in ("raised", "lapsed"):
            assert backend.get_result(task_id) == "old"
        assert backend.presence("forgotten").value == "forgotten"


def test_an_interrupted_copy_goes_on_where_it_was(main, start, folder, tmp_path):
    source = fill_kind("file", tmp_path, count=3000)
    assert_interrupted_and_gone_on(start, main, source.url, 3000)
    with opened("sqlite:///copied.db") as backend:
        assert_copied(source, backend)


@pytest.mark.parametrize("kind", ["redis", "db"])
def test_ten_thousand_records_are_copied(main, folder, redis, tmp_path, kind):
    count = 10_000
    if kind == "redis":
        url = redis.url
        with redis.client() as raw, raw.pipeline(transaction=False) as pipe:
            for number in range(count):
                meta = {"status": "SUCCESS", "result": number, "task_id": f"task-{number}"}
                pipe.set(f"celery-task-meta-task-{number}", json.dumps(meta), ex=1000)
            pipe.execute()
    else:
        url = fill_kind("db", tmp_path, count=1).url
        with closing(sqlite3.connect(tmp_path / "results.db")) as db, db:
            db.execute("DELETE FROM celery_taskmeta")
            db.executemany(
                "INSERT INTO celery_taskmeta (task_id, status, result) VALUES (?, 'SUCCESS', ?)",
                [(f"task-{number}", json.dumps(number).encode()) for number in range(count)],
            )
    ran = main("copy", url, "sqlite:///copied.db")
    assert ran.stdout == "copied 10,000 results and 0 groups; 0 damaged\n"
    with opened("sqlite:///copied.db") as backend:
        metas = backend.read_many([f"task-{number}" for number in range(count)])
    assert [metas[f"task-{number}"]["result"] for number in range(count)] == [*range(count)]


# -- expiry, chords, dry runs ----------------------------------------------------------------------


def test_what_has_no_expiry_of_its_own_is_given_one(main, folder, tmp_path):
    now = datetime.now(UTC).timestamp()
    put_file(tmp_path, "young", date_done=datetime.fromtimestamp(now - 600, UTC).isoformat())
    put_file(tmp_path, "old", date_done=datetime.fromtimestamp(now - 7200, UTC).isoformat())
    put_file(tmp_path, "running", status="STARTED")
    ran = main("copy", f"file://{tmp_path}", "sqlite:///copied.db", "--expires", "1h")
    assert ran.stdout == "copied 2 results and 0 groups; 1 expired; 0 damaged\n"
    with opened("sqlite:///copied.db") as backend:
        expires = {row.task_id: row.expires - now for row in backend.query()}
    assert expires == {"young": pytest.approx(3000, abs=100), "running": pytest.approx(3600, abs=100)}


def test_chords_under_way_are_told_of_and_their_keys_are_no_groups(main, folder, redis):
    with redis.client() as raw:
        raw.set("celery-taskset-meta-g.s", 3)
        raw.set("celery-taskset-meta-g.t", 1)
        raw.set("celery-taskset-meta-g.c", "token")
        raw.zadd("celery-taskset-meta-g.j", {"part": 1})
        raw.sadd("celery-taskset-meta-g.d", "part")
        raw.set("celery-taskset-meta-named.s", json.dumps({"result": [["named.s", None], []]}))
    ran = main("copy", redis.url, "sqlite:///copied.db")
    assert ran.stdout == "copied 0 results and 1 group; 0 damaged\n"
    assert "1 chord under way there, which cannot be copied" in ran.stderr
    assert ran.returncode == 0


def test_djangos_chords_are_told_of(main, folder, filled, tmp_path):
    url = copy_of(
        filled("django"),
        tmp_path / "chords.db",
        "INSERT INTO django_celery_results_chordcounter (group_id, sub_tasks, count) VALUES ('g', '[]', 2)",
    )
    assert "1 chord under way there" in main("copy", url, "sqlite:///copied.db").stderr


def test_a_dry_run_says_what_would_be_kept(main, folder, tmp_path):
    for task_id in ("there", "kept", "raised", "fresh"):
        put_file(tmp_path, task_id, date_done="2026-01-01T00:00:00+00:00")
    with opened("sqlite:///copied.db") as backend:
        backend.mark_as_done("kept", "new")
        backend.mark_as_started("raised")
    said = "2 results and 0 groups; 1 there already; 1 kept as the target has them; 0 damaged\n"
    (tmp_path / "one").mkdir()
    os.link(tmp_path / "celery-task-meta-there", tmp_path / "one" / "celery-task-meta-there")
    main("copy", f"file://{tmp_path}/one", "sqlite:///copied.db")
    assert (
        main("copy", f"file://{tmp_path}", "sqlite:///copied.db", "--dry-run").stdout == f"would copy {said}"
    )
    assert main("copy", f"file://{tmp_path}", "sqlite:///copied.db").stdout == f"copied {said}"


def test_a_dry_run_writes_nothing_and_says_what_would_be_copied(main, folder, filled, redis):
    source = filled("file", extended=1)
    said = f"would copy {len(source.tasks)} results and 2 groups; 0 damaged\n"
    assert main("copy", source.url, "sqlite:///copied.db", "--dry-run").stdout == said
    assert not list(folder.glob("copied*"))
    assert main("copy", source.url, redis.url, "--dry-run").stdout == said
    assert redis.ask("DBSIZE") == 0


# -- wrong usage -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["mongodb://h/x", "sqlite:///t.db"], "mongodb://h/x is no source that can be copied from"),
        (["sqlite:///x.db", "sqlite:///t.db"], "Write db+sqlite:// for Celery's own tables"),
        (["nonsense", "sqlite:///t.db"], "is not a backend URL"),
        (["file:///nowhere/at/all", "sqlite:///t.db"], "there is no folder '/nowhere/at/all'"),
        (["db+sqlite:///missing.db", "sqlite:///t.db"], "missing.db: give the URL that result_backend had"),
        (["db+sqlite://", "sqlite:///t.db"], "names no file"),
        (["db+nosuch://u:hidden@h/x", "sqlite:///t.db"], "SQLAlchemy knows no such database"),
        (["django+sqlite:///empty.db", "sqlite:///t.db"], "has no table django_celery_results_taskresult"),
        (["db+sqlite:///empty.db", "sqlite:///t.db"], "no table celery_taskmeta"),
        (["db+sqlite:///empty.db", "sqlite:///empty.db"], "is the source itself"),
        (["db+sqlite:///text.db", "sqlite:///t.db"], "cannot be read: file is not a database"),
        (["file://.", "memory://"], "is seen by this process only"),
        (["file://.", "sqlite:///t.db", "--accept", "perl"], "unknown serializer 'perl'"),
        (["file://.", "sqlite:///t.db", "--task-table", "x"], "--task-table has no meaning for file://"),
        (
            ["db+sqlite:///empty.db", "sqlite:///t.db", "--prefix", "x"],
            "--prefix has no meaning for db+sqlite://",
        ),
        (
            ["db+sqlite:///empty.db", "sqlite:///t.db", "--serializer", "json,pickle"],
            "--serializer is one name",
        ),
        (["file://.", "sqlite:///t.db", "--expires", "soon"], "expected 90s, 10m, 2h or 3d, not 'soon'"),
        (["redis://h/0?nosuch=1", "sqlite:///t.db"], "has no option 'nosuch'"),
        (["redis://:hidden@localhost:1/0", "sqlite:///t.db"], "localhost:1 cannot be reached"),
        (["file://."], "the following arguments are required: TARGET"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(main, folder, arguments, expected):
    sqlite3.connect("empty.db").close()
    Path("empty.db").touch()
    Path("text.db").write_text("no database, but a text of some length\n" * 100)
    ran = main("copy", *arguments)
    assert expected in ran.stderr
    assert "hidden" not in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert (ran.returncode, ran.stdout) == (2, "")


def test_a_database_needs_sqlalchemy(main, folder, monkeypatch):
    for name in ("sql", "database", "django"):
        monkeypatch.delitem(sys.modules, f"settled.cli.sources.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    ran = main("copy", "db+postgresql://u:hidden@h/x", "sqlite:///t.db")
    assert ran.stderr == "settled copy: db+postgresql://u:**@h/x needs SQLAlchemy: pip install sqlalchemy\n"


def test_a_terminal_shows_how_far_it_is(start, folder, tmp_path):
    put_file(tmp_path, "one")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    copying = start("copy", f"file://{tmp_path}", "sqlite:///copied.db", stderr=theirs, env=environment)
    os.close(theirs)
    assert copying.stdout.read() == "copied 1 result and 0 groups; 0 damaged\n"
    assert copying.wait(60) == 0
    assert os.read(ours, 4096).decode() == "\r1 read, 1 result and 0 groups copied\x1b[K\r\x1b[K"
    os.close(ours)


def test_a_store_that_refuses_everything_ends_the_copy(main, folder, tmp_path):
    (tmp_path / "files").mkdir()
    for number in range(30):
        put_file(tmp_path / "files", f"task-{number}")
    with opened("sqlite:///copied.db") as backend:
        backend.mark_as_done("first", 1)
    with closing(sqlite3.connect("copied.db")) as db, db:
        db.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON settled_task BEGIN SELECT RAISE(ABORT, 'no more'); END"
        )
    ran = main("copy", f"file://{tmp_path}/files", "sqlite:///copied.db")
    assert ran.returncode == 2
    assert "no more" in ran.stderr


def test_no_secret_is_shown(main, folder, redis):
    url = redis.url.replace("redis://", "redis://default:hidden@")
    ran = main("copy", url, "sqlite:///copied.db", "--json")
    assert "hidden" not in ran.stdout + ran.stderr


# -- stores that keep expiry in the record ---------------------------------------------------------


class DictBackend(KeyValueStoreBackend):
    """A store that expires nothing by itself."""

    capabilities = Capabilities(expiry="cleanup")
    default_url = "dict://"

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.held: dict[object, bytes] = {}

    def get(self, key: object) -> bytes | None:
        return self.held.get(key)

    def set(self, key: object, value: bytes) -> None:
        self.held[key] = value

    def delete(self, key: object) -> None:
        self.held.pop(key, None)


def test_a_store_without_expiry_is_given_it_in_the_record_and_copying_again_changes_nothing():
    backend = DictBackend(RecordingApp())
    assert backend.stamps_expiry
    tally = Tally()
    landing = Landing(backend, tally, None, dry=False, empty=False)
    meta = {"status": "SUCCESS", "result": 1, "unknown": "kept"}
    item = Stored("task", False, meta, "json", json.dumps(meta).encode(), 100.0)
    group = Stored("group", True, {"result": [["group", None], []]}, "json", None, 100.0)
    landing.land([item, group])
    first = dict(backend.held)
    landing.land([item, group])
    assert backend.held == first
    assert tally.both(Fate.COPIED) == tally.both(Fate.THERE) == 2
    stored = backend.get_task_meta("task")
    assert stored.pop("expires_at") == pytest.approx(backend.clock() + 100, abs=60)
    assert stored == meta
