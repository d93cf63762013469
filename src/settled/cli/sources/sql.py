"""Tables of a database, read through SQLAlchemy page by page.

Each column is as the driver hands it out. Dates that PostgreSQL keeps without an offset are given the one that its
sessions have.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from urllib.parse import quote

import sqlalchemy
from sqlalchemy import exc as faults
from sqlalchemy.pool import NullPool

from settled.errors import ConfigurationError, SettledError, StoreError, StoreUnavailable

PAGE = 100
"""Rows read at a time: each may be large."""

Row = dict[str, object]

PACKAGES = {
    "MySQLdb": "mysqlclient",
    "psycopg": "'psycopg[binary]'",
    "psycopg2": "psycopg2-binary",
    "pymysql": "PyMySQL",
}
"""What to install for a driver that is not called as its package is."""

LIBPQ = frozenset({"psycopg", "psycopg2"})
"""Drivers that take the options of PostgreSQL's own library."""

NO_SUCH_CHARACTER = "22021"
"""What PostgreSQL says of text that is not in the encoding which the client has named."""

_OTHER_ENCODING = (
    "Its server keeps text as it comes: name the encoding in the URL, as in ?client_encoding=latin1"
)


class Database:
    """A database of which tables are read. Nothing is opened until then, and nothing written.

    Args:
        url: as SQLAlchemy takes it.
        shown: the same without secrets.
    """

    def __init__(self, url: str, shown: str) -> None:
        self.shown = shown
        self.path: str | None = None
        with self._translated():
            made = sqlalchemy.make_url(url)
            dialect = made.get_dialect()
            self._postgresql = dialect.name == "postgresql"
            if dialect.name == "sqlite":
                self.path = _file_of(made.database, shown)
                self._engine = sqlalchemy.create_engine(
                    "sqlite://", creator=self._open_file, poolclass=NullPool, hide_parameters=True
                )
                return
            if dialect.is_async:
                raise ConfigurationError(
                    f"{shown} names a driver for asyncio, by which nothing can be read here: write another one "
                    "behind the '+', or none"
                )
            if dialect.driver in LIBPQ and "client_encoding" not in made.query:
                # Else the text of a database whose encoding is SQL_ASCII comes as bytes.
                made = made.update_query_dict({"client_encoding": "utf8"})
            with self._options_minded():
                self._engine = sqlalchemy.create_engine(made, hide_parameters=True)

    def columns(self, table: str) -> frozenset[str]:
        """The names of a table's columns; none if there is no such table. `table` may name its schema before a dot."""
        schema, name = _parts(table)
        with self._connected() as connection:
            try:
                found = sqlalchemy.inspect(connection).get_columns(name, schema=schema)
            except faults.NoSuchTableError:
                return frozenset()
        return frozenset(str(column["name"]) for column in found)

    def pages(
        self, table: str, columns: Sequence[str], local: frozenset[str] = frozenset()
    ) -> Iterator[list[Row]]:
        """Every row, by ascending `id`, which is among the columns. Between two pages nothing is held.

        `local` are columns of dates without an offset, into which a writer put dates that had one.
        """
        schema, name = _parts(table)
        number: sqlalchemy.ColumnClause[object] = sqlalchemy.column("id")
        wanted_columns = [self._column(each, each in local) for each in columns]
        query = (
            sqlalchemy.select(number)
            .with_only_columns(*wanted_columns)
            .select_from(sqlalchemy.table(name, schema=schema))
            .order_by(number)
            .limit(PAGE)
        )
        page: list[Row] = []
        while True:
            wanted = query.where(number > page[-1]["id"]) if page else query
            with self._connected() as connection:
                page = [dict(row) for row in connection.execute(wanted).mappings()]
            if page:
                yield page
            if len(page) < PAGE:
                return

    def count(self, table: str) -> int:
        """How many rows a table has."""
        schema, name = _parts(table)
        query = sqlalchemy.select(sqlalchemy.func.count()).select_from(sqlalchemy.table(name, schema=schema))
        with self._connected() as connection:
            return int(connection.execute(query).scalar_one())

    def close(self) -> None:
        self._engine.dispose()

    def _open_file(self) -> sqlite3.Connection:
        db = sqlite3.connect(f"file:{quote(self.path or '')}?mode=ro", uri=True)
        # One text that is no UTF-8 must not cost the page that it is on.
        db.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
        return db

    def _column(self, name: str, local: bool) -> sqlalchemy.ColumnClause[object] | sqlalchemy.Label[datetime]:
        column: sqlalchemy.ColumnClause[object] = sqlalchemy.column(name)
        if not (local and self._postgresql):
            return column
        # Where the column has no offset, the server has turned the date into its session's time zone. The cast
        # turns it back.
        return sqlalchemy.cast(column, sqlalchemy.DateTime(timezone=True)).label(name)

    @contextmanager
    def _connected(self) -> Iterator[sqlalchemy.Connection]:
        with self._translated():
            try:
                with self._options_minded():
                    connection = self._engine.connect()
            except faults.OperationalError as exc:
                raise StoreUnavailable(
                    f"{self.shown} cannot be reached: {_said(exc)}; check the address, user, password and database "
                    "of the URL, and that its server runs"
                ) from exc
            with connection:
                yield connection

    @contextmanager
    def _options_minded(self) -> Iterator[None]:
        try:
            yield
        except (TypeError, ValueError) as exc:  # how some drivers say that an option is wrong
            raise ConfigurationError(f"{self.shown} has an option that its driver cannot use: {exc}") from exc

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except faults.NoSuchModuleError as exc:
            raise ConfigurationError(f"{self.shown}: SQLAlchemy knows no such database: {exc}") from exc
        except faults.ArgumentError as exc:  # whose own text may quote the URL
            raise ConfigurationError(f"{self.shown}: SQLAlchemy cannot read this URL") from exc
        except ImportError as exc:
            raise ConfigurationError(f"{self.shown} {_driverless(exc)}") from exc
        except UnicodeDecodeError as exc:
            raise StoreError(f"{self.shown} cannot be read: {exc}. {_OTHER_ENCODING}") from exc
        except faults.SQLAlchemyError as exc:
            raise self._failed(exc) from exc

    def _failed(self, exc: faults.SQLAlchemyError) -> SettledError:
        way_out = f". {_OTHER_ENCODING}" if _sqlstate(exc) == NO_SUCH_CHARACTER else ""
        return StoreError(f"{self.shown} cannot be read: {_said(exc)}{way_out}")


