"""Saved groups."""

from __future__ import annotations

import apsw

from settled.backends.sqlite import statements
from settled.backends.sqlite.statements import fetch

SQL = statements.load("groups.sql")


def write_group(
    db: apsw.Connection, group_id: str, payload: bytes | str, expires: float | None, now: float
) -> None:
    until = None if expires is None else now + expires
    db.execute(SQL["write"], (group_id, now, until, payload))


def read_group(db: apsw.Connection, group_id: str, now: float) -> bytes | str | None:
    found = fetch(db, SQL["read"], (group_id, now))
    return found[0][0] if found else None


def delete_group(db: apsw.Connection, group_id: str) -> None:
    db.execute(SQL["delete"], (group_id,))
