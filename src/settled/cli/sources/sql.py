"""Tables of a database, read through SQLAlchemy page by page, each column as the driver hands it out."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import quote

import sqlalchemy
from sqlalchemy import exc as faults
from sqlalchemy.pool import NullPool

from settled.errors import ConfigurationError, SettledError, StoreError

PAGE = 100
"""Rows read at a time: each may be large."""

Row = dict[str, object]


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
            if made.get_backend_name() == "sqlite":
                self.path = _file_of(made.database, shown)
                self._engine = sqlalchemy.create_engine(
                    "sqlite://", creator=self._open_file, poolclass=NullPool, hide_parameters=True
                )
            else:
                self._engine = sqlalchemy.create_engine(made, hide_parameters=True)

    def columns(self, table: str) -> frozenset[str]:
        """The names of a table's columns; none if there is no such table. `table` may name its schema before a dot."""
        schema, name = _parts(table)
        with self._translated():
            try:
                found = sqlalchemy.inspect(self._engine).get_columns(name, schema=schema)
            except faults.NoSuchTableError:
                return frozenset()
        return frozenset(str(column["name"]) for column in found)

    def pages(self, table: str, columns: Sequence[str]) -> Iterator[list[Row]]:
        """Every row, by ascending `id`, which is among the columns. Between two pages nothing is held."""
        schema, name = _parts(table)
        number: sqlalchemy.ColumnClause[object] = sqlalchemy.column("id")
        wanted_columns: list[sqlalchemy.ColumnClause[object]] = [*map(sqlalchemy.column, columns)]
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
            with self._translated(), self._engine.connect() as connection:
                page = [dict(row) for row in connection.execute(wanted).mappings()]
            if page:
                yield page
            if len(page) < PAGE:
                return

    def count(self, table: str) -> int:
        """How many rows a table has."""
        schema, name = _parts(table)
        query = sqlalchemy.select(sqlalchemy.func.count()).select_from(sqlalchemy.table(name, schema=schema))
        with self._translated(), self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def close(self) -> None:
        self._engine.dispose()

    def _open_file(self) -> sqlite3.Connection:
        db = sqlite3.connect(f"file:{quote(self.path or '')}?mode=ro", uri=True)
        # One text that is no UTF-8 must not cost the page that it is on.
        db.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
        return db

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except faults.NoSuchModuleError as exc:
            raise ConfigurationError(f"{self.shown}: SQLAlchemy knows no such database: {exc}") from exc
        except faults.ArgumentError as exc:  # whose own text may quote the URL
            raise ConfigurationError(f"{self.shown}: SQLAlchemy cannot read this URL") from exc
        except ImportError as exc:
            raise ConfigurationError(
                f"{self.shown} needs the driver {exc.name}: install it, or name another one behind a '+' in the scheme"
            ) from exc
        except faults.SQLAlchemyError as exc:
            raise self._failed(exc) from exc

    def _failed(self, exc: Exception) -> SettledError:
        said = getattr(exc, "orig", None) or exc  # SQLAlchemy's own text has the statement in it
        return StoreError(f"{self.shown} cannot be read: {said}")


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
