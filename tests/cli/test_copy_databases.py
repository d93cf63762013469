"""`settled copy` out of PostgreSQL and MariaDB, as Celery and django-celery-results have filled them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from zoneinfo import ZoneInfo

import pytest

from settled.backends.base import BaseBackend
from settled.states import READY_STATES
from tests.cli.filling import (
    WRITER,
    Filled,
    as_utc,
    assert_copied,
    assert_interrupted_and_gone_on,
    fill,
    opened,
)
from tests.servers import DATABASES, Database
from tests.servers.databases import OWNER, PASSWORD, READER
from tests.servers.port import Port

ZONES = {"postgresql": ZoneInfo("Asia/Kolkata"), "mariadb": UTC}
"""In what time zone the column that has no offset keeps a date: PostgreSQL's is that of the server's sessions."""

TABLE = """
    CREATE TABLE celery_taskmeta (
        id {number} PRIMARY KEY, task_id varchar(155), status varchar(50), result {binary}, date_done {date},
        traceback text
    )
"""
TYPES = {
    "postgresql": {"number": "serial", "binary": "bytea", "date": "timestamp"},
    "mariadb": {"number": "integer AUTO_INCREMENT", "binary": "blob", "date": "datetime"},
}

MANY = 3000
ROWS = {
    "postgresql": f"SELECT 'task-' || n, 'SUCCESS', convert_to(n::text, 'UTF8') FROM generate_series(1, {MANY}) n",
    "mariadb": f"SELECT CONCAT('task-', seq), 'SUCCESS', seq FROM seq_1_to_{MANY}",
}

NUMBERS = count()
"""For the names of databases."""

Fill = Callable[..., Filled]


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Database]:
    with Database.start("postgresql", options={"timezone": "Asia/Kolkata"}) as started:
        yield started


@pytest.fixture(scope="module")
def mariadb() -> Iterator[Database]:
    with Database.start("mariadb") as started:
        yield started


@pytest.fixture(params=DATABASES)
def server(request: pytest.FixtureRequest) -> Database:
    found: Database = request.getfixturevalue(request.param)
    return found


def created(server: Database, how: str = "") -> str:
    """The name of a new database."""
    name = f"shop{next(NUMBERS)}"
    server.ask(f"CREATE DATABASE {name} {how}")
    return name


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Fill:
    """Databases that Celery filled, each once. Their URLs are those of a user who cannot write to them."""
    made: dict[str, Filled] = {}

    def get(server: Database, kind: str = "db", schema: str | None = None, **options: object) -> Filled:
        key = f"{server} {kind} {schema} {options}"
        if key not in made:
            name = created(server)
            if schema is not None:
                server.ask(f"CREATE SCHEMA {schema}", database=name)
                options["schema"] = schema
            prefix = "db+" if kind == "db" else ""
            source = fill(kind, tmp_path_factory.mktemp(name), f"{prefix}{server.url(name)}", **options)
            made[key] = source._replace(url=source.url.replace(OWNER, READER))
        return made[key]

    return get


def assert_done_between(source: Filled, backend: BaseBackend, began: datetime, ended: datetime) -> None:
    """The dates of what is done are those at which Celery was there."""
    for task_id, meta in source.tasks.items():
        if meta["status"] in READY_STATES:
            done = as_utc(backend.get_task_meta(task_id)["date_done"])
            assert done is not None
            assert began.replace(microsecond=0) <= done <= ended, task_id


# -- what is copied --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("database", "serializer"), [("postgresql", "pickle"), ("mariadb", "msgpack"), ("mariadb", "pickle")]
)
def test_everything_that_celery_reads_is_copied_by_who_may_only_read(
    main, filled, monkeypatch, request, database, serializer
):
    server = request.getfixturevalue(database)
    monkeypatch.syspath_prepend(str(WRITER.parent))
    began = datetime.now(UTC)
    source = filled(server, serializer=serializer, extended=1)
    told = ["--serializer", serializer] + (["--accept", "pickle"] if serializer == "pickle" else [])
    ran = main("copy", source.url, "sqlite:///copied.db", *told)
    assert ran.stdout == f"copied {len(source.tasks)} results and 2 groups; 0 damaged\n"
    assert (ran.returncode, ran.stderr) == (0, "")
    with opened("sqlite:///copied.db") as backend:
        assert_copied(source, backend, zone=ZONES[server.kind])
        assert_done_between(source, backend, began, datetime.now(UTC))


def test_copying_again_changes_nothing_whatever_time_zone_the_session_has(
    main, folder, filled, monkeypatch, postgresql
):
    source = filled(postgresql, "django", extended=1)
    main("copy", source.url, "sqlite:///copied.db")
    monkeypatch.setenv("PGTZ", "America/New_York")
    ran = main("copy", source.url, "sqlite:///copied.db")
    counted = len(source.tasks) + 2
    assert ran.stdout == f"copied 0 results and 0 groups; {counted} there already; 0 damaged\n"


@pytest.mark.parametrize(
    "options", [{"extended": 1}, {"serializer": "pickle", "timezone": "America/New_York", "use_tz": ""}]
)
def test_djangos_tables_are_copied_with_their_dates_whether_or_not_it_minds_time_zones(
    main, folder, filled, monkeypatch, postgresql, options
):
    monkeypatch.syspath_prepend(str(WRITER.parent))
    began = datetime.now(UTC)
    source = filled(postgresql, "django", **options)
    ran = main("copy", source.url, "sqlite:///copied.db", "--accept", "pickle")
    assert ran.stdout == f"copied {len(source.tasks)} results and 2 groups; 0 damaged\n"
    with opened("sqlite:///copied.db") as backend:
        assert_copied(source, backend, zone=ZoneInfo(options.get("timezone", "UTC")))
        if "use_tz" in options:
            assert_done_between(source, backend, began, datetime.now(UTC))


def test_tables_of_a_schema_are_named_with_it_and_celerys_time_zone_does_not_matter(
    main, folder, filled, postgresql
):
    began = datetime.now(UTC)
    source = filled(postgresql, schema="ours", extended=1, timezone="America/New_York")
    assert "no table celery_taskmeta of Celery's" in main("copy", source.url, "sqlite:///c.db").stderr
    tables = ["--task-table", "ours.celery_taskmeta", "--group-table", "ours.celery_tasksetmeta"]
    ran = main("copy", source.url, "sqlite:///copied.db", *tables)
    assert ran.stdout == f"copied {len(source.tasks)} results and 2 groups; 0 damaged\n"
    with opened("sqlite:///copied.db") as backend:
        assert_copied(source, backend, zone=ZONES["postgresql"])
        assert_done_between(source, backend, began, datetime.now(UTC))


def test_a_database_is_read_by_its_socket_and_postgres_is_postgresql(main, folder, server):
    name = tabled(server, "'traceback'")
    login, _, _ = server.url(name, READER).rpartition("@")
    by = (
        f"host={server.folder}&port={server.port}"
        if server.kind == "postgresql"
        else f"unix_socket={server.socket_path}"
    )
    url = f"db+{login}@/{name}?{by}".replace("postgresql+psycopg:", "postgres:")
    assert main("copy", url, "sqlite:///copied.db").stdout == "copied 1 result and 0 groups; 0 damaged\n"


def tabled(server: Database, traceback: str, how: str = "") -> str:
    """The name of a new database with one task, whose traceback is this expression."""
    row = f"(task_id, status, traceback) VALUES ('only', 'FAILURE', {traceback})"
    return with_rows(server, row, how)


def with_rows(server: Database, rows: str, how: str = "") -> str:
    """The name of a new database with a table of Celery's, and these rows in it."""
    name = created(server, how)
    server.ask(TABLE.format(**TYPES[server.kind]), f"INSERT INTO celery_taskmeta {rows}", database=name)
    return name


