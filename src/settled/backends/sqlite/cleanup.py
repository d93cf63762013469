"""Deleting what has expired, a batch and a short transaction at a time."""

from __future__ import annotations

import apsw
import msgspec

from settled.backends.sqlite import chords, statements
from settled.backends.sqlite.records import TOMBSTONE_LIFE
from settled.backends.sqlite.statements import fetch
from settled.backends.sqlite.store import Store

SQL = statements.load("cleanup.sql")


def cleanup(store: Store, limit: int, now: float) -> int:
    """Expire at most `limit` records; then drop all that nobody can ask for any more. How many records.

    Takes no lock when there is nothing to do.
    """
    if not store.read(_anything, now):
        return 0
    expired = store.write(_expire, limit, now)
    if expired < limit:
        for name in ("tombstones", "groups", "leases"):
            _drop(store, name, now, limit)
        for name in ("parts", "bodies", "chords"):
            _drop(store, name, now - TOMBSTONE_LIFE, limit)
    return expired


def _anything(db: apsw.Connection, now: float) -> bool:
    return bool(fetch(db, SQL["anything"], (now, now - TOMBSTONE_LIFE))[0][0])


def _expire(db: apsw.Connection, limit: int, now: float) -> int:
    """Turn expired records into tombstones, their open places in chords counted first."""
    rows = fetch(db, SQL["expired"], (now, limit))
    if rows:
        chords.count_expired(db, [task_id for _, task_id in rows], now)
        seqs = msgspec.json.encode([seq for seq, _ in rows]).decode()
        db.execute(SQL["expire"], (now + TOMBSTONE_LIFE, seqs))
    return len(rows)


def _drop(store: Store, name: str, before: float, limit: int) -> None:
    while store.write_alone(_delete, name, before, limit) >= limit:
        pass


def _delete(db: apsw.Connection, name: str, before: float, limit: int) -> int:
    db.execute(SQL[name], (before, limit))
    return db.changes()
