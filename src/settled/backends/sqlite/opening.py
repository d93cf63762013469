"""From a URL to an open connection."""

from __future__ import annotations

import os

import apsw

from settled.backends.sqlite import faults, schema
from settled.errors import ConfigurationError, StoreError
from settled.url import Location

LOG_LIMIT = 64 * 1024 * 1024
"""Bytes to which a log that once grew larger is cut back."""

CACHE_KIB = 8192


def path_of(location: Location) -> str:
    """The absolute path that a `sqlite:` URL names. ConfigurationError if it names none."""
    if location.host is not None or location.username is not None or location.port is not None:
        raise ConfigurationError(
            f"{location.redacted()} names a host ({location.host or location.username!r}), which a file does "
            "not have. Write three slashes for a relative path (sqlite:///results.db), four for an absolute "
            "one (sqlite:////var/lib/results.db)"
        )
    path = location.path[1:]
    if path in ("", ":memory:"):
        raise ConfigurationError(
            f"{location.redacted()} names no file. Write 'sqlite:///results.db', or 'memory://' to keep "
            "results in this process only"
        )
    if "\0" in path:
        raise ConfigurationError(f"{location.redacted()} has a NUL character in its path")
    return os.path.abspath(path)


def connect(path: str, durability: str) -> apsw.Connection:
    """A connection to the database at `path`, which is created or migrated if need be.

    Never waits: raises apsw.BusyError when another connection is in the way. ConfigurationError
    if there can be no file at `path`, SchemaError if it is not ours.
    """
    refusal = faults.unusable(path)
    if refusal is not None:
        raise refusal
    db = apsw.Connection(path)
    try:
        db.set_busy_timeout(0)  # Store waits instead: fairly, and where gevent can switch
        if db.readonly("main"):
            raise StoreError(
                f"{path} is read-only for user id {os.geteuid()}: results cannot be stored in it"
            )
        schema.prepare(db, path)
        db.pragma("synchronous", durability)
        db.pragma("cache_size", -CACHE_KIB)
        db.pragma("journal_size_limit", LOG_LIMIT)
    except BaseException:
        db.close()
        raise
    return db
