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
    expired = 0
    for block in store.read(_blocks, now):
        more = True
        while more and expired < limit:
            fresh, more = store.write(_expire, block, limit - expired, now)
            expired += fresh
        if expired >= limit:
            return expired
    if store.read(_anything, now):
        for name in ("groups", "leases"):
            _drop(store, name, now, limit)
        for name in ("parts", "bodies", "chords"):
            _drop(store, name, now - TOMBSTONE_LIFE, limit)
    return expired


def _blocks(db: apsw.Connection, now: float) -> list[int]:
    return [block for (block,) in fetch(db, SQL["blocks"], (now,))]


def _anything(db: apsw.Connection, now: float) -> bool:
    return bool(fetch(db, SQL["anything"], (now, now - TOMBSTONE_LIFE))[0][0])


def _expire(db: apsw.Connection, block: int, limit: int, now: float) -> tuple[int, bool]:
    """Turn a block's expired records into tombstones and bury old ones, at most `limit` of both.

    How many records that were, and whether there may be more. Open places in chords are counted first.
    """
    rows = fetch(db, SQL["expired"], (block, now, limit))
    fresh = [(seq, task_id) for seq, task_id, is_record in rows if is_record]
    old = [seq for seq, _, is_record in rows if not is_record]
    if fresh:
        chords.count_expired(db, [task_id for _, task_id in fresh], now)
        db.execute(SQL["expire"], (now + TOMBSTONE_LIFE, _as_json([seq for seq, _ in fresh])))
    if old:
        db.execute(SQL["bury"], (_as_json(old),))
        db.execute(SQL["stay"], (now + TOMBSTONE_LIFE, _as_json(old)))
    if len(rows) == limit:
        return len(fresh), True
    db.execute(SQL["look_no_more"], (block,))
    db.execute(SQL["look_again"], (block,))
    return len(fresh), False


def _as_json(seqs: list[int]) -> str:
    return msgspec.json.encode(seqs).decode()


def _drop(store: Store, name: str, before: float, limit: int) -> None:
    while store.write_alone(_delete, name, before, limit) >= limit:
        pass


def _delete(db: apsw.Connection, name: str, before: float, limit: int) -> int:
    db.execute(SQL[name], (before, limit))
    return db.changes()