def _said(exc: faults.SQLAlchemyError) -> str:
    """What the driver said: SQLAlchemy's own text has the statement in it."""
    said = getattr(exc, "orig", None) or exc
    match said.args:
        case (int(number), str(text)):  # as drivers of MySQL have it
            return f"{text} ({number})"
    return str(said).strip()


def _sqlstate(exc: faults.SQLAlchemyError) -> object:
    """The standard's number of an error, by the names that drivers of PostgreSQL have for it."""
    said = getattr(exc, "orig", None)
    return getattr(said, "sqlstate", None) or getattr(said, "pgcode", None)


def _driverless(exc: ImportError) -> str:
    if exc.name is None:  # it is there, but not what it needs itself
        return f"needs a driver that can be loaded: {exc}"
    package = PACKAGES.get(exc.name, exc.name)
    return (
        f"needs the driver {exc.name}: pip install {package}, or name another one behind a '+' in the scheme"
    )


def _parts(table: str) -> tuple[str | None, str]:
    schema, _, name = table.rpartition(".")
    return schema or None, name


def _file_of(database: str | None, shown: str) -> str:
    if not database or database == ":memory:":
        raise ConfigurationError(f"{shown} names no file: write three slashes, and four before a full path")
    path = os.path.abspath(database)
    if not os.path.exists(path):
        raise ConfigurationError(
            f"there is no database at {path}: give the URL that result_backend had, or the full path with four "
            "slashes"
        )
    return path