@pytest.mark.parametrize(
    ("database", "how"),
    [
        ("postgresql", "ENCODING 'LATIN1' TEMPLATE template0"),
        ("postgresql", "ENCODING 'SQL_ASCII' TEMPLATE template0"),
        ("mariadb", "CHARACTER SET latin1"),
    ],
)
def test_text_is_the_same_whatever_encoding_the_database_has(main, folder, request, database, how):
    server = request.getfixturevalue(database)
    name = tabled(server, "'größer'", how)
    ran = main("copy", f"db+{server.url(name, READER)}", "sqlite:///copied.db")
    assert ran.stdout == "copied 1 result and 0 groups; 0 damaged\n"
    with opened("sqlite:///copied.db") as backend:
        assert backend.get_task_meta("only")["traceback"] == "größer"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", 'invalid byte sequence for encoding "UTF8"'),
        ("?client_encoding=win1252", "codec can't decode byte 0x81"),
    ],
)
def test_of_a_database_that_minds_no_encoding_the_url_says_which_it_is(
    main, folder, postgresql, given, expected
):
    name = tabled(postgresql, r"E'gr\xf6\xdfer \x81'", "ENCODING 'SQL_ASCII' TEMPLATE template0")
    url = f"db+{postgresql.url(name, READER)}"
    ran = main("copy", f"{url}{given}", "sqlite:///copied.db")
    assert_wrong(
        ran, "cannot be read: ", expected, "name the encoding in the URL, as in ?client_encoding=latin1"
    )
    main("copy", f"{url}?client_encoding=latin1", "sqlite:///copied.db")
    with opened("sqlite:///copied.db") as backend:
        assert backend.get_task_meta("only")["traceback"] == "größer \x81"


