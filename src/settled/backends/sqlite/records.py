"""Records: the guarded write, reads, and what is left of a record that is gone."""

from __future__ import annotations

from collections.abc import Sequence

import apsw
import msgspec

from settled.backends.sqlite import statements
from settled.backends.sqlite.statements import fetch
from settled.record import Gone, Settle, Settled
from settled.states import READY_STATES, STARTED, rank

SQL = statements.load("records.sql")
_SETTLE = SQL["settle"]
_STANDING = SQL["standing"]
_READ = SQL["read"]

TOMBSTONE_LIFE = 24 * 3600.0
"""Seconds for which expired and forgotten are told from unknown."""


def settle(db: apsw.Connection, write: Settle, now: float) -> Settled | None:
    """Write the record if the transition rule allows it, in one statement.

    None, with nothing written, where the row has expired or is a tombstone: see `settle_anew`.
    """
    state = write.state
    payload = write.payload
    done = state in READY_STATES
    db.execute(
        _SETTLE,
        (
            write.task_id,
            state,
            write.name,
            write.worker,
            write.queue,
            write.group_id,
            write.parent_id,
            write.root_id,
            write.attempt,
            now,
            now if state == STARTED else None,
            now if done else None,
            None if write.expires is None else now + write.expires,
            len(payload),
            as_column(payload),
            rank(state),
        ),
    )
    if db.changes():
        return Settled(True, state)
    stored, live, same = fetch(db, _STANDING, (now, state, as_column(payload), write.task_id))[0]
    return Settled(bool(same), stored) if live else None


def settle_anew(db: apsw.Connection, write: Settle, now: float) -> Settled:
    """`settle` within a transaction, in which a row that is no record any more is no obstacle."""
    settled = settle(db, write, now)
    if settled is None:
        db.execute(SQL["revive"], (now, write.task_id))
        settled = settle(db, write, now)
        assert settled is not None
    return settled


def as_column(payload: bytes) -> str | bytes:
    """JSON as TEXT, so that SQLite's JSON functions and people can read it; anything else as it is."""
    if payload.startswith(b"{"):
        try:
            return payload.decode()
        except UnicodeDecodeError:
            return payload
    return payload


def read(db: apsw.Connection, task_id: str, now: float) -> dict[str, bytes | str | Gone]:
    for gone, expires, record in fetch(db, _READ, (task_id,)):
        return {task_id: record if gone is None and (expires is None or expires > now) else _gone(gone)}
    return {}


def read_many(db: apsw.Connection, task_ids: Sequence[str], now: float) -> dict[str, bytes | str | Gone]:
    return {
        task_id: record if gone is None and (expires is None or expires > now) else _gone(gone)
        for task_id, gone, expires, record in fetch(db, SQL["read_many"], (as_json(task_ids),))
    }


def _gone(gone: str | None) -> Gone:
    return Gone.EXPIRED if gone is None else Gone(gone)


def forget(db: apsw.Connection, task_ids: Sequence[str], now: float) -> None:
    db.execute(SQL["forget"], (now + TOMBSTONE_LIFE, as_json(task_ids)))


def newest(db: apsw.Connection) -> int:
    """The place of the latest write of all."""
    return int(fetch(db, SQL["newest"])[0][0])


def ready_since(db: apsw.Connection, seq: int, limit: int) -> list[tuple[int, str]]:
    """Place and id of the tasks that are ready and were written after `seq`, in that order."""
    return fetch(db, SQL["ready_since"], (seq, limit))


def as_json(ids: Sequence[str]) -> str:
    return msgspec.json.encode(ids).decode()
