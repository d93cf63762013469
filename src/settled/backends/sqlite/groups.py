"""Saved groups."""

from __future__ import annotations

import apsw

from settled.backends.sqlite import statements

SQL = statements.load("groups.sql")


def write_group(
    db: apsw.Connection, group_id: str, payload: bytes | str, expires: float | None, now: float
) -> None:
    until = None if expires is None else now + expires
    db.execute(SQL["write"], (group_id, now, until, payload))


def read_group(db: apsw.Connection, group_id: str, now: float) -> bytes | str | None:
    for (record,) in db.execute(SQL["read"], (group_id, now)).fetchall():
        return record  # type: ignore[no-any-return]
    return None


def delete_group(db: apsw.Connection, group_id: str) -> None:
    db.execute(SQL["delete"], (group_id,))