def test_an_interrupted_copy_goes_on_where_it_was(main, start, folder, server):
    name = with_rows(server, f"(task_id, status, result) {ROWS[server.kind]}")
    assert_interrupted_and_gone_on(start, main, f"db+{server.url(name, READER)}", MANY)
    with opened("sqlite:///copied.db") as backend:
        metas = backend.read_many([f"task-{number}" for number in range(1, MANY + 1)])
    assert [metas[f"task-{number}"]["result"] for number in range(1, MANY + 1)] == [*range(1, MANY + 1)]


# -- what goes wrong -------------------------------------------------------------------------------


def assert_wrong(ran: subprocess.CompletedProcess[str], *expected: str) -> None:
    """One line on standard error that says all this, and shows no password."""
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    for text in ("://reader:**@", *expected):
        assert text in ran.stderr
    assert PASSWORD not in ran.stderr


@pytest.mark.parametrize("outer", ["db", "django"])
def test_a_wrong_password_is_told_and_not_shown(main, folder, server, outer):
    ran = main("copy", f"{outer}+{server.url('any', READER, 'mist@ken')}", "sqlite:///t.db")
    why = {"postgresql": "connection failed: ", "mariadb": "Access denied for user 'reader'"}[server.kind]
    way_out = "; check the address, user, password and database of the URL, and that its server runs"
    assert_wrong(ran, f"cannot be reached: {why}", "password", way_out)
    assert "mist" not in ran.stderr


def test_a_server_that_does_not_run_is_told(main, folder, server):
    port = Port.take()
    url = server.url("any", READER).replace(str(server.port), str(port.number))
    ran = main("copy", f"db+{url}", "sqlite:///t.db")
    port.release()
    assert_wrong(ran, f"127.0.0.1:{port.number}/any cannot be reached: ", "onnection refused")


def test_a_database_that_is_not_there_is_told(main, folder, server):
    ran = main("copy", f"db+{server.url('nosuch', READER)}", "sqlite:///t.db")
    why = {"postgresql": 'database "nosuch" does not exist', "mariadb": "Unknown database 'nosuch'"}
    assert_wrong(ran, "cannot be reached: ", why[server.kind])


def test_a_table_that_may_not_be_read_is_told(main, folder, postgresql):
    name = tabled(postgresql, "''")
    postgresql.ask(f"REVOKE pg_read_all_data FROM {READER}")
    ran = main("copy", f"db+{postgresql.url(name, READER)}", "sqlite:///t.db")
    postgresql.ask(f"GRANT pg_read_all_data TO {READER}")
    assert_wrong(ran, "cannot be read: permission denied for table celery_taskmeta")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql+psycopg://reader:hidden@127.0.0.1/x?nosuch=1", 'invalid connection option "nosuch"'),
        ("mysql+pymysql://reader:hidden@127.0.0.1/x?nosuch=1", "has an option that its driver cannot use: "),
        (
            "mysql+pymysql://reader:hidden@127.0.0.1/x?connect_timeout=soon",
            "that its driver cannot use: invalid literal",
        ),
        ("postgresql+asyncpg://reader:hidden@127.0.0.1/x", "names a driver for asyncio"),
    ],
)
def test_a_url_that_cannot_be_used_is_told(main, folder, url, expected):
    assert_wrong(main("copy", f"db+{url}", "sqlite:///t.db"), expected)


@pytest.mark.parametrize(
    ("scheme", "driver", "package"),
    [
        ("postgresql+psycopg", "psycopg", "'psycopg[binary]'"),
        ("postgres+psycopg2", "psycopg2", "psycopg2-binary"),
        ("mysql", "MySQLdb", "mysqlclient"),
        ("mariadb+pymysql", "pymysql", "PyMySQL"),
        ("oracle+oracledb", "oracledb", "oracledb"),
    ],
)
def test_a_driver_that_is_missing_is_told_with_its_package(
    main, folder, monkeypatch, scheme, driver, package
):
    monkeypatch.setitem(sys.modules, driver, None)
    ran = main("copy", f"db+{scheme}://reader:hidden@127.0.0.1/x", "sqlite:///t.db")
    assert_wrong(ran, f"needs the driver {driver}: pip install {package}, or name another one")


def test_a_driver_that_lacks_something_itself_says_what(settled):
    url = "db+postgresql+psycopg://reader:hidden@127.0.0.1/x"
    ran = settled("copy", url, "sqlite:///t.db", PSYCOPG_IMPL="nosuch")
    assert_wrong(ran, "needs a driver that can be loaded: ", "'nosuch'")
