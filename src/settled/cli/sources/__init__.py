"""Stores that Celery's own backends have written, read for `settled copy`. Nothing here writes to one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from settled.app import engine_class
from settled.cli.sources.form import Stored, Unreadable
from settled.errors import ConfigurationError
from settled.url import parse

Batch = Sequence[Stored | Unreadable]

REDIS = frozenset({"redis", "rediss", "sentinel", "rediss+sentinel", "unix", "socket", "redis+socket"})

_READ = (
    "redis://, rediss://, sentinel://, redis+socket://, file:///folder, db+sqlite:///results.db and the like, and "
    "django+sqlite:///db.sqlite3 and the like (the tables of django-celery-results)"
)


class Options(msgspec.Struct, frozen=True):
    """How a source is to be read. None: the user has not said.

    `prefix` is Celery's `global_keyprefix`, `serializer` its `result_serializer`, the tables those of
    `database_table_names`, each perhaps as schema.table. `accept` are serializers that may be read.
    """

    accept: frozenset[str]
    prefix: str | None = None
    serializer: str | None = None
    task_table: str | None = None
    group_table: str | None = None


class Source(Protocol):
    """One such store. Errors are those of engines: StoreUnavailable, StoreError, ConfigurationError."""

    chords: int
    """How many chords were seen to be under way; they are not among what is read."""

    @property
    def path(self) -> str | None:
        """The file that it is in, if it is one."""
        ...

    def batches(self) -> Iterator[Batch]:
        """Every task's record, then every saved group, a few at a time; each once."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...


def opened(url: str, options: Options) -> Source:
    """The source behind what Celery's `result_backend` was, or django+URL. ConfigurationError for any other."""
    scheme, found, rest = url.partition("://")
    scheme = scheme.lower()
    outer, plus, inner = scheme.partition("+")
    if found and scheme in REDIS:
        _meant_for(url, options, "prefix")
        engine_class("redis://localhost")  # says what to install where the client is missing
        from settled.cli.sources.redis import RedisSource

        return RedisSource(url, options)
    if found and scheme == "file":
        _meant_for(url, options, "prefix")
        from settled.cli.sources.filesystem import FilesystemSource

        return FilesystemSource(url, options)
    if found and plus and outer in ("db", "django"):
        _meant_for(url, options, *(("serializer", "task_table", "group_table") if outer == "db" else ()))
        return _of_database(url, f"{inner}://{rest}", outer, options)
    shown = parse(url).redacted()
    raise ConfigurationError(
        f"{shown} is no source that can be copied from; there are {_READ}{_hint(scheme)}"
    )


def _of_database(url: str, inner: str, outer: str, options: Options) -> Source:
    shown = parse(url).redacted()
    try:
        from settled.cli.sources.database import DatabaseSource
        from settled.cli.sources.django import DjangoSource
        from settled.cli.sources.sql import Database
    except ImportError as exc:
        raise ConfigurationError(f"{shown} needs SQLAlchemy: pip install sqlalchemy") from exc
    kind = DatabaseSource if outer == "db" else DjangoSource
    return kind(Database(_as_sqlalchemy_has_it(inner), shown), options)


def _as_sqlalchemy_has_it(url: str) -> str:
    """The URL with PostgreSQL by the only name that SQLAlchemy knows it by."""
    scheme, _, rest = url.partition("://")
    name, plus, driver = scheme.partition("+")
    return f"postgresql{plus}{driver}://{rest}" if name == "postgres" else url


def _hint(scheme: str) -> str:
    if scheme in ("sqlite", "postgresql", "postgres", "mysql"):
        return f". Write db+{scheme}:// for Celery's own tables, django+{scheme}:// for those of django-celery-results"
    return ""


def _meant_for(url: str, options: Options, *names: str) -> None:
    """ConfigurationError for an option that this source has no use for."""
    for name in ("prefix", "serializer", "task_table", "group_table"):
        if name not in names and getattr(options, name) is not None:
            given = f"--{name.replace('_', '-')}"
            raise ConfigurationError(f"{given} has no meaning for {parse(url).scheme}://: leave it out")
